/** Waiting for as long as a caller is patient, and measuring how long that took. */
import {
  aborted,
  type ConclaveError,
  type ErrorCode,
  isConclaveError,
  throwIfAborted,
} from '../../sdk/errors.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { Measured } from '../metrics.ts';
import type { RecipeContext } from './context.ts';
import { checkSignal } from './option-checks.ts';
import { expectManyListeners, onAbort } from './signals.ts';

export type Patience = {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
};

/** @throws ConclaveError INVALID_ARGUMENT */
export function patienceOf({
  signal,
  timeout,
}: {
  readonly signal?: AbortSignal;
  readonly timeout?: Duration;
}): Patience {
  checkSignal(signal);
  return {
    signal,
    timeoutMs: timeout === undefined ? undefined : parseDuration(timeout, 'timeout'),
  };
}

/**
 * Waits, and reports how long that took and what it came to.
 *
 * @param late what the wait comes to when it takes longer than the timeout
 * @param wait gets a signal that aborts when the caller is patient no longer; its reason is the error to
 *   reject with, unless the wait has come to something by then; none where the patience has no end
 * @throws ConclaveError ABORTED when the caller's signal has aborted before; what `wait` throws
 */
export async function waitPatiently<R>(
  { session, metrics }: RecipeContext,
  { recipe, name }: Measured,
  { signal, timeoutMs }: Patience,
  late: (timeoutMs: number) => ConclaveError,
  wait: (enough: AbortSignal | undefined) => Promise<R>,
): Promise<R> {
  throwIfAborted(signal);
  const { clock } = session.client;
  const startedMs = clock.monotonicMs();
  const isEndless = signal === undefined && timeoutMs === undefined;
  const enough = isEndless ? undefined : new AbortController();
  if (enough !== undefined) expectManyListeners(enough.signal);
  const stopListening = onAbort(signal, () => signal && enough?.abort(aborted(signal)));
  const cancelTimeout =
    timeoutMs === undefined
      ? () => undefined
      : clock.setTimer(timeoutMs, () => enough?.abort(late(timeoutMs)), true);
  let outcome: 'acquired' | ErrorCode = 'acquired';
  metrics.counted?.({ recipe, name, kind: 'waiting', change: 1 });
  try {
    return await wait(enough?.signal);
  } catch (error) {
    outcome = isConclaveError(error) ? error.code : 'INTERNAL';
    throw error;
  } finally {
    cancelTimeout();
    stopListening();
    metrics.counted?.({ recipe, name, kind: 'waiting', change: -1 });
    metrics.waited({ recipe, name, ms: clock.monotonicMs() - startedMs, outcome });
  }
}
