/** Repeating what may be repeated, with jitter, on the client's own clock and dice. */
import type { Clock } from '../../sdk/clock.ts';
import { aborted, isConclaveError } from '../../sdk/errors.ts';
import { onAbort } from './signals.ts';

/** Where waits take their time and jitter from; a Client is one. */
export type Pace = { readonly clock: Clock; readonly random: () => number };

/** How long closing waits for an answer; what is left undone by then ends with its lease. */
export const closingPatienceMs = 2_000;

const firstDelayMs = 20;
const longestDelayMs = 1_000;

/**
 * Whether the same call may be made again after this error. Only for calls that are idempotent: an
 * unknown outcome counts as a reason to try again.
 */
export const mayRepeat = (error: unknown): boolean =>
  isConclaveError(error) && (error.retryable || error.outcome === 'unknown');

/** Full jitter: uniform between zero and a limit that doubles with each attempt. */
export const fullJitterMs = (
  attempt: number,
  random: () => number,
  baseMs: number = firstDelayMs,
  longestMs: number = longestDelayMs,
): number => random() * Math.min(longestMs, baseMs * 2 ** Math.min(attempt, 40));

/** A period that differs from member to member, so that they do not all look at once. */
export const jittered = (ms: number, random: () => number): number => ms * (0.75 + 0.5 * random());

/** Waits this long. @throws ConclaveError ABORTED when the signal aborts first */
export const pause = (clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> =>
  new Promise((resolve, reject) => {
    if (signal?.aborted) {
      reject(aborted(signal));
      return;
    }
    const cancel = clock.setTimer(delayMs, () => {
      stopListening();
      resolve();
    });
    const stopListening = onAbort(signal, () => {
      cancel();
      if (signal) reject(aborted(signal));
    });
  });

/**
 * Makes an idempotent call until it answers.
 *
 * @throws whatever the call throws that a repetition cannot change, and ConclaveError ABORTED when
 *   the signal aborts
 */
export async function untilAnswered<T>(
  pace: Pace,
  call: (attempt: number) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call(attempt);
    } catch (error) {
      if (signal?.aborted || !mayRepeat(error)) throw error;
    }
    await pause(pace.clock, fullJitterMs(attempt, pace.random), signal);
  }
}
