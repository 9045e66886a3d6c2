/** Watches: the public shape. */
import type { KeyValue } from './kv.ts';
import type { Observable } from './observe.ts';

export type WatchOptions = {
  /** The first revision to report. @default the one after the store's current revision */
  readonly from?: bigint;
  /** Report also what each key was before. @default false */
  readonly prevKv?: boolean;
  /** Report writes. @default true */
  readonly puts?: boolean;
  /** Report deletions. @default true */
  readonly deletes?: boolean;
  /** Ask for a notice now and then that nothing happened (etcd: every 10 minutes). @default false */
  readonly progress?: boolean;
  /** Let the server cut a large revision into pieces; they are put together here. @default true */
  readonly fragment?: boolean;
  /** Cancels the watch; iteration then rejects with ABORTED. */
  readonly signal?: AbortSignal;
  /** Undelivered events to hold before the server is told to pause this watch. @default 4096 */
  readonly highWaterMark?: number;
};

export type WatchEvent = {
  readonly type: 'put' | 'delete';
  /** For a deletion: the key, and the revision of the deletion as `modRevision`; nothing else. */
  readonly kv: KeyValue;
  /** The key as it was, when `prevKv` was asked for, it existed and is not compacted. */
  readonly previous?: KeyValue;
};

export type WatchNotice =
  /** Everything one revision did to the watched keys: never split over two notices. */
  | { readonly type: 'events'; readonly revision: bigint; readonly events: readonly WatchEvent[] }
  /** Nothing is on its way up to this revision. */
  | { readonly type: 'progress'; readonly revision: bigint }
  /**
   * Compaction removed events that were not delivered yet. `kvs` is everything there is at
   * `revision`; forget all else. Events follow from `revision + 1`.
   */
  | {
      readonly type: 'reset';
      readonly revision: bigint;
      readonly compactRevision: bigint;
      readonly kvs: readonly KeyValue[];
    };

/**
 * A watch over a key or range. It survives lost connections and slow consumers without gaps and
 * without duplicates: it resumes after the last event it received.
 *
 * Watches of one client with the same range and options get the same notices, as the same objects:
 * do not change what is in them.
 *
 * One consumer at a time: iterate it or subscribe to `notices$`. Leaving the loop cancels it; closing
 * the client completes it, without an error.
 */
export interface Watch extends AsyncIterable<WatchNotice>, AsyncDisposable {
  /** Resolves once the server watches: with the store's revision then. Rejects when the watch ends before. */
  readonly created: Promise<{ readonly revision: bigint }>;
  readonly notices$: Observable<WatchNotice>;
  /** Ends the watch; iteration ends without an error. Idempotent. */
  cancel(): Promise<void>;
}
