/** What a cache tells: entries, snapshots, events. */
import { type Codec, decodeWith } from '../../sdk/codec.ts';
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { ResetReason } from '../common/prefix-follower.ts';

export type CacheEntry<V> = {
  /** The key after the prefix. */
  readonly key: string;
  readonly value: V;
  readonly createRevision: bigint;
  readonly modRevision: bigint;
  /** The lease that it lives by; 0n for none. */
  readonly lease: bigint;
};

/** Everything at one revision. Does not change any more. */
export type CacheSnapshot<V> = {
  readonly revision: bigint;
  /** Whether the store had not answered lately when this was taken. */
  readonly stale: boolean;
  /** By the key after the prefix. */
  readonly entries: ReadonlyMap<string, CacheEntry<V>>;
  /** Keys whose values the codec does not understand, and why. */
  readonly unreadable: ReadonlyMap<string, ConclaveError>;
};

export type CacheChange<V> =
  | {
      readonly type: 'put';
      readonly key: string;
      readonly entry: CacheEntry<V>;
      /** What it was, if it was there and could be read. */
      readonly previous?: CacheEntry<V>;
    }
  | { readonly type: 'delete'; readonly key: string; readonly previous?: CacheEntry<V> }
  /** It was written, and the codec does not understand it. */
  | {
      readonly type: 'unreadable';
      readonly key: string;
      readonly error: ConclaveError;
      readonly previous?: CacheEntry<V>;
    };

export type CacheEvent<V> =
  /** Forget all else: this is everything. First, and whenever revisions could not be followed. */
  | {
      readonly type: 'reset';
      readonly reason: ResetReason | 'overflow';
      readonly snapshot: CacheSnapshot<V>;
    }
  /** All that one revision did. */
  | {
      readonly type: 'changed';
      readonly revision: bigint;
      readonly changes: readonly CacheChange<V>[];
    }
  /** The store does not answer, or refuses: what is known stays. */
  | { readonly type: 'stale'; readonly error?: ConclaveError }
  | { readonly type: 'fresh' }
  /** There is more than the cache may hold. The last event. */
  | { readonly type: 'refused'; readonly error: ConclaveError };

export type Decoded<V> = CacheEntry<V> | ConclaveError;

export const isEntry = <V>(decoded: Decoded<V>): decoded is CacheEntry<V> =>
  !isConclaveError(decoded);

export function decodeEntry<V>(prefix: string, kv: KeyValue, codec: Codec<V>): Decoded<V> {
  // A key that is no text has none of its own: another could look the same.
  if (!Buffer.from(kv.key, 'utf8').equals(kv.keyBytes)) {
    return new ConclaveError('CODEC', `The key '${kv.key}' is not UTF-8`);
  }
  try {
    const { createRevision, modRevision, lease } = kv;
    const value = decodeWith(codec, kv.value, kv.key);
    return { key: kv.key.slice(prefix.length), value, createRevision, modRevision, lease };
  } catch (error) {
    if (!isConclaveError(error)) throw error;
    return error;
  }
}
