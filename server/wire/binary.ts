/**
 * Reads and writes protobuf's wire format for the generated code beside it. It has the interface of
 * `@bufbuild/protobuf/wire`, as far as generated code uses that, and does less: messages are written
 * one after another into a buffer of 64 KiB and handed out as views of it, so that a small message
 * costs no allocation of its own. Whoever keeps one keeps that whole buffer; a message that outgrows
 * half of it has one to itself, of at most twice its size or 64 KiB. Bytes that are read are copies,
 * and keep nothing of the message, unless views are asked for.
 *
 * Source: protobuf.dev, "Encoding". Groups are refused, as proto3 has none.
 */

/** Of the buffer that messages share; one that finds no room in what is left of it starts another. */
const chunkBytes = 64 * 1024;

let chunk: Buffer = Buffer.allocUnsafeSlow(chunkBytes);
/** Everything before it belongs to finished messages. */
let chunkUsed = 0;
/** Somebody writes into what is left: a message begun before that one is finished needs a new chunk. */
let isChunkTaken = false;

/** The default of every field of bytes. */
export const emptyBytes: Buffer = Buffer.alloc(0);

const two63n = 0x8000_0000_0000_0000n;

/** The same 64 bits as one number and as two: taking a bigint apart by arithmetic makes more of them. */
const whole = new BigUint64Array(1);
const halves = new Uint32Array(whole.buffer);
/** Where the lower half is depends on the machine. */
whole[0] = 1n;
const lowerHalf = halves[0] === 1 ? 0 : 1;
const upperHalf = 1 - lowerHalf;

export class BinaryWriter {
  #buffer: Buffer;
  #start: number;
  #position: number;
  #forks: number[] | undefined;

  constructor() {
    if (isChunkTaken) startChunk(chunkBytes);
    isChunkTaken = true;
    this.#buffer = chunk;
    this.#start = chunkUsed;
    this.#position = chunkUsed;
  }

  /** The message. The writer must not be used any more. */
  finish(): Buffer {
    if (this.#buffer === chunk) {
      chunkUsed = this.#position;
      isChunkTaken = false;
    }
    return this.#buffer.subarray(this.#start, this.#position);
  }

  fork(): this {
    this.#reserve(1);
    this.#forks ??= [];
    this.#forks.push(this.#position);
    this.#position += 1;
    return this;
  }

  /** Puts the length of what was written since `fork` before it. */
  join(): this {
    const forked = this.#forks?.at(-1);
    if (forked === undefined) throw new Error('join without fork');
    const length = this.#position - forked - 1;
    const more = varintBytes(length) - 1;
    // May move the message, and what is known of its forks with it.
    this.#reserve(more);
    const at = this.#forks?.pop() ?? 0;
    if (more === 0) {
      this.#buffer[at] = length;
      return this;
    }
    this.#buffer.copyWithin(at + 1 + more, at + 1, this.#position);
    const end = this.#position + more;
    this.#position = at;
    this.uint32(length);
    this.#position = end;
    return this;
  }

  uint32(value: number): this {
    this.#reserve(5);
    const buffer = this.#buffer;
    let rest = value >>> 0;
    while (rest > 0x7f) {
      buffer[this.#position++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    buffer[this.#position++] = rest;
    return this;
  }

  int32(value: number): this {
    return value >= 0 ? this.uint32(value) : this.#varint64(value >>> 0, 0xffff_ffff);
  }

  bool(value: boolean): this {
    this.#reserve(1);
    this.#buffer[this.#position++] = value ? 1 : 0;
    return this;
  }

  bytes(value: Uint8Array): this {
    const { length } = value;
    this.uint32(length);
    this.#reserve(length);
    this.#buffer.set(value, this.#position);
    this.#position += length;
    return this;
  }

  string(value: string): this {
    const length = Buffer.byteLength(value);
    this.uint32(length);
    this.#reserve(length);
    this.#buffer.write(value, this.#position, length, 'utf8');
    this.#position += length;
    return this;
  }

  uint64(value: bigint): this {
    whole[0] = value;
    return this.#varint64(halves[lowerHalf] ?? 0, halves[upperHalf] ?? 0);
  }

  int64(value: bigint): this {
    return this.uint64(value);
  }

  fixed32(value: number): this {
    this.#reserve(4);
    this.#position = this.#buffer.writeUInt32LE(value, this.#position);
    return this;
  }

  fixed64(value: bigint): this {
    this.#reserve(8);
    this.#position = this.#buffer.writeBigUInt64LE(BigInt.asUintN(64, value), this.#position);
    return this;
  }

  #varint64(low: number, high: number): this {
    this.#reserve(10);
    const buffer = this.#buffer;
    let position = this.#position;
    let lower = low;
    let upper = high;
    while (upper > 0) {
      buffer[position++] = (lower & 0x7f) | 0x80;
      lower = ((lower >>> 7) | (upper << 25)) >>> 0;
      upper >>>= 7;
    }
    while (lower > 0x7f) {
      buffer[position++] = (lower & 0x7f) | 0x80;
      lower >>>= 7;
    }
    buffer[position++] = lower;
    this.#position = position;
    return this;
  }

  #reserve(size: number): void {
    if (this.#position + size > this.#buffer.length) this.#grow(size);
  }

  /**
   * Moves the message to a buffer that has room for as much again: a new chunk, or one of its own if it
   * is large, as small messages must not keep megabytes. What is left of the chunk is for the others.
   */
  #grow(size: number): void {
    const before = this.#buffer;
    const written = this.#position - this.#start;
    const larger = Buffer.allocUnsafeSlow(Math.max(chunkBytes, 2 * (written + size)));
    before.copy(larger, 0, this.#start, this.#position);
    this.#forks = this.#forks?.map((at) => at - this.#start);
    if (before === chunk) {
      if (larger.length === chunkBytes) chunk = larger;
      else isChunkTaken = false;
    }
    this.#buffer = larger;
    this.#start = 0;
    this.#position = written;
  }
}

function startChunk(bytes: number): void {
  chunk = Buffer.allocUnsafeSlow(bytes);
  chunkUsed = 0;
}

const varintBytes = (value: number): number =>
  value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x20_0000 ? 3 : value < 0x1000_0000 ? 4 : 5;

export class BinaryReader {
  readonly len: number;
  pos = 0;
  readonly #buffer: Buffer;
  readonly #copies: boolean;

  /** `views`: bytes are views on the message, for readers that keep none of them. */
  constructor(bytes: Uint8Array, options?: 'views') {
    this.#buffer = Buffer.isBuffer(bytes)
      ? bytes
      : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#copies = options !== 'views';
    this.len = bytes.length;
  }

  uint32(): number {
    const buffer = this.#buffer;
    let byte = this.#next(buffer);
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    for (let shift = 7; shift < 35; shift += 7) {
      byte = this.#next(buffer);
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    // A negative number of 32 bits is written with 64.
    for (let rest = 0; rest < 5; rest++) if (this.#next(buffer) < 0x80) return value >>> 0;
    throw new RangeError('a varint has more than ten bytes');
  }

  int32(): number {
    return this.uint32() | 0;
  }

  bool(): boolean {
    return this.uint64() !== 0n;
  }

  /** By default a copy: what is kept of a message must not keep the whole of it. */
  bytes(): Buffer {
    const length = this.uint32();
    if (length === 0) return emptyBytes;
    const start = this.pos;
    this.#advance(length);
    if (!this.#copies) return this.#buffer.subarray(start, this.pos);
    const copy = Buffer.allocUnsafe(length);
    this.#buffer.copy(copy, 0, start, this.pos);
    return copy;
  }

  string(): string {
    const length = this.uint32();
    const start = this.pos;
    this.#advance(length);
    return this.#buffer.toString('utf8', start, this.pos);
  }

  uint64(): bigint {
    const buffer = this.#buffer;
    let low = 0;
    let byte = 0;
    // The first 28 bits, and most numbers have no more.
    for (let shift = 0; shift < 28; shift += 7) {
      byte = this.#next(buffer);
      low |= (byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt(low);
    }
    byte = this.#next(buffer);
    low = (low | ((byte & 0x0f) << 28)) >>> 0;
    let high = (byte & 0x7f) >>> 4;
    for (let shift = 3; byte >= 0x80; shift += 7) {
      if (shift > 31) throw new RangeError('a varint has more than ten bytes');
      byte = this.#next(buffer);
      high |= (byte & 0x7f) << shift;
    }
    return join64(low, high >>> 0);
  }

  int64(): bigint {
    const value = this.uint64();
    return value < two63n ? value : BigInt.asIntN(64, value);
  }

  fixed32(): number {
    const at = this.pos;
    this.#advance(4);
    return this.#buffer.readUInt32LE(at);
  }

  fixed64(): bigint {
    const at = this.pos;
    this.#advance(8);
    return this.#buffer.readBigUInt64LE(at);
  }

  /** Leaves out a field that is not known. */
  skip(wireType: number): void {
    switch (wireType) {
      case 0:
        this.uint64();
        break;
      case 1:
        this.#advance(8);
        break;
      case 2:
        this.#advance(this.uint32());
        break;
      case 5:
        this.#advance(4);
        break;
      default:
        throw new RangeError(`fields of wire type ${wireType} cannot be read`);
    }
  }

  #next(buffer: Buffer): number {
    const byte = buffer[this.pos++];
    if (byte === undefined || this.pos > this.len) throw new RangeError('the message ends early');
    return byte;
  }

  #advance(length: number): void {
    this.pos += length;
    if (this.pos > this.len) throw new RangeError('the message ends early');
  }
}

function join64(low: number, high: number): bigint {
  halves[lowerHalf] = low;
  halves[upperHalf] = high;
  return whole[0] ?? 0n;
}
