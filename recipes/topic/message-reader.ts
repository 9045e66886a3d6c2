/**
 * Reads a topic from a cursor on: every message once, in the order of revisions, whole revisions at a
 * time; or a gap that says what is not there any more.
 *
 * What happened since the cursor comes from the store's history, by a watch. Where history has been
 * compacted it comes from the messages themselves, which are keys: an index of them at one revision,
 * then their values, then a watch from the revision after. So compaction alone never makes a gap;
 * only the removal of messages does, and the floor tells of that: retention removes oldest first, and
 * moves the floor in the transaction that removes.
 *
 * It reads ahead no further than the watch's buffer: a full one pauses the watch at the server.
 */
import type { Client } from '../../sdk/client.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { op } from '../../sdk/txn.ts';
import type { WatchNotice } from '../../sdk/watch.ts';
import { fullJitterMs, mayRepeat, pause, untilAnswered } from '../common/repeat.ts';
import { messagesMax, publicationBytesMax, type StoredMessage } from './message.ts';
import type { TopicGap } from './topic-events.ts';
import { byRevision, type IndexEntry, readIndex } from './topic-index.ts';
import { parseMessageKey, readFloor, type TopicKeys } from './topic-keys.ts';

export type FoundMessages = {
  readonly type: 'messages';
  readonly revision: bigint;
  readonly messages: readonly StoredMessage[];
};

export type Found = FoundMessages | TopicGap;

/** A revision: what comes after it. 0n: everything there is. 'now': what is published from now on. */
export type Cursor = bigint | 'now';

export type ReadOptions = {
  readonly signal: AbortSignal;
  /** Messages held for a slow consumer. */
  readonly buffer: number;
  /** How long nothing may come before it looks whether something should have. */
  readonly recheckMs: number;
};

/**
 * Outlives an unreachable store; ends quietly when the signal aborts or the client closes.
 *
 * @throws ConclaveError for what a retry cannot change, such as PERMISSION_DENIED
 */
export const readMessages = (
  client: Client,
  keys: TopicKeys,
  cursor: Cursor,
  options: ReadOptions,
): AsyncGenerator<Found> => new MessageReader(client, keys, cursor, options).run();

/** What is read, with a gap before it that is known already. */
export async function* behind(
  gap: TopicGap | undefined,
  reading: AsyncGenerator<Found>,
): AsyncGenerator<Found> {
  if (gap !== undefined) yield gap;
  yield* reading;
}

class MessageReader {
  readonly #client: Client;
  readonly #keys: TopicKeys;
  readonly #options: ReadOptions;
  /** Everything up to here is delivered, or told to be missing. */
  #cursor: Cursor;
  /** The connection broke since the last look: the store may have been restored meanwhile. */
  #isDoubtful = false;
  #doubt: () => void = () => undefined;

  constructor(client: Client, keys: TopicKeys, cursor: Cursor, options: ReadOptions) {
    this.#client = client;
    this.#keys = keys;
    this.#cursor = cursor;
    this.#options = options;
  }

  async *run(): AsyncGenerator<Found> {
    const connection = this.#client.events$.subscribe(({ type }) => {
      if (type !== 'disconnected') return;
      this.#isDoubtful = true;
      this.#doubt();
    });
    try {
      yield* this.#run();
    } finally {
      connection.unsubscribe();
    }
  }

  async *#run(): AsyncGenerator<Found> {
    const { signal } = this.#options;
    const { clock, random } = this.#client;
    for (let attempt = 0; !signal.aborted; attempt++) {
      const before = this.#cursor;
      try {
        const where = await this.#where();
        if (where === 'restored') yield await this.#startOver();
        if (where === 'compacted') yield* this.#fromKeys();
        yield* this.#fromWatch();
      } catch (error) {
        if (signal.aborted || isConclaveError(error, 'CLOSED')) return;
        if (!mayRepeat(error) && !isConclaveError(error, 'COMPACTED')) throw error;
      }
      if (this.#cursor !== before) attempt = 0;
      await pause(clock, fullJitterMs(attempt, random), signal).catch(() => undefined);
    }
  }

  /** What the store still knows of what came after the cursor. */
  async #where(): Promise<'known' | 'compacted' | 'restored'> {
    const { signal } = this.#options;
    const revision = this.#cursor;
    if (revision === 'now') return 'known';
    if (revision === 0n) return 'compacted';
    try {
      const look = () => this.#client.kv.get(this.#keys.floor, { revision, signal });
      await untilAnswered(this.#client, look, signal);
      return 'known';
    } catch (error) {
      if (isConclaveError(error, 'COMPACTED')) return 'compacted';
      if (isConclaveError(error, 'FUTURE_REVISION')) return 'restored';
      throw error;
    }
  }

  /** The store has not come to the cursor yet: it was restored from an older snapshot. */
  async #startOver(): Promise<TopicGap> {
    const { revision } = await this.#newest();
    this.#cursor = revision;
    return { type: 'gap', from: 1n, to: revision, reason: 'restored' };
  }

  async *#fromKeys(): AsyncGenerator<Found> {
    const index = await readIndex(this.#client, this.#keys, this.#options.signal);
    if (this.#position === 0n) this.#cursor = index.floor;
    else yield* this.#gapTo(index.floor);
    const entries = index.entries.filter(({ revision }) => revision > this.#position);
    for (const chunk of chunksOf(entries)) yield* this.#valuesOf(chunk);
    if (index.revision > this.#position) this.#cursor = index.revision;
  }

  async *#valuesOf(entries: readonly IndexEntry[]): AsyncGenerator<Found> {
    const { values, floor } = await this.#read(entries);
    for (const group of byRevision(entries)) {
      const revision = group[0]?.revision ?? 0n;
      if (revision <= floor) yield* this.#gapTo(floor);
      if (revision <= this.#position) continue;
      const messages = group.flatMap(({ key }) => {
        const value = values.get(key);
        return value === undefined ? [] : [{ key, value, revision }];
      });
      this.#cursor = revision;
      if (messages.length < group.length) {
        yield { type: 'gap', from: revision, to: revision, reason: 'removed' };
      }
      if (messages.length > 0) yield { type: 'messages', revision, messages };
    }
  }

  /** Values by key, without those of messages that are gone, and a floor read no earlier. */
  async #read(entries: readonly IndexEntry[]) {
    const { signal } = this.#options;
    const values = new Map<string, Uint8Array>();
    let floor = 0n;
    for (let from = 0; from < entries.length; from += messagesMax) {
      const slice = entries.slice(from, from + messagesMax);
      const txn = this.#client.kv
        .txn()
        .then(op.get(this.#keys.floor), ...slice.map(({ key }) => op.get(key)));
      const { responses } = await untilAnswered(this.#client, () => txn.commit({ signal }), signal);
      const [floorNow, ...found] = responses as readonly (KeyValue | null)[];
      floor = readFloor(floorNow);
      for (const kv of found) if (kv) values.set(kv.key, kv.value);
    }
    return { values, floor };
  }

  *#gapTo(floor: bigint): Generator<TopicGap> {
    const position = this.#position;
    if (floor <= position) return;
    this.#cursor = floor;
    yield { type: 'gap', from: position + 1n, to: floor, reason: 'removed' };
  }

  /** Follows the topic until there is reason to look where it stands. */
  async *#fromWatch(): AsyncGenerator<Found> {
    const { signal, buffer } = this.#options;
    const cursor = this.#cursor;
    const watch = this.#client.kv.watch(
      { prefix: this.#keys.message },
      {
        ...(cursor === 'now' ? {} : { from: cursor + 1n }),
        deletes: false,
        highWaterMark: buffer,
        signal,
      },
    );
    try {
      if (cursor === 'now') this.#cursor = (await watch.created).revision;
      const notices = watch[Symbol.asyncIterator]();
      for (;;) {
        const notice = await this.#next(notices);
        if (notice === undefined || notice.type === 'reset') return;
        if (notice.type === 'progress') continue;
        const found = this.#published(notice.events, notice.revision);
        this.#cursor = notice.revision;
        if (found.messages.length > 0) yield found;
      }
    } finally {
      await watch.cancel();
    }
  }

  /** A key that was written again by hand is not another message. */
  #published(
    events: Extract<WatchNotice, { type: 'events' }>['events'],
    revision: bigint,
  ): FoundMessages {
    const messages = events
      .filter(({ kv }) => kv.version === 1n && parseMessageKey(this.#keys, kv.key) !== undefined)
      .map(({ kv }) => ({ key: kv.key, value: kv.value, revision }))
      .sort((a, b) => (a.key < b.key ? -1 : 1));
    return { type: 'messages', revision, messages };
  }

  /** The next notice; undefined when the watch ended, or keeps silent about what there is. */
  async #next(notices: AsyncIterator<WatchNotice, undefined>): Promise<WatchNotice | undefined> {
    const { clock, random } = this.#client;
    const next = notices.next();
    // Whoever leaves while it waits does not look at it any more.
    next.catch(() => undefined);
    let owed: bigint | undefined;
    for (;;) {
      let cancel: () => void = () => undefined;
      const look = new Promise<'look'>((resolve) => {
        const ms = this.#options.recheckMs * (0.75 + 0.5 * random());
        cancel = clock.setTimer(ms, () => resolve('look'));
        this.#doubt = () => resolve('look');
      });
      if (this.#isDoubtful) this.#doubt();
      // A look comes first, before anything is taken from a store that may be another one.
      const first = await Promise.race([look, next]).finally(cancel);
      if (first !== 'look') return first.value;
      const isIdle = !this.#isDoubtful;
      this.#isDoubtful = false;
      const { revision, newest } = await this.#newest();
      if (revision < this.#position) return undefined;
      // What was there the last time, and has not come since, will not come.
      if (isIdle && owed !== undefined && owed > this.#position) return undefined;
      owed = newest;
    }
  }

  async #newest() {
    const { signal } = this.#options;
    const { kvs, revision } = await untilAnswered(
      this.#client,
      () =>
        this.#client.kv.list(
          { prefix: this.#keys.message },
          { keysOnly: true, order: 'create', descending: true, limit: 1, signal },
        ),
      signal,
    );
    return { revision, newest: kvs[0]?.createRevision ?? 0n };
  }

  get #position(): bigint {
    return this.#cursor === 'now' ? 0n : this.#cursor;
  }
}

/** Whole revisions together, as many as one read may bring. */
function* chunksOf(entries: readonly IndexEntry[]): Generator<readonly IndexEntry[]> {
  let chunk: IndexEntry[] = [];
  let bytes = 0;
  for (const group of byRevision(entries)) {
    const more = group.reduce((sum, entry) => sum + entry.bytes, 0);
    const isFull = chunk.length + group.length > messagesMax || bytes + more > publicationBytesMax;
    if (isFull && chunk.length > 0) {
      yield chunk;
      chunk = [];
      bytes = 0;
    }
    chunk.push(...group);
    bytes += more;
  }
  if (chunk.length > 0) yield chunk;
}
