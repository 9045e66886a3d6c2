/**
 * One watch at the server and the local watches it feeds. An answer is converted once; all of them get
 * the same notices.
 *
 * Invariant: no watch fed by it stands below its cursor, and it has received, and is going to receive,
 * everything from its cursor on. So each is given exactly what it has not been given yet.
 */
import {
  type WatchCreateRequest,
  WatchCreateRequest_FilterType,
  type WatchResponse,
} from '../server/wire/etcdserverpb/rpc.ts';
import { type Event, Event_EventType } from '../server/wire/mvccpb/kv.ts';
import { ConclaveError } from './errors.ts';
import type { Keyspace } from './keys.ts';
import type { WatchEvent } from './watch.ts';
import type { WatchGroup } from './watch-group.ts';
import type { Delivery, WatchSubscription } from './watch-subscription.ts';
import { fromKeyValue, revisionIn } from './wire-kv.ts';

type Batch = { readonly delivery: Delivery; readonly after: bigint };

export class WatchUpstream {
  readonly group: WatchGroup;
  readonly watches: Set<WatchSubscription>;
  /** The first revision not received yet; 0n until the server has said where "now" is. */
  #next = 0n;
  #isStanding = false;
  #isLive = false;
  /** The pieces of an answer that has not ended yet. */
  #pieces: Event[] = [];

  constructor(group: WatchGroup, watches: Iterable<WatchSubscription>) {
    this.group = group;
    this.watches = new Set(watches);
  }

  get next(): bigint {
    return this.#next;
  }

  /** The server watches for it, on the stream in use. */
  get isStanding(): boolean {
    return this.#isStanding;
  }

  /** It is known to have been given everything that had happened at some time since it stands. */
  get isLive(): boolean {
    return this.#isLive;
  }

  /** How to ask the server for everything that any of its watches was not given yet. */
  request(watchId: bigint): WatchCreateRequest {
    this.#next = lowest(this.watches);
    const { span, options } = this.group;
    return {
      key: span.key,
      rangeEnd: span.rangeEnd,
      startRevision: this.#next,
      progressNotify: options.progress,
      filters: [
        ...(!options.puts ? [WatchCreateRequest_FilterType.NOPUT] : []),
        ...(!options.deletes ? [WatchCreateRequest_FilterType.NODELETE] : []),
      ],
      prevKv: options.prevKv,
      watchId,
      fragment: options.fragment,
    };
  }

  /** The stream is gone, or the server ended the watch. */
  onLost(): void {
    this.#isStanding = false;
    this.#isLive = false;
    this.#pieces = [];
  }

  /** The server watches. */
  onCreated(response: WatchResponse): void {
    const revision = revisionIn(response.header);
    if (this.#next === 0n) this.#next = revision + 1n;
    this.#isStanding = true;
    this.#isLive = this.#next === revision + 1n;
    for (const watch of this.watches) watch.onCreated(revision);
  }

  onResponse(response: WatchResponse): void {
    if (response.events.length > 0) this.#pieces.push(...response.events);
    if (response.fragment) return;
    const events = this.#pieces;
    this.#pieces = [];
    if (events.length > 0) this.#onEvents(events, revisionIn(response.header));
    else if (this.group.options.progress) this.#onProgress(revisionIn(response.header));
  }

  /** One notice for each revision. An answer holds whole revisions, in order. */
  #onEvents(events: readonly Event[], headerRevision: bigint): void {
    const batches = batchesOf(this.group.keyspace, events);
    this.#next = batches.at(-1)?.after ?? this.#next;
    // Past events come under the revision of the store when they were read, others under their own.
    if (this.#next > headerRevision) this.#isLive = true;
    // Also one that its buffer pauses on the way gets the rest: it would be sent again otherwise.
    for (const watch of this.watches) {
      for (const { delivery, after } of batches) watch.onEvents(delivery, after);
    }
  }

  #onProgress(revision: bigint): void {
    const delivery: Delivery = { done: false, value: { type: 'progress', revision } };
    for (const watch of this.watches) watch.onProgress(delivery, revision + 1n);
  }
}

function lowest(watches: Iterable<WatchSubscription>): bigint {
  let least: bigint | undefined;
  for (const { next } of watches) if (least === undefined || next < least) least = next;
  return least ?? 0n;
}

function batchesOf(keyspace: Keyspace, events: readonly Event[]): readonly Batch[] {
  const batches: Batch[] = [];
  let revision: bigint | undefined;
  let together: WatchEvent[] = [];
  for (const event of events) {
    const converted = convert(keyspace, event);
    if (converted.kv.modRevision !== revision) {
      revision = converted.kv.modRevision;
      together = [];
      batches.push({
        delivery: { done: false, value: { type: 'events', revision, events: together } },
        after: revision + 1n,
      });
    }
    together.push(converted);
  }
  return batches;
}

function convert(keyspace: Keyspace, event: Event): WatchEvent {
  if (event.kv === undefined) throw new ConclaveError('INTERNAL', 'A watch event lacks its key');
  const type = event.type === Event_EventType.DELETE ? 'delete' : 'put';
  const kv = fromKeyValue(keyspace, event.kv);
  return event.prevKv === undefined
    ? { type, kv }
    : { type, kv, previous: fromKeyValue(keyspace, event.prevKv) };
}
