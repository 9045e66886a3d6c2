/** What finds mutants, in short. */
import type { Killer } from '../mutant.ts';

type Layer = Extract<Killer, { kind: 'simulation' }>['layer'];

export const seeds = (budget: 'T1' | 'T2', layer: Layer = 'raft'): Killer => ({
  kind: 'simulation',
  layer,
  budget,
});

/** A test of `test/FILE.test.ts`; `name` is a part of its name. */
export const test = (file: string, name: string): Killer => ({
  kind: 'test',
  file: `test/${file}.test.ts`,
  name,
});

/** A script of `test/raft/scripts`, without underscores. */
export const script = (name: string): Killer => test('raft/scripts', name);
