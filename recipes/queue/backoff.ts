/**
 * How long a failed job waits before its next attempt: uniform between zero and a limit that doubles
 * with each attempt ("full jitter", https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/),
 * so that jobs that failed together do not come back together.
 */

import { invalidArgument } from '../../sdk/errors.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import { checkOptions } from '../common/option-checks.ts';
import { fullJitterMs } from '../common/repeat.ts';

/** The delay in milliseconds after this attempt (1 for the first) failed. */
export type Backoff = (attempt: number, random: () => number) => number;

export type ExponentialOptions = {
  /** The limit after the first failure. @default '1s' */
  readonly base?: Duration;
  /** The limit never exceeds this. @default '5m' */
  readonly longest?: Duration;
};

export function exponential(options: ExponentialOptions = {}): Backoff {
  checkOptions<ExponentialOptions>(options, { base: true, longest: true });
  const baseMs = parseDuration(options.base ?? '1s', 'base');
  const longestMs = parseDuration(options.longest ?? '5m', 'longest');
  if (longestMs < baseMs) throw invalidArgument('longest', options.longest, "at least 'base'");
  return (attempt, random) => fullJitterMs(attempt - 1, random, baseMs, longestMs);
}

/** The same delay each time. */
export function constant(delay: Duration): Backoff {
  const delayMs = parseDuration(delay, 'delay');
  return () => delayMs;
}
