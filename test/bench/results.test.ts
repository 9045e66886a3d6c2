/** What the bench concludes from samples. */
import { expect, test } from 'vitest';
import { coldAndWarm, type Measurement } from './measure.ts';
import { evaluate, type Result } from './results.ts';
import type { Case, Row } from './row.ts';
import type { Sample } from './run.ts';
import { benchSystem } from './systems.ts';
import { asMarkdown, coldTableOf, tableOf } from './table.ts';

const systems = ['conclave', 'etcd', 'redis'].map(benchSystem);
const wanted = { isQuick: false, concurrencies: undefined, members: undefined };
const rate: Case = {
  members: 1,
  concurrency: 128,
  figure: 'operationsPerSecond',
  peers: ['etcd', 'redis'],
};

const rowOf = (one: Case): Row => ({
  name: 'row',
  title: 'a row',
  cases: [one],
  measure: async () => ({}),
});

const samplesOf = (system: string, one: Case, ...values: readonly number[]): Sample[] =>
  values.map((value) => ({
    row: 'row',
    members: one.members,
    concurrency: one.concurrency,
    system,
    measurement: { [one.figure]: value },
  }));

const conclude = (one: Case, samples: readonly Sample[], isQuick = false): Result[] =>
  evaluate([rowOf(one)], { ...wanted, isQuick }, systems, samples, () => undefined);

const of = (results: readonly Result[], system: string): Result | undefined =>
  results.find((result) => result.system === system);

test('the median counts, and a ratio above 1 says that conclave is better', () => {
  const results = conclude(rate, [
    ...samplesOf('conclave', rate, 900, 1_000, 5_000),
    ...samplesOf('etcd', rate, 100),
    ...samplesOf('redis', rate, 2_000),
  ]);
  expect(of(results, 'conclave')).toMatchObject({ ops: 1_000, low: 900, high: 5_000 });
  expect(of(results, 'conclave')).toMatchObject({ ratio: 0.5, ratioTo: 'redis' });
  expect(of(results, 'etcd')?.ratio).toBe(10);
});

test('of times, fewer are better', () => {
  const time: Case = { ...rate, figure: 'p50Ms' };
  const results = conclude(time, [
    ...samplesOf('conclave', time, 2),
    ...samplesOf('etcd', time, 8),
    ...samplesOf('redis', time, 4),
  ]);
  expect(of(results, 'conclave')).toMatchObject({ ms: 2, ratio: 2, ratioTo: 'redis' });
});

test('a peer that does something else is shown, and compared with nobody', () => {
  const one: Case = { ...rate, incomparable: ['redis'] };
  const results = conclude(one, [
    ...samplesOf('conclave', one, 1_000),
    ...samplesOf('etcd', one, 500),
    ...samplesOf('redis', one, 9_000),
  ]);
  expect(of(results, 'conclave')).toMatchObject({ ratio: 2, ratioTo: 'etcd' });
  expect(of(results, 'redis')?.ops).toBe(9_000);
});

test.each([
  { goal: { kind: 'times', times: 2, of: ['etcd'] }, value: 200, isMet: true },
  { goal: { kind: 'times', times: 2, of: ['etcd'] }, value: 199, isMet: false },
  { goal: { kind: 'times', times: 2, of: ['etcd', 'redis'] }, value: 200, isMet: undefined },
  { goal: { kind: 'atLeast', limit: 200 }, value: 200, isMet: true },
  { goal: { kind: 'atLeast', limit: 201 }, value: 200, isMet: false },
  { goal: { kind: 'atMost', limit: 199 }, value: 200, isMet: false },
] as const)('$goal with $value: $isMet', ({ goal, value, isMet }) => {
  const one: Case = { ...rate, goal };
  const samples = [...samplesOf('conclave', one, value), ...samplesOf('etcd', one, 100)];
  expect(of(conclude(one, samples), 'conclave')?.isMet).toBe(isMet);
});

test('what was measured before the warm-up is kept, shown apart, and judges nothing', async () => {
  const one: Case = { ...rate, goal: { kind: 'atLeast', limit: 1_000 } };
  const steps: string[] = [];
  const measurement = await coldAndWarm(
    false,
    async (): Promise<Measurement> => {
      steps.push('measure');
      return steps.length === 1
        ? { operationsPerSecond: 300, p50Ms: 9 }
        : { operationsPerSecond: 1_000, p50Ms: 3 };
    },
    async () => {
      steps.push('warm up');
    },
  );
  expect(steps).toEqual(['measure', 'warm up', 'measure']);
  const results = conclude(one, [
    ...samplesOf('conclave', one, 1).map((sample) => ({ ...sample, measurement })),
    ...samplesOf('etcd', one, 100),
  ]);
  expect(of(results, 'conclave')).toMatchObject({ ops: 1_000, cold: 300, isMet: true, ratio: 10 });
  expect(of(results, 'conclave')?.measured).toMatchObject({ p50Ms: 3, coldP50Ms: 9 });
  expect(asMarkdown(tableOf(results))).toContain('| a row | 128 | 1 | 1,000/s | 100/s | failed |');
  expect(coldTableOf(results).lines).toEqual([['a row', '128', '1', '300/s']]);
});

test('a quick run measures once, and what has no cold figure is not in that table', async () => {
  let measured = 0;
  const measure = async (): Promise<Measurement> => {
    measured += 1;
    return { p50Ms: 1 };
  };
  const measurement = await coldAndWarm(true, measure, () => Promise.reject(new Error('warm-up')));
  expect([measured, measurement]).toEqual([1, { p50Ms: 1 }]);
  expect(coldTableOf(conclude(rate, samplesOf('conclave', rate, 5))).lines).toEqual([]);
});

test('a quick run judges nothing', () => {
  const one: Case = { ...rate, goal: { kind: 'atLeast', limit: 1 } };
  const own = of(conclude(one, samplesOf('conclave', one, 5), true), 'conclave');
  expect(own).toMatchObject({ goal: 'at least 1/s' });
  expect(own).not.toHaveProperty('isMet');
});

test('what was not measured says why', () => {
  const skip = (system: { name: string }) => (system.name === 'redis' ? 'not here' : undefined);
  const results = evaluate([rowOf(rate)], wanted, systems, samplesOf('conclave', rate, 5), skip);
  expect(of(results, 'redis')?.skipped).toBe('not here');
  expect(of(results, 'etcd')?.skipped).toBe('failed');
  expect(asMarkdown(tableOf(results))).toContain('| a row | 128 | 1 | 5/s | failed | skipped |');
});
