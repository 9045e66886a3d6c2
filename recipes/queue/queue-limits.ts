/**
 * What all clients of a queue keep to. The limits are stored once, in the store: whoever names limits
 * that differ from the stored ones is told so, and whoever names none keeps to those that are there.
 */

import type { Client } from '../../sdk/client.ts';
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { CallOptions, Duration } from '../../sdk/options.ts';
import { compare, op } from '../../sdk/txn.ts';
import { durationOfAtLeast } from '../common/durations.ts';
import { parseRecord } from '../common/json-record.ts';
import { checkOptions } from '../common/option-checks.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { QueueKeys } from '../names.ts';
import type { Rate } from '../rate/gcra.ts';

export type QueueLimits = {
  /** Jobs of the queue that may run at a time, over all workers: 1 to 1000. @default no limit */
  readonly concurrency?: number;
  /** Jobs of each group that may be offered or run at a time: 1 to 1000. @default 1 */
  readonly groupConcurrency?: number;
  /** Jobs that may be claimed per period, over all workers, by their wall clocks. @default no limit */
  readonly rate?: QueueRate;
  /** Unfinished jobs at most, dead letters not counted. Exact. @default no limit */
  readonly capacity?: number;
};

export type QueueRate = {
  /** Jobs per period: more than 0. */
  readonly limit: number;
  /** @default '1s' */
  readonly per?: Duration;
  /** Jobs that may be claimed at once after a rest: 1 or more. @default the limit, at least 1 */
  readonly burst?: number;
};

/** As stored. */
export type StoredLimits = {
  readonly v: 1;
  readonly concurrency?: number;
  readonly groupConcurrency?: number;
  readonly capacity?: number;
  readonly rate?: Rate;
};

const largest = { concurrency: 1_000, groupConcurrency: 1_000, capacity: 1_000_000_000 } as const;

const knownNumbers = { concurrency: true, groupConcurrency: true, capacity: true } as const;

/** @throws ConclaveError INVALID_ARGUMENT */
export function parseLimits(limits: QueueLimits): StoredLimits {
  checkOptions<QueueLimits>(limits, { ...knownNumbers, rate: true }, 'limits');
  const numbers = Object.entries(largest).flatMap(([field, most]) => {
    const value = limits[field as keyof typeof largest];
    if (value === undefined) return [];
    if (!(Number.isInteger(value) && value >= 1 && value <= most)) {
      throw invalidArgument(`limits.${field}`, value, `a whole number from 1 to ${most}`);
    }
    return [[field, value]];
  });
  const { rate } = limits;
  const stored = { v: 1 as const, ...Object.fromEntries(numbers) };
  return rate === undefined ? stored : { ...stored, rate: parseRate(rate) };
}

function parseRate(given: QueueRate): Rate {
  checkOptions<QueueRate>(given, { limit: true, per: true, burst: true }, 'limits.rate');
  const { limit, per = '1s', burst } = given;
  if (!(Number.isFinite(limit) && limit > 0)) {
    throw invalidArgument('limits.rate.limit', limit, 'a number of more than 0');
  }
  const most = burst ?? Math.max(1, Math.floor(limit));
  if (!(Number.isSafeInteger(most) && most >= 1)) {
    throw invalidArgument('limits.rate.burst', burst, 'a whole number of at least 1');
  }
  return { rate: limit, perMs: durationOfAtLeast(per, 'limits.rate.per', '1ms'), burst: most };
}

/** As somebody would have to write them to get these. */
export function shownLimits(stored: StoredLimits | undefined): QueueLimits {
  const { v: _version, rate, ...numbers } = stored ?? { v: 1 };
  if (rate === undefined) return numbers;
  return { ...numbers, rate: { limit: rate.rate, per: rate.perMs, burst: rate.burst } };
}

/** undefined when none are stored. Lenient with what somebody wrote by hand. */
export function readLimits(kv: KeyValue | null | undefined): StoredLimits | undefined {
  return kv == null ? undefined : { ...parseRecord(kv), v: 1 };
}

const isSame = (one: StoredLimits, other: StoredLimits): boolean =>
  JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());

/** The stored limits as one client last saw them. */
export class KnownLimits {
  readonly #client: Client;
  readonly #key: string;
  readonly #wanted: StoredLimits | undefined;
  #agreed: Promise<void> | undefined;
  /** 0n until some are seen. */
  revision = 0n;
  current: StoredLimits = { v: 1 };

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(client: Client, keys: QueueKeys, wanted: QueueLimits | undefined) {
    this.#client = client;
    this.#key = keys.limits;
    this.#wanted = wanted === undefined ? undefined : parseLimits(wanted);
  }

  /** Holds in a transaction while the limits are as known. */
  get asKnown() {
    return compare.modRevision(this.#key, '==', this.revision);
  }

  /** Takes note of the stored limits; null when there are none. */
  see(kv: KeyValue | null | undefined): void {
    this.revision = kv?.modRevision ?? 0n;
    this.current = readLimits(kv) ?? { v: 1 };
  }

  /**
   * Before the first use: stores the limits that were asked for, unless some are stored. One exchange,
   * once; none for who asks for no limits.
   *
   * @throws ConclaveError MISMATCH when others are stored
   */
  agree(signal?: AbortSignal): Promise<void> {
    const wanted = this.#wanted;
    if (wanted === undefined) return Promise.resolve();
    this.#agreed ??= this.#agree(wanted, signal).catch((error: unknown) => {
      this.#agreed = undefined;
      throw error;
    });
    return this.#agreed;
  }

  async #agree(wanted: StoredLimits, signal: AbortSignal | undefined): Promise<void> {
    const txn = this.#client.kv
      .txn()
      .if(compare.createRevision(this.#key, '==', 0n))
      .then(op.put(this.#key, JSON.stringify(wanted)))
      .else(op.get(this.#key));
    const call = signal === undefined ? {} : { signal };
    const result = await untilAnswered(this.#client, () => txn.commit(call), signal);
    if (result.succeeded) {
      this.revision = result.revision;
      this.current = wanted;
      return;
    }
    const [kv] = result.responses;
    this.see(kv);
    if (!isSame(wanted, this.current)) throw mismatch(wanted, this.current);
  }
}

/**
 * Replaces the limits for all clients; they notice at their next push or claim. One exchange, and two
 * for each group in which jobs wait: they may have more turns now.
 */
export async function storeLimits(
  client: Client,
  keys: QueueKeys,
  limits: QueueLimits,
  options: CallOptions,
): Promise<void> {
  const { kv } = client;
  const { signal } = options;
  const value = JSON.stringify(parseLimits(limits));
  await untilAnswered(client, () => kv.put(keys.limits, value, options), signal);
  const end = `${keys.line.slice(0, -1)}0`;
  for (let from = keys.line; ; ) {
    const next = { from, to: end };
    const { kvs } = await kv.list(next, { ...options, limit: 1, keysOnly: true, uncounted: true });
    const [first] = kvs;
    if (first === undefined) return;
    const [group = ''] = first.key.slice(keys.line.length).split('/');
    await untilAnswered(client, () => kv.put(keys.pass + group, '', options), signal);
    // Behind all keys of this group: '0' is the character after '/'.
    from = `${keys.line}${group}0`;
  }
}

function mismatch(wanted: StoredLimits, stored: StoredLimits): ConclaveError {
  const show = (limits: StoredLimits) => JSON.stringify(shownLimits(limits));
  return new ConclaveError(
    'MISMATCH',
    `The limits of this queue are ${show(stored)}, not ${show(wanted)}`,
    { remedy: 'Use the same limits everywhere, or change them with queue.setLimits().' },
  );
}
