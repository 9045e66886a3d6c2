/**
 * How long messages are kept. The rule is stored once, in the store: whoever names one that differs
 * is told so, and whoever names none keeps to the stored one. Without any, nothing is ever removed.
 */
import type { Client } from '../../sdk/client.ts';
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { CallOptions, Duration } from '../../sdk/options.ts';
import { compare, op } from '../../sdk/txn.ts';
import { durationOfAtLeast } from '../common/durations.ts';
import { checkOptions } from '../common/option-checks.ts';
import { untilAnswered } from '../common/repeat.ts';
import { unlessAborted } from '../common/signals.ts';
import { byRevision, type IndexEntry } from './topic-index.ts';
import type { TopicKeys } from './topic-keys.ts';

export type Retention = {
  /** Messages at most; the newest publication always stays. @default no limit */
  readonly messages?: number;
  /** Bytes at most, keys and headers of the messages included; likewise. @default no limit */
  readonly bytes?: number;
  /** How old a message may become, by the wall clocks of publishers and remover. @default no limit */
  readonly age?: Duration;
  /**
   * What is done with messages that every durable subscription has acknowledged, and every group has
   * taken over: 'remove' them at once, if there is any subscription or group. @default 'keep'
   */
  readonly acked?: 'keep' | 'remove';
  /**
   * What the limits do with messages that some durable subscription has not acknowledged: 'remove' them,
   * and tell it by a gap, or 'keep' them, whatever that takes. @default 'remove'
   */
  readonly unacked?: 'keep' | 'remove';
};

/** As stored. */
export type StoredRetention = {
  readonly v: 1;
  readonly messages?: number;
  readonly bytes?: number;
  readonly ageMs?: number;
  readonly acked?: 'remove';
  readonly unacked?: 'keep';
};

const knownRetention = {
  messages: true,
  bytes: true,
  age: true,
  acked: true,
  unacked: true,
} as const;

/** @throws ConclaveError INVALID_ARGUMENT */
export function parseRetention(retention: Retention): StoredRetention {
  checkOptions<Retention>(retention, knownRetention, 'retention');
  const { messages, bytes, age, acked = 'keep', unacked = 'remove' } = retention;
  for (const [field, value] of Object.entries({ messages, bytes })) {
    if (value === undefined || (Number.isSafeInteger(value) && value >= 1)) continue;
    throw invalidArgument(`retention.${field}`, value, 'a whole number of at least 1');
  }
  for (const [field, value] of Object.entries({ acked, unacked })) {
    if (value === 'keep' || value === 'remove') continue;
    throw invalidArgument(`retention.${field}`, value, "'keep' or 'remove'");
  }
  const ageMs = age === undefined ? undefined : durationOfAtLeast(age, 'retention.age', '1s');
  return {
    v: 1,
    ...(messages === undefined ? {} : { messages }),
    ...(bytes === undefined ? {} : { bytes }),
    ...(ageMs === undefined ? {} : { ageMs }),
    ...(acked === 'keep' ? {} : { acked }),
    ...(unacked === 'remove' ? {} : { unacked }),
  };
}

/** As somebody would have to write it to get this. */
export function shownRetention({ v: _version, ageMs, ...others }: StoredRetention): Retention {
  return { ...others, ...(ageMs === undefined ? {} : { age: ageMs }) };
}

/** Keeps everything when nothing is stored, or something that is not ours. */
export function readRetention(kv: KeyValue | null | undefined): StoredRetention {
  if (kv == null) return { v: 1 };
  try {
    const parsed: unknown = JSON.parse(Buffer.from(kv.value).toString('utf8'));
    if (typeof parsed === 'object' && parsed !== null) {
      const { v: _version, ageMs, ...others } = parsed as StoredRetention;
      return parseRetention({ ...others, ...(ageMs === undefined ? {} : { age: ageMs }) });
    }
  } catch {
    // Whoever wrote it by hand has to mend it; removing messages by guess would be worse.
  }
  return { v: 1 };
}

/**
 * Up to which revision messages are to go; 0n for none. Oldest first, whole revisions, and nothing
 * behind one that has to stay.
 *
 * @param entries by revision
 * @param positions how far each durable subscription and group is
 */
export function removableThrough(
  entries: readonly IndexEntry[],
  policy: StoredRetention,
  positions: readonly bigint[],
  nowMs: number,
): bigint {
  const { messages, bytes, ageMs, acked, unacked } = policy;
  const newest = entries.at(-1)?.revision;
  let count = entries.length;
  let size = entries.reduce((sum, entry) => sum + entry.bytes, 0);
  let through = 0n;
  for (const group of byRevision(entries)) {
    const revision = group[0]?.revision ?? 0n;
    const isNewest = revision === newest;
    const tooMany = messages !== undefined && count > messages && !isNewest;
    const tooLarge = bytes !== undefined && size > bytes && !isNewest;
    const tooOld =
      ageMs !== undefined && group.every(({ publishedMs }) => nowMs - publishedMs > ageMs);
    const isAcked = positions.length > 0 && positions.every((position) => position >= revision);
    const mayGo = isAcked || positions.length === 0 || unacked !== 'keep';
    const mustGo = tooMany || tooLarge || tooOld || (acked === 'remove' && isAcked);
    if (!(mustGo && mayGo)) break;
    through = revision;
    count -= group.length;
    size -= group.reduce((sum, entry) => sum + entry.bytes, 0);
  }
  return through;
}

/** The rule as one client wants it. */
export class WantedRetention {
  readonly #client: Client;
  readonly #keys: TopicKeys;
  #wanted: StoredRetention | undefined;
  #agreed: Promise<void> | undefined;

  constructor(client: Client, keys: TopicKeys) {
    this.#client = client;
    this.#keys = keys;
  }

  /** @throws ConclaveError INVALID_ARGUMENT, and MISMATCH when this session asked for another */
  want(retention: Retention): void {
    const wanted = parseRetention(retention);
    if (this.#wanted !== undefined && !isSame(this.#wanted, wanted)) {
      throw mismatch(this.#keys.name, wanted, this.#wanted);
    }
    this.#wanted = wanted;
  }

  /**
   * Before the first use: stores the rule that was asked for, unless one is stored. One exchange,
   * once; none for who asks for none.
   *
   * @throws ConclaveError MISMATCH when another is stored
   */
  agree(signal?: AbortSignal): Promise<void> {
    const wanted = this.#wanted;
    if (wanted === undefined) return Promise.resolve();
    this.#agreed ??= this.#agree(wanted).catch((error: unknown) => {
      this.#agreed = undefined;
      throw error;
    });
    // Shared by all that wait for it: none may cut it short for the others.
    return unlessAborted(this.#agreed, signal);
  }

  /** Replaces the rule for all clients. One exchange. @throws ConclaveError INVALID_ARGUMENT */
  async replace(retention: Retention, options: Pick<CallOptions, 'signal'>): Promise<void> {
    const wanted = parseRetention(retention);
    const { kv } = this.#client;
    const value = JSON.stringify(wanted);
    await untilAnswered(
      this.#client,
      () => kv.put(this.#keys.settings, value, options),
      options.signal,
    );
    this.#wanted = wanted;
  }

  async #agree(wanted: StoredRetention): Promise<void> {
    const { settings, name } = this.#keys;
    const txn = this.#client.kv
      .txn()
      .if(compare.createRevision(settings, '==', 0n))
      .then(op.put(settings, JSON.stringify(wanted)))
      .else(op.get(settings));
    const result = await untilAnswered(this.#client, () => txn.commit());
    if (result.succeeded) return;
    const stored = readRetention(result.responses[0]);
    if (!isSame(wanted, stored)) throw mismatch(name, wanted, stored);
  }
}

const isSame = (one: StoredRetention, other: StoredRetention): boolean =>
  JSON.stringify(Object.entries(one).sort()) === JSON.stringify(Object.entries(other).sort());

function mismatch(name: string, wanted: StoredRetention, stored: StoredRetention): ConclaveError {
  const show = (retention: StoredRetention) => JSON.stringify(shownRetention(retention));
  return new ConclaveError(
    'MISMATCH',
    `The retention of topic '${name}' is ${show(stored)}, not ${show(wanted)}`,
    { remedy: 'Name the same retention everywhere, or change it with topic.setRetention().' },
  );
}
