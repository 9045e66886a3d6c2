/**
 * The form of a file in which compiled code is kept. V8 looks at a header of its own, but runs whatever
 * bytes come after it: a damaged file would crash every start, until somebody removes it. It also knows a
 * source only by its length.
 *
 *     bytes 0-7    name and version of this form
 *     bytes 8-11   length of the code
 *     bytes 12-15  CRC-32 of the source, continued over the code
 *     bytes 16-    the code
 *
 * Numbers are little-endian. The header is a multiple of 8 bytes: V8 copies code that is not aligned.
 */
import { crc32 } from 'node:zlib';

const HEADER_BYTES = 16;
const form = Buffer.from('conclav1', 'latin1');

/** The content of a file that keeps `code`, which was compiled from `source`. */
export function seal(code: Buffer, source: Buffer): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  form.copy(header);
  header.writeUInt32LE(code.length, 8);
  header.writeUInt32LE(crc32(code, crc32(source)), 12);
  return Buffer.concat([header, code]);
}

/** The code in the content of a file, or undefined where it is damaged or was compiled from another source. */
export function unseal(file: Buffer, source: Buffer): Buffer | undefined {
  if (file.length < HEADER_BYTES || !file.subarray(0, form.length).equals(form)) return undefined;
  const code = file.subarray(HEADER_BYTES);
  if (code.length !== file.readUInt32LE(8)) return undefined;
  return crc32(code, crc32(source)) === file.readUInt32LE(12) ? code : undefined;
}
