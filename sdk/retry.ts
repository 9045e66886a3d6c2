/** When and how often a call is made again. */
import pRetry from 'p-retry';
import type { RetryOptions } from './client.ts';
import { aborted } from './errors.ts';
import { parseDuration } from './options.ts';

export type RetryPolicy = {
  readonly retries: number;
  readonly minDelayMs: number;
  readonly maxDelayMs: number;
};

/** @throws ConclaveError INVALID_ARGUMENT */
export const parseRetry = (options: RetryOptions = {}): RetryPolicy => ({
  retries: options.retries ?? 10,
  minDelayMs: parseDuration(options.minDelay ?? 25, 'retry.minDelay'),
  maxDelayMs: parseDuration(options.maxDelay ?? 1_000, 'retry.maxDelay'),
});

/** The wait before repetition number `attempt` (from 0): doubling, with full jitter above half. */
export const backoffMs = (policy: RetryPolicy, attempt: number, random: () => number): number => {
  const ceiling = Math.min(policy.maxDelayMs, policy.minDelayMs * 2 ** Math.min(attempt, 20));
  return ceiling * (0.5 + random() / 2);
};

export type RepeatOptions = {
  readonly policy: RetryPolicy;
  /** Looks at the error of the last attempt. */
  readonly again: () => boolean;
  readonly budgetMs: number;
  readonly signal?: AbortSignal | undefined;
};

/** Repeats with back-off while `again()` says so; rejects with the last attempt's error. */
export const repeat = async <T>(
  attempt: () => Promise<T>,
  { policy, again, budgetMs, signal }: RepeatOptions,
): Promise<T> => {
  try {
    return await pRetry(attempt, {
      retries: policy.retries,
      minTimeout: policy.minDelayMs,
      maxTimeout: policy.maxDelayMs,
      randomize: true,
      maxRetryTime: Math.max(0, budgetMs),
      shouldRetry: again,
      ...(signal === undefined ? {} : { signal }),
    });
  } catch (error) {
    // An abort between two attempts surfaces as the bare reason.
    if (signal?.aborted && error === signal.reason) throw aborted(signal);
    throw error;
  }
};
