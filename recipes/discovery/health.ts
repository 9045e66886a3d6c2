/** When checks that pass or fail make an instance healthy or not. Pure. */
import { invalidArgument } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import { durationOfAtLeast, parsePeriod } from '../common/durations.ts';

export type CheckTiming = {
  /** Between the end of a check and the next, less or more a tenth. @default '5s' */
  readonly interval?: Duration;
  /** A check that takes longer has failed. @default '2s' */
  readonly timeout?: Duration;
  /** Passes in a row until an unhealthy instance is healthy again. @default 2 */
  readonly rise?: number;
  /** Failures in a row until a healthy instance is unhealthy. @default 3 */
  readonly fall?: number;
};

export const knownTiming = { interval: true, timeout: true, rise: true, fall: true } as const;

export type CheckRules = {
  readonly intervalMs: number;
  readonly timeoutMs: number;
  readonly rise: number;
  readonly fall: number;
};

export type CheckResult =
  | { readonly passed: true }
  | { readonly passed: false; readonly reason: string };

export type Health = {
  readonly healthy: boolean;
  /** Why the last check that failed did; undefined while it is healthy. */
  readonly reason: string | undefined;
  /** Results in a row that speak against `healthy`. */
  readonly contrary: number;
};

/** @param field the option they are in, for the error. @throws ConclaveError INVALID_ARGUMENT */
export function checkRules(timing: CheckTiming, field: string): CheckRules {
  const { rise = 2, fall = 3 } = timing;
  for (const [name, value] of Object.entries({ rise, fall })) {
    if (!(Number.isSafeInteger(value) && value >= 1)) {
      throw invalidArgument(`${field}.${name}`, value, 'a whole number of at least 1');
    }
  }
  return {
    intervalMs: parsePeriod(timing.interval ?? '5s', `${field}.interval`),
    timeoutMs: durationOfAtLeast(timing.timeout ?? '2s', `${field}.timeout`, '1ms'),
    rise,
    fall,
  };
}

/** What one more result makes of it. The first one decides at once. */
export function afterCheck(
  health: Health | undefined,
  result: CheckResult,
  { rise, fall }: CheckRules,
): Health {
  const reason = result.passed ? undefined : result.reason;
  if (health === undefined) return { healthy: result.passed, reason, contrary: 0 };
  if (health.healthy === result.passed) {
    return { ...health, reason, contrary: 0 };
  }
  const contrary = health.contrary + 1;
  if (contrary < (health.healthy ? fall : rise)) {
    return { ...health, contrary };
  }
  return { healthy: result.passed, reason, contrary: 0 };
}
