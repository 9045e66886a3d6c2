/** What the parties of a cyclic barrier are told when it breaks. */
import { ConclaveError } from '../../sdk/errors.ts';

/**
 * - `gone`: a party died, lost its session, or had its key removed.
 * - `timeout`, `abort`: a party gave up waiting.
 * - `action`: the barrier's action failed.
 * - `reset`: somebody reset the barrier.
 * - `unknown`: it was so long ago that the barrier does not remember.
 */
export type BreakReason = 'gone' | 'timeout' | 'abort' | 'action' | 'reset' | 'unknown';

export const breakReasons: readonly BreakReason[] = [
  'gone',
  'timeout',
  'abort',
  'action',
  'reset',
  'unknown',
];

export type Break = {
  readonly reason: BreakReason;
  /** The session that broke it, or saw that a party was gone. */
  readonly by: string;
  /** When, by the wall clock of that session. */
  readonly since: Date;
};

const explanations: Readonly<Record<BreakReason, string>> = {
  gone: 'a party was gone',
  timeout: 'a party waited no longer',
  abort: 'a party gave up',
  action: 'its action failed',
  reset: 'it was reset',
  unknown: 'it may have been complete, but nothing remembers',
};

/** A generation of a cyclic barrier will never be complete. Its code is BARRIER_BROKEN. */
export class BrokenBarrierError extends ConclaveError {
  override readonly name = 'BrokenBarrierError';
  readonly generation: number;
  readonly reason: BreakReason;
  /** What the barrier remembers of it. */
  readonly broken: Break | undefined;

  constructor(what: string, generation: number, reason: BreakReason, broken?: Break) {
    super('BARRIER_BROKEN', `${what} broke in generation ${generation}: ${explanations[reason]}`, {
      outcome: reason === 'unknown' ? 'unknown' : 'not-applied',
    });
    this.generation = generation;
    this.reason = reason;
    this.broken = broken;
  }
}
