import { expect, test } from 'vitest';
import type {
  Compare,
  FaultResult,
  Operation,
  TxnRequest,
  TxnResult,
} from '../../server/mvcc/types.ts';
import {
  isReadOnly,
  MAX_TXN_DEPTH,
  validateRange,
  validateTxn,
} from '../../server/mvcc/validate.ts';
import { plain } from '../support/plain.ts';
import {
  compact,
  del,
  everything,
  FROM_KEY,
  get,
  grant,
  put,
  txn,
  when,
  whenLease,
  whenValue,
} from './requests.ts';
import { Rig } from './rig.ts';

const succeeded = (rig: Rig, ...compare: Compare[]): boolean => {
  const result = rig.readTxn(txn(compare, [])) as TxnResult | FaultResult;
  return result.kind === 'txn' && result.succeeded;
};

test('all writes of a transaction are one revision, with sub-revisions in order', () => {
  const rig = new Rig();
  rig.apply(put('x'));
  const { result, events } = rig.apply(txn([], [put('b'), del('x'), put('a')]));
  expect(result).toMatchObject({ kind: 'txn', succeeded: true, revision: 3 });
  expect(plain(events)).toMatchObject([
    { kind: 'put', kv: { key: 'b', modRevision: 3 } },
    { kind: 'delete', kv: { key: 'x', modRevision: 3 } },
    { kind: 'put', kv: { key: 'a', modRevision: 3 } },
  ]);
  expect(rig.machine.revision).toBe(3);
  expect(plain(rig.machine.history(rig.state, 3, { maxRevisions: 9, maxBytes: 1e6 }))).toEqual([
    { revision: 3, events: plain(events) },
  ]);
});

test('reads see the writes before them, and say so in their revision', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  const result = rig.result(
    txn([], [get('a'), put('b', '2'), get('a', 'z'), del('a'), everything, del('q')]),
  );
  expect(result).toMatchObject({
    responses: [
      { count: 1, revision: 2 },
      { kind: 'put', revision: 3 },
      { kvs: [{ key: 'a' }, { key: 'b', modRevision: 3 }], revision: 3 },
      { deleted: 1, revision: 3 },
      { kvs: [{ key: 'b' }], count: 1, revision: 3 },
      { deleted: 0, revision: 3 },
    ],
    revision: 3,
  });
});

test('a read at an older revision does not see the transaction', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  expect(
    rig.result(txn([], [put('a', '2'), get('a', '', { revision: 2 }), get('a')])),
  ).toMatchObject({ responses: [{}, { kvs: [{ value: '1' }] }, { kvs: [{ value: '2' }] }] });
});

test('a transaction that changes nothing makes no revision', () => {
  const rig = new Rig();
  rig.apply(put('a'));
  expect(rig.apply(txn([], [del('q'), get('a')])).writes).toEqual([]);
  expect(rig.result(txn([], []))).toEqual({
    kind: 'txn',
    succeeded: true,
    responses: [],
    revision: 2,
  });
});

test('a refused transaction has no effect and makes no revision', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  rig.apply(put('a', '2'));
  rig.apply(compact(3));
  const cases: [Operation, string][] = [
    [put('c', '', { lease: 9n }), 'lease-not-found'],
    [put('c', '', { ignoreValue: true }), 'key-not-found'],
    [put('c', '', { ignoreLease: true }), 'key-not-found'],
    [get('a', '', { revision: 4 }), 'future-revision'],
    [get('a', '', { revision: 2 }), 'compacted'],
  ];
  for (const [operation, code] of cases) {
    for (const operations of [
      [put('b'), operation],
      [txn([], [put('b')]), txn([], [txn([], [operation])])],
    ]) {
      const { result, writes, events } = rig.apply(txn([], operations));
      expect(result).toEqual({ kind: 'fault', code, revision: 3 });
      expect(writes).toEqual([]);
      expect(events).toEqual([]);
      expect(rig.machine.revision).toBe(3);
    }
  }
});

test('only the branch that runs is checked', () => {
  const rig = new Rig();
  expect(rig.result(txn([], [put('a')], [put('b', '', { lease: 9n })]))).toMatchObject({
    succeeded: true,
  });
});

test('a negative revision in a transaction is taken as it is', () => {
  const rig = new Rig();
  rig.apply(put('a'));
  const at = (revision: number) => rig.result(txn([], [get('a', '', { revision }), put('b')]));
  expect(at(-1)).toMatchObject({ kind: 'txn', revision: 3 });
  expect(at(-5)).toMatchObject({ code: 'compacted' });
  rig.apply(compact(0));
  expect(at(-1)).toMatchObject({ code: 'compacted' });
});

test('all compares of the tree see the state before the transaction', () => {
  const rig = new Rig();
  const isAbsent = when('version', 'a', 'equal', 0);
  const result = rig.result(
    txn([isAbsent], [put('a', '1'), txn([isAbsent], [put('b', 'then')], [put('b', 'else')])]),
  );
  expect(result).toMatchObject({
    responses: [{ kind: 'put' }, { kind: 'txn', succeeded: true, revision: 0 }],
  });
  expect(rig.range(get('b'))).toMatchObject({ kvs: [{ value: 'then', modRevision: 2 }] });
});

test('which compares hold for an absent key', () => {
  const rig = new Rig();
  for (const target of ['version', 'create', 'mod'] as const) {
    expect(succeeded(rig, when(target, 'a', 'equal', 0))).toBe(true);
    expect(succeeded(rig, when(target, 'a', 'less', 1))).toBe(true);
    expect(succeeded(rig, when(target, 'a', 'greater', 0))).toBe(false);
    expect(succeeded(rig, when(target, 'a', 'not-equal', 0))).toBe(false);
  }
  expect(succeeded(rig, whenLease('a', 'equal', 0n))).toBe(true);
  for (const result of ['equal', 'not-equal', 'less', 'greater'] as const) {
    expect(succeeded(rig, whenValue('a', result, ''))).toBe(false);
    expect(succeeded(rig, whenValue('a', result, 'x', FROM_KEY))).toBe(false);
  }
  rig.apply(put('a'));
  rig.apply(del('a'));
  expect(succeeded(rig, when('version', 'a', 'equal', 0))).toBe(true);
  expect(succeeded(rig, whenValue('a', 'equal', ''))).toBe(false);
});

test('compares of every target', () => {
  const rig = new Rig();
  rig.apply(grant(-4n));
  rig.apply(put('a', 'm'));
  rig.apply(put('a', 'm', { lease: -4n }));
  expect(succeeded(rig, when('version', 'a', 'equal', 2))).toBe(true);
  expect(succeeded(rig, when('create', 'a', 'equal', 2), when('mod', 'a', 'equal', 3))).toBe(true);
  expect(succeeded(rig, whenValue('a', 'greater', 'l'))).toBe(true);
  expect(succeeded(rig, whenValue('a', 'less', 'ma'))).toBe(true);
  expect(succeeded(rig, whenLease('a', 'equal', -4n))).toBe(true);
  expect(succeeded(rig, whenLease('a', 'less', 0n))).toBe(true);
  expect(succeeded(rig, whenLease('a', 'greater', -5n))).toBe(true);
});

test('a compare over a range must hold for every key in it', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  rig.apply(put('b', '2'));
  expect(succeeded(rig, when('version', 'a', 'equal', 1, 'c'))).toBe(true);
  expect(succeeded(rig, whenValue('a', 'less', '2', 'c'))).toBe(false);
  expect(succeeded(rig, whenValue('a', 'less', '3', FROM_KEY))).toBe(true);
  expect(succeeded(rig, when('mod', 'b', 'equal', 0, 'a'))).toBe(true);
});

test('the limit on operations, and what it leaves for nested transactions', () => {
  const puts = (count: number) => Array.from({ length: count }, (_, n) => put(`k${n}`));
  expect(validateTxn(txn([], puts(4)), 4)).toBeUndefined();
  expect(validateTxn(txn([], puts(5)), 4)).toBe('too-many-operations');
  expect(validateTxn(txn([], [], puts(5)), 4)).toBe('too-many-operations');
  const compares = Array.from({ length: 5 }, () => when('mod', 'a', 'equal', 0));
  expect(validateTxn(txn(compares, []), 4)).toBe('too-many-operations');
  expect(validateTxn(txn([], [txn([], puts(3))]), 4)).toBeUndefined();
  expect(validateTxn(txn([], [txn([], puts(4))]), 4)).toBe('too-many-operations');
  expect(validateTxn(txn(compares.slice(2), [txn([], puts(2))]), 4)).toBe('too-many-operations');
});

test('nesting has an end whatever the limit on operations', () => {
  const nest = (depth: number): TxnRequest => txn([], depth === 1 ? [] : [nest(depth - 1)]);
  expect(validateTxn(nest(MAX_TXN_DEPTH), 1e9)).toBeUndefined();
  expect(validateTxn(nest(MAX_TXN_DEPTH + 1), 1e9)).toBe('too-many-operations');
});

test('what is wrong inside a transaction is found on every path', () => {
  const wrong: [Operation, string][] = [
    [put(''), 'empty-key'],
    [get(''), 'empty-key'],
    [del(''), 'empty-key'],
    [put('a', 'v', { ignoreValue: true }), 'value-provided'],
    [put('a', '', { ignoreLease: true, lease: 1n }), 'lease-provided'],
    [txn([when('mod', '', 'equal', 0)], []), 'empty-key'],
  ];
  for (const [operation, code] of wrong) {
    expect(validateTxn(txn([], [operation]), 8)).toBe(code);
    expect(validateTxn(txn([], [], [txn([], [], [operation])]), 8)).toBe(code);
    expect(new Rig().result(txn([], [operation]))).toMatchObject({ code });
  }
  expect(validateRange({ ...get('a'), sortOrder: 'up' as 'ascend' })).toBe('invalid-sort-option');
  expect(validateRange({ ...get('a'), sortTarget: 'x' as 'key' })).toBe('invalid-sort-option');
});

test('keeping what the transaction itself deleted is refused without effect', () => {
  const rig = new Rig();
  rig.apply(put('a', '1'));
  const request = txn([], [del('a', FROM_KEY), put('a', '', { ignoreValue: true })]);
  const { result, writes, events } = rig.apply(request);
  expect(result).toEqual({ kind: 'fault', code: 'key-not-found', revision: 2 });
  expect([writes, events]).toEqual([[], []]);
  expect(rig.range(get('a'))).toMatchObject({ count: 1 });
});

test('a key put and then deleted in one transaction has two events and is gone', () => {
  const rig = new Rig();
  rig.apply(put('a', 'before'));
  const { events } = rig.apply(txn([], [put('a', 'during'), del('a', FROM_KEY)]));
  expect(plain(events)).toMatchObject([{ kind: 'put' }, { kind: 'delete' }]);
  // What was there before the revision, not what the revision itself had put.
  for (const { kv } of events) {
    expect(plain(rig.machine.previous(rig.state, kv))).toMatchObject({ value: 'before' });
  }
  expect(rig.range(get('a'))).toMatchObject({ count: 0 });
  expect(rig.range(get('a', '', { revision: 2 }))).toMatchObject({ kvs: [{ value: 'before' }] });
});

test('which transactions only read', () => {
  expect(isReadOnly(txn([], []))).toBe(true);
  expect(isReadOnly(txn([], [get('a'), txn([], [get('b')])], [get('c')]))).toBe(true);
  expect(isReadOnly(txn([], [], [put('a')]))).toBe(false);
  expect(isReadOnly(txn([], [txn([], [], [del('a')])]))).toBe(false);
  expect(() => new Rig().readTxn(txn([], [put('a')]))).toThrow('writes nothing');
});
