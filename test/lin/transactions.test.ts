import { expect, test } from 'vitest';
import type { Commit, Entry } from './store.ts';
import { checkTransactions, type Transaction } from './transactions.ts';

const entry = (value: string, modRevision: number): Entry => ({
  value,
  createRevision: modRevision,
  modRevision,
  version: 1,
  lease: 0n,
});

/** Each object is a revision, from 2 on; undefined deletes. */
const log = (...revisions: readonly Readonly<Record<string, string | undefined>>[]): Commit[] =>
  revisions.map((changes, index) => ({
    revision: index + 2,
    changes: Object.entries(changes).map(([key, value]) =>
      value === undefined
        ? { type: 'delete', key, entry: undefined }
        : { type: 'put', key, entry: entry(value, index + 2) },
    ),
  }));

const transaction = (given: Partial<Transaction>): Transaction => ({
  mark: 'm1',
  reads: [],
  writes: new Map(),
  isolation: 'serializable',
  outcome: 'ok',
  after: [],
  ...given,
});

const read = (key: string, value: string | undefined) => ({ key, value });

test('what was read right before the own revision is fine, nothing else is', () => {
  const commits = log({ a: '1' }, { a: '2' }, { b: 'x', m1: '' });
  const of = (value: string) =>
    checkTransactions(commits, [
      transaction({ reads: [read('a', value)], writes: new Map([['b', 'x']]) }),
    ]);
  expect(of('2')).toEqual([]);
  expect(of('1')).toEqual(['m1 at 4 had not read 2 at a, but 1']);
});

test('write skew is found, and allowed under snapshot', () => {
  const commits = log({ a: 'off', m1: '' }, { b: 'off', m2: '' });
  const both = (isolation: Transaction['isolation']) => [
    transaction({
      isolation,
      reads: [read('a', undefined), read('b', undefined)],
      writes: new Map([['a', 'off']]),
    }),
    transaction({
      isolation,
      mark: 'm2',
      reads: [read('a', undefined), read('b', undefined)],
      writes: new Map([['b', 'off']]),
    }),
  ];
  expect(checkTransactions(commits, both('serializable'))).toHaveLength(1);
  expect(checkTransactions(commits, both('snapshot'))).toEqual([]);
});

test('a lost update is found under snapshot, too', () => {
  const commits = log({ a: '1', m1: '' }, { a: '1', m2: '' });
  const add = (mark: string) =>
    transaction({
      mark,
      isolation: 'snapshot',
      reads: [read('a', undefined)],
      writes: new Map([['a', '1']]),
    });
  expect(checkTransactions(commits, [add('m1'), add('m2')])).toHaveLength(1);
});

test('phantoms are found: inserted, deleted, and none behind a limit', () => {
  const range = (found: readonly (readonly [string, string])[], limit?: number) =>
    transaction({ reads: [{ from: 's/', to: 's0', found, ...(limit ? { limit } : {}) }] });
  const commits = log({ 's/a': '1', 's/b': '2' }, { 's/c': '3' }, { m1: '' });
  expect(
    checkTransactions(commits, [
      range([
        ['s/a', '1'],
        ['s/b', '2'],
      ]),
    ]),
  ).toHaveLength(1);
  expect(
    checkTransactions(commits, [
      range(
        [
          ['s/a', '1'],
          ['s/b', '2'],
        ],
        2,
      ),
    ]),
  ).toEqual([]);
  expect(
    checkTransactions(commits, [
      range([
        ['s/a', '1'],
        ['s/b', '2'],
        ['s/c', '3'],
        ['s/d', '4'],
      ]),
    ]),
  ).toHaveLength(1);
});

test('twice, lost, failed and yet there, half written', () => {
  const writes = new Map([['a', '1']]);
  const of = (commits: Commit[], given: Partial<Transaction> = {}) =>
    checkTransactions(commits, [transaction({ writes, ...given })]);
  expect(of(log({ a: '1', m1: '' }))).toEqual([]);
  expect(of(log({ a: '1', m1: '' }, { a: '1', m1: '' }))).toHaveLength(1);
  expect(of(log({ a: '1' }))).toEqual(['m1 was lost']);
  expect(of(log({ a: '1', m1: '' }), { outcome: 'fail' })).toHaveLength(1);
  expect(of(log({ m1: '' }))).toHaveLength(1);
  expect(of(log({ a: '1', m1: '' }), { outcome: 'unknown' })).toEqual([]);
  expect(of(log({ x: '1' }), { outcome: 'unknown' })).toEqual([]);
});

test('what only reads must read one state, not an old one', () => {
  const commits = log({ a: '1', m1: '' }, { b: '2', m2: '' });
  const writers = [transaction({}), transaction({ mark: 'm2' })];
  const of = (a: string | undefined, b: string | undefined, after: string[] = []) =>
    checkTransactions(commits, [
      ...writers,
      transaction({ mark: undefined, reads: [read('a', a), read('b', b)], after }),
    ]);
  expect(of('1', undefined)).toEqual([]);
  expect(of('1', '2')).toEqual([]);
  expect(of(undefined, '2')).toHaveLength(1);
  expect(of('1', undefined, ['m1'])).toEqual([]);
  expect(of('1', undefined, ['m2'])).toHaveLength(1);
});
