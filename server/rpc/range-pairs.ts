/**
 * The pairs of a range, encoded as they are read: a long answer takes the memory of its bytes, not that of
 * an object for every key beside it.
 */
import { Status } from '../faults.ts';
import type { Message } from '../http2/message.ts';
import { bytesSize, unsignedSize, writeBytes, writeUnsigned } from '../mvcc/binary.ts';
import type { Bytes, KeyValue, PairSink, RangeResult } from '../mvcc/types.ts';
import { BinaryWriter } from '../wire/binary.ts';
import { RangeResponse, type ResponseHeader } from '../wire/etcdserverpb/rpc.ts';
import { rangeResponse } from './convert.ts';
import { Rejection } from './status.ts';

/** The field `kvs` of a RangeResponse. */
const PAIR = (2 << 3) | 2;
/** Fields of a KeyValue with their wire types. */
const tags = {
  key: (1 << 3) | 2,
  createRevision: 2 << 3,
  modRevision: 3 << 3,
  version: 4 << 3,
  value: (5 << 3) | 2,
  lease: 6 << 3,
} as const;

const CHUNK_BYTES = 256 * 1024;
/** Up to so many bytes pairs are collected, and encoded together as those of any message are. */
const SHORT_BYTES = 64 * 1024;
/** What a pair takes beside its key and value, about. */
const PAIR_BYTES = 64;
/** What clients of gRPC can take at most. */
const MAX_BYTES = 2 ** 31 - 1;

const NOTHING: Buffer = Buffer.alloc(0);

export class RangePairs implements PairSink {
  /** Undefined once they are too many. */
  #short: KeyValue[] | undefined = [];
  #shortBytes = 0;
  readonly #pieces: Buffer[] = [];
  #chunk: Buffer = NOTHING;
  #used = 0;
  /** Of the pieces. */
  #bytes = 0;
  #lease = 0n;
  #leaseBytes: Buffer = NOTHING;

  /** @throws {Rejection} when the answer becomes larger than any client can take. */
  add(kv: KeyValue): void {
    const short = this.#short;
    if (short === undefined) {
      this.#encode(kv);
      return;
    }
    short.push(kv);
    this.#shortBytes += kv.key.length + kv.value.length + PAIR_BYTES;
    if (this.#shortBytes <= SHORT_BYTES) return;
    this.#short = undefined;
    for (const each of short) this.#encode(each);
  }

  #encode({ key, value, createRevision, modRevision, version, lease }: KeyValue): void {
    if (lease !== this.#lease) {
      this.#lease = lease;
      // Many keys in a row have the same one, or none.
      this.#leaseBytes = lease === 0n ? NOTHING : encodeLease(lease);
    }
    const bytes =
      byteFieldSize(key) +
      numberFieldSize(createRevision) +
      numberFieldSize(modRevision) +
      numberFieldSize(version) +
      byteFieldSize(value) +
      this.#leaseBytes.length;
    const size = 1 + unsignedSize(bytes) + bytes;
    if (this.#used + size > this.#chunk.length) this.#begin(size);
    const chunk = this.#chunk;
    let at = this.#used;
    chunk[at++] = PAIR;
    at = writeUnsigned(chunk, at, bytes);
    at = writeByteField(chunk, at, tags.key, key);
    at = writeNumberField(chunk, at, tags.createRevision, createRevision);
    at = writeNumberField(chunk, at, tags.modRevision, modRevision);
    at = writeNumberField(chunk, at, tags.version, version);
    at = writeByteField(chunk, at, tags.value, value);
    chunk.set(this.#leaseBytes, at);
    this.#used = at + this.#leaseBytes.length;
  }

  /** A chunk with room for so many bytes. */
  #begin(bytes: number): void {
    this.#seal();
    // A long pair has one to itself: it would leave too much of another.
    this.#chunk = Buffer.allocUnsafeSlow(bytes < CHUNK_BYTES / 4 ? CHUNK_BYTES : bytes);
  }

  #seal(): void {
    if (this.#used > 0) this.#pieces.push(this.#chunk.subarray(0, this.#used));
    this.#bytes += this.#used;
    this.#used = 0;
    if (this.#bytes <= MAX_BYTES) return;
    const details = 'the answer is larger than 2 GiB: ask for less of the range at a time';
    throw new Rejection(Status.RESOURCE_EXHAUSTED, details);
  }

  /** The whole answer. */
  answer(header: ResponseHeader, result: RangeResult): Message {
    const kvs = this.#short;
    if (kvs !== undefined) {
      return RangeResponse.encode(rangeResponse(header, { ...result, kvs })).finish();
    }
    this.#seal();
    const { more, count } = result;
    const rest = RangeResponse.encode({ header: undefined, kvs: [], more, count: BigInt(count) });
    const head = RangeResponse.encode({ header, kvs: [], more: false, count: 0n });
    return [head.finish(), ...this.#pieces, rest.finish()];
  }
}

// As protobuf wants it, a field that is empty or 0 is left out.

const byteFieldSize = (bytes: Bytes): number => (bytes.length === 0 ? 0 : 1 + bytesSize(bytes));

const encodeLease = (lease: bigint): Buffer =>
  Buffer.from(new BinaryWriter().uint32(tags.lease).int64(lease).finish());

const numberFieldSize = (value: number): number => (value === 0 ? 0 : 1 + unsignedSize(value));

function writeByteField(target: Buffer, at: number, tag: number, bytes: Bytes): number {
  if (bytes.length === 0) return at;
  target[at] = tag;
  return writeBytes(target, at + 1, bytes);
}

function writeNumberField(target: Buffer, at: number, tag: number, value: number): number {
  if (value === 0) return at;
  target[at] = tag;
  return writeUnsigned(target, at + 1, value);
}
