/** When and how often a call is made again. */
import pRetry from 'p-retry';
import type { RetryOptions } from './client.ts';
import type { Cancel, Clock } from './clock.ts';
import { aborted, invalidArgument } from './errors.ts';
import { parseDuration } from './options.ts';

export type RetryPolicy = {
  /** Infinity: as often as the time allows. */
  readonly retries: number;
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
};

/** @throws ConclaveError INVALID_ARGUMENT */
export const parseRetry = (options: RetryOptions = {}): RetryPolicy => {
  const { retries = Number.POSITIVE_INFINITY } = options;
  if (retries !== Number.POSITIVE_INFINITY && (!Number.isSafeInteger(retries) || retries < 0)) {
    throw invalidArgument('retry.retries', retries, 'a whole number from 0, or Infinity');
  }
  return {
    retries,
    minDelayMs: parseDuration(options.minDelay ?? 10, 'retry.minDelay'),
    maxDelayMs: parseDuration(options.maxDelay ?? 1_000, 'retry.maxDelay'),
  };
};

/** The wait before repetition number `attempt` (from 0): doubling, with full jitter above half. */
export const backoffMs = (policy: RetryPolicy, attempt: number, random: () => number): number => {
  const ceiling = Math.min(policy.maxDelayMs, policy.minDelayMs * 2 ** Math.min(attempt, 20));
  return ceiling * (0.5 + random() / 2);
};

/**
 * The wait as long as trouble has lasted for `troubleMs`: like back-off, but never more than a quarter
 * of that, so that an outage is not noticed to be over much later than it is.
 */
export const paceMs = (
  policy: RetryPolicy,
  attempt: number,
  troubleMs: number,
  random: () => number,
): number =>
  backoffMs(
    {
      ...policy,
      maxDelayMs: Math.min(policy.maxDelayMs, Math.max(policy.minDelayMs, troubleMs / 4)),
    },
    attempt,
    random,
  );

export type RepeatOptions = {
  readonly policy: RetryPolicy;
  readonly clock: Clock;
  readonly random: () => number;
  /** Looks at the error of the last attempt. */
  readonly again: () => boolean;
  /** Time left; no attempt starts, and no wait lasts, beyond it. */
  readonly remainingMs: () => number;
  readonly signal?: AbortSignal | undefined;
};

/** Repeats with back-off while `again()` says so; rejects with the last attempt's error. */
export const repeat = async <T>(attempt: () => Promise<T>, options: RepeatOptions): Promise<T> => {
  const { policy, clock, random, again, remainingMs, signal } = options;
  const startedMs = clock.monotonicMs();
  try {
    return await pRetry(attempt, {
      retries: policy.retries,
      // It decides whether to go on; the waits are ours, so that they pass on the clock given.
      minTimeout: 0,
      onFailedAttempt: async ({ retriesConsumed, retriesLeft }) => {
        if (!again() || retriesLeft <= 0) return;
        const troubleMs = clock.monotonicMs() - startedMs;
        const delayMs = paceMs(policy, retriesConsumed, troubleMs, random);
        await sleep(clock, Math.min(delayMs, remainingMs()), signal);
      },
      shouldRetry: () => again() && remainingMs() > 0,
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    // An abort between two attempts surfaces as the bare reason.
    if (signal?.aborted && error === signal.reason) throw aborted(signal);
    throw error;
  }
};

/** Keeps the process alive. An abort ends the wait early; it does not reject. */
const sleep = (clock: Clock, delayMs: number, signal: AbortSignal | undefined): Promise<void> =>
  new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    let cancel: Cancel = () => undefined;
    const done = () => {
      cancel();
      signal?.removeEventListener('abort', done);
      resolve();
    };
    cancel = clock.setTimer(delayMs, done, true);
    signal?.addEventListener('abort', done);
  });
