/** Durations that must not be too short: as a period, zero would make a loop that never rests. */
import { invalidArgument } from '../../sdk/errors.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';

/** How often something may be repeated at most. */
const shortestPeriod = '10ms';

/**
 * A duration in milliseconds.
 *
 * @param field the name of the option, for the error
 * @throws ConclaveError INVALID_ARGUMENT when it is not a duration or shorter than `least`
 */
export function durationOfAtLeast(value: Duration, field: string, least: Duration): number {
  const ms = parseDuration(value, field);
  if (ms < parseDuration(least, field)) throw invalidArgument(field, value, `at least '${least}'`);
  return ms;
}

/** The time between repetitions, in milliseconds. @throws ConclaveError INVALID_ARGUMENT */
export const parsePeriod = (value: Duration, field: string): number =>
  durationOfAtLeast(value, field, shortestPeriod);
