import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  type AppendOperation,
  type AppendResult,
  type AppendStep,
  checkAppends,
} from './append.ts';
import { isLinearizable } from './brute-force.ts';
import type { SequentialModel } from './search.ts';

const unknown = { kind: 'unknown', reason: 'no answer' } as const;
const append = (key: string, value: string): AppendStep => ({ kind: 'append', key, value });
const read = (key: string): AppendStep => ({ kind: 'read', key });
let ids = 0;
const txn = (
  [invoked, returned]: readonly [number, number],
  action: readonly AppendStep[],
  answer?: AppendResult,
): AppendOperation => ({
  ...{ id: ++ids, client: 'c', action, invoked, returned },
  outcome: answer === undefined ? unknown : { kind: 'ok', answer },
});
const nothing = [undefined];

test('a sound history has no anomaly', () => {
  expect(
    checkAppends([
      txn([1, 2], [append('x', '1')], nothing),
      txn([3, 4], [append('x', '2'), read('x')], [undefined, ['1', '2']]),
      txn([3, 4], [append('x', '3')]),
      txn([5, 6], [read('x'), read('y')], [['1', '2', '3'], []]),
    ]),
  ).toEqual([]);
});

test('a lost append, one that nobody made, and one twice are found', () => {
  const first = txn([1, 2], [append('x', '1')], nothing);
  const reads = (...list: string[]) => txn([3, 4], [read('x')], [list]);
  expect(checkAppends([first, reads()])).toEqual([expect.stringMatching(/^cycle/)]);
  expect(checkAppends([first, reads('1', '2')])).toEqual([
    expect.stringMatching(/nobody appended/),
  ]);
  expect(checkAppends([first, reads('1', '1')])).toContainEqual(
    expect.stringMatching(/^duplicated append/),
  );
});

test('reads that disagree about the order are found', () => {
  const both = [txn([1, 9], [append('x', '1')], nothing), txn([1, 9], [append('x', '2')], nothing)];
  const reads = (...list: string[]) => txn([1, 9], [read('x')], [list]);
  expect(checkAppends([...both, reads('1', '2'), reads('2')])).toContainEqual(
    expect.stringMatching(/^no single order/),
  );
});

test('a stale read is found although it agrees with the order', () => {
  expect(
    checkAppends([
      txn([1, 2], [append('x', '1')], nothing),
      txn([3, 4], [append('x', '2')], nothing),
      txn([5, 6], [read('x')], [['1', '2']]),
      txn([7, 8], [read('x')], [['1']]),
    ]),
  ).toEqual([expect.stringMatching(/^cycle/)]);
});

test('write skew is found: two transactions that each missed the other', () => {
  expect(
    checkAppends([
      txn([1, 9], [read('x'), append('y', '1')], [[], undefined]),
      txn([1, 9], [read('y'), append('x', '1')], [[], undefined]),
      txn([10, 11], [read('x'), read('y')], [['1'], ['1']]),
    ]),
  ).toEqual([expect.stringMatching(/^cycle/)]);
});

type Lists = Readonly<Record<string, readonly string[]>>;
const lists: SequentialModel<Lists, readonly AppendStep[], AppendResult> = {
  initial: {},
  step(state, steps, answer) {
    let current = state;
    for (const [index, step] of steps.entries()) {
      const list = current[step.key] ?? [];
      if (step.kind === 'append') current = { ...current, [step.key]: [...list, step.value] };
      else if (answer !== undefined && `${answer[index] ?? []}` !== `${list}`) return [];
    }
    return [current];
  },
  fingerprint: JSON.stringify,
};
const drawn = fc.record({
  steps: fc.uniqueArray(
    fc.record({ kind: fc.constantFrom('append', 'read'), key: fc.constantFrom('x', 'y') }),
    { minLength: 1, maxLength: 2, selector: ({ key }) => key },
  ),
  before: fc.integer({ min: 0, max: 2 }),
  after: fc.integer({ min: 0, max: 2 }),
  isAnswered: fc.constantFrom(true, true, false),
  /** Reads what had been there so many transactions ago. */
  age: fc.constantFrom(0, 0, 1, 2),
});

test('whatever is reported is impossible, and what is impossible is reported once all was read', () => {
  const verdicts = { sound: 0, unsound: 0 };
  fc.assert(
    fc.property(fc.array(drawn, { minLength: 1, maxLength: 5 }), (plan) => {
      const states: Lists[] = [{}];
      const operations = plan.map((draw, index) => {
        const steps = draw.steps.map(({ kind, key }) =>
          kind === 'append' ? append(key, `${index}`) : read(key),
        );
        const shown = states[Math.max(0, states.length - 1 - draw.age)] ?? {};
        const answer = steps.map((step) =>
          step.kind === 'read' ? (shown[step.key] ?? []) : undefined,
        );
        states.push(lists.step(states.at(-1) ?? {}, steps, undefined)[0] ?? {});
        const at = index * 2;
        return txn(
          [at - draw.before, at + draw.after],
          steps,
          draw.isAnswered ? answer : undefined,
        );
      });
      const last = states.at(-1) ?? {};
      operations.push(txn([90, 91], [read('x'), read('y')], [last['x'] ?? [], last['y'] ?? []]));
      const expected = isLinearizable(lists, operations);
      verdicts[expected ? 'sound' : 'unsound'] += 1;
      expect(checkAppends(operations).length === 0).toBe(expected);
    }),
    { numRuns: 2_000 },
  );
  expect(verdicts.sound).toBeGreaterThan(60);
  expect(verdicts.unsound).toBeGreaterThan(60);
});
