/**
 * Header fields of answers to header blocks (RFC 7541).
 *
 * Two fields are in nearly every answer. The peer keeps them in its table from their first use on, and
 * they are one byte then; everything else is written out, so that nothing ever has to leave the table.
 */

import { HeaderField } from './header-field.ts';
import { STATIC_COUNT } from './hpack-table.ts';

/** The fields that the peer keeps. */
export const KEPT = { CONTENT_TYPE: 0, STATUS_OK: 1 } as const;

const kept: readonly HeaderField[] = [
  new HeaderField('content-type', 'application/grpc'),
  new HeaderField('grpc-status', '0'),
];
const KEPT_BYTES = kept.reduce((sum, field) => sum + field.bytes, 0);

/** The table that a peer has which says nothing about it; more is not needed. */
const TABLE_BYTES = 4_096;
/** `:status` with 200, and as a name alone, in the static table. */
const STATUS_200 = 8;
const SUCCESS = 200;
/** What an integer of HPACK takes at most here. */
const INTEGER_BYTES = 6;
/** Bytes that the beginning of a block may take, and each kept field. */
export const BLOCK_START_BYTES = 2 * INTEGER_BYTES;
export const KEPT_FIELD_BYTES = 64;

export const literalBytes = (name: string, value: string): number =>
  1 + 2 * INTEGER_BYTES + name.length + value.length;

export class HpackEncoder {
  /** The table as the peer has it, as it shall be, and its lowest size since the last block. */
  #tableBytes = TABLE_BYTES;
  #wantedBytes = TABLE_BYTES;
  #lowestBytes = TABLE_BYTES;
  /** Which kept field was added as how manieth; 0: not yet. */
  #added = kept.map(() => 0);
  #count = 0;

  /** The most that the peer will keep. */
  limitTable(bytes: number): void {
    this.#wantedBytes = bytes < KEPT_BYTES ? 0 : Math.min(bytes, TABLE_BYTES);
    this.#lowestBytes = Math.min(this.#lowestBytes, this.#wantedBytes);
  }

  /** Every block begins with this. All of these write at `at` and return where they ended. */
  begin(out: Buffer, at: number): number {
    if (this.#lowestBytes === this.#tableBytes && this.#wantedBytes === this.#tableBytes) return at;
    let end = at;
    if (this.#lowestBytes < this.#tableBytes) {
      end = writeInteger(out, end, 0x20, 0x1f, this.#lowestBytes);
      if (this.#lowestBytes === 0) {
        this.#added.fill(0);
        this.#count = 0;
      }
    }
    if (this.#wantedBytes > this.#lowestBytes || end === at) {
      end = writeInteger(out, end, 0x20, 0x1f, this.#wantedBytes);
    }
    this.#tableBytes = this.#wantedBytes;
    this.#lowestBytes = this.#wantedBytes;
    return end;
  }

  status(out: Buffer, at: number, code: number): number {
    if (code === SUCCESS) {
      out[at] = 0x80 | STATUS_200;
      return at + 1;
    }
    return writeText(out, writeInteger(out, at, 0, 0x0f, STATUS_200), String(code));
  }

  kept(out: Buffer, at: number, which: (typeof KEPT)[keyof typeof KEPT]): number {
    const added = this.#added[which] ?? 0;
    if (added > 0) {
      out[at] = 0x80 | (STATIC_COUNT + 1 + this.#count - added);
      return at + 1;
    }
    const { name = '', value = '' } = kept[which] ?? {};
    if (this.#tableBytes === 0) return this.literal(out, at, name, value);
    this.#count += 1;
    this.#added[which] = this.#count;
    out[at] = 0x40;
    return writeText(out, writeText(out, at + 1, name), value);
  }

  /** A field of latin1 characters. It takes `literalBytes` at most. */
  literal(out: Buffer, at: number, name: string, value: string): number {
    out[at] = 0;
    return writeText(out, writeText(out, at + 1, name), value);
  }
}

function writeText(out: Buffer, at: number, text: string): number {
  const start = writeInteger(out, at, 0, 0x7f, text.length);
  return start + out.write(text, start, 'latin1');
}

/** An integer behind the first bits of a byte, which are those of `pattern` (RFC 7541 section 5.1). */
function writeInteger(
  out: Buffer,
  at: number,
  pattern: number,
  mask: number,
  value: number,
): number {
  if (value < mask) {
    out[at] = pattern | value;
    return at + 1;
  }
  out[at] = pattern | mask;
  let rest = value - mask;
  let end = at + 1;
  while (rest >= 0x80) {
    out[end++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  out[end++] = rest;
  return end;
}
