/** Waiting until a learner holds enough of the log to become a voter. */
import { setTimeout as pause } from 'node:timers/promises';
import { type ConclaveError, isConclaveError } from '../../../../sdk/errors.ts';
import { exitCodes } from '../../exit-codes.ts';
import { CliError } from '../../failure.ts';

const POLL_MS = 250;

/** The server's word for it; the status code alone stands for many things. */
const notYet = (error: unknown): error is ConclaveError =>
  isConclaveError(error) &&
  error.code === 'FAILED_PRECONDITION' &&
  error.message.includes('in sync with leader');

/**
 * Repeats `change` until the learner has caught up. `onWaiting` is called once, when it first has not.
 *
 * @throws CliError 124 when it has not within `waitMs`
 */
export async function onceCaughtUp(
  change: () => Promise<void>,
  waitMs: number,
  onWaiting: () => void,
): Promise<void> {
  const deadlineMs = performance.now() + waitMs;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await change();
    } catch (error) {
      if (!notYet(error)) throw error;
      if (performance.now() >= deadlineMs) {
        throw new CliError(
          'the learner has not caught up with the leader',
          exitCodes.notAcquired,
          'see that it runs and reaches the others, then give the same command again, with a longer --wait',
        );
      }
      if (attempt === 0) onWaiting();
      await pause(POLL_MS);
    }
  }
}
