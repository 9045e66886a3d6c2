/** A look at an LMDB file before lmdb-js does: it does not survive trying to open something else. */
import { closeSync, existsSync, openSync, readSync, statSync } from 'node:fs';
import { CorruptionError } from './errors.ts';

/** 0xBEEFC0DE, in the byte order of the machines that Node runs on. */
const LMDB_MARK = Buffer.from('dec0efbe', 'hex');
const PAGE_SIZES: readonly number[] = [4_096, 8_192, 16_384, 32_768, 65_536];
const MAX_PAGE_BYTES = 65_536;

/** From LMDB's mark: the page size, and the number of the root page. */
const PAGE_SIZE_AT = 24;
const ROOT_AT = 112;
const NO_PAGE = 0xffff_ffff_ffff_ffffn;

/**
 * Throws `CorruptionError` unless the file is missing, empty, or begins with LMDB's two meta pages, and
 * the root pages that they name are in it. Both have LMDB's mark behind the same few bytes, and the first
 * names the page size.
 */
export function checkMetaPages(file: string): void {
  const fileBytes = existsSync(file) ? statSync(file).size : 0;
  if (fileBytes === 0) return;
  const head = Buffer.alloc(2 * MAX_PAGE_BYTES);
  const fd = openSync(file, 'r');
  try {
    readSync(fd, head, 0, head.length, 0);
  } finally {
    closeSync(fd);
  }
  const mark = head.subarray(0, 64).indexOf(LMDB_MARK);
  const pageBytes = mark === -1 ? 0 : head.readUInt32LE(mark + PAGE_SIZE_AT);
  const isPageSize = PAGE_SIZES.includes(pageBytes);
  const second = pageBytes + mark;
  if (!isPageSize || head.subarray(second, second + LMDB_MARK.length).compare(LMDB_MARK) !== 0) {
    throw new CorruptionError(file, 0, 'the file does not begin as an LMDB file does');
  }
  for (const meta of [mark, second]) {
    const root = head.readBigUInt64LE(meta + ROOT_AT);
    const end = (root + 1n) * BigInt(pageBytes);
    if (root === NO_PAGE || end <= fileBytes) continue;
    throw new CorruptionError(
      file,
      fileBytes,
      `the file ends here and should have at least ${end} bytes`,
    );
  }
}
