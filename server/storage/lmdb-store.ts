/**
 * One LMDB file, through lmdb-js: physical keys, records, transactions. What lmdb-js needs to be told
 * or guarded against is here and nowhere else.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { open, type RootDatabase, type RootDatabaseOptions } from 'lmdb';
import type { Bytes } from '../mvcc/types.ts';
import type { LogPosition } from '../ports.ts';
import { asBuffer } from './byte-order.ts';
import { CorruptionError, DataDirectoryError } from './errors.ts';
import { checkMetaPages } from './lmdb-meta.ts';
import type { Generation } from './overlay.ts';
import {
  bucketOf,
  isBucketMember,
  isLong,
  lowerBound,
  OWN_KEY,
  physicalKey,
  physicalKeyOfName,
  rawKeyOf,
  upperBound,
} from './physical-key.ts';
import { decodeRecord, encodeRecord, longKeyOf, RecordArena, recordBytes } from './record.ts';

export type BaseRow = { readonly key: Buffer; readonly record: Buffer };

/** Since 2 the term of the last entry applied is kept; a state of format 1 counts as of term 0. */
const FORMAT = 2;
/** Format, index and term of the last entry applied. */
const OWN_BYTES = 20;
const OWN_BYTES_WITHOUT_TERM = 12;
export const DATA_FILE = 'data.mdb';
/** LMDB keeps its locks in it. */
export const LOCK_FILE = 'lock.mdb';

/**
 * Address space, not memory or disk. Generous, because growing a map moves it, and pages of the old
 * one stay in use; LMDB still grows it when even this is not enough.
 */
const MAP_BYTES = 64 * 1024 ** 3;
const MAX_READERS = 32;
/** Above any batch: the write thread must not start before the whole transaction is prepared. */
const START_BATCH_AT = Number.MAX_SAFE_INTEGER;

const META_PAGES = 2;

type LmdbStats = {
  readonly pageSize: number;
  readonly treeBranchPageCount: number;
  readonly treeLeafPageCount: number;
  readonly overflowPages: number;
  readonly entryCount: number;
  readonly lastPageNumber: number;
};

export class LmdbStore {
  readonly #file: string;
  readonly #root: RootDatabase<Buffer, Buffer>;
  readonly pageBytes: number;
  readonly #arena = new RecordArena();
  #size: { readonly totalBytes: number; readonly usedBytes: number } | undefined;

  private constructor(file: string, root: RootDatabase<Buffer, Buffer>) {
    this.#file = file;
    this.#root = root;
    this.pageBytes = this.#stats().pageSize;
  }

  /** Throws `CorruptionError` when the file is damaged, `DataDirectoryError` when it is too new. */
  static open(directory: string): LmdbStore {
    const file = join(directory, DATA_FILE);
    // Commits wait for the disk (overlappingSync off): with lmdb-js's default a file restored on the
    // same boot can show, or crash on, transactions that were never flushed.
    const options: RootDatabaseOptions & { batchStartThreshold: number } = {
      encoding: 'binary',
      keyEncoding: 'binary',
      compression: false,
      overlappingSync: false,
      maxDbs: 1,
      maxReaders: MAX_READERS,
      mapSize: MAP_BYTES,
      noSubdir: false,
      batchStartThreshold: START_BATCH_AT,
    };
    checkMetaPages(file);
    let root: RootDatabase<Buffer, Buffer>;
    try {
      root = open<Buffer, Buffer>(directory, options);
    } catch (error) {
      throw asCorruption(file, error);
    }
    const store = new LmdbStore(file, root);
    try {
      store.#checkFileLength();
      store.applied();
    } catch (error) {
      // Nothing was written: it may be closed.
      void store.close();
      throw error;
    }
    return store;
  }

  /**
   * Reading a mapped page behind the end of the file would kill the process. The file may be a little
   * shorter than LMDB counts, because pages at its end that are free were never written; but not by
   * more than there are free pages.
   */
  #checkFileLength(): void {
    const stats = this.#stats();
    const expected = (stats.lastPageNumber + 1) * stats.pageSize;
    const bytes = statSync(this.#file).size;
    const freeBytes = expected - META_PAGES * stats.pageSize - usedBytesOf(stats);
    if (bytes >= expected - freeBytes) return;
    throw new CorruptionError(
      this.#file,
      bytes,
      `the file ends here and should have ${expected} bytes`,
    );
  }

  /** What the newest snapshot says was applied; {0, 0} in a new file. */
  applied(): LogPosition {
    const record = this.#read(OWN_KEY);
    if (record === undefined) {
      if (this.#stats().entryCount === 0) return { index: 0, term: 0 };
      throw new CorruptionError(this.#file, undefined, 'the applied index is missing');
    }
    const value = decodeRecord(OWN_KEY, record);
    if (value === undefined || value.length < OWN_BYTES_WITHOUT_TERM) {
      throw new CorruptionError(this.#file, undefined, 'the applied index has a wrong checksum');
    }
    const format = value.readUInt32LE(0);
    if (format > FORMAT) {
      throw new DataDirectoryError(
        'newer-format',
        this.#file,
        `${this.#file} has format ${format} and this version reads up to ${FORMAT}. Start the newer version that wrote it.`,
      );
    }
    return {
      index: Number(value.readBigUInt64LE(4)),
      term: value.length < OWN_BYTES ? 0 : Number(value.readBigUInt64LE(12)),
    };
  }

  get(key: Bytes): Buffer | undefined {
    return this.#read(physicalKey(key));
  }

  #read(physical: Buffer): Buffer | undefined {
    try {
      const record = this.#root.getBinary(physical);
      return record === undefined ? undefined : asBuffer(record);
    } catch (error) {
      throw asCorruption(this.#file, error);
    }
  }

  /** Rows with start <= key < end in order of the keys, from one snapshot. Consume it in one turn. */
  *rows(start: Bytes, end: Bytes | undefined, reverse: boolean): Generator<BaseRow, void> {
    // The members of the bucket that the cursor is in, and how their physical keys begin.
    let members: BaseRow[] = [];
    let prefix: Bytes | undefined;
    for (const { key: physical, value: record } of this.#range(start, end, reverse)) {
      const inBucket = isBucketMember(physical);
      if (!inBucket || !isSame(bucketOf(physical), prefix)) {
        yield* sorted(members, reverse);
        members = [];
        prefix = inBucket ? bucketOf(physical) : undefined;
      }
      const key = inBucket ? longKeyOf(record) : rawKeyOf(physical);
      if (key === undefined) {
        throw new CorruptionError(this.#file, undefined, 'the record of a long key is damaged');
      }
      // Around long bounds the physical range is a little too wide.
      if (isLong(start) && Buffer.compare(key, start) < 0) continue;
      if (inBucket && end !== undefined && Buffer.compare(key, end) >= 0) continue;
      if (inBucket) members.push({ key, record });
      else yield { key, record };
    }
    yield* sorted(members, reverse);
  }

  *#range(
    start: Bytes,
    end: Bytes | undefined,
    reverse: boolean,
  ): Generator<{ key: Buffer; value: Buffer }, void> {
    const from = lowerBound(start);
    const to = upperBound(end);
    if (Buffer.compare(from, to) >= 0) return;
    const options = reverse
      ? { start: to, exclusiveStart: true, end: from, inclusiveEnd: true, reverse: true }
      : { start: from, end: to };
    try {
      for (const { key, value } of this.#root.getRange(options)) {
        yield { key: asBuffer(key), value: asBuffer(value) };
      }
    } catch (error) {
      throw asCorruption(this.#file, error);
    }
  }

  /**
   * Writes the generation and its position in one transaction: prepared here, committed on the thread
   * pool. Resolves when it is durable.
   */
  async write(generation: Generation): Promise<void> {
    const committed = this.#root.batch(() => {
      for (const [name, change] of generation.changes.entries()) {
        const physical = physicalKeyOfName(name);
        if (change === 'removed') void this.#root.remove(physical);
        else void this.#root.put(physical, this.#arena.encode(name, change));
      }
      void this.#root.put(OWN_KEY, ownRecord(generation.applied));
    });
    try {
      await committed;
    } catch (error) {
      throw await causeOf(error);
    }
    this.#size = undefined;
  }

  /** The next read sees everything committed so far. */
  renewSnapshot(): void {
    this.#root.resetReadTxn();
  }

  /** Copies what is committed, without free pages, to `directory`, which must exist and be empty. */
  async copyTo(directory: string): Promise<void> {
    await this.#root.backup(directory, true);
  }

  /** Bytes of the file, and how many of them hold live data. */
  size(): { readonly totalBytes: number; readonly usedBytes: number } {
    if (this.#size !== undefined) return this.#size;
    const stats = this.#stats();
    this.#size = {
      totalBytes: (stats.lastPageNumber + 1) * stats.pageSize,
      usedBytes: usedBytesOf(stats),
    };
    return this.#size;
  }

  #stats(): LmdbStats {
    return this.#root.getStats() as LmdbStats;
  }

  async close(): Promise<void> {
    await this.#root.close();
  }
}

function usedBytesOf(stats: LmdbStats): number {
  const pages = stats.treeBranchPageCount + stats.treeLeafPageCount + stats.overflowPages;
  return pages * stats.pageSize;
}

function ownRecord({ index, term }: LogPosition): Buffer {
  const value = Buffer.alloc(OWN_BYTES);
  value.writeUInt32LE(FORMAT, 0);
  value.writeBigUInt64LE(BigInt(index), 4);
  value.writeBigUInt64LE(BigInt(term), 12);
  const record = Buffer.alloc(recordBytes(OWN_KEY, value));
  encodeRecord(record, 0, OWN_KEY, value);
  return record;
}

const isSame = (left: Bytes, right: Bytes | undefined): boolean =>
  right !== undefined && Buffer.compare(left, right) === 0;

function sorted(rows: BaseRow[], reverse: boolean): BaseRow[] {
  rows.sort((left, right) =>
    reverse ? Buffer.compare(right.key, left.key) : Buffer.compare(left.key, right.key),
  );
  return rows;
}

/** lmdb-js rejects a commit with a general error and keeps the reason in a promise beside it. */
async function causeOf(error: unknown): Promise<unknown> {
  if (!(error instanceof Error) || !('commitError' in error)) return error;
  const reason = Promise.resolve(error.commitError).catch((cause: unknown) => cause);
  // The reason is known by now or never will be.
  const settled = await Promise.race([reason, new Promise((resolve) => setImmediate(resolve))]);
  return settled ?? error;
}

/** LMDB's own findings of damage become the one error for it; the rest stays as it is. */
function asCorruption(file: string, error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const damaged = /MDB_(INVALID|CORRUPTED|PAGE_NOTFOUND|PANIC|BAD_TXN|VERSION_MISMATCH)/;
  if (!damaged.test(error.message)) return error;
  return new CorruptionError(file, undefined, `LMDB reports ${error.message}`);
}
