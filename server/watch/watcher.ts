/** One watch of one client, and what a stream of them is told. */
import type { Interval } from '../mvcc/interval.ts';
import type { Bytes, Event, Revision } from '../mvcc/types.ts';
import type { WatchEvent } from './watch-event.ts';

/** Chosen by the client or by the stream: any signed 64-bit number. */
export type WatchId = bigint;

/** The id in answers that concern no watcher. */
export const NO_WATCH_ID: WatchId = -1n;

export type WatchRequest = {
  /** 0n: the stream picks the next free id. */
  readonly id: WatchId;
  readonly key: Bytes;
  /** As in `KeySpan`. */
  readonly rangeEnd: Bytes;
  /** 0: everything after the current revision. */
  readonly startRevision: Revision;
  readonly puts: boolean;
  readonly deletes: boolean;
  readonly prevKv: boolean;
  readonly progressNotify: boolean;
  /** The client reassembles responses that were split. */
  readonly fragment: boolean;
};

export type Watcher = {
  readonly id: WatchId;
  readonly interval: Interval;
  readonly puts: boolean;
  readonly deletes: boolean;
  readonly prevKv: boolean;
  readonly progressNotify: boolean;
  readonly fragment: boolean;
  readonly outlet: Outlet;
  /**
   * The lowest revision whose events were not yet handed to the stream; while synced, only the lowest
   * one wanted at all (a start revision may lie in the future).
   */
  next: Revision;
  isSynced: boolean;
  /** Nothing was sent since the last progress tick. */
  isQuiet: boolean;
  /** Events of the revision being published. */
  collected: WatchEvent[];
};

/** The hub's view of the stream a watcher belongs to. */
export interface Outlet {
  /** Whether `bytes` more may be queued. An empty stream takes anything. */
  hasRoomFor(bytes: number): boolean;
  /** Whether more may be queued for watchers that catch up. */
  readonly hasRoom: boolean;
  enqueue(delivery: Delivery): void;
  /** The watcher waits until the stream has room. */
  park(watcher: Watcher): void;
  /** The watcher is gone: it was cancelled by the hub. */
  forget(watcher: Watcher): void;
}

/** What a stream has to tell its client, in this order. */
export type Delivery =
  | { readonly kind: 'created'; readonly id: WatchId; readonly revision: Revision }
  | { readonly kind: 'refused'; readonly reason: string; readonly revision: Revision }
  | {
      readonly kind: 'events';
      readonly id: WatchId;
      /** As in etcd: the revision of the events, or for past events the store's when they were read. */
      readonly revision: Revision;
      readonly events: readonly WatchEvent[];
      readonly prevKv: boolean;
      readonly fragment: boolean;
      readonly bytes: number;
    }
  | { readonly kind: 'progress'; readonly id: WatchId; readonly revision: Revision }
  | { readonly kind: 'canceled'; readonly id: WatchId; readonly revision: Revision }
  | { readonly kind: 'compacted'; readonly id: WatchId; readonly compactRevision: Revision };

/** Small answers count too, so that a client that never reads is bounded whatever it asks for. */
const ANSWER_BYTES = 64;

export const deliveryBytes = (delivery: Delivery): number =>
  delivery.kind === 'events' ? delivery.bytes : ANSWER_BYTES;

export const wants = (watcher: Watcher, kind: Event['kind']): boolean =>
  kind === 'put' ? watcher.puts : watcher.deletes;
