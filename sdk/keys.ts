/** Keys and ranges of keys, as callers name them and as the store sees them. */
import { invalidArgument } from './errors.ts';

/** A key. Strings stand for their UTF-8 bytes. */
export type Key = string | Uint8Array;

/**
 * Many keys: all that start with `prefix`; all from `from` (included) up to `to` (excluded, or the
 * end when absent); or all there are.
 */
export type KeyRange =
  | { readonly prefix: Key }
  | { readonly from: Key; readonly to?: Key }
  | { readonly all: true };

/** What the store calls a range: [key, rangeEnd); an empty rangeEnd means the single key. */
export type KeySpan = { readonly key: Buffer; readonly rangeEnd: Buffer };

export const empty: Buffer = Buffer.alloc(0);
const zero = Buffer.from([0]);

/** The bytes of a key or value, without copying when they are bytes already. */
export const toBuffer = (data: string | Uint8Array): Buffer => {
  if (typeof data === 'string') return Buffer.from(data, 'utf8');
  return Buffer.isBuffer(data) ? data : Buffer.from(data.buffer, data.byteOffset, data.byteLength);
};

/** The first key after all keys that start with `prefix`; a zero byte means "no end". */
export const prefixEnd = (prefix: Uint8Array): Buffer => {
  for (let index = prefix.length - 1; index >= 0; index--) {
    const byte = prefix[index] as number;
    if (byte < 0xff) {
      const end = Buffer.from(prefix.subarray(0, index + 1));
      end[index] = byte + 1;
      return end;
    }
  }
  return zero;
};

/** The keys of a client: a prefix is put before every key on the way out and taken off on the way in. */
export class Keyspace {
  readonly prefix: Buffer;

  constructor(prefix: Key = empty) {
    this.prefix = toBuffer(prefix);
  }

  /** This keyspace with a longer prefix. */
  nested(prefix: Key): Keyspace {
    return new Keyspace(Buffer.concat([this.prefix, toBuffer(prefix)]));
  }

  /** @throws ConclaveError INVALID_ARGUMENT when the key is empty */
  key(key: Key, field = 'key'): Buffer {
    const isKey = typeof key === 'string' || key instanceof Uint8Array;
    if (!isKey || key.length === 0) {
      throw invalidArgument(field, key, 'a text or bytes, not empty');
    }
    return this.#join(key);
  }

  /** @throws ConclaveError INVALID_ARGUMENT when the range is malformed */
  span(range: Key | KeyRange, field = 'range'): KeySpan {
    if (typeof range === 'string' || range instanceof Uint8Array) {
      return { key: this.key(range, field), rangeEnd: empty };
    }
    if (typeof range !== 'object' || range === null) {
      throw invalidArgument(field, range, 'a key, { prefix }, { from, to } or { all: true }');
    }
    if ('prefix' in range) return this.#startingWith(this.#join(range.prefix));
    if ('from' in range) {
      const end =
        range.to === undefined ? this.#startingWith(this.prefix).rangeEnd : this.#join(range.to);
      if (end.length === 0) throw invalidArgument(`${field}.to`, range.to, 'a key, not empty');
      const from = this.#join(range.from);
      return { key: from.length === 0 ? zero : from, rangeEnd: end };
    }
    if (range.all === true) return this.#startingWith(this.prefix);
    throw invalidArgument(field, range, 'a key, { prefix }, { from, to } or { all: true }');
  }

  /** A stored key as the caller knows it. */
  strip(key: Buffer): Buffer {
    return this.prefix.length === 0 ? key : key.subarray(this.prefix.length);
  }

  #join(key: Key): Buffer {
    const bytes = toBuffer(key);
    return this.prefix.length === 0 ? bytes : Buffer.concat([this.prefix, bytes]);
  }

  #startingWith(prefix: Buffer): KeySpan {
    if (prefix.length === 0) return { key: zero, rangeEnd: zero };
    return { key: prefix, rangeEnd: prefixEnd(prefix) };
  }
}
