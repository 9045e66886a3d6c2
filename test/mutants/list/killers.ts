/** What finds mutants, in short. */
import type { Killer } from '../mutant.ts';

type Layer = Extract<Killer, { kind: 'simulation' }>['layer'];

export const seeds = (budget: 'T1' | 'T2', layer: Layer = 'raft'): Killer => ({
  kind: 'simulation',
  layer,
  budget,
});

/** Runs of whole clusters in which clients do what `test/sim/full/workload/choice.ts` has by this name. */
export const runsOf = (workload: string, budget: 'T1' | 'T2' = 'T1'): Killer => ({
  kind: 'simulation',
  layer: 'full',
  budget,
  workload,
});

/** A test of `test/FILE.test.ts`; `name` is a part of its name. */
export const test = (file: string, name: string): Killer => ({
  kind: 'test',
  file: `test/${file}.test.ts`,
  name,
});

/** A script of `test/raft/scripts`, without underscores. */
export const script = (name: string): Killer => test('raft/scripts', name);
