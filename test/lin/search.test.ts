import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isLinearizable } from './brute-force.ts';
import type { Operation, Outcome } from './history.ts';
import {
  type FifoAction,
  type FifoAnswer,
  fifo,
  type MutexAction,
  mutex,
  partition,
  type RegisterAction,
  type RegisterAnswer,
  register,
} from './models.ts';
import { searchLinearization } from './search.ts';

const unknown = { kind: 'unknown', reason: 'no answer' } as const;
const ok = <Answer>(answer: Answer): Outcome<Answer> => ({ kind: 'ok', answer });
let ids = 0;
const operation = <Action, Answer>(
  [invoked, returned]: readonly [number, number],
  action: Action,
  outcome: Outcome<Answer>,
): Operation<Action, Answer> => ({
  ...{ id: ++ids, client: 'c', action, invoked, returned, outcome },
});
const write = (
  span: readonly [number, number],
  value: string,
  outcome: Outcome<RegisterAnswer> = ok({}),
) => operation<RegisterAction, RegisterAnswer>(span, { kind: 'write', value }, outcome);
const read = (span: readonly [number, number], value: string | undefined) =>
  operation<RegisterAction, RegisterAnswer>(span, { kind: 'read' }, ok({ value }));
const verdict = (...history: Operation<RegisterAction, RegisterAnswer>[]) =>
  searchLinearization(register, history).kind;

test('a read may see a write that is under way, and then everybody does', () => {
  const writing = write([1, 10], 'a');
  expect(verdict(writing, read([2, 3], 'a'), read([4, 5], 'a'))).toBe('linearizable');
  expect(verdict(writing, read([2, 3], 'a'), read([4, 5], undefined))).toBe('violation');
});

test('a stale read is found and named', () => {
  const stale = read([5, 6], 'a');
  const found = searchLinearization(register, [write([1, 2], 'a'), write([3, 4], 'b'), stale]);
  expect(found).toMatchObject({ kind: 'violation', operation: stale, states: ['=b'] });
});

test('a lost write is found', () => {
  expect(verdict(write([1, 2], 'a'), read([3, 4], undefined))).toBe('violation');
});

test('a write without an answer takes effect once, at any later time, or never', () => {
  const open = write([1, 2], 'late', unknown);
  const other = write([3, 4], 'other');
  expect(verdict(open, other, read([5, 6], 'other'))).toBe('linearizable');
  expect(verdict(open, other, read([5, 6], 'other'), read([7, 8], 'late'))).toBe('linearizable');
  expect(verdict(open, read([3, 4], 'late'), write([5, 6], 'other'), read([7, 8], 'late'))).toBe(
    'violation',
  );
});

test('of two open operations that lead to the same state, either may be the one that happened', () => {
  const plain = write([1, 2], 'a', unknown);
  const swap = operation<RegisterAction, RegisterAnswer>(
    [1, 2],
    { kind: 'swap', expected: undefined, value: 'a' },
    unknown,
  );
  // Only the swap can have been first: the write is needed again after the swap became impossible.
  const rest = [read([3, 4], 'a'), write([5, 6], 'b'), read([7, 8], 'b'), read([9, 10], 'a')];
  expect(verdict(plain, swap, ...rest)).toBe('linearizable');
  expect(verdict(swap, plain, ...rest)).toBe('linearizable');
});

test('a refused write that shows is found', () => {
  const refused = write([1, 2], 'no', { kind: 'fail', reason: 'refused' });
  expect(verdict(refused, read([3, 4], 'no'))).toBe('violation');
});

test('two holders of one mutex are found; a release without an answer may have freed it', () => {
  const hold = (
    span: readonly [number, number],
    kind: 'acquire' | 'release',
    holder: string,
    outcome: Outcome<true> = ok(true),
  ) => operation<MutexAction, true>(span, { kind, holder }, outcome);
  const first = hold([1, 2], 'acquire', 'p');
  const second = hold([5, 6], 'acquire', 'q');
  const kind = (...history: Operation<MutexAction, true>[]) =>
    searchLinearization(mutex, history).kind;
  expect(kind(first, second)).toBe('violation');
  expect(kind(first, hold([3, 4], 'release', 'p', unknown), second)).toBe('linearizable');
});

test('a queue out of order is found', () => {
  const push = (span: readonly [number, number], item: string) =>
    operation<FifoAction, FifoAnswer>(span, { kind: 'push', item }, ok({}));
  const take = (span: readonly [number, number], item: string) =>
    operation<FifoAction, FifoAnswer>(span, { kind: 'take' }, ok({ item }));
  const kind = (...history: Operation<FifoAction, FifoAnswer>[]) =>
    searchLinearization(fifo, history).kind;
  expect(kind(push([1, 2], 'a'), push([3, 4], 'b'), take([5, 6], 'b'))).toBe('violation');
  expect(kind(push([1, 4], 'a'), push([2, 3], 'b'), take([5, 6], 'b'))).toBe('linearizable');
});

test('a budget that runs out is not a pass', () => {
  const history = [write([1, 9], 'a'), write([1, 9], 'b'), write([1, 9], 'c'), read([2, 8], 'b')];
  expect(searchLinearization(register, history, { maxConfigurations: 3 }).kind).toBe('exhausted');
});

test('long histories cost no more than their busiest window', () => {
  const history = Array.from({ length: 2_000 }, (_, index) => [
    write([index * 10, index * 10 + 8], `${index}`),
    read([index * 10 + 1, index * 10 + 9], `${index}`),
    ...(index % 100 === 0 ? [write([index * 10, index * 10 + 1], `open ${index}`, unknown)] : []),
  ]).flat();
  expect(searchLinearization(register, history, { maxConfigurations: 1_000_000 }).kind).toBe(
    'linearizable',
  );
});

const span = fc
  .tuple(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 6 }))
  .map(([a, b]): readonly [number, number] => [Math.min(a, b), Math.max(a, b)]);
const value = fc.constantFrom('a', 'b', undefined);
const anyOperation = fc.oneof(
  fc.tuple(span, value).map(([at, found]) => read(at, found)),
  fc
    .tuple(span, value, fc.boolean())
    .map(([at, written, isKnown]) =>
      operation<RegisterAction, RegisterAnswer>(
        at,
        { kind: 'write', value: written },
        isKnown ? ok({}) : unknown,
      ),
    ),
  fc
    .tuple(span, value, value, fc.constantFrom(true, false, undefined))
    .map(([at, expected, written, swapped]) =>
      operation<RegisterAction, RegisterAnswer>(
        at,
        { kind: 'swap', expected, value: written },
        swapped === undefined ? unknown : ok({ swapped }),
      ),
    ),
);

test('the search agrees with trying every order', () => {
  let linearizable = 0;
  fc.assert(
    fc.property(fc.array(anyOperation, { maxLength: 6 }), (history) => {
      const expected = isLinearizable(register, history);
      if (expected) linearizable += 1;
      expect(searchLinearization(register, history).kind).toBe(
        expected ? 'linearizable' : 'violation',
      );
    }),
    { numRuns: 2_000 },
  );
  // Both verdicts must have been tried.
  expect(linearizable).toBeGreaterThan(60);
  expect(linearizable).toBeLessThan(1_800);
});

test('histories are taken apart by object', () => {
  const parts = partition([read([1, 2], 'a'), write([1, 2], 'a')], ({ kind }) => kind);
  expect([...parts.keys()]).toEqual(['read', 'write']);
});
