import { expect, test } from 'vitest';
import type { Outcome } from './history.ts';
import { keyHistories, keyRegister } from './key-register.ts';
import { searchLinearization } from './search.ts';
import {
  type Entry,
  put,
  read,
  type StoreAction,
  type StoreAnswer,
  type StoreOperation,
  type StoreTxn,
} from './store.ts';

const unknown = { kind: 'unknown', reason: 'no answer' } as const;
const entry = (value: string): Entry => ({
  value,
  createRevision: 0,
  modRevision: 0,
  version: 0,
  lease: 0n,
});
let ids = 0;
const operation = (
  at: number,
  action: StoreAction,
  outcome: Outcome<StoreAnswer>,
): StoreOperation => ({
  ...{ id: ++ids, client: 'c', action, invoked: at, returned: at + 1, outcome },
});
const answered = (fields: Omit<StoreAnswer, 'revision'>): Outcome<StoreAnswer> => ({
  kind: 'ok',
  // Wrong on purpose: nothing here may depend on it.
  answer: { revision: 0, ...fields },
});
const wrote = answered({ results: [{ kind: 'put' }] });
const found = (value: string | undefined) =>
  answered({ results: [{ kind: 'read', entry: value === undefined ? undefined : entry(value) }] });
const verdicts = (...operations: StoreOperation[]): Record<string, string> =>
  Object.fromEntries(
    [...keyHistories(operations)].map(([key, history]) => [
      key,
      searchLinearization(keyRegister, history).kind,
    ]),
  );

test('a stale read is found on its key and no other', () => {
  expect(
    verdicts(
      operation(1, put('a', 'one'), wrote),
      operation(1, put('b', 'two'), wrote),
      operation(3, read('a'), found(undefined)),
      operation(3, read('b'), found('two')),
    ),
  ).toEqual({ a: 'violation', b: 'linearizable' });
});

test('a listing reads every key', () => {
  const list = (entries: Map<string, Entry>) =>
    operation(3, { kind: 'list' }, answered({ entries }));
  const write = operation(1, put('a', 'one'), wrote);
  expect(verdicts(write, list(new Map([['a', entry('one')]])))).toEqual({ a: 'linearizable' });
  expect(verdicts(write, list(new Map()))).toEqual({ a: 'violation' });
});

test('conditions on this key bind; those on other keys and on revisions leave both branches open', () => {
  const txn = (conditions: StoreTxn['conditions']): StoreTxn => ({
    ...{ kind: 'txn', conditions, failure: [] },
    success: [{ kind: 'put', key: 'a', value: 'new' }],
  });
  const first = operation(1, put('a', 'old'), wrote);
  const afterwards = operation(5, read('a'), found('old'));
  const failed = answered({ succeeded: false, results: [] });
  const run = (conditions: StoreTxn['conditions'], outcome: Outcome<StoreAnswer>) =>
    verdicts(first, operation(3, txn(conditions), outcome), afterwards)['a'];
  expect(run([{ key: 'a', value: 'other' }], failed)).toBe('linearizable');
  expect(run([{ key: 'a', value: 'old' }], failed)).toBe('violation');
  expect(run([{ key: 'a', value: 'old' }], unknown)).toBe('linearizable');
  expect(
    run(
      [
        { key: 'a', value: 'old' },
        { key: 'b', value: 'x' },
      ],
      failed,
    ),
  ).toBe('linearizable');
  expect(run([{ key: 'a', modRevision: 3 }], failed)).toBe('linearizable');
  expect(run([{ key: 'a', modRevision: 0 }], { ...failed })).toBe('linearizable');
  expect(run([], wrote)).toBe('violation');
});

test('keys that were ever on a lease are left out', () => {
  expect(
    verdicts(operation(1, put('a', 'one', 7n), wrote), operation(3, read('a'), found(undefined))),
  ).toEqual({});
});
