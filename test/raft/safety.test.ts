/**
 * Random schedules of everything that can go wrong, checked after each step against what Raft
 * promises (Raft, figure 3). A seed fixes the schedule; a failure prints the command that repeats it:
 * `RAFT_SEED=123 npx vitest run --config test/vitest.config.ts test/raft/safety.test.ts`.
 */
import { expect, test } from 'vitest';
import { Simulation, situations } from './simulation.ts';

const givenSeed = process.env['RAFT_SEED'];
const seeds = (count: number) =>
  givenSeed === undefined
    ? Array.from({ length: count }, (_, seed) => seed + 1)
    : [Number(givenSeed)];

for (const { size, count, steps } of [
  { size: 1, count: 20, steps: 500 },
  { size: 3, count: 150, steps: 4_000 },
  { size: 5, count: 120, steps: 5_000 },
]) {
  test(`${size} members stay safe under faults, and work again afterwards`, () => {
    const reached = new Set<string>();
    for (const seed of seeds(count)) {
      const simulation = new Simulation(size, seed);
      try {
        simulation.run(steps);
        simulation.recover();
        for (const situation of simulation.reached) reached.add(situation);
      } catch (error) {
        throw new Error(`seed ${seed}, step ${simulation.step}: RAFT_SEED=${seed} repeats it`, {
          cause: error,
        });
      }
    }
    if (size > 1 && givenSeed === undefined)
      expect([...reached].sort()).toEqual([...situations].sort());
  });
}

test('the same seed gives the same schedule', () => {
  const trace = (seed: number) => {
    const simulation = new Simulation(3, seed);
    simulation.run(1_000);
    return simulation.fingerprint;
  };
  expect(trace(1)).toBe(trace(1));
  expect(trace(1)).not.toBe(trace(2));
});
