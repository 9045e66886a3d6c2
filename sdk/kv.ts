/** Keys and values: the public shape. */
import type { Codec } from './codec.ts';
import type { Key, KeyRange } from './keys.ts';
import type { CallOptions } from './options.ts';
import type { Txn } from './txn.ts';
import type { Watch, WatchOptions } from './watch.ts';

export type KeyValue<V = Uint8Array> = {
  /** The key as UTF-8 text; bytes that are not UTF-8 show as U+FFFD, use `keyBytes` then. */
  readonly key: string;
  readonly keyBytes: Uint8Array;
  readonly value: V;
  /** The revision that created the key; a deleted and re-created key has a new one. */
  readonly createRevision: bigint;
  /** The revision of the last write to the key. */
  readonly modRevision: bigint;
  /** Writes since the key was created, the creation included: 1n for a new key. */
  readonly version: bigint;
  /** The lease the key lives by; 0n for none. */
  readonly lease: bigint;
};

export type ReadOptions = {
  /** Read the state as of this revision. @default the latest */
  readonly revision?: bigint;
  /** Let the contacted member answer from what it knows, which may be old. @default false */
  readonly serializable?: boolean;
};

export type GetOptions = CallOptions & ReadOptions;

export type ListFields = ReadOptions & {
  /** At most this many keys. @default no limit */
  readonly limit?: number;
  /** Leave the values out. @default false */
  readonly keysOnly?: boolean;
  /**
   * The caller has no use for `count`, so that the store need not count what `limit` leaves out. Of a few
   * keys among many that makes a fast answer. A real etcd counts all the same. @default false
   */
  readonly uncounted?: boolean;
  /** @default 'key' */
  readonly order?: 'key' | 'version' | 'create' | 'mod' | 'value';
  /** Largest first. @default false */
  readonly descending?: boolean;
  readonly minModRevision?: bigint;
  readonly maxModRevision?: bigint;
  readonly minCreateRevision?: bigint;
  readonly maxCreateRevision?: bigint;
};

export type ListOptions = CallOptions & ListFields;

export type ListResult = {
  readonly kvs: readonly KeyValue[];
  /** Keys in the range, whatever `limit` and the revision filters leave out. `uncounted`: do not rely on it. */
  readonly count: bigint;
  /** Whether `limit` left keys out. */
  readonly more: boolean;
  /** The store's revision when it answered: everything up to it is reflected (unless `revision` was given). */
  readonly revision: bigint;
};

export type IterateOptions = CallOptions &
  ReadOptions & {
    /** Keys fetched at a time. @default 1000 */
    readonly pageSize?: number;
    /** @default false */
    readonly keysOnly?: boolean;
  };

export type PutFields = {
  /** Tie the key to this lease; it is deleted with the lease. @default none, also for a key that had one */
  readonly lease?: bigint;
  /** Return the key as it was. @default false */
  readonly prevKv?: boolean;
  /** Keep the value (give '' as value) and write the rest. The key must exist. @default false */
  readonly ignoreValue?: boolean;
  /** Keep the lease. The key must exist. @default false */
  readonly ignoreLease?: boolean;
};

export type PutOptions = CallOptions & PutFields;

export type PutResult = {
  /** The revision of this write. */
  readonly revision: bigint;
  /** The key as it was, when `prevKv` was asked for and it existed. */
  readonly previous?: KeyValue;
};

export type DeleteFields = {
  /** Return what was deleted. @default false */
  readonly prevKv?: boolean;
};

export type DeleteOptions = CallOptions & DeleteFields;

export type DeleteResult = {
  readonly revision: bigint;
  readonly deleted: bigint;
  /** What was deleted, when `prevKv` was asked for. */
  readonly previous: readonly KeyValue[];
};

/**
 * Reads are linearizable unless `serializable` is asked for, and are repeated on other endpoints when
 * a connection breaks. Writes are repeated only when it is certain that they had no effect; otherwise
 * they reject with an error whose `outcome` is 'unknown'.
 *
 * Every call may reject with ConclaveError UNREACHABLE, TIMEOUT, ABORTED, CLOSED, PERMISSION_DENIED
 * or UNAUTHENTICATED.
 */
export interface Kv {
  /** @throws ConclaveError COMPACTED, FUTURE_REVISION */
  get(key: Key, options?: GetOptions): Promise<KeyValue | null>;
  /** The value as UTF-8 text. */
  getString(key: Key, options?: GetOptions): Promise<string | null>;
  /** @throws ConclaveError CODEC when the value cannot be decoded */
  getAs<T>(key: Key, codec: Codec<T>, options?: GetOptions): Promise<KeyValue<T> | null>;
  /** @throws ConclaveError COMPACTED, FUTURE_REVISION */
  list(range: Key | KeyRange, options?: ListOptions): Promise<ListResult>;
  /** How many keys the range holds. */
  count(range: Key | KeyRange, options?: GetOptions): Promise<bigint>;
  /**
   * Every key of the range in key order, fetched page by page, all as of the revision of the first
   * page: writes in between are not seen.
   *
   * @throws ConclaveError COMPACTED when compaction passes that revision before the end is reached
   */
  iterate(range: Key | KeyRange, options?: IterateOptions): AsyncIterable<KeyValue>;
  /** @throws ConclaveError LEASE_NOT_FOUND, KEY_NOT_FOUND, NO_SPACE, TOO_LARGE, OUTCOME_UNKNOWN */
  put(key: Key, value: string | Uint8Array, options?: PutOptions): Promise<PutResult>;
  /** @throws ConclaveError OUTCOME_UNKNOWN */
  delete(range: Key | KeyRange, options?: DeleteOptions): Promise<DeleteResult>;
  txn(): Txn;
  watch(range: Key | KeyRange, options?: WatchOptions): Watch;
  /**
   * Forgets the history before `revision`.
   *
   * @param options.physical wait until the space is reclaimed. @default false
   * @throws ConclaveError COMPACTED, FUTURE_REVISION
   */
  compact(revision: bigint, options?: CallOptions & { readonly physical?: boolean }): Promise<void>;
}
