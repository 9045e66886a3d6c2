import { expect, test } from 'vitest';
import type { Command } from '../../server/command.ts';
import { plain, text } from '../support/plain.ts';
import { del, FROM_KEY, get, grant, put, revoke, txn } from './requests.ts';
import { Rig } from './rig.ts';

const expire = (id: bigint, term: number): Command => ({ kind: 'lease-expire', id, term });
const keysOf = (rig: Rig, id: bigint) => rig.machine.leaseKeys(rig.state, id).map(text);

test('granting: ids, the minimum, the maximum', () => {
  const rig = new Rig();
  const granted = (id: bigint, ttlSeconds: number) => ({
    kind: 'lease-grant',
    id,
    ttlSeconds,
    revision: 1,
  });
  expect(rig.result(grant(1n, 60))).toEqual(granted(1n, 60));
  expect(rig.result(grant(2n, 0))).toEqual(granted(2n, 2));
  expect(rig.result(grant(-7n, -1))).toEqual(granted(-7n, 2));
  expect(rig.result(grant(3n, 9_000_000_000))).toEqual(granted(3n, 9_000_000_000));
  expect(rig.result(grant(4n, 9_000_000_001))).toMatchObject({ code: 'lease-ttl-too-large' });
  expect(rig.result(grant(1n, 60))).toMatchObject({ code: 'lease-exists' });
  expect(rig.result(grant(0n, 60))).toMatchObject({ code: 'lease-not-found' });
  expect(rig.machine.leases.size).toBe(4);
});

test('revoking deletes the keys in order in one revision', () => {
  const rig = new Rig();
  rig.apply(grant(1n));
  for (const key of ['c', 'a', 'b']) rig.apply(put(key, '', { lease: 1n }));
  rig.apply(put('d'));
  const { result, events } = rig.apply(revoke(1n));
  expect(result).toEqual({ kind: 'lease-revoke', revision: 6 });
  expect(plain(events)).toMatchObject(
    ['a', 'b', 'c'].map((key) => ({ kind: 'delete', kv: { key, modRevision: 6 } })),
  );
  expect(rig.range(get('a', FROM_KEY))).toMatchObject({ kvs: [{ key: 'd' }], count: 1 });
  expect(rig.machine.leases.has(1n)).toBe(false);
  expect(rig.result(revoke(1n))).toMatchObject({ code: 'lease-not-found' });
});

test('revoking a lease without keys makes no revision', () => {
  const rig = new Rig();
  rig.apply(grant(1n));
  expect(rig.result(revoke(1n))).toEqual({ kind: 'lease-revoke', revision: 1 });
  rig.restart();
  expect(rig.machine.leases.size).toBe(0);
});

test('a put attaches the key anew, a delete detaches it', () => {
  const rig = new Rig();
  for (const id of [1n, 2n]) rig.apply(grant(id));
  rig.apply(put('a', '', { lease: 1n }));
  rig.apply(put('b', '', { lease: 1n }));
  rig.apply(put('c', '', { lease: 1n }));
  expect(keysOf(rig, 1n)).toEqual(['a', 'b', 'c']);
  rig.apply(put('a', '', { lease: 2n }));
  rig.apply(put('b'));
  rig.apply(del('c'));
  expect(keysOf(rig, 1n)).toEqual([]);
  expect(keysOf(rig, 2n)).toEqual(['a']);
  rig.apply(revoke(1n));
  expect(rig.range(get('a', FROM_KEY))).toMatchObject({ count: 2 });
});

test('a key deleted and put again without the lease is not the lease’s', () => {
  const rig = new Rig();
  rig.apply(grant(1n));
  rig.apply(put('a', '', { lease: 1n }));
  rig.apply(del('a'));
  rig.apply(put('a', 'kept'));
  rig.apply(revoke(1n));
  expect(rig.range(get('a'))).toMatchObject({ kvs: [{ value: 'kept' }] });
});

test('attachments follow the order of operations inside a transaction', () => {
  const rig = new Rig();
  for (const id of [1n, 2n]) rig.apply(grant(id));
  rig.apply(put('a', '', { lease: 1n }));
  rig.apply(txn([], [del('a', FROM_KEY), put('a', '', { lease: 2n })]));
  expect(keysOf(rig, 1n)).toEqual([]);
  expect(keysOf(rig, 2n)).toEqual(['a']);
  rig.apply(txn([], [put('a', '', { lease: 1n }), del('a', FROM_KEY)]));
  expect(keysOf(rig, 1n)).toEqual([]);
  expect(keysOf(rig, 2n)).toEqual([]);
});

test('the keys of neighbouring ids are kept apart', () => {
  const rig = new Rig();
  const ids = [1n, 2n, 256n, -1n, -2n, 0x7fff_ffff_ffff_ffffn, -0x8000_0000_0000_0000n];
  for (const id of ids) {
    rig.apply(grant(id));
    rig.apply(put(`\xff${id}`, '', { lease: id }));
  }
  for (const id of ids) expect(keysOf(rig, id)).toEqual([`\xff${id}`]);
});

test('an expiry applies only in an entry of the term that proposed it', () => {
  const rig = new Rig();
  rig.apply(grant(1n));
  rig.apply(put('a', '', { lease: 1n }));
  expect(rig.result(expire(1n, 1), 2)).toEqual({ kind: 'lease-expire', revision: 2 });
  expect(rig.machine.leases.has(1n)).toBe(true);
  expect(rig.range(get('a'))).toMatchObject({ count: 1 });

  const { result, events } = rig.apply(expire(1n, 2), 2);
  expect(result).toEqual({ kind: 'lease-expire', revision: 3 });
  expect(plain(events)).toMatchObject([{ kind: 'delete', kv: { key: 'a' } }]);
  expect(rig.result(expire(1n, 2), 2)).toEqual({ kind: 'lease-expire', revision: 3 });
});

test('time alone ends no lease', () => {
  const rig = new Rig();
  rig.apply(grant(1n, 2));
  rig.apply(put('a', '', { lease: 1n }));
  expect(rig.machine.leases.expired(1e12, 10)).toEqual([1n]);
  rig.apply(put('b', '', { lease: 1n }));
  expect(rig.range(get('a', FROM_KEY))).toMatchObject({ count: 2 });
});

test('leases and their keys survive a restart, with their full time', () => {
  const rig = new Rig();
  rig.apply(grant(-5n, 60));
  rig.apply(put('a', '', { lease: -5n }));
  rig.machine.leases.renew(-5n, 500_000);
  rig.restart();
  expect(rig.machine.leases.info(-5n, 0)).toEqual({
    id: -5n,
    ttlSeconds: 60,
    remainingMs: 60_000,
  });
  expect(keysOf(rig, -5n)).toEqual(['a']);
  rig.apply(revoke(-5n));
  expect(rig.range(get('a'))).toMatchObject({ count: 0 });
});
