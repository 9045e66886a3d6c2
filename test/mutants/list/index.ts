/** Every mutant, by number. */
import type { Mutant } from '../mutant.ts';
import { election } from './election.ts';

export const mutants: readonly Mutant[] = [...election].sort((a, b) => a.number - b.number);
