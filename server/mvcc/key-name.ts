/** Keys as strings of one character a byte: they compare by content, and in the order of unsigned bytes. */
import type { Bytes } from './types.ts';

export const nameOf = (key: Bytes): string =>
  Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('latin1');

export const bytesOf = (name: string): Bytes => Buffer.from(name, 'latin1');
