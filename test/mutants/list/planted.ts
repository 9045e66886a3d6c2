/** Mutants that are one replacement in one file, in short. */
import type { Killer, Mutant } from '../mutant.ts';

/** What to find in which file, and what to put in its place. */
export type Replacement = readonly [file: string, find: string, replace: string];

/** Makes mutants of the files that `path` leads to. */
export const plantedIn =
  (path: (file: string) => string) =>
  (
    number: number,
    name: string,
    [file, find, replace]: Replacement,
    ...killers: readonly Killer[]
  ): Mutant => ({ number, name, patches: [{ file: path(file), find, replace }], killers });
