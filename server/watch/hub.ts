/**
 * Which watcher gets which event, and when.
 *
 * A watcher is synced or behind. Synced ones are fed by `publish`. One that starts in the past, or
 * whose stream has too much undelivered, is behind: it reads from its own position, out of the ring
 * of recent revisions or out of history, one bounded batch at a time, in turn with the others, until
 * it has everything and is synced again. So a slow client costs its own watchers time and nobody else
 * anything: publishing never waits and never reads history for those behind.
 *
 * Invariants:
 * W1  A watcher is handed every event it wants from its start on exactly once, in revision order.
 * W2  All events of one revision are handed over in one delivery.
 * W3  A synced watcher has been handed everything up to `revision`; one behind, everything below `next`.
 * W4  Progress is announced for synced watchers only, behind their events in the same queue.
 * W5  A watcher behind whose `next` falls below the compact revision is cancelled, never skipped ahead.
 */
import { assert } from '../assert.ts';
import { limits } from '../limits.ts';
import type { Event, KeyValue, Revision } from '../mvcc/types.ts';
import { CatchUpBatch } from './catch-up-batch.ts';
import { NextChange } from './next-change.ts';
import { Ring } from './ring.ts';
import { type StreamHub, WatchStream } from './stream.ts';
import { type RevisionEvents, SharedRevision, type WatchEvent } from './watch-event.ts';
import { type Watcher, wants } from './watcher.ts';
import { WatcherIndex } from './watcher-index.ts';

/** Where the hub reads what is no longer in memory. */
export type HubSource = {
  /**
   * Whole revisions from `from` on, ascending and without a gap, within both maxima, but at least one
   * if there is any. `from` is neither below the compact revision nor above the current one.
   */
  history(
    from: Revision,
    maxima: { readonly maxRevisions: number; readonly maxBytes: number },
  ): readonly RevisionEvents[];
  /** The value before the event whose key and revision `kv` names; undefined if none or compacted. */
  previous(kv: KeyValue): KeyValue | undefined;
};

export type HubOptions = {
  readonly source: HubSource;
  readonly revision: Revision;
  /** -1 before the first compaction. */
  readonly compactRevision: Revision;
  /** @default limits.watchRingBytes */
  readonly ringBytes?: number;
  /** @default limits.watchStreamBytes */
  readonly streamBytes?: number;
  /** @default limits.watchersPerStream */
  readonly watchersPerStream?: number;
  /** @default limits.watchCatchUpRevisions */
  readonly catchUpRevisions?: number;
};

/** Held although nobody is behind, for those who listed a range and watch it from there on. */
const RECENT_REVISIONS = 256;
/** More would outlive two collections of young objects, and be garbage for long once it is dropped. */
const RECENT_BYTES = 256 * 1024;
/** One catch-up batch: small enough to be read within a turn of the event loop. */
const CATCH_UP_BYTES = 1024 * 1024;

export class Hub implements StreamHub {
  /** For reads that wait. */
  readonly nextChange = new NextChange();
  readonly #source: HubSource;
  readonly #streamBytes: number;
  readonly #watchersPerStream: number;
  readonly #catchUpRevisions: number;
  readonly #ring: Ring;
  readonly #synced = new WatcherIndex();
  /** Every watcher, for the rare events that concern all of them. */
  readonly #watchers = new Set<Watcher>();
  /** Watchers behind whose streams have room, the next to be served first. */
  readonly #turn = new Set<Watcher>();
  readonly #streams = new Set<WatchStream>();
  #behind = 0;
  #revision: Revision;
  #compactRevision: Revision;
  #batch: CatchUpBatch | undefined;
  /** Called when `catchUp` has something to do after it had nothing. Must not call back at once. */
  onWork: () => void = () => {};

  constructor(options: HubOptions) {
    this.#source = options.source;
    this.#revision = options.revision;
    this.#compactRevision = options.compactRevision;
    this.#ring = new Ring(options.ringBytes ?? limits.watchRingBytes);
    this.#streamBytes = options.streamBytes ?? limits.watchStreamBytes;
    this.#watchersPerStream = options.watchersPerStream ?? limits.watchersPerStream;
    this.#catchUpRevisions = options.catchUpRevisions ?? limits.watchCatchUpRevisions;
  }

  get revision(): Revision {
    return this.#revision;
  }

  get compactRevision(): Revision {
    return this.#compactRevision;
  }

  /** `onReady` is called when the stream has something to take after it had nothing. */
  open(onReady: () => void): WatchStream {
    const stream = new WatchStream(this, {
      maxBytes: this.#streamBytes,
      maxWatchers: this.#watchersPerStream,
      onReady,
    });
    this.#streams.add(stream);
    return stream;
  }

  /** The next revision took effect with these events, at least one, in order. */
  publish(revision: Revision, events: readonly Event[]): void {
    assert(revision === this.#revision + 1, 'every revision is published once and in order');
    const entry = new SharedRevision({ revision, events });
    this.#ring.push(entry);
    this.#revision = revision;
    if (!this.#synced.isEmpty) this.#handOver(entry, events);
    this.nextChange.announce(events);
    // What is older nobody waits for: who starts in the past can read it from history.
    if (this.#behind === 0) this.#ring.keep(RECENT_REVISIONS, RECENT_BYTES);
  }

  #handOver(entry: SharedRevision, events: readonly Event[]): void {
    const { revision } = entry;
    const touched: Watcher[] = [];
    for (const [index, { kind, kv }] of events.entries()) {
      this.#synced.match(kv.key, (watcher) => {
        if (watcher.next > revision || !wants(watcher, kind)) return;
        const event = entry.events[index];
        if (event === undefined) return;
        if (watcher.collected.length === 0) touched.push(watcher);
        watcher.collected.push(event);
      });
    }
    for (const watcher of touched) {
      const collected = watcher.collected;
      watcher.collected = [];
      const bytes = this.#measure(watcher, collected);
      if (watcher.outlet.hasRoomFor(bytes)) this.#deliver(watcher, revision, collected, bytes);
      else this.#fallBehind(watcher, revision);
    }
  }

  /** Bytes of what the watcher gets, with previous values looked up if it wants them. */
  #measure(watcher: Watcher, events: readonly WatchEvent[]): number {
    let bytes = 0;
    for (const event of events) {
      if (watcher.prevKv) event.resolvePrevious(this.#source.previous);
      bytes += watcher.prevKv ? event.bytesWithPrevious : event.bytes;
    }
    return bytes;
  }

  #deliver(
    watcher: Watcher,
    revision: Revision,
    events: readonly WatchEvent[],
    bytes: number,
  ): void {
    watcher.isQuiet = false;
    watcher.outlet.enqueue({
      kind: 'events',
      id: watcher.id,
      revision,
      events,
      prevKv: watcher.prevKv,
      fragment: watcher.fragment,
      bytes,
    });
  }

  #fallBehind(watcher: Watcher, next: Revision): void {
    this.#synced.remove(watcher);
    watcher.isSynced = false;
    watcher.next = next;
    this.#behind += 1;
    watcher.outlet.park(watcher);
  }

  /**
   * Serves one watcher one batch. Returns whether there is more to do: the caller goes on as long as
   * the turn of its event loop may last.
   */
  catchUp(): boolean {
    for (const watcher of this.#turn) {
      this.#turn.delete(watcher);
      this.#serve(watcher);
      break;
    }
    if (this.#turn.size === 0) this.#batch = undefined;
    return this.#turn.size > 0;
  }

  #serve(watcher: Watcher): void {
    if (!watcher.outlet.hasRoom) {
      watcher.outlet.park(watcher);
      return;
    }
    const batch = this.#batchFrom(watcher.next);
    const events = batch
      .select(watcher.interval, watcher.next)
      .filter(({ event }) => wants(watcher, event.kind));
    watcher.next = batch.to + 1;
    if (events.length > 0) {
      this.#deliver(watcher, this.#revision, events, this.#measure(watcher, events));
    }
    if (batch.to === this.#revision) this.#catchUpIsDone(watcher);
    else this.#turn.add(watcher);
  }

  #catchUpIsDone(watcher: Watcher): void {
    watcher.isSynced = true;
    this.#behind -= 1;
    this.#synced.add(watcher);
  }

  #batchFrom(next: Revision): CatchUpBatch {
    if (this.#batch?.covers(next)) return this.#batch;
    const maxRevisions = this.#catchUpRevisions;
    const first = this.#ring.first;
    const revisions =
      first !== undefined && next >= first
        ? this.#ring.slice(next, maxRevisions, CATCH_UP_BYTES)
        : this.#readHistory(next, maxRevisions);
    // The first revision of a store has no events: a start there finds nothing at all.
    const to = revisions.at(-1)?.revision ?? this.#revision;
    this.#batch = new CatchUpBatch(next, to, revisions);
    return this.#batch;
  }

  /** The store may be ahead of what was published: that will be published still. */
  #readHistory(from: Revision, maxRevisions: number): readonly SharedRevision[] {
    return this.#source
      .history(from, { maxRevisions, maxBytes: CATCH_UP_BYTES })
      .filter(({ revision }) => revision <= this.#revision)
      .map((revision) => new SharedRevision(revision));
  }

  /** Revisions below `compactRevision` can no longer be read. */
  compacted(compactRevision: Revision): void {
    if (compactRevision <= this.#compactRevision) return;
    this.#compactRevision = compactRevision;
    if (this.#behind > 0) this.#cancelCompacted();
  }

  #cancelCompacted(): void {
    const compactRevision = this.#compactRevision;
    for (const watcher of this.#watchers) {
      if (watcher.isSynced || watcher.next >= compactRevision) continue;
      this.unregister(watcher);
      watcher.outlet.forget(watcher);
      watcher.outlet.enqueue({ kind: 'compacted', id: watcher.id, compactRevision });
    }
  }

  /**
   * The store was replaced by a snapshot of a later state: what lies between was never published.
   * Every watcher reads it from history, or is cancelled if the snapshot no longer holds it.
   */
  installed(revision: Revision, compactRevision: Revision): void {
    assert(revision >= this.#revision, 'a snapshot never takes the store back');
    const next = this.#revision + 1;
    this.#ring.clear();
    this.#batch = undefined;
    this.#revision = revision;
    for (const watcher of this.#watchers) {
      if (!watcher.isSynced || watcher.next > revision || next > revision) continue;
      this.#fallBehind(watcher, Math.max(watcher.next, next));
    }
    this.compacted(compactRevision);
    for (const stream of this.#streams) stream.unpark();
    this.nextChange.announceAll();
  }

  register(watcher: Watcher): void {
    this.#watchers.add(watcher);
    if (watcher.isSynced) {
      this.#synced.add(watcher);
      return;
    }
    this.#behind += 1;
    this.resume(watcher);
  }

  unregister(watcher: Watcher): void {
    if (!this.#watchers.delete(watcher)) return;
    this.#turn.delete(watcher);
    if (watcher.isSynced) this.#synced.remove(watcher);
    else this.#behind -= 1;
  }

  resume(watcher: Watcher): void {
    const wasIdle = this.#turn.size === 0;
    this.#turn.add(watcher);
    if (wasIdle) this.onWork();
  }

  closed(stream: WatchStream): void {
    this.#streams.delete(stream);
  }

  /** For metrics. */
  get counts(): {
    readonly streams: number;
    readonly watchers: number;
    readonly behind: number;
    readonly ringBytes: number;
  } {
    return {
      streams: this.#streams.size,
      watchers: this.#watchers.size,
      behind: this.#behind,
      ringBytes: this.#ring.bytes,
    };
  }
}
