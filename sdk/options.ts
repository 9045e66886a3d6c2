/** Options that every call shares, and the reading of durations. */
import { invalidArgument } from './errors.ts';

/** Milliseconds as a number, or a number with a unit: '500ms', '15s', '5m', '1h', '2d'. */
export type Duration = number | string;

export type CallOptions = {
  /** Ends the wait. A write that was sent by then may still take effect. */
  readonly signal?: AbortSignal;
  /** How long the call may take, retries included. @default the client's `requestTimeout` */
  readonly timeout?: Duration;
};

const unitMs: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

const allowed = "a number of milliseconds or a text such as '500ms', '15s', '5m', '1h' or '2d'";

/**
 * A duration in milliseconds.
 *
 * @param field the name of the option, for the error. @default 'duration'
 * @throws ConclaveError INVALID_ARGUMENT when it is negative, not finite or not understood
 */
export const parseDuration = (value: Duration, field = 'duration'): number => {
  if (typeof value === 'number') {
    if (!Number.isFinite(value) || value < 0) throw invalidArgument(field, value, allowed);
    return value;
  }
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(value) : null;
  const factor = unitMs[match?.[2] ?? ''];
  if (match === null || factor === undefined) throw invalidArgument(field, value, allowed);
  return Number(match[1]) * factor;
};

/** The timeout of a call in milliseconds, when it names one. */
export const parseTimeout = (options: CallOptions): number | undefined =>
  options.timeout === undefined ? undefined : parseDuration(options.timeout, 'timeout');
