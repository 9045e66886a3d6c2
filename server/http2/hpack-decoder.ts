/** Header blocks to header fields (RFC 7541). One decoder a connection: blocks build on each other. */
import { ConnectionError, ErrorCode } from './error.ts';
import { HeaderField } from './header-field.ts';
import { HpackTable } from './hpack-table.ts';
import { decodeHuffman } from './huffman.ts';

/** Takes the fields of a block, in order. */
export interface FieldSink {
  field(field: HeaderField): void;
}

/** What a peer assumes that is not told otherwise, which nobody is here. */
const TABLE_BYTES = 4_096;
/** An integer above needs more bytes than any length or index of a block that is let in. */
const MAX_INTEGER = 2 ** 28;

export class HpackDecoder {
  readonly #table = new HpackTable(TABLE_BYTES);
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;

  /** @throws {ConnectionError} COMPRESSION_ERROR for what is no header block. */
  decode(bytes: Buffer, start: number, end: number, sink: FieldSink): void {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
    let isAtStart = true;
    while (this.#at < end) {
      const first = bytes[this.#at] ?? 0;
      if (first >= 0x80) sink.field(this.#indexed(this.#integer(0x7f)));
      else if (first >= 0x40) {
        const field = this.#literal(0x3f);
        this.#table.add(field);
        sink.field(field);
      } else if (first >= 0x20) {
        if (!isAtStart) throw broken('a table size update behind a field');
        this.#resize(this.#integer(0x1f));
        continue;
      } else sink.field(this.#literal(0x0f));
      isAtStart = false;
    }
  }

  #resize(limitBytes: number): void {
    if (limitBytes > TABLE_BYTES) throw broken(`a table of ${limitBytes} bytes`);
    this.#table.resize(limitBytes);
  }

  #indexed(index: number): HeaderField {
    const field = this.#table.get(index);
    if (field === undefined) throw broken(`index ${index}, which nothing has`);
    return field;
  }

  #literal(mask: number): HeaderField {
    const index = this.#integer(mask);
    const name = index === 0 ? this.#text() : this.#indexed(index).name;
    return new HeaderField(name, this.#text());
  }

  #text(): string {
    const isHuffman = (this.#bytes[this.#at] ?? 0) >= 0x80;
    const length = this.#integer(0x7f);
    const start = this.#at;
    const end = start + length;
    if (end > this.#end) throw broken('a text that ends behind it');
    this.#at = end;
    return isHuffman
      ? decodeHuffman(this.#bytes, start, end)
      : this.#bytes.toString('latin1', start, end);
  }

  /** An integer whose first bits are those of `mask` in the byte at hand (RFC 7541 section 5.1). */
  #integer(mask: number): number {
    if (this.#at >= this.#end) throw broken('an end in the middle of a field');
    let value = (this.#bytes[this.#at++] ?? 0) & mask;
    if (value < mask) return value;
    for (let factor = 1; ; factor *= 128) {
      if (this.#at >= this.#end) throw broken('an end in the middle of a number');
      const byte = this.#bytes[this.#at++] ?? 0;
      value += (byte & 0x7f) * factor;
      if (value > MAX_INTEGER || factor > MAX_INTEGER) throw broken('a number that is too large');
      if (byte < 0x80) return value;
    }
  }
}

const broken = (what: string): ConnectionError =>
  new ConnectionError(ErrorCode.COMPRESSION_ERROR, `a header block contains ${what}`);
