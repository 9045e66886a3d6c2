/**
 * One LMDB file, through lmdb-js: trees, physical keys, records, transactions. What lmdb-js needs to be
 * told or guarded against is here and nowhere else.
 *
 * The root of the file holds the record of the state itself and, by name, the trees of `trees.ts`. All
 * of them are made with the file, in one transaction.
 */
import { statSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Database,
  type DatabaseOptions,
  open,
  type RootDatabase,
  type RootDatabaseOptions,
} from 'lmdb';
import type { Bytes } from '../mvcc/types.ts';
import type { Counted, LogPosition } from '../ports.ts';
import { asBuffer } from './byte-order.ts';
import { CorruptionError, DataDirectoryError } from './errors.ts';
import { checkMetaPages } from './lmdb-meta.ts';
import type { Generation } from './overlay.ts';
import {
  bucketOf,
  isBucketMember,
  isLong,
  lowerBound,
  physicalKey,
  physicalKeyOfName,
  rawKeyOf,
  upperBound,
} from './physical-key.ts';
import { decodeRecord, encodeRecord, longKeyOf, RecordArena, recordBytes } from './record.ts';
import { treeNames, treeOf, treeOfName, treesBetween } from './trees.ts';

export type BaseRow = { readonly key: Buffer; readonly record: Buffer };

/** Since 3 there are several trees. */
const FORMAT = 3;
/** Where the state keeps what it knows of itself: format, index and term of the last entry applied. */
const OWN_KEY = Buffer.from([0]);
const OWN_BYTES = 20;
const FORMAT_BYTES = 4;
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

/** Encoded between two turns: some 2 ms. */
const RECORDS_PER_TURN = 2_048;

const META_PAGES = 2;

/** Keys that counting steps over first, then twice as many, and so on. */
const FIRST_STEP = 64;

type Tree = Database<Buffer, Buffer>;

/** What a transaction does in one tree. */
type Section = {
  readonly tree: Tree;
  readonly names: string[];
  /** By position of the name; undefined: the key goes. */
  readonly records: (Buffer | undefined)[];
};

const binary = { encoding: 'binary', keyEncoding: 'binary', compression: false } as const;

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
  /** In order of their keys. */
  readonly #trees: readonly Tree[];
  readonly pageBytes: number;
  readonly #arena = new RecordArena();
  #size: { readonly totalBytes: number; readonly usedBytes: number } | undefined;

  private constructor(file: string, root: RootDatabase<Buffer, Buffer>) {
    this.#file = file;
    this.#root = root;
    if (statsOf(root).entryCount > 0) this.applied();
    this.#trees = this.#openTrees();
    this.pageBytes = statsOf(root).pageSize;
    this.#checkFileLength();
  }

  /** Throws `CorruptionError` when the file is damaged, `DataDirectoryError` when it has another format. */
  static open(directory: string): LmdbStore {
    const file = join(directory, DATA_FILE);
    // Commits wait for the disk (overlappingSync off): with lmdb-js's default a file restored on the
    // same boot can show, or crash on, transactions that were never flushed.
    const options: RootDatabaseOptions & { batchStartThreshold: number } = {
      ...binary,
      overlappingSync: false,
      maxDbs: treeNames.length,
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
    try {
      return new LmdbStore(file, root);
    } catch (error) {
      // Nothing was written, or nothing that anybody counts on: it may be closed.
      void root.close();
      throw asCorruption(file, error);
    }
  }

  /** In a new file they are made, together with the state's own record: both are there or neither. */
  #openTrees(): Tree[] {
    const isNew = statsOf(this.#root).entryCount === 0;
    return this.#root.transactionSync(() => {
      const trees = treeNames.map((name) => {
        const options: DatabaseOptions & { name: string; create: boolean } = {
          ...binary,
          name,
          create: isNew,
        };
        const tree = this.#root.openDB<Buffer, Buffer>(options);
        if (tree !== undefined) return tree;
        throw new CorruptionError(this.#file, undefined, `the tree ${name} is missing`);
      });
      if (isNew) void this.#root.put(OWN_KEY, ownRecord({ index: 0, term: 0 }));
      return trees;
    });
  }

  /**
   * Reading a mapped page behind the end of the file would kill the process. The file may be a little
   * shorter than LMDB counts, because pages at its end that are free were never written; but not by
   * more than there are free pages.
   */
  #checkFileLength(): void {
    const { totalBytes: expected, usedBytes } = this.size();
    const bytes = statSync(this.#file).size;
    if (bytes >= META_PAGES * this.pageBytes + usedBytes) return;
    throw new CorruptionError(
      this.#file,
      bytes,
      `the file ends here and should have ${expected} bytes`,
    );
  }

  /** What the newest snapshot says was applied; {0, 0} in a new file. */
  applied(): LogPosition {
    const record = this.#read(this.#root, OWN_KEY);
    if (record === undefined) {
      throw new CorruptionError(this.#file, undefined, 'the applied index is missing');
    }
    const value = decodeRecord(OWN_KEY, record);
    if (value === undefined || value.length < FORMAT_BYTES) {
      throw new CorruptionError(this.#file, undefined, 'the applied index has a wrong checksum');
    }
    const format = value.readUInt32LE(0);
    if (format !== FORMAT) throw otherFormat(this.#file, format);
    return {
      index: Number(value.readBigUInt64LE(4)),
      term: Number(value.readBigUInt64LE(12)),
    };
  }

  get(key: Bytes): Buffer | undefined {
    const tree = this.#trees[treeOf(key)];
    return tree === undefined ? undefined : this.#read(tree, physicalKey(key));
  }

  #read(tree: Tree, physical: Buffer): Buffer | undefined {
    try {
      const record = tree.getBinary(physical);
      return record === undefined ? undefined : asBuffer(record);
    } catch (error) {
      throw asCorruption(this.#file, error);
    }
  }

  /** Rows with start <= key < end in order of the keys, from one snapshot. Consume it in one turn. */
  *rows(start: Bytes, end: Bytes | undefined, reverse: boolean): Generator<BaseRow, void> {
    const { first, last } = treesBetween(start, end);
    const trees = this.#trees.slice(first, last + 1);
    for (const tree of reverse ? trees.reverse() : trees) {
      yield* this.#rowsOf(tree, start, end, reverse);
    }
  }

  /**
   * Counts keys with start <= key < end inside LMDB, up to `step` of them. undefined where reading is the
   * only way: around long keys, and where the keys lie in several trees.
   */
  count(start: Bytes, end: Bytes | undefined, step: number): Counted | undefined {
    const { first, last } = treesBetween(start, end);
    const tree = this.#trees[first];
    if (tree === undefined || first !== last) return undefined;
    if (isLong(start) || (end !== undefined && isLong(end))) return undefined;
    const to = upperBound(end);
    let from = lowerBound(start);
    if (Buffer.compare(from, to) >= 0) return { count: 0, next: undefined };
    try {
      let count = 0;
      // LMDB steps over as many keys as it is told, also behind the end: few at first.
      for (let keys = FIRST_STEP; count < step; keys *= 2) {
        const offset = Math.min(keys, step - count);
        const next = keyAt(tree, { start: from, end: to }, offset);
        if (next === undefined) {
          return { count: count + tree.getKeysCount({ start: from, end: to }), next };
        }
        if (isBucketMember(next)) {
          if (count === 0) return undefined;
          break;
        }
        count += offset;
        from = next;
      }
      return { count, next: rawKeyOf(from) };
    } catch (error) {
      throw asCorruption(this.#file, error);
    }
  }

  *#rowsOf(
    tree: Tree,
    start: Bytes,
    end: Bytes | undefined,
    reverse: boolean,
  ): Generator<BaseRow, void> {
    // The members of the bucket that the cursor is in, and how their physical keys begin.
    let members: BaseRow[] = [];
    let prefix: Bytes | undefined;
    for (const { key: physical, value: record } of this.#range(tree, start, end, reverse)) {
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
    tree: Tree,
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
      for (const { key, value } of tree.getRange(options)) {
        yield { key: asBuffer(key), value: asBuffer(value) };
      }
    } catch (error) {
      throw asCorruption(this.#file, error);
    }
  }

  /**
   * Writes the generation, which nobody may change any more, and its position in one transaction:
   * prepared here, in several turns, and committed on the thread pool. Resolves when it is durable.
   */
  async write(generation: Generation): Promise<void> {
    const sections = await this.#encode(generation);
    await nextTurn();
    const committed = this.#root.batch(() => {
      for (const { tree, names, records } of sections) {
        names.forEach((name, position) => {
          const physical = physicalKeyOfName(name);
          const record = records[position];
          if (record === undefined) void tree.remove(physical);
          else void tree.put(physical, record);
        });
      }
      void this.#root.put(OWN_KEY, ownRecord(generation.applied));
    });
    try {
      await committed;
    } catch (error) {
      throw await causeOf(error);
    }
    this.#arena.clear();
    this.#size = undefined;
  }

  /**
   * What is to be written, tree by tree and in order: what is written one after the other lies close
   * together in the file, and keys that come in order fill their pages.
   */
  async #encode({ changes }: Generation): Promise<Section[]> {
    const sections = this.#trees.map((tree): Section => ({ tree, names: [], records: [] }));
    for (const [name] of changes.entries()) sections[treeOfName(name)]?.names.push(name);
    let count = 0;
    for (const { names, records } of sections) {
      names.sort();
      for (const name of names) {
        count += 1;
        if (count % RECORDS_PER_TURN === 0) await nextTurn();
        const change = changes.get(name);
        const isGone = change === undefined || change === 'removed';
        records.push(isGone ? undefined : this.#arena.encode(name, change));
      }
    }
    return sections;
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
    let usedPages = 0;
    for (const tree of [this.#root, ...this.#trees]) {
      const stats = statsOf(tree);
      usedPages += stats.treeBranchPageCount + stats.treeLeafPageCount + stats.overflowPages;
    }
    this.#size = {
      totalBytes: (statsOf(this.#root).lastPageNumber + 1) * this.pageBytes,
      usedBytes: usedPages * this.pageBytes,
    };
    return this.#size;
  }

  async close(): Promise<void> {
    await this.#root.close();
  }
}

const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** The key so many behind the first one of a range; undefined when that is behind its end. */
function keyAt(
  tree: Tree,
  range: { readonly start: Buffer; readonly end: Buffer },
  offset: number,
): Buffer | undefined {
  for (const key of tree.getKeys({ ...range, offset, limit: 1 })) return asBuffer(key);
  return undefined;
}

const statsOf = (tree: Tree): LmdbStats => tree.getStats() as LmdbStats;

function otherFormat(file: string, format: number): DataDirectoryError {
  return format > FORMAT
    ? new DataDirectoryError(
        'newer-format',
        file,
        `${file} has format ${format} and this version reads format ${FORMAT}. Start the newer version that wrote it.`,
      )
    : new DataDirectoryError(
        'older-format',
        file,
        `${file} has format ${format} and this version reads format ${FORMAT}. Start the older version that wrote it, or begin with an empty directory.`,
      );
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
