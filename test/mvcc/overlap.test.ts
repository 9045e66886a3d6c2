import fc from 'fast-check';
import { expect, test } from 'vitest';
import { writesKeyTwice } from '../../server/mvcc/overlap.ts';
import type { Operation } from '../../server/mvcc/types.ts';
import { txn as anyTxn } from '../machine/arbitraries.ts';
import { del, FROM_KEY, get, put, txn } from '../machine/requests.ts';
import { text } from '../support/plain.ts';

const both = (success: Operation[], failure: Operation[]) => txn([], success, failure);

test('two puts to one key', () => {
  expect(writesKeyTwice([put('a'), put('b')])).toBe(false);
  expect(writesKeyTwice([put('a'), get('a'), put('a')])).toBe(true);
  expect(writesKeyTwice([put('a'), both([put('a')], [])])).toBe(true);
  expect(writesKeyTwice([both([], [put('a')]), both([put('a')], [])])).toBe(true);
});

test('a put inside a deleted range', () => {
  expect(writesKeyTwice([put('b'), del('a', 'c')])).toBe(true);
  expect(writesKeyTwice([put('c'), del('a', 'c')])).toBe(false);
  expect(writesKeyTwice([put('a'), del('a')])).toBe(true);
  expect(writesKeyTwice([del('a', 'c'), both([], [both([put('b')], [])])])).toBe(true);
  expect(writesKeyTwice([both([], [del('b')]), put('b')])).toBe(true);
});

test('deletes may overlap', () => {
  expect(writesKeyTwice([del('a', 'c'), del('b'), both([del('a', 'z')], [])])).toBe(false);
});

test('branches that exclude each other may write the same keys', () => {
  expect(writesKeyTwice([both([put('a')], [put('a')])])).toBe(false);
  expect(writesKeyTwice([both([put('a')], [del('a')])])).toBe(false);
  expect(writesKeyTwice([both([put('a')], [put('a')]), put('a')])).toBe(true);
});

test('what etcd lets pass passes here', () => {
  expect(writesKeyTwice([put('b'), del('a', FROM_KEY)])).toBe(false);
  expect(writesKeyTwice([put('b'), del('c', 'a')])).toBe(false);
  expect(writesKeyTwice([both([put('k')], []), both([del('k')], [])])).toBe(false);
  expect(writesKeyTwice([both([del('k')], []), both([put('k')], [])])).toBe(true);
});

/** The same rule with lists. */
type Written = { puts: string[]; deletes: [string, string][] };
function collect(operations: readonly Operation[]): Written | undefined {
  const deletes: [string, string][] = [];
  const puts: string[] = [];
  const isDeleted = (key: string) => deletes.some(([from, to]) => from <= key && key < to);
  for (const operation of operations) {
    if (operation.kind !== 'delete-range') continue;
    const from = text(operation.key);
    deletes.push([from, text(operation.rangeEnd) || `${from}\0`]);
  }
  for (const operation of operations) {
    if (operation.kind !== 'txn') continue;
    const [one, other] = [collect(operation.success), collect(operation.failure)];
    if (one === undefined || other === undefined) return undefined;
    const inner = [...new Set([...one.puts, ...other.puts])];
    if (inner.some((key) => puts.includes(key) || isDeleted(key))) return undefined;
    puts.push(...inner);
    deletes.push(...one.deletes, ...other.deletes);
  }
  for (const operation of operations) {
    if (operation.kind !== 'put') continue;
    const key = text(operation.key);
    if (puts.includes(key) || isDeleted(key)) return undefined;
    puts.push(key);
  }
  return { puts, deletes };
}

test('agrees with the rule spelled out over lists', () => {
  let overlapping = 0;
  fc.assert(
    fc.property(anyTxn, ({ success }) => {
      const expected = collect(success) === undefined;
      if (expected) overlapping += 1;
      expect(writesKeyTwice(success)).toBe(expected);
    }),
    { numRuns: 3000 },
  );
  expect(overlapping).toBeGreaterThan(100);
});
