/** What a producer may say about a job, and what becomes of that in the store. */

import { type Codec, encodeWith } from '../../sdk/codec.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import { type CallOptions, type Duration, parseDuration } from '../../sdk/options.ts';
import { durationOfAtLeast } from '../common/durations.ts';
import { timeLimits } from '../common/option-checks.ts';
import { escapeName } from '../names.ts';
import { priorityMax } from './job-places.ts';
import type { JobState } from './job-record.ts';
import type { NewJob } from './producer.ts';

export type JobOptions = {
  /** Not before this much later, by the wall clocks of producer and workers. @default now */
  readonly delay?: Duration;
  /** While an unfinished job with this key exists, pushing another returns that one. */
  readonly key?: string;
  /**
   * With `key`: for how long after the job was done (acknowledged) the key stays taken: pushing another
   * returns the job that was, also with `replace`. '1s' or more; at most a tenth longer, or a second. A
   * job that is cancelled, discarded or dead frees its key at once. @default 0
   */
  readonly keyFor?: Duration;
  /** Overrides the workers' own limit. */
  readonly maxAttempts?: number;
  /**
   * Jobs of higher priority are offered first: a whole number from -100 to 100. Those of lower
   * priority wait for as long as there are others. @default 0
   */
  readonly priority?: number;
  /**
   * Jobs of a group are run in order, as many at a time as `limits.groupConcurrency` says, and groups
   * take turns. A job that waits for its next attempt keeps its turn.
   */
  readonly group?: string;
  /** How long an attempt may take before its signal aborts; it has failed then. @default the workers' */
  readonly attemptTimeout?: Duration;
};

export type PushOptions = CallOptions &
  JobOptions & {
    /**
     * With `key`: take the place of the unfinished job with this key. One that waits is dropped; one
     * that runs is ordered to stop, and this one becomes ready when it has. A waiting job with a delay,
     * group or priority is searched for. @default false
     */
    readonly replace?: boolean;
    /** When the queue is bounded and full: wait for room, or fail with FULL. @default 'wait' */
    readonly whenFull?: 'wait' | 'fail';
  };

export type ManyOptions = CallOptions & Pick<PushOptions, 'whenFull'>;

/** A job to push together with others. */
export type JobToPush<T> = JobOptions & { readonly data: T };

export const knownJob = {
  delay: true,
  key: true,
  keyFor: true,
  maxAttempts: true,
  priority: true,
  group: true,
  attemptTimeout: true,
} as const;

export const knownMany = { ...timeLimits, whenFull: true } as const;

export const knownPush = { ...knownMany, ...knownJob, replace: true } as const;

/** @throws ConclaveError INVALID_ARGUMENT, CODEC */
export function newJob<T>(
  data: T,
  codec: Codec<T>,
  options: JobOptions & { readonly replace?: boolean | undefined },
  nowMs: number,
): NewJob {
  const job = jobWithout(options, nowMs);
  return { payload: encodeWith(codec, data), ...job };
}

/** A job but for its payload. @throws ConclaveError INVALID_ARGUMENT */
export function jobWithout(
  options: JobOptions & { readonly replace?: boolean | undefined },
  nowMs: number,
): Omit<NewJob, 'payload'> {
  const { delay, key, keyFor, maxAttempts, priority = 0, group, attemptTimeout } = options;
  const { replace = false } = options;
  const delayMs = delay === undefined ? 0 : parseDuration(delay, 'delay');
  if (maxAttempts !== undefined && !(Number.isInteger(maxAttempts) && maxAttempts > 0)) {
    throw invalidArgument('maxAttempts', maxAttempts, 'a whole number of at least 1');
  }
  if (!Number.isInteger(priority) || Math.abs(priority) > priorityMax) {
    const allowed = `a whole number from -${priorityMax} to ${priorityMax}`;
    throw invalidArgument('priority', priority, allowed);
  }
  if (replace && key === undefined) {
    throw invalidArgument('replace', replace, "false, or used with a 'key'");
  }
  if (keyFor !== undefined && key === undefined) {
    throw invalidArgument('keyFor', keyFor, "left out, or used with a 'key'");
  }
  const keyForMs = keyFor === undefined ? undefined : durationOfAtLeast(keyFor, 'keyFor', '1s');
  const dedup = key === undefined ? undefined : escapeName(key, 'key');
  const groupLevel = group === undefined ? undefined : escapeName(group, 'group');
  const timeoutMs =
    attemptTimeout === undefined
      ? undefined
      : durationOfAtLeast(attemptTimeout, 'attemptTimeout', '1ms');
  const state: JobState = {
    v: 1,
    attempts: 0,
    pushedMs: nowMs,
    ...(maxAttempts === undefined ? {} : { maxAttempts }),
    ...(dedup === undefined ? {} : { dedup }),
    ...(keyForMs === undefined ? {} : { keyForMs }),
    ...(priority === 0 ? {} : { priority }),
    ...(groupLevel === undefined ? {} : { group: groupLevel }),
    ...(timeoutMs === undefined ? {} : { timeoutMs }),
  };
  return {
    state,
    dueMs: delayMs === 0 ? undefined : nowMs + delayMs,
    replaces: replace,
  };
}
