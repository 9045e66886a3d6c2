/** What subscribers may ask for. */
import { invalidArgument } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import { durationOfAtLeast, parsePeriod } from '../common/durations.ts';
import { checkOptions } from '../common/option-checks.ts';
import { messagesMax } from './message.ts';
import { checkStart, type Start } from './start.ts';
import { subscriptionLevel } from './topic-keys.ts';

export type SubscribeOptions = {
  /**
   * Where to begin; of a durable subscription or a group only where it begins when it does not exist
   * yet. @default 'new'
   */
  readonly from?: Start;
  /** Ends the subscription, without an error. */
  readonly signal?: AbortSignal;
  /**
   * Messages held for a slow consumer: 1 or more. A full buffer pauses the watch at the server; nothing
   * is dropped. @default 256
   */
  readonly buffer?: number;
  /** After how long without a message it looks by itself: '10ms' or more. @default '15s' */
  readonly recheck?: Duration;
};

export type DurableOptions = SubscribeOptions & {
  /** The name of the subscription, 1 to 200 bytes. One consumer of the name is active at a time. */
  readonly durable: string;
};

export type GroupOptions = SubscribeOptions & {
  /** The name of the group, 1 to 200 bytes. */
  readonly group: string;
  /** How long a delivery may take before the message is delivered again: '100ms' or more. @default '30s' */
  readonly ackDeadline?: Duration;
  /** Deliveries of a message before it is parked. @default 5 */
  readonly maxDeliveries?: number;
  /** Deliveries to this member that are not settled, at most: 1 to 1000. @default 1 */
  readonly maxInFlight?: number;
  /**
   * Messages that are handed over to the group and not settled, at most: 64 or more. The same for all
   * members; others are MISMATCH. @default 1000
   */
  readonly maxPending?: number;
};

type AnyOptions = Partial<DurableOptions & GroupOptions>;

const forGroups = {
  ackDeadline: true,
  maxDeliveries: true,
  maxInFlight: true,
  maxPending: true,
} as const;

const knownOptions = {
  ...forGroups,
  from: true,
  signal: true,
  buffer: true,
  recheck: true,
  durable: true,
  group: true,
} as const;

/**
 * A misspelt 'group' or 'durable' would make a subscription of another kind.
 *
 * @throws ConclaveError INVALID_ARGUMENT
 */
export function checkSubscribeOptions(options: AnyOptions): void {
  checkOptions<AnyOptions>(options, knownOptions);
  if ('group' in options) return;
  for (const [name, value] of Object.entries(options)) {
    if (name in forGroups) throw invalidArgument(name, value, "used with 'group'");
  }
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function parseSubscription({
  from = 'new',
  buffer = 256,
  recheck = '15s',
}: SubscribeOptions) {
  checkStart(from);
  return {
    start: from,
    buffer: wholeNumber('buffer', buffer, 1),
    recheckMs: parsePeriod(recheck, 'recheck'),
  };
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function parseDurable(options: DurableOptions): string {
  if ('group' in options) throw invalidArgument('durable', options.durable, "used without 'group'");
  subscriptionLevel('durable', options.durable);
  return options.durable;
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function parseGroup(options: GroupOptions) {
  const { group, ackDeadline = '30s', maxDeliveries = 5, maxInFlight = 1 } = options;
  const { maxPending = 1_000 } = options;
  if ('durable' in options) throw invalidArgument('group', group, "used without 'durable'");
  subscriptionLevel('group', group);
  return {
    name: group,
    ackDeadlineMs: durationOfAtLeast(ackDeadline, 'ackDeadline', '100ms'),
    maxDeliveries: wholeNumber('maxDeliveries', maxDeliveries, 1),
    maxInFlight: wholeNumber('maxInFlight', maxInFlight, 1, 1_000),
    maxPending: wholeNumber('maxPending', maxPending, messagesMax),
  };
}

function wholeNumber(field: string, value: number, least: number, most = 2 ** 31): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw invalidArgument(field, value, `a whole number from ${least} to ${most}`);
}
