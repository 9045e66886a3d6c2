/**
 * A value as it is stored: with a checksum over key and value, because LMDB has none, and with the
 * whole key where the physical key cannot hold it.
 *
 * ```
 * 0 crc32 of key and value    4 value
 * 0 crc32 of key and value    4 key bytes u32    8 key    value     (long keys)
 * ```
 */
import { crc32 } from 'node:zlib';
import type { Bytes } from '../mvcc/types.ts';
import { bytesOf } from './byte-order.ts';
import { isLong, RAW_BYTES } from './physical-key.ts';

const CHECKSUM_BYTES = 4;
const LENGTH_BYTES = 4;

/** zlib answers 0, not the checksum so far, for empty input without an address. */
const checksumOf = (key: Bytes, value: Bytes): number => {
  const head = crc32(key);
  return value.length === 0 ? head : crc32(value, head);
};

export function recordBytes(key: Bytes, value: Bytes): number {
  return CHECKSUM_BYTES + (isLong(key) ? LENGTH_BYTES + key.length : 0) + value.length;
}

/** Writes the record at `offset`; `target` has room for `recordBytes`. */
export function encodeRecord(target: Buffer, offset: number, key: Bytes, value: Bytes): void {
  target.writeUInt32LE(checksumOf(key, value), offset);
  let at = offset + CHECKSUM_BYTES;
  if (isLong(key)) {
    target.writeUInt32LE(key.length, at);
    target.set(key, at + LENGTH_BYTES);
    at += LENGTH_BYTES + key.length;
  }
  target.set(value, at);
}

/** The whole key of a long key's record; undefined when the record cannot hold one. */
export function longKeyOf(record: Buffer): Buffer | undefined {
  const start = CHECKSUM_BYTES + LENGTH_BYTES;
  if (record.length < start) return undefined;
  const end = start + record.readUInt32LE(CHECKSUM_BYTES);
  return end <= record.length ? record.subarray(start, end) : undefined;
}

/** The value of `key`; undefined when the record is damaged or another key's. */
export function decodeRecord(key: Bytes, record: Buffer): Buffer | undefined {
  if (record.length < CHECKSUM_BYTES) return undefined;
  let at = CHECKSUM_BYTES;
  if (isLong(key)) {
    const stored = longKeyOf(record);
    if (stored === undefined || !stored.equals(key)) return undefined;
    at += LENGTH_BYTES + key.length;
  }
  const value = record.subarray(at);
  return checksumOf(key, value) === record.readUInt32LE(0) ? value : undefined;
}

const ARENA_BYTES = 256 * 1024;
/** Kept for the next records; a transaction that needed more gives the rest back. */
const KEPT_SLABS = 16;

/**
 * Encodes records one behind the other in large buffers, so that a record costs no allocation of its
 * own. A record stays as it is until `clear`.
 */
export class RecordArena {
  readonly #slabs: Buffer[] = [];
  #slab: Buffer = Buffer.alloc(0);
  /** Slabs in use, the present one among them. */
  #count = 0;
  #used = 0;

  /** Nobody needs the records of before any more: what comes next takes their place. */
  clear(): void {
    this.#slabs.length = Math.min(this.#slabs.length, KEPT_SLABS);
    this.#slab = Buffer.alloc(0);
    this.#count = 0;
    this.#used = 0;
  }

  /** The record of a key, whose name is in the form of `byte-order.ts`. */
  encode(name: string, value: Bytes): Buffer {
    const bytes = Math.max(name.length, CHECKSUM_BYTES) + value.length;
    if (name.length > RAW_BYTES || bytes * 8 > ARENA_BYTES) return ownRecord(name, value);
    if (this.#used + bytes > this.#slab.length) {
      this.#slab = this.#nextSlab();
      this.#used = 0;
    }
    const slab = this.#slab;
    const end = this.#used + bytes;
    this.#used = end;
    // Key and value side by side need one checksum; then it takes the place of the key's last bytes.
    const valueAt = end - value.length;
    const keyAt = valueAt - name.length;
    slab.write(name, keyAt, 'latin1');
    slab.set(value, valueAt);
    const recordAt = valueAt - CHECKSUM_BYTES;
    slab.writeUInt32LE(crc32(slab.subarray(keyAt, end)), recordAt);
    return slab.subarray(recordAt, end);
  }

  #nextSlab(): Buffer {
    const slab = this.#slabs[this.#count] ?? Buffer.allocUnsafeSlow(ARENA_BYTES);
    this.#slabs[this.#count] = slab;
    this.#count += 1;
    return slab;
  }
}

function ownRecord(name: string, value: Bytes): Buffer {
  const key = bytesOf(name);
  const record = Buffer.allocUnsafeSlow(recordBytes(key, value));
  encodeRecord(record, 0, key, value);
  return record;
}
