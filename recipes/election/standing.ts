/** How a candidate by priority stands: what it writes, and how patient it is. */
import type { ConclaveError } from '../../sdk/errors.ts';
import type { ElectionKeys } from './candidates.ts';
import type { FormerTerm } from './priority-writes.ts';

export type PriorityTiming = {
  /** How often the election is read again, whatever watches say. */
  readonly recheckMs: number;
  /** A term shorter than this does not pay for a watch. */
  readonly followAfterMs: number;
  /** The head start of each rank at a vacancy. */
  readonly vacancyStepMs: number;
  /** How long a request must stand before the leader is told. */
  readonly preemptAfterMs: number;
};

export type Standing = {
  readonly keys: ElectionKeys;
  /** Unique among the attempts of the session. */
  readonly attempt: string;
  readonly value: string | Uint8Array;
  readonly preferred: boolean;
  readonly timing: PriorityTiming;
  /** The error of a candidate of this form where there are candidates of another. */
  readonly mismatch: () => ConclaveError;
  /** The term to go on from, and the error if it is over. @default stand as anybody */
  readonly former?: FormerTerm & { readonly over: () => ConclaveError };
};

/** A candidate this far down tries as early as the one here: nobody waits for ever. */
const ranksWaitedFor = 20;

/**
 * How long a candidate leaves a vacancy to those above it: spread a little, so that clients that see the
 * same vacancy do not try in one instant.
 */
export const turnMs = (
  { vacancyStepMs }: PriorityTiming,
  above: number,
  random: () => number,
): number => Math.min(above, ranksWaitedFor) * vacancyStepMs * (1 + 0.25 * random());
