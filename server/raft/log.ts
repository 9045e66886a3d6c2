/**
 * The log in memory: a window of consecutive entries that begins after `start`.
 *
 * ```
 *        released        |  entries                                   |
 *   1 ............ start | start+1 ...... commit ........... lastIndex |
 * ```
 *
 * It knows nothing of storage: which entries are durable is `durability.ts`. The host bounds the
 * memory by `release`; what was released can only reach a peer by snapshot.
 *
 * Invariant L1: indexes are consecutive, terms never fall.
 * Invariant L2: entries at or below `commit` are never replaced.
 */
import { assert } from '../assert.ts';
import type { Entry } from './message.ts';

export type Position = { readonly index: number; readonly term: number };

/** What an entry costs in memory and in a message besides its data. */
const ENTRY_OVERHEAD_BYTES = 32;

export function entryBytes(entry: { readonly data: Uint8Array }): number {
  return entry.data.length + ENTRY_OVERHEAD_BYTES;
}

export class RaftLog {
  #start: Position;
  #entries: Entry[];
  #commit: number;

  constructor(start: Position, entries: readonly Entry[], commit: number) {
    this.#start = start;
    this.#entries = [];
    this.#commit = start.index;
    this.append(entries);
    this.commitTo(commit);
  }

  /** The first entry in memory, or where it will be. */
  get firstIndex(): number {
    return this.#start.index + 1;
  }

  get lastIndex(): number {
    return this.#start.index + this.#entries.length;
  }

  get lastTerm(): number {
    return this.#entries.at(-1)?.term ?? this.#start.term;
  }

  get commit(): number {
    return this.#commit;
  }

  /** The term of the entry at `index`; undefined when it was released or does not exist yet. */
  term(index: number): number | undefined {
    if (index === this.#start.index) return this.#start.term;
    return this.#at(index)?.term;
  }

  /** Whether this log holds exactly that entry (Raft section 5.3, the consistency check). */
  matches(position: Position): boolean {
    return this.term(position.index) === position.term;
  }

  /** Whether a log that ends at `last` is at least as up to date as this one (Raft section 5.4.1). */
  isCoveredBy(last: Position): boolean {
    if (last.term !== this.lastTerm) return last.term > this.lastTerm;
    return last.index >= this.lastIndex;
  }

  /** Adds entries at the end. */
  append(entries: readonly Entry[]): void {
    for (const entry of entries) {
      assert(entry.index === this.lastIndex + 1, 'L1: log indexes are consecutive');
      assert(entry.term >= this.lastTerm, 'L1: log terms never fall');
      this.#entries.push(entry);
    }
  }

  /**
   * Takes entries that follow a position on which the logs agree. What is here already stays, for a
   * late message must not cut off what newer ones brought; only a conflict replaces the tail.
   *
   * @returns the first index that changed, or undefined when nothing did.
   */
  merge(entries: readonly Entry[]): number | undefined {
    const fresh = entries.findIndex((entry) => !this.#knows(entry));
    const first = entries[fresh];
    if (first === undefined) return undefined;
    assert(first.index > this.#commit, 'L2: committed entries are never replaced');
    this.#entries.length = Math.min(this.#entries.length, first.index - this.firstIndex);
    this.append(entries.slice(fresh));
    return first.index;
  }

  /** Entries from `from` up to and including `to`, cut at `maxBytes` but at least one. */
  slice(from: number, to: number, maxBytes: number): readonly Entry[] {
    assert(from >= this.firstIndex, 'released entries are not asked for');
    const taken: Entry[] = [];
    let bytes = 0;
    for (let index = from; index <= to; index += 1) {
      const entry = this.#at(index);
      if (entry === undefined) break;
      bytes += entryBytes(entry);
      if (bytes > maxBytes && taken.length > 0) break;
      taken.push(entry);
    }
    return taken;
  }

  /**
   * The last position at or below `bound.index` whose term is at most `bound.term`. Both sides of a
   * failed consistency check use it to skip whole terms: an entry of a higher term than the other's
   * at that index cannot be shared. Below the window the term is unknown, given as 0.
   */
  lastPositionWithin(bound: Position): Position {
    let index = Math.min(bound.index, this.lastIndex);
    for (; index >= this.#start.index; index -= 1) {
      const term = this.term(index);
      if (term !== undefined && term <= bound.term) return { index, term };
    }
    return { index: Math.max(index, 0), term: 0 };
  }

  /** The last configuration entry above `after` and up to `upTo`, as far as they are in memory. */
  lastChange(after: number, upTo: number): number | undefined {
    for (let index = Math.min(upTo, this.lastIndex); index > after; index -= 1) {
      if (this.#at(index)?.kind === 'configuration') return index;
    }
    return undefined;
  }

  commitTo(index: number): void {
    assert(index >= this.#commit, 'the commit index never falls');
    assert(index <= this.lastIndex, 'only entries that exist are committed');
    this.#commit = index;
  }

  /** Forgets entries at or below `index`. */
  release(index: number): void {
    if (index < this.firstIndex) return;
    const term = this.term(index);
    assert(term !== undefined && index <= this.#commit, 'only committed entries are released');
    this.#entries.splice(0, index - this.#start.index);
    this.#start = { index, term };
  }

  /** Begins anew after a position that is known to be committed and that this log lacks. */
  restart(position: Position): void {
    assert(position.index > this.#commit, 'L2: committed entries are never replaced');
    this.#start = position;
    this.#entries = [];
    this.#commit = position.index;
  }

  #at(index: number): Entry | undefined {
    return index < this.firstIndex ? undefined : this.#entries[index - this.firstIndex];
  }

  /** Whether the entry needs no work: held here, or committed (and so equal) before the window. */
  #knows(entry: Entry): boolean {
    return entry.index <= this.#start.index || this.#at(entry.index)?.term === entry.term;
  }
}
