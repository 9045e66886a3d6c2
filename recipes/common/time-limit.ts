/** Bounding how long a call may take, where the call itself only knows a signal. */
import type { Clock } from '../../sdk/clock.ts';
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import { linkedSignal } from './signals.ts';

export type TimeLimit = {
  /** Stops trying: rejects with ABORTED, whose `outcome` tells whether it may have taken effect. */
  readonly signal?: AbortSignal;
  /** Stops trying after this long: rejects with TIMEOUT, likewise. @default no limit */
  readonly timeout?: Duration;
};

/**
 * Makes the call with a signal that also aborts when the time is over.
 *
 * @param what for the error: "The publication"
 * @throws ConclaveError TIMEOUT with the outcome of the call, INVALID_ARGUMENT, and what the call throws
 */
export async function withinTime<R>(
  clock: Clock,
  { signal, timeout }: TimeLimit,
  what: string,
  call: (signal: AbortSignal | undefined) => Promise<R>,
): Promise<R> {
  if (timeout === undefined) return call(signal);
  const timeoutMs = parseDuration(timeout, 'timeout');
  const stop = linkedSignal(signal);
  const late = new ConclaveError('TIMEOUT', `${what} took longer than ${timeoutMs} ms`);
  const cancel = clock.setTimer(timeoutMs, () => stop.abort(late), true);
  try {
    return await call(stop.signal);
  } catch (error) {
    if (stop.signal.reason !== late || !isConclaveError(error, 'ABORTED')) throw error;
    throw new ConclaveError('TIMEOUT', late.message, { cause: error, outcome: error.outcome });
  } finally {
    cancel();
    stop.unlink();
  }
}
