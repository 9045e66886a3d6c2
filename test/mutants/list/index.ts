/** Every mutant, by number. */
import type { Mutant } from '../mutant.ts';
import { raftMutants } from './raft.ts';

export const mutants: readonly Mutant[] = [...raftMutants].sort((a, b) => a.number - b.number);
