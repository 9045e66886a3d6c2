/** What the bench concludes from samples. */
import { expect, test } from 'vitest';
import { evaluate, type Result } from './results.ts';
import type { Case, Row } from './row.ts';
import type { Sample } from './run.ts';
import { benchSystem } from './systems.ts';
import { asMarkdown, tableOf } from './table.ts';

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
