/**
 * A mutant: one planted defect, of a kind that real systems have had, and what must find it.
 *
 * It exists only as a patch that is applied to a private copy of the sources. What ships contains no
 * trace of it, so no switch can turn it on.
 */

import type { Layer } from '../sim/run.ts';

export type { Layer } from '../sim/run.ts';

export type Patch = {
  /** From the root of the project. */
  readonly file: string;
  /** Must occur exactly once: a mutant that no longer fits the code is an error, not a pass. */
  readonly find: string;
  readonly replace: string;
};

/**
 * How much may be spent until it is found: T1 at most 100 seeds, T2 at most 5,000; D by a scenario
 * written for it.
 */
export type Budget = 'T1' | 'T2' | 'D';

export type Killer =
  /** Random schedules of a layer of the simulator, seed by seed from 1, until an invariant breaks. */
  | {
      readonly kind: 'simulation';
      readonly layer: Layer;
      readonly budget: 'T1' | 'T2';
      /** What clients do; by default the seed chooses. */
      readonly workload?: string | undefined;
    }
  /** A test that must fail; `name` is a part of its name, a pattern as `vitest -t` takes it. */
  | { readonly kind: 'test'; readonly file: string; readonly name: string };

export type Mutant = {
  /** 1 to 68 as numbered in the programme of tests; own ones go on from 201. */
  readonly number: number;
  readonly name: string;
  readonly patches: readonly Patch[];
  /** Each of them must find it. */
  readonly killers: readonly Killer[];
  /** Nothing is planted, because there is no place for it, or nobody could tell: why. */
  readonly exempt?: string;
};

export const seedsOf = { T1: 100, T2: 5_000 } as const satisfies Record<'T1' | 'T2', number>;
