/**
 * A run of past revisions that several watchers read.
 *
 * Ten thousand watchers that reconnect want the same revisions: they are read once, and from the
 * second watcher on an index by key makes each pay only for its own events.
 */
import { contains, type Interval, isBelowEnd } from '../mvcc/interval.ts';
import type { Bytes, Revision } from '../mvcc/types.ts';
import type { SharedRevision, WatchEvent } from './watch-event.ts';

type Place = { readonly event: WatchEvent; readonly revision: Revision; readonly order: number };

const keyOf = (place: Place): Bytes => place.event.event.kv.key;

export class CatchUpBatch {
  readonly from: Revision;
  /** The last revision covered. */
  readonly to: Revision;
  readonly #revisions: readonly SharedRevision[];
  #byKey: readonly Place[] | undefined;
  #wasRead = false;

  constructor(from: Revision, to: Revision, revisions: readonly SharedRevision[]) {
    this.from = from;
    this.to = to;
    this.#revisions = revisions;
  }

  covers(revision: Revision): boolean {
    return this.from <= revision && revision <= this.to;
  }

  /** The events in `interval` from revision `from` on, in order. */
  select(interval: Interval, from: Revision): WatchEvent[] {
    if (this.#wasRead) return this.#selectByKey(interval, from);
    this.#wasRead = true;
    const found: WatchEvent[] = [];
    for (const { revision, events } of this.#revisions) {
      if (revision < from) continue;
      for (const event of events) if (contains(interval, event.event.kv.key)) found.push(event);
    }
    return found;
  }

  #selectByKey(interval: Interval, from: Revision): WatchEvent[] {
    this.#byKey ??= this.#index();
    const places = this.#byKey;
    const found: Place[] = [];
    for (let at = lowerBound(places, interval.start); at < places.length; at += 1) {
      const place = places[at];
      if (place === undefined || !isBelowEnd(keyOf(place), interval.end)) break;
      if (place.revision >= from) found.push(place);
    }
    return found.sort((a, b) => a.order - b.order).map((place) => place.event);
  }

  #index(): readonly Place[] {
    const places: Place[] = [];
    for (const { revision, events } of this.#revisions) {
      for (const event of events) places.push({ event, revision, order: places.length });
    }
    return places.sort((a, b) => Buffer.compare(keyOf(a), keyOf(b)) || a.order - b.order);
  }
}

/** The first place whose key is at or above `key`. */
function lowerBound(places: readonly Place[], key: Bytes): number {
  let low = 0;
  let high = places.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const place = places[middle];
    if (place !== undefined && Buffer.compare(keyOf(place), key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}
