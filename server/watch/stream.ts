/**
 * The watchers of one client stream and the queue of what it is yet to be told.
 *
 * One queue in one order: nothing of a watcher comes before its `created` or after its `canceled`,
 * and a progress notification stands behind every event it vouches for.
 */
import { intervalOf, isEmpty } from '../mvcc/interval.ts';
import type { Revision } from '../mvcc/types.ts';
import {
  type Delivery,
  deliveryBytes,
  NO_WATCH_ID,
  type Outlet,
  type Watcher,
  type WatchId,
  type WatchRequest,
} from './watcher.ts';

/** What a stream needs of the hub. */
export interface StreamHub {
  readonly revision: Revision;
  readonly compactRevision: Revision;
  register(watcher: Watcher): void;
  unregister(watcher: Watcher): void;
  /** The watcher is behind and its stream has room: it takes part in catching up. */
  resume(watcher: Watcher): void;
  closed(stream: WatchStream): void;
}

export type StreamOptions = {
  readonly maxBytes: number;
  readonly maxWatchers: number;
  /** Called when the queue stops being empty. Must not call back into the hub. */
  readonly onReady: () => void;
};

/** etcd's texts, which clients match on. */
const reasons = {
  empty: 'mvcc: watcher range is empty',
  duplicate: 'mvcc: duplicate watch ID provided on the WatchStream',
  compacted: 'etcdserver: mvcc: required revision has been compacted',
} as const;

export class WatchStream implements Outlet {
  readonly #hub: StreamHub;
  readonly #options: StreamOptions;
  readonly #watchers = new Map<WatchId, Watcher>();
  readonly #parked = new Set<Watcher>();
  #queue: Delivery[] = [];
  #head = 0;
  #queuedBytes = 0;
  #nextId: WatchId = 0n;
  #isClosed = false;

  constructor(hub: StreamHub, options: StreamOptions) {
    this.#hub = hub;
    this.#options = options;
  }

  get queuedBytes(): number {
    return this.#queuedBytes;
  }

  create(request: WatchRequest): void {
    const refusal = this.#refusal(request);
    if (refusal !== undefined) {
      this.enqueue({ kind: 'refused', reason: refusal, revision: this.#hub.revision });
      return;
    }
    const id = request.id === 0n ? this.#freeId() : request.id;
    const { revision, compactRevision } = this.#hub;
    this.enqueue({ kind: 'created', id, revision });
    if (request.startRevision !== 0 && request.startRevision < compactRevision) {
      this.enqueue({ kind: 'compacted', id, compactRevision });
      return;
    }
    const watcher: Watcher = {
      id,
      interval: intervalOf(request),
      puts: request.puts,
      deletes: request.deletes,
      prevKv: request.prevKv,
      progressNotify: request.progressNotify,
      fragment: request.fragment,
      outlet: this,
      next: request.startRevision === 0 ? revision + 1 : request.startRevision,
      isSynced: request.startRevision === 0 || request.startRevision > revision,
      isQuiet: false,
      collected: [],
    };
    this.#watchers.set(id, watcher);
    this.#hub.register(watcher);
  }

  #refusal(request: WatchRequest): string | undefined {
    if (request.startRevision < 0) return reasons.compacted;
    if (isEmpty(intervalOf(request))) return reasons.empty;
    if (request.id !== 0n && this.#watchers.has(request.id)) return reasons.duplicate;
    const { maxWatchers } = this.#options;
    if (this.#watchers.size >= maxWatchers) {
      return `etcdserver: too many watchers on one stream: at most ${maxWatchers} are allowed`;
    }
    return undefined;
  }

  #freeId(): WatchId {
    while (this.#watchers.has(this.#nextId)) this.#nextId += 1n;
    const id = this.#nextId;
    this.#nextId += 1n;
    return id;
  }

  /** An unknown id is ignored. */
  cancel(id: WatchId): void {
    const watcher = this.#watchers.get(id);
    if (watcher === undefined) return;
    this.#drop(watcher);
    this.enqueue({ kind: 'canceled', id, revision: this.#hub.revision });
  }

  /**
   * Answers for the whole stream when every watcher has been handed everything up to now; otherwise
   * not at all: the client asks again.
   */
  requestProgress(): void {
    if (this.#watchers.size === 0) return;
    for (const watcher of this.#watchers.values()) if (!this.#isCurrent(watcher)) return;
    this.enqueue({ kind: 'progress', id: NO_WATCH_ID, revision: this.#hub.revision });
  }

  /**
   * Notifies the watchers that asked for it and had no event since the last tick. A stream whose
   * client does not read gets none, or they would pile up.
   */
  tickProgress(): void {
    const { revision } = this.#hub;
    const isIdle = this.#queuedBytes === 0;
    for (const watcher of this.#watchers.values()) {
      if (!watcher.progressNotify) continue;
      if (watcher.isQuiet && isIdle && this.#isCurrent(watcher)) {
        this.enqueue({ kind: 'progress', id: watcher.id, revision });
      }
      watcher.isQuiet = true;
    }
  }

  #isCurrent(watcher: Watcher): boolean {
    return watcher.isSynced && watcher.next <= this.#hub.revision + 1;
  }

  /** The next thing to tell the client. */
  take(): Delivery | undefined {
    const delivery = this.#queue[this.#head];
    if (delivery === undefined) return undefined;
    this.#head += 1;
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
    } else if (this.#head >= 1024 && this.#head * 2 >= this.#queue.length) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
    this.#queuedBytes -= deliveryBytes(delivery);
    this.unpark();
    return delivery;
  }

  /**
   * Lets parked watchers go on. Half of the room has to be free again, or a slow stream would park at
   * every delivery.
   */
  unpark(): void {
    if (this.#parked.size === 0 || this.#queuedBytes * 2 > this.#options.maxBytes) return;
    const parked = [...this.#parked];
    this.#parked.clear();
    for (const watcher of parked) this.#hub.resume(watcher);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    for (const watcher of this.#watchers.values()) this.#hub.unregister(watcher);
    this.#watchers.clear();
    this.#parked.clear();
    this.#queue = [];
    this.#head = 0;
    this.#queuedBytes = 0;
    this.#hub.closed(this);
  }

  #drop(watcher: Watcher): void {
    this.forget(watcher);
    this.#hub.unregister(watcher);
  }

  hasRoomFor(bytes: number): boolean {
    return this.#queuedBytes === 0 || this.#queuedBytes + bytes <= this.#options.maxBytes;
  }

  get hasRoom(): boolean {
    return this.#queuedBytes < this.#options.maxBytes;
  }

  enqueue(delivery: Delivery): void {
    const wasEmpty = this.#queue.length === 0;
    this.#queue.push(delivery);
    this.#queuedBytes += deliveryBytes(delivery);
    if (wasEmpty) this.#options.onReady();
  }

  park(watcher: Watcher): void {
    this.#parked.add(watcher);
  }

  forget(watcher: Watcher): void {
    this.#watchers.delete(watcher.id);
    this.#parked.delete(watcher);
  }
}
