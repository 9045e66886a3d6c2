import { expect, test } from 'vitest';
import { plain } from '../support/plain.ts';
import { del, everything, FROM_KEY, get, grant, put, revoke } from './requests.ts';
import { Rig } from './rig.ts';

const refused = (code: string, revision: number) => ({ kind: 'fault', code, revision });

test('an empty store is at revision 1', () => {
  const rig = new Rig();
  expect(rig.machine.revision).toBe(1);
  expect(rig.machine.compactRevision).toBe(-1);
  expect(rig.range(everything)).toEqual({
    kind: 'range',
    kvs: [],
    more: false,
    count: 0,
    revision: 1,
  });
});

test('a put makes one revision; create revision stays and version counts', () => {
  const rig = new Rig();
  expect(rig.result(put('a', '1'))).toEqual({ kind: 'put', prevKv: undefined, revision: 2 });
  const { result, events } = rig.apply(put('a', '2', { prevKv: true }));
  const before = {
    key: 'a',
    value: '1',
    createRevision: 2,
    modRevision: 2,
    version: 1,
    lease: 0n,
  };
  expect(plain(result)).toEqual({ kind: 'put', prevKv: before, revision: 3 });
  expect(plain(events)).toEqual([
    { kind: 'put', kv: { ...before, value: '2', modRevision: 3, version: 2 } },
  ]);
});

test('a delete event carries key and revision only; a new life starts at version 1', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  const { result, events } = rig.apply(del('a', '', true));
  expect(plain(result)).toMatchObject({ deleted: 1, prevKvs: [{ value: '1' }], revision: 3 });
  expect(plain(events)).toEqual([
    {
      kind: 'delete',
      kv: { key: 'a', value: '', createRevision: 0, modRevision: 3, version: 0, lease: 0n },
    },
  ]);
  rig.apply(put('a', '2'));
  expect(rig.range(get('a'))).toMatchObject({
    kvs: [{ createRevision: 4, modRevision: 4, version: 1 }],
  });
});

test('a delete of nothing makes no revision and no write', () => {
  const rig = new Rig();
  rig.apply(put('b', '1'));
  const applied = rig.apply(del('a'));
  expect(applied.result).toMatchObject({ deleted: 0, revision: 2 });
  expect(applied.writes).toEqual([]);
  expect(rig.machine.revision).toBe(2);
});

test('a range end that is not above the key is an empty range', () => {
  const rig = new Rig();
  for (const key of ['a', 'b', 'c']) rig.apply(put(key));
  expect(rig.range(get('b', 'a'))).toMatchObject({ kvs: [], count: 0 });
  expect(rig.range(get('b', 'b'))).toMatchObject({ kvs: [], count: 0 });
  expect(rig.result(del('b', 'a'))).toMatchObject({ deleted: 0, revision: 4 });
});

test('a range end of one zero byte is every key from the key on', () => {
  const rig = new Rig();
  for (const key of ['a', 'b', '\xff\xff']) rig.apply(put(key));
  expect(rig.range(get('b', FROM_KEY))).toMatchObject({ count: 2 });
  expect(rig.result(del('\0', FROM_KEY))).toMatchObject({ deleted: 3 });
});

test('a delete range deletes in key order in one revision', () => {
  const rig = new Rig();
  for (const key of ['c', 'a', 'b']) rig.apply(put(key));
  const { events } = rig.apply(del('a', 'z'));
  expect(plain(events)).toMatchObject(
    ['a', 'b', 'c'].map((key) => ({ kind: 'delete', kv: { key, modRevision: 5 } })),
  );
});

test('what a put cannot mean is refused, without effect', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  expect(rig.result(put(''))).toEqual(refused('empty-key', 2));
  expect(rig.result(put('a', 'v', { ignoreValue: true }))).toEqual(refused('value-provided', 2));
  expect(rig.result(put('a', '', { ignoreLease: true, lease: 1n }))).toEqual(
    refused('lease-provided', 2),
  );
  expect(rig.result(put('b', '', { ignoreValue: true }))).toEqual(refused('key-not-found', 2));
  expect(rig.result(put('b', 'v', { ignoreLease: true }))).toEqual(refused('key-not-found', 2));
  expect(rig.result(put('a', 'v', { lease: 7n }))).toEqual(refused('lease-not-found', 2));
  expect(rig.result(put('b', '', { lease: 7n, ignoreValue: true }))).toEqual(
    refused('lease-not-found', 2),
  );
  expect(rig.result(del(''))).toEqual(refused('empty-key', 2));
  expect(rig.apply(put('')).writes).toEqual([]);
  expect(rig.machine.revision).toBe(2);
});

test('keeping the value or the lease', () => {
  const rig = new Rig();
  rig.apply(grant(1n));
  rig.apply(put('a', '1', { lease: 1n }));
  rig.apply(put('a', '', { ignoreValue: true, ignoreLease: true }));
  expect(rig.range(get('a'))).toMatchObject({ kvs: [{ value: '1', lease: 1n, version: 2 }] });
  rig.apply(put('a', '', { ignoreValue: true }));
  expect(rig.range(get('a'))).toMatchObject({ kvs: [{ value: '1', lease: 0n }] });
  rig.apply(put('a', '2', { lease: 1n }));
  rig.apply(put('a', '3', { ignoreLease: true }));
  expect(rig.range(get('a'))).toMatchObject({ kvs: [{ value: '3', lease: 1n }] });
  expect(rig.result(revoke(1n))).toMatchObject({ revision: 7 });
  expect(rig.range(get('a'))).toMatchObject({ count: 0 });
});
