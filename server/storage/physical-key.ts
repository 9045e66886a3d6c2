/**
 * How keys of any length live in LMDB, whose keys end at 1,978 bytes.
 *
 * A physical key begins with a byte of its own, so that the empty key has a place. Then follow up to
 * `RAW_BYTES` bytes of the key as they are. A longer key is its first `RAW_BYTES` bytes and the SHA-256
 * of the whole, and its record holds the whole key.
 *
 * Order: all long keys with the same first bytes form one bucket. It sorts directly behind the key
 * that consists of just those bytes, and before every other key that sorts after them, exactly as
 * its members do. Inside a bucket the order is that of the hashes, so readers sort its members.
 */
import { createHash } from 'node:crypto';
import type { Bytes } from '../mvcc/types.ts';

/** Longer keys are hashed. */
export const RAW_BYTES = 1_900;
const HASH_BYTES = 32;
const MARK_BYTES = 1;

/** What physical keys begin with. */
const MARK = 1;
const AFTER_MARK = 2;

export const isLong = (key: Bytes): boolean => key.length > RAW_BYTES;

/** Is this the physical key of a member of a bucket? */
export const isBucketMember = (physical: Bytes): boolean =>
  physical.length > MARK_BYTES + RAW_BYTES;

/** What the members of a bucket have in common. */
export const bucketOf = (physical: Bytes): Bytes => physical.subarray(0, MARK_BYTES + RAW_BYTES);

/** The key of a physical key that is not in a bucket. */
export const rawKeyOf = (physical: Buffer): Buffer => physical.subarray(MARK_BYTES);

const scratch = Buffer.alloc(MARK_BYTES + RAW_BYTES + HASH_BYTES);
scratch[0] = MARK;

/** The physical key, in memory that the next call overwrites. */
export function physicalKey(key: Bytes): Buffer {
  if (!isLong(key)) {
    scratch.set(key, MARK_BYTES);
    return scratch.subarray(0, MARK_BYTES + key.length);
  }
  scratch.set(key.subarray(0, RAW_BYTES), MARK_BYTES);
  scratch.set(createHash('sha256').update(key).digest(), MARK_BYTES + RAW_BYTES);
  return scratch;
}

/** The same for a key in the form of `byte-order.ts`. */
export function physicalKeyOfName(name: string): Buffer {
  if (name.length > RAW_BYTES) return physicalKey(Buffer.from(name, 'latin1'));
  scratch.write(name, MARK_BYTES, 'latin1');
  return scratch.subarray(0, MARK_BYTES + name.length);
}

/** At or before every key >= `start`; what precedes `start` in its bucket must be skipped. */
export function lowerBound(start: Bytes): Buffer {
  return Buffer.concat([Buffer.from([MARK]), start.subarray(0, RAW_BYTES)]);
}

/** Behind every key < `end` and before what follows; rest of the bucket of `end` must be skipped. */
export function upperBound(end: Bytes | undefined): Buffer {
  if (end === undefined) return Buffer.from([AFTER_MARK]);
  const parts = [Buffer.from([MARK]), end.subarray(0, RAW_BYTES)];
  if (isLong(end)) parts.push(Buffer.alloc(HASH_BYTES + 1, 0xff));
  return Buffer.concat(parts);
}
