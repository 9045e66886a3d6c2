/** The engine: time, choices, schedules, and how they become small. */
import { expect, test } from 'vitest';
import { Decisions } from './engine/decisions.ts';
import { Engine } from './engine/engine.ts';
import { formatSchedule, parseSchedule } from './engine/schedule.ts';
import { shrink } from './engine/shrink.ts';
import { replay, runSeed } from './run.ts';

test('events run by time, and in the order of scheduling at one time', () => {
  const engine = new Engine(new Decisions(1, { kind: 'free' }));
  const ran: string[] = [];
  for (const [delay, name] of [
    [5, 'c'],
    [1, 'a'],
    [5, 'd'],
    [3, 'b'],
  ] as const) {
    engine.after(delay, () => ran.push(name));
  }
  engine.after(4, () => ran.push('cancelled')).cancel();
  engine.runUntil(5);
  expect(ran).toEqual(['a', 'b', 'c', 'd']);
  expect(engine.now).toBe(5);
});

test('one stream does not shift another', () => {
  const draws = (others: number) => {
    const decisions = new Decisions(9, { kind: 'free' });
    for (let count = 0; count < others; count += 1) decisions.site('disk', 'any').below(10);
    return Array.from({ length: 20 }, () => decisions.site('network', 'delay').below(1_000));
  };
  expect(draws(0)).toEqual(draws(17));
});

test('a recorded run is replayed from its choices that were not the default', () => {
  const ask = (decisions: Decisions) => {
    const site = decisions.site('network', 'delay');
    return Array.from({ length: 50 }, (_, at) =>
      at % 2 === 0 ? site.below(4) : site.exponential(100),
    );
  };
  const recording = new Decisions(3, { kind: 'record' });
  const before = ask(recording);
  const schedule = recording.recorded;
  expect(ask(new Decisions(0, { kind: 'replay', schedule }))).toEqual(before);
  for (const workload of ['mutex', undefined]) {
    const stored = { layer: 'full', seed: 3, workload, invariant: 3, schedule } as const;
    expect(parseSchedule(formatSchedule(stored))).toEqual(stored);
  }
});

test('shrinking keeps what the failure needs, and nothing else', async () => {
  const needed = [
    ['nemesis crash', 3],
    ['network lose 1>2', 17],
  ] as const;
  const schedule = new Map(
    ['nemesis crash', 'nemesis pause', 'network lose 1>2', 'client proposal'].map((site) => [
      site,
      new Map(Array.from({ length: 30 }, (_, at) => [at, 1])),
    ]),
  );
  const small = await shrink(schedule, {
    fails: async (tried) => needed.every(([site, at]) => tried.get(site)?.get(at) === 1),
    goOn: () => true,
  });
  expect(new Map([...small].map(([site, choices]) => [site, [...choices.keys()]]))).toEqual(
    new Map(needed.map(([site, at]) => [site, [at]])),
  );
});

test('a whole run is replayed from its schedule', async () => {
  const decisions = new Decisions(11, { kind: 'record' });
  const { RaftSimulation } = await import('./raft/simulation.ts');
  const engine = new Engine(decisions);
  new RaftSimulation(engine).run();
  const again = await replay('raft', 11, decisions.recorded);
  expect(again.hash).toBe(engine.trace.hex);
  expect((await runSeed('raft', 11)).hash).toBe(engine.trace.hex);
});
