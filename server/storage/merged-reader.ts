/** Overlay and LMDB read as one; what comes from the disk is checked. */
import { limits } from '../limits.ts';
import { successor } from '../mvcc/keys.ts';
import type { Bytes } from '../mvcc/types.ts';
import type { Counted, StateReader } from '../ports.ts';
import { bytesOf, keyOf } from './byte-order.ts';
import type { Change } from './changes.ts';
import { DamagedValueError } from './errors.ts';
import type { BaseRow, LmdbStore } from './lmdb-store.ts';
import { merge, type Row } from './merge.ts';
import type { Overlay } from './overlay.ts';
import { ReadValues } from './read-values.ts';
import { decodeRecord } from './record.ts';

/** In one step of counting: each is looked up in LMDB, which takes as long as counting dozens of keys. */
const CHANGES_OF_A_COUNT = 1_024;

/** Reads throw `DamagedValueError` for a value, `CorruptionError` for the file. */
export class MergedReader implements StateReader {
  readonly #path: string;
  readonly #store: LmdbStore;
  readonly #overlay: Overlay;
  /** As LMDB has them; the overlay hides what it has changed since. */
  readonly #read = new ReadValues();

  constructor(path: string, store: LmdbStore, overlay: Overlay) {
    this.#path = path;
    this.#store = store;
    this.#overlay = overlay;
  }

  get(key: Bytes): Bytes | undefined {
    const name = keyOf(key);
    const change = this.#overlay.get(name);
    if (change === 'removed') return undefined;
    if (change !== undefined) return change;
    const known = this.#read.get(name);
    if (known !== undefined) return known;
    const record = this.#store.get(key);
    if (record === undefined) return undefined;
    const value = this.#valueOf(key, record);
    this.#read.add(name, value);
    return value;
  }

  /** To be called when a part of the overlay is dropped: LMDB has later values now. */
  renew(): void {
    this.#read.clear();
  }

  scan(
    start: Bytes,
    end: Bytes | undefined,
    options: { readonly limit: number; readonly reverse?: boolean },
  ): readonly (readonly [key: Bytes, value: Bytes])[] {
    if (options.limit <= 0) return [];
    const reverse = options.reverse === true;
    const sources = this.#overlay.sources(start, end, reverse);
    const base = this.#store.rows(start, end, reverse);
    return sources.length === 0
      ? this.#collect(base, options.limit)
      : this.#collectMerged(sources, base, reverse, options.limit);
  }

  count(start: Bytes, end: Bytes | undefined, step: number): Counted {
    const { changes, upTo } = this.#changes(start, end);
    const below = this.#store.count(start, upTo, step);
    if (below === undefined) return this.#countRows(start, end);
    const counted = below.next === undefined ? undefined : keyOf(below.next);
    let { count } = below;
    for (const [name, change] of changes) {
      if (counted !== undefined && name >= counted) break;
      const wasThere = this.#store.get(bytesOf(name)) !== undefined;
      count += Number(change !== 'removed') - Number(wasThere);
    }
    return { count, next: below.next ?? (upTo === end ? undefined : upTo) };
  }

  /** The first changes of a range; `upTo`: where those begin that are left out, or the end. */
  #changes(
    start: Bytes,
    end: Bytes | undefined,
  ): { readonly changes: readonly Row<Change>[]; readonly upTo: Bytes | undefined } {
    const changes: Row<Change>[] = [];
    for (const row of merge(this.#overlay.sources(start, end, false), false)) {
      if (changes.length === CHANGES_OF_A_COUNT) return { changes, upTo: bytesOf(row[0]) };
      changes.push(row);
    }
    return { changes, upTo: end };
  }

  #countRows(start: Bytes, end: Bytes | undefined): Counted {
    const limit = limits.readSliceKeys;
    const rows = this.scan(start, end, { limit });
    const last = rows.length === limit ? rows[limit - 1] : undefined;
    return { count: rows.length, next: last && successor(last[0]) };
  }

  #collect(rows: Iterable<BaseRow>, limit: number): (readonly [Bytes, Bytes])[] {
    const found: (readonly [Bytes, Bytes])[] = [];
    for (const { key, record } of rows) {
      found.push([key, this.#valueOf(key, record)]);
      if (found.length === limit) break;
    }
    return found;
  }

  #collectMerged(
    overlay: Iterator<readonly [string, Change]>[],
    base: Iterable<BaseRow>,
    reverse: boolean,
    limit: number,
  ): (readonly [Bytes, Bytes])[] {
    const found: (readonly [Bytes, Bytes])[] = [];
    for (const [name, change] of merge<Change | BaseRow>([...overlay, named(base)], reverse)) {
      if (change === 'removed') continue;
      if (change instanceof Uint8Array) found.push([bytesOf(name), change]);
      else found.push([change.key, this.#valueOf(change.key, change.record)]);
      if (found.length === limit) break;
    }
    return found;
  }

  #valueOf(key: Bytes, record: Buffer): Bytes {
    const value = decodeRecord(key, record);
    if (value !== undefined) return value;
    throw new DamagedValueError(this.#path, key);
  }
}

function* named(rows: Iterable<BaseRow>): Generator<readonly [string, BaseRow], void> {
  for (const row of rows) yield [keyOf(row.key), row];
}
