/** The checks of counters, values and rates find what is planted. */
import { expect, test } from 'vitest';
import { additionOf, checkRate, checkSeenSum, checkSum, checkValue } from './recipes-values.ts';
import type { Commit } from './store.ts';

const sumOf = (...numbers: readonly number[]): bigint =>
  numbers.reduce((sum, number) => sum + additionOf(number), 0n);

test('an addition that counts twice, not at all or against its refusal is found', () => {
  const outcomes = ['ok', 'fail', 'unknown', 'ok'] as const;
  expect(checkSum(sumOf(0, 3), outcomes)).toBeUndefined();
  expect(checkSum(sumOf(0, 2, 3), outcomes)).toBeUndefined();
  expect(checkSum(sumOf(0), outcomes)).toMatch('addition 3');
  expect(checkSum(sumOf(0, 0, 3), outcomes)).toMatch('addition 0');
  expect(checkSum(sumOf(0, 1, 3), outcomes)).toMatch('addition 1');
  expect(checkSum(sumOf(0, 2, 2, 3), outcomes)).toMatch('addition 2');
  expect(checkSum(sumOf(0, 3, 9), outcomes)).toMatch('addition 9');
});

test('a sum that lacks what was answered before is found', () => {
  expect(checkSeenSum(sumOf(0, 2), sumOf(0))).toBeUndefined();
  expect(checkSeenSum(sumOf(0, 2), sumOf(0, 1))).toMatch('addition 1');
  expect(checkSeenSum(sumOf(2, 2), sumOf())).toMatch('twice');
});

function values(...contents: readonly ([number, string] | null)[]): Commit[] {
  return contents.map((content, at): Commit => {
    const revision = at + 2;
    if (content === null) {
      return { revision, changes: [{ type: 'delete', key: 'v', entry: undefined }] };
    }
    const [changes, by] = content;
    const value = JSON.stringify({ changes, by });
    const entry = { value, createRevision: 2, modRevision: revision, version: 1, lease: 0n };
    return { revision, changes: [{ type: 'put', key: 'v', entry }] };
  });
}

test('a change that is lost, made twice or not as its caller was told is found', () => {
  const told = (by: string, revision: number) =>
    ({ by, outcome: { kind: 'ok', answer: { revision } } }) as const;
  const check = (log: Commit[], ...changes: Parameters<typeof checkValue>[2]) =>
    checkValue(log, 'v', changes);
  expect(check(values([1, 'a'], [2, 'b'], null, [1, 'c']), told('b', 3))).toEqual([]);
  expect(check(values([1, 'a'], [1, 'b']))).toHaveLength(1);
  expect(check(values([1, 'a'], [2, 'a']))).toHaveLength(1);
  expect(check(values([1, 'a']), told('a', 3))).toHaveLength(1);
  expect(check(values([1, 'a']), told('b', 3))).toHaveLength(1);
  const refused = { by: 'a', outcome: { kind: 'fail', reason: 'so' } } as const;
  expect(check(values([1, 'a']), refused)).toHaveLength(1);
});

test('a window with too many permits is found', () => {
  const rate = { burst: 2, intervalMs: 100 };
  const at = (ms: number, permits = 1) => ({ permits, askedMs: ms, answeredMs: ms });
  expect(checkRate([at(0, 2), at(100), at(200)], rate)).toBeUndefined();
  expect(checkRate([at(0, 2), at(99)], rate)).toMatch('3 permits in the 99 ms');
  expect(checkRate([at(0), at(150), at(160), at(170)], rate)).toMatch('4 permits in the 170 ms');
  expect(checkRate([{ permits: 3, askedMs: 0, answeredMs: 100 }], rate)).toBeUndefined();
});
