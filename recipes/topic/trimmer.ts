/**
 * Removes what the retention of a topic does not keep. Any client may, at any time: each step is
 * fenced by the floor and the rule it was decided on, and by there being no new subscription. One
 * client at a time does it by itself, now and then.
 *
 * Oldest first. The floor moves in the transaction that removes, so readers know what is missing; a
 * revision of which only a part is removed yet counts as removed.
 */
import type { Client } from '../../sdk/client.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import { type Compare, compare, op } from '../../sdk/txn.ts';
import { mayRepeat, pause, untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import { readPosition } from './position.ts';
import { readRetention, removableThrough, type StoredRetention } from './retention.ts';
import { holdRole } from './role.ts';
import type { TopicCore } from './topic-core.ts';
import { readIndex, type TopicIndex } from './topic-index.ts';
import { parseMessageKey, type TopicKeys, writeFloor } from './topic-keys.ts';

/** Keys removed in one transaction. */
const removedAtOnce = 100;

/** Who has not published or subscribed for this long need not keep the topic trimmed. */
export const idleMs = 60_000;

export type Trimmed = {
  /** Messages that this call removed. */
  readonly removed: number;
};

type Look = {
  readonly policy: StoredRetention;
  readonly policyRevision: bigint;
  readonly positions: readonly bigint[];
  readonly count: bigint;
  /** By the clock of its publisher; undefined when there is none. */
  readonly oldestMs: number | undefined;
  readonly revision: bigint;
};

export class Trimmer {
  readonly #client: Client;
  readonly #keys: TopicKeys;
  /** What the last pass saw that had nothing to remove. */
  #quiet: string | undefined;

  constructor(client: Client, keys: TopicKeys) {
    this.#client = client;
    this.#keys = keys;
  }

  /**
   * One pass. One exchange when there is nothing to do by what it shows; else one for each 1,000
   * messages there are, and one for each 100 removed.
   */
  async trim(signal: AbortSignal | undefined, also: readonly Compare[] = []): Promise<Trimmed> {
    const look = await this.#look(signal);
    const seen = fingerprint(look);
    const { ageMs } = look.policy;
    const nowMs = this.#client.clock.wallMs();
    const isOld =
      ageMs !== undefined && look.oldestMs !== undefined && nowMs - look.oldestMs > ageMs;
    if (seen === this.#quiet && !isOld) return { removed: 0 };
    const index = await readIndex(this.#client, this.#keys, signal);
    const through = removableThrough(
      index.entries.filter(({ revision }) => revision > index.floor),
      look.policy,
      look.positions,
      nowMs,
    );
    const removed = await this.#remove(index, through, look, signal, also);
    this.#quiet = removed === 0 ? seen : undefined;
    return { removed };
  }

  /** Whether nothing will have to be removed if nobody publishes or acknowledges. One exchange. */
  async mayRest(signal: AbortSignal): Promise<boolean> {
    const { policy, oldestMs } = await this.#look(signal);
    return policy.ageMs === undefined || oldestMs === undefined;
  }

  async #look(signal: AbortSignal | undefined): Promise<Look> {
    const { settings, position, message } = this.#keys;
    const txn = this.#client.kv
      .txn()
      .then(
        op.get(settings),
        op.list({ prefix: position }),
        op.count({ prefix: message }),
        op.list({ prefix: message }, { keysOnly: true, limit: 1 }),
      );
    const call = signal === undefined ? {} : { signal };
    const { responses, revision } = await untilAnswered(
      this.#client,
      () => txn.commit(call),
      signal,
    );
    const [kv, positions, count, oldest] = responses as readonly [
      KeyValue | null,
      ListResult,
      bigint,
      ListResult,
    ];
    const first = oldest.kvs[0];
    return {
      policy: readRetention(kv),
      policyRevision: kv?.modRevision ?? 0n,
      positions: positions.kvs.map((each) => readPosition(each).at),
      count,
      oldestMs: first && parseMessageKey(this.#keys, first.key)?.publishedMs,
      revision,
    };
  }

  async #remove(
    index: TopicIndex,
    through: bigint,
    look: Look,
    signal: AbortSignal | undefined,
    also: readonly Compare[],
  ): Promise<number> {
    const { floor: floorKey, settings, position } = this.#keys;
    const call = signal === undefined ? {} : { signal };
    const last = through > index.floor ? through : index.floor;
    const doomed = index.entries.filter(({ revision }) => revision <= last);
    let { floorRevision, floor } = index;
    let removed = 0;
    for (let from = 0; from < doomed.length; from += removedAtOnce) {
      const slice = doomed.slice(from, from + removedAtOnce);
      const upTo = slice.at(-1)?.revision ?? floor;
      if (upTo > floor) floor = upTo;
      const txn = this.#client.kv
        .txn()
        .if(
          compare.modRevision(floorKey, '==', floorRevision),
          compare.modRevision(settings, '==', look.policyRevision),
          // Positions only move on, but a new one may stand where messages are about to go.
          compare.range.createRevision({ prefix: position }, '<', look.revision + 1n),
          ...also,
        )
        .then(op.put(floorKey, writeFloor(floor)), ...slice.map(({ key }) => op.delete(key)));
      const { succeeded, revision } = await untilAnswered(
        this.#client,
        () => txn.commit(call),
        signal,
      );
      // Somebody else is at it, or an answer was lost: the next pass sees what is left.
      if (!succeeded) break;
      floorRevision = revision;
      removed += slice.length;
    }
    return removed;
  }
}

const fingerprint = ({ policyRevision, positions, count, oldestMs }: Look): string =>
  [policyRevision, ...positions, count, oldestMs].join();

/**
 * Trims now and then, one client at a time, until the signal aborts or nobody here has had anything to
 * do with the topic for a while and time alone removes nothing. What fails for good is told once and
 * tried again with the next pass: room comes back, and permissions do.
 *
 * @returns whether it ended because the topic is idle
 */
export async function keepTrimmed(core: TopicCore, signal: AbortSignal): Promise<boolean> {
  const stop = linkedSignal(signal);
  const watching = untilIdle(core, stop.signal).then((isIdle) => {
    stop.abort();
    return isIdle;
  });
  try {
    await trimInTurn(core, stop.signal);
  } finally {
    stop.abort();
  }
  return watching;
}

async function trimInTurn(core: TopicCore, signal: AbortSignal): Promise<void> {
  const { clock, random } = core.client;
  const rest = (stop: AbortSignal) =>
    pause(clock, core.trimEveryMs * (0.75 + 0.5 * random()), stop);
  let told: unknown;
  while (!signal.aborted) {
    try {
      // Who is gone before the first rest is over does not even line up.
      await rest(signal);
      for await (const holding of holdRole(core, 'trim/', signal)) {
        const stop = linkedSignal(signal, holding.signal);
        try {
          for (;;) {
            const isHolder = compare.createRevision(holding.key, '==', holding.createRevision);
            await core.trimmer.trim(stop.signal, [isHolder]);
            told = undefined;
            await rest(stop.signal);
          }
        } catch (error) {
          if (!stop.signal.aborted && !mayRepeat(error)) throw error;
        } finally {
          stop.unlink();
        }
      }
    } catch (error) {
      if (signal.aborted || isConclaveError(error, 'CLOSED')) return;
      const what = isConclaveError(error) ? error.code : error;
      if (what !== told) core.errors.emit(error);
      told = what;
    }
  }
}

/** False when the signal aborts first. */
async function untilIdle(core: TopicCore, signal: AbortSignal): Promise<boolean> {
  while (!signal.aborted) {
    try {
      await pause(core.client.clock, idleMs, signal);
      if (core.isIdle && (await core.trimmer.mayRest(signal))) return true;
    } catch {
      // It goes on then: who cannot look does not know that nothing is left to do.
    }
  }
  return false;
}
