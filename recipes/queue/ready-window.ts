/**
 * The next few jobs that may be claimed, as one consumer knows them: a listing of the oldest, kept
 * fresh by a watch while a worker follows it.
 *
 * Consumers that lose a race for a job spread out over more of the window, and draw together again
 * as they win, so that a single consumer works strictly in order.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { WatchEvent, WatchNotice } from '../../sdk/watch.ts';
import { fullJitterMs, pause, untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';

/** Jobs known at a time: what a watch tells costs no listing. */
const capacity = 1_024;
/** Jobs of one listing. */
const pageSize = 64;
const widestSpread = 32;

export class ReadyWindow {
  readonly #client: Client;
  readonly #prefix: string;
  /** In key order. */
  #entries: KeyValue[] = [];
  /** The revision of the last listing: older events are in it already. */
  #listedAt = 0n;
  /** Whether the window holds everything that is ready, as far as the watch has told. */
  #complete = false;
  #following = false;
  #spread = 1;
  #listing: Promise<void> | undefined;
  /** What the watch tells while a listing is under way: its answer may be older. */
  #overtaking: WatchEvent[] | undefined;
  /** Ends the watch, to list and watch anew. */
  #endWatch: () => void = () => undefined;

  constructor(client: Client, prefix: string) {
    this.#client = client;
    this.#prefix = prefix;
  }

  /** A job to try, taken out of the window; undefined when nothing is ready. */
  async next(signal: AbortSignal): Promise<KeyValue | undefined> {
    for (;;) {
      const taken = this.#take();
      if (taken) return taken;
      if (this.#complete && this.#following) return undefined;
      await this.#list(signal);
      if (this.#entries.length === 0 && this.#complete) return undefined;
    }
  }

  /** Up to so many jobs to try, as `next` does. */
  async nextOf(count: number, signal: AbortSignal): Promise<readonly KeyValue[]> {
    const first = await this.next(signal);
    if (first === undefined) return [];
    const entries = [first];
    while (entries.length < count) {
      const another = this.#take();
      if (another === undefined) break;
      entries.push(another);
    }
    return entries;
  }

  /** Tells how the try went. */
  tried(won: boolean): void {
    this.#spread = won ? Math.max(1, this.#spread - 1) : Math.min(widestSpread, this.#spread * 2);
  }

  /** Returns a job that was taken but not tried, or of which nobody knows how the try went. */
  putBack(entry: KeyValue): void {
    this.#insert(entry);
  }

  /** Lists again before it says that nothing is ready: a watch may have missed something. */
  mistrust(): void {
    this.#complete = false;
  }

  /**
   * Keeps the window fresh until the signal aborts.
   *
   * @param onReady hears how many jobs became ready
   */
  async follow(signal: AbortSignal, onReady: (count: number) => void): Promise<void> {
    for (let attempt = 0; !signal.aborted; attempt++) {
      const watching = linkedSignal(signal);
      try {
        await this.#list(signal);
        onReady(this.#entries.length);
        const from = this.#listedAt + 1n;
        const range = { prefix: this.#prefix };
        this.#endWatch = () => watching.abort();
        const watch = this.#client.kv.watch(range, { from, signal: watching.signal });
        this.#following = true;
        for await (const notice of watch) {
          attempt = 0;
          onReady(this.#apply(notice));
        }
      } catch {
        // Unreachable, or the watch was refused: list again below.
      }
      this.#following = false;
      watching.unlink();
      const delayMs = fullJitterMs(attempt, this.#client.random);
      await pause(this.#client.clock, delayMs, signal).catch(() => undefined);
    }
  }

  #take(): KeyValue | undefined {
    const choices = Math.min(this.#spread, this.#entries.length);
    if (choices === 0) return undefined;
    const [taken] = this.#entries.splice(Math.floor(this.#client.random() * choices), 1);
    return taken;
  }

  #list(signal: AbortSignal): Promise<void> {
    this.#listing ??= this.#listNow(signal).finally(() => {
      this.#listing = undefined;
      this.#overtaking = undefined;
    });
    return this.#listing;
  }

  async #listNow(signal: AbortSignal): Promise<void> {
    const { kv } = this.#client;
    const options = { limit: pageSize, uncounted: true, signal };
    const overtaking: WatchEvent[] = [];
    this.#overtaking = overtaking;
    const listedBefore = this.#listedAt;
    const listed = await untilAnswered(
      this.#client,
      () => kv.list({ prefix: this.#prefix }, options),
      signal,
    );
    if (listed.revision < listedBefore) {
      // The store was restored from an old snapshot: the watch waits for revisions long to come.
      this.#listedAt = 0n;
      this.#endWatch();
    }
    this.#replace([...listed.kvs], listed.more, listed.revision);
    for (const event of overtaking) {
      if (event.kv.modRevision > listed.revision) this.#applyEvent(event);
    }
  }

  #replace(entries: KeyValue[], more: boolean, revision: bigint): void {
    // An older listing may be answered after a reset told more.
    if (revision < this.#listedAt) return;
    this.#entries = entries;
    this.#complete = !more;
    this.#listedAt = revision;
  }

  /** How many jobs the notice made ready. */
  #apply(notice: WatchNotice): number {
    if (notice.type === 'progress') return 0;
    if (notice.type === 'reset') {
      const more = notice.kvs.length > capacity;
      this.#replace(notice.kvs.slice(0, capacity), more, notice.revision);
      return notice.kvs.length;
    }
    let ready = 0;
    for (const event of notice.events) {
      this.#overtaking?.push(event);
      this.#applyEvent(event);
      if (event.type === 'put') ready += 1;
    }
    return ready;
  }

  #applyEvent({ type, kv }: WatchEvent): void {
    if (type === 'put') {
      if (kv.modRevision > this.#listedAt) this.#insert(kv);
      return;
    }
    const index = this.#placeOf(kv.key);
    const entry = this.#entries[index];
    if (entry?.key === kv.key && entry.modRevision <= kv.modRevision)
      this.#entries.splice(index, 1);
  }

  /** Of the first entry that is not before this key. */
  #placeOf(key: string): number {
    let [from, to] = [0, this.#entries.length];
    while (from < to) {
      const middle = (from + to) >>> 1;
      if ((this.#entries[middle]?.key ?? '') < key) from = middle + 1;
      else to = middle;
    }
    return from;
  }

  #insert(kv: KeyValue): void {
    const last = this.#entries.at(-1);
    // Beyond a window that does not hold everything, there may be unknown jobs in between.
    if (!this.#complete && (last === undefined || kv.key > last.key)) return;
    const index = this.#placeOf(kv.key);
    const same = this.#entries[index];
    const replaced = same?.key === kv.key;
    if (replaced && same.modRevision > kv.modRevision) return;
    this.#entries.splice(index, replaced ? 1 : 0, kv);
    if (this.#entries.length > capacity) {
      this.#entries.pop();
      this.#complete = false;
    }
  }
}
