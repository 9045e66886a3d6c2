/**
 * Primitives of every binary format of the state machine: little-endian base-128 numbers, 64-bit
 * ids, length-prefixed bytes. Writers are plain functions over a target whose size the caller
 * computed first, so that a record costs one allocation.
 *
 * Numbers are safe integers; the arithmetic above 2^31 divides instead of shifting.
 */
import type { Bytes } from './types.ts';

/** Thrown when bytes are not what the format says: corruption, or a format of another version. */
export class DecodeError extends Error {
  override name = 'DecodeError';
  readonly code = 'corrupt-bytes';
}

/**
 * No bytes, at an address: native code that is given the null pointer of an empty allocation may take
 * it for "no argument" (zlib's crc32 then starts a new checksum).
 */
export const EMPTY: Bytes = Buffer.alloc(1).subarray(1);

/** Bytes that `writeUnsigned` takes for a value from 0 to 2^53 - 1. */
export function unsignedSize(value: number): number {
  if (value < 0x80) return 1;
  if (value < 0x4000) return 2;
  if (value < 0x20_0000) return 3;
  if (value < 0x1000_0000) return 4;
  if (value < 0x8_0000_0000) return 5;
  if (value < 0x400_0000_0000) return 6;
  if (value < 0x2_0000_0000_0000) return 7;
  return 8;
}

/** Writes a value from 0 to 2^53 - 1 and returns the offset after it. */
export function writeUnsigned(target: Uint8Array, offset: number, value: number): number {
  let at = offset;
  let rest = value;
  while (rest > 0x7fff_ffff) {
    target[at++] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
  }
  while (rest > 0x7f) {
    target[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  target[at++] = rest;
  return at;
}

/** Bytes that `writeSigned` takes. */
export function signedSize(value: number): number {
  const magnitude = Math.abs(value);
  return magnitude < 0x40 ? 1 : 1 + unsignedSize(Math.floor(magnitude / 0x40));
}

/** Writes any safe integer: the sign is the lowest bit of the first byte, so nothing overflows. */
export function writeSigned(target: Uint8Array, offset: number, value: number): number {
  const magnitude = Math.abs(value);
  const first = ((magnitude % 0x40) << 1) | (value < 0 ? 1 : 0);
  if (magnitude < 0x40) {
    target[offset] = first;
    return offset + 1;
  }
  target[offset] = first | 0x80;
  return writeUnsigned(target, offset + 1, Math.floor(magnitude / 0x40));
}

export function writeUint32(target: Uint8Array, offset: number, value: number): number {
  target[offset] = value >>> 24;
  target[offset + 1] = value >>> 16;
  target[offset + 2] = value >>> 8;
  target[offset + 3] = value;
  return offset + 4;
}

/** Writes the 64 bits of an id, big-endian; a negative id is written as its two's complement. */
export function writeId(target: Uint8Array, offset: number, id: bigint): number {
  whole[0] = id;
  const next = writeUint32(target, offset, halves[upperHalf] ?? 0);
  return writeUint32(target, next, halves[lowerHalf] ?? 0);
}

/** The same 64 bits as one number and as two: taking a bigint apart by arithmetic makes more of them. */
const whole = new BigUint64Array(1);
const halves = new Uint32Array(whole.buffer);
/** Where the lower half is depends on the machine. */
whole[0] = 1n;
const lowerHalf = halves[0] === 1 ? 0 : 1;
const upperHalf = 1 - lowerHalf;

/** Writes length and content. */
export function writeBytes(target: Uint8Array, offset: number, bytes: Bytes): number {
  const at = writeUnsigned(target, offset, bytes.length);
  target.set(bytes, at);
  return at + bytes.length;
}

export const bytesSize = (bytes: Bytes): number => unsignedSize(bytes.length) + bytes.length;

/** Texts as UTF-8, ready to be written with `writeTexts`: their bytes, and what those will take. */
export type EncodedTexts = { readonly texts: readonly Bytes[]; readonly size: number };

export function encodeTexts(given: readonly string[]): EncodedTexts {
  const texts = given.map((text) => Buffer.from(text, 'utf8'));
  const size = texts.reduce((sum, text) => sum + bytesSize(text), unsignedSize(texts.length));
  return { texts, size };
}

/** Writes how many texts there are, then each. */
export function writeTexts(target: Uint8Array, offset: number, { texts }: EncodedTexts): number {
  let at = writeUnsigned(target, offset, texts.length);
  for (const text of texts) at = writeBytes(target, at, text);
  return at;
}

/** Reads what the writers wrote. Every method throws `DecodeError` at the end of the data. */
export class BinaryReader {
  readonly #data: Bytes;
  #offset: number;

  constructor(data: Bytes, offset = 0) {
    this.#data = data;
    this.#offset = offset;
  }

  get atEnd(): boolean {
    return this.#offset === this.#data.length;
  }

  get remaining(): number {
    return this.#data.length - this.#offset;
  }

  byte(): number {
    const value = this.#data[this.#offset];
    if (value === undefined) throw new DecodeError('unexpected end of data');
    this.#offset += 1;
    return value;
  }

  /** One byte of which only the bits of `known` may be set. */
  flags(known: number): number {
    const value = this.byte();
    if ((value & ~known) !== 0) throw new DecodeError(`unknown flags ${value}`);
    return value;
  }

  unsigned(): number {
    let byte = this.byte();
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    let scale = 0x80;
    do {
      byte = this.byte();
      value += (byte & 0x7f) * scale;
      scale *= 0x80;
      if (value > Number.MAX_SAFE_INTEGER) throw new DecodeError('number exceeds 2^53 - 1');
      if (scale > 0x100_0000_0000_0000) throw new DecodeError('number is longer than 8 bytes');
    } while (byte >= 0x80);
    return value;
  }

  signed(): number {
    const first = this.byte();
    const low = (first >> 1) & 0x3f;
    const magnitude = first < 0x80 ? low : low + this.unsigned() * 0x40;
    if (magnitude > Number.MAX_SAFE_INTEGER) throw new DecodeError('number exceeds 2^53 - 1');
    return (first & 1) === 1 && magnitude !== 0 ? -magnitude : magnitude;
  }

  uint32(): number {
    const bytes = this.take(4);
    const [a = 0, b = 0, c = 0, d = 0] = bytes;
    return ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;
  }

  /** Eight bytes as a signed 64-bit number. */
  signedId(): bigint {
    return BigInt.asIntN(64, this.unsignedId());
  }

  /** Eight bytes as an unsigned 64-bit number. */
  unsignedId(): bigint {
    const high = this.uint32();
    return (BigInt(high) << 32n) | BigInt(this.uint32());
  }

  /** The next `length` bytes, as a view on the data. */
  take(length: number): Bytes {
    const end = this.#offset + length;
    if (end > this.#data.length) throw new DecodeError('unexpected end of data');
    const bytes = this.#data.subarray(this.#offset, end);
    this.#offset = end;
    return bytes;
  }

  /** Bytes with their length before them, as a view on the data. */
  bytes(): Bytes {
    return this.take(this.unsigned());
  }

  /** UTF-8 with its length before it. */
  text(): string {
    const { buffer, byteOffset, length } = this.bytes();
    return Buffer.from(buffer, byteOffset, length).toString('utf8');
  }

  /** So many texts; by default as many as the number before them says. */
  texts(count = this.unsigned()): string[] {
    // Each takes a byte at least: a wrong count must not allocate before the data ends.
    if (count > this.remaining) throw new DecodeError('unexpected end of data');
    return Array.from({ length: count }, () => this.text());
  }

  /** Everything up to the end, as a view on the data. */
  rest(): Bytes {
    return this.take(this.remaining);
  }
}
