/**
 * The part of protobuf's encoding that messages between members use, over the caller's own buffers:
 * generated code copies every `bytes` field and makes an object for every message, which is too slow
 * for the log. `test/transport` holds it against the generated code.
 */
import { unsignedSize, writeUnsigned } from '../mvcc/binary.ts';

/** Bytes that came from another member are not what the protocol says. */
export class MalformedFrame extends Error {
  override name = 'MalformedFrame';
  readonly code = 'malformed-frame';
}

const WireType = { VARINT: 0, FIXED64: 1, BYTES: 2, FIXED32: 5 } as const;

const ID_BYTES = 8;

/** Fields 1 to 15 have tags of one byte. A field that is 0, false or empty is left out. */
export const numberSize = (value: number): number => (value === 0 ? 0 : 1 + unsignedSize(value));
export const flagSize = (value: boolean): number => (value ? 2 : 0);
export const idSize = (value: bigint): number => (value === 0n ? 0 : 1 + ID_BYTES);
export const bytesFieldSize = (length: number): number => 1 + unsignedSize(length) + length;
export const idsSize = (ids: readonly bigint[]): number =>
  ids.length === 0 ? 0 : bytesFieldSize(ids.length * ID_BYTES);

/** From here on, content is passed on by reference instead of being copied into the frame. */
export const REFERENCE_BYTES = 2_048;

/**
 * Writes fields into one allocation of `inlineBytes`, and lists references to long content between
 * its pieces.
 */
export class ProtobufWriter {
  readonly #target: Buffer;
  readonly #pieces: Buffer[] = [];
  #at: number;
  #pieceStart = 0;

  /** `offset`: bytes at the beginning that the caller fills in. */
  constructor(inlineBytes: number, offset = 0) {
    this.#target = Buffer.allocUnsafe(inlineBytes);
    this.#at = offset;
  }

  number(field: number, value: number): void {
    if (value === 0) return;
    this.#target[this.#at] = (field << 3) | WireType.VARINT;
    this.#at = writeUnsigned(this.#target, this.#at + 1, value);
  }

  flag(field: number, value: boolean): void {
    if (value) this.number(field, 1);
  }

  id(field: number, value: bigint): void {
    if (value === 0n) return;
    this.#target[this.#at] = (field << 3) | WireType.FIXED64;
    this.#at = this.#target.writeBigUInt64LE(value, this.#at + 1);
  }

  ids(field: number, ids: readonly bigint[]): void {
    if (ids.length === 0) return;
    this.begin(field, ids.length * ID_BYTES);
    for (const id of ids) this.#at = this.#target.writeBigUInt64LE(id, this.#at);
  }

  /** A nested message of that length follows. Fields above 15 are allowed here. */
  begin(field: number, length: number): void {
    this.#at = writeUnsigned(this.#target, this.#at, (field << 3) | WireType.BYTES);
    this.#at = writeUnsigned(this.#target, this.#at, length);
  }

  bytes(field: number, content: Uint8Array): void {
    if (content.length === 0) return;
    this.begin(field, content.length);
    if (content.length < REFERENCE_BYTES) {
      this.#target.set(content, this.#at);
      this.#at += content.length;
      return;
    }
    this.#pieces.push(
      this.#target.subarray(this.#pieceStart, this.#at),
      Buffer.from(content.buffer, content.byteOffset, content.length),
    );
    this.#pieceStart = this.#at;
  }

  /** Everything written, in order. The content that was passed by reference must not change. */
  finish(): Buffer[] {
    if (this.#at > this.#pieceStart) {
      this.#pieces.push(this.#target.subarray(this.#pieceStart, this.#at));
    }
    return this.#pieces;
  }
}

/** What `ProtobufWriter` needs for a bytes field: its content, when that is not passed by reference. */
export const inlineSize = (length: number): number => (length < REFERENCE_BYTES ? length : 0);

/** Reads fields between two offsets. Every method throws `MalformedFrame`. */
export class ProtobufReader {
  readonly #data: Buffer;
  #at: number;
  #end: number;
  #wireType = 0;

  constructor(data: Buffer) {
    this.#data = data;
    this.#at = 0;
    this.#end = data.length;
  }

  /** The number of the next field; 0 at the end. */
  field(): number {
    if (this.#at === this.#end) return 0;
    const key = this.#varint();
    const field = Math.floor(key / 8);
    this.#wireType = key % 8;
    if (field === 0) throw new MalformedFrame('a field has number 0');
    return field;
  }

  number(): number {
    this.#expect(WireType.VARINT);
    return this.#varint();
  }

  flag(): boolean {
    return this.number() !== 0;
  }

  id(): bigint {
    this.#expect(WireType.FIXED64);
    return this.#data.readBigUInt64LE(this.#advance(ID_BYTES));
  }

  ids(): bigint[] {
    const length = this.#length();
    if (length % ID_BYTES !== 0) throw new MalformedFrame('a list of ids is cut short');
    const ids: bigint[] = [];
    for (const end = this.#at + length; this.#at < end; this.#at += ID_BYTES) {
      ids.push(this.#data.readBigUInt64LE(this.#at));
    }
    return ids;
  }

  /** A view on the content. */
  bytes(): Buffer {
    const length = this.#length();
    const start = this.#advance(length);
    return this.#data.subarray(start, start + length);
  }

  /** Goes into a nested message; give the result to `leave` when `field` is 0 again. */
  enter(): number {
    const length = this.#length();
    const outer = this.#end;
    this.#end = this.#at + length;
    return outer;
  }

  leave(outer: number): void {
    this.#end = outer;
  }

  /** Passes over a field that this version does not know. */
  skip(): void {
    switch (this.#wireType) {
      case WireType.VARINT:
        for (let count = 1; (this.#data[this.#advance(1)] ?? 0) >= 0x80; count += 1) {
          if (count === 10) throw new MalformedFrame('a number is longer than 10 bytes');
        }
        return;
      case WireType.FIXED64:
        this.#advance(8);
        return;
      case WireType.FIXED32:
        this.#advance(4);
        return;
      default:
        this.bytes();
    }
  }

  #expect(wireType: number): void {
    if (this.#wireType === wireType) return;
    throw new MalformedFrame(`a field has wire type ${this.#wireType} instead of ${wireType}`);
  }

  #advance(length: number): number {
    const at = this.#at;
    if (length > this.#end - at) throw new MalformedFrame('it ends within a field');
    this.#at = at + length;
    return at;
  }

  #length(): number {
    this.#expect(WireType.BYTES);
    const length = this.#varint();
    if (length > this.#end - this.#at) throw new MalformedFrame('it ends within a field');
    return length;
  }

  #varint(): number {
    let byte = this.#data[this.#advance(1)] ?? 0;
    if (byte < 0x80) return byte;
    let value = byte & 0x7f;
    let scale = 0x80;
    do {
      byte = this.#data[this.#advance(1)] ?? 0;
      value += (byte & 0x7f) * scale;
      scale *= 0x80;
      if (value > Number.MAX_SAFE_INTEGER || scale > 0x100_0000_0000_0000) {
        throw new MalformedFrame('a number exceeds 2^53 - 1');
      }
    } while (byte >= 0x80);
    return value;
  }
}
