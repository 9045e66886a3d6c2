/**
 * Where the entries are: runs of neighbouring frames of one segment, each of about `RUN_BYTES`, so
 * that the index stays small and one read fetches a useful amount.
 */
import { assert } from '../assert.ts';
import type { LogPosition } from '../ports.ts';
import type { Frame } from './wal-format.ts';
import type { Segment } from './wal-segment.ts';

const RUN_BYTES = 64 * 1024;

/** Entries firstIndex..lastIndex are in the frames at `offset`; where one occurs twice the later counts. */
export type Run = {
  readonly segment: Segment;
  readonly offset: number;
  bytes: number;
  readonly firstIndex: number;
  lastIndex: number;
  /** Of the entry before `firstIndex`. */
  readonly termBefore: number;
};

type TermStart = { readonly index: number; readonly term: number };

export class WalIndex {
  #runs: Run[] = [];
  /** Where the term changes, ascending. */
  #terms: TermStart[] = [];
  #start: LogPosition;
  #lastIndex: number;

  constructor(start: LogPosition) {
    this.#start = start;
    this.#lastIndex = start.index;
  }

  /** The entry before the first one kept. */
  get start(): LogPosition {
    return this.#start;
  }

  get last(): LogPosition {
    return { index: this.#lastIndex, term: this.termAt(this.#lastIndex) };
  }

  /** Term of an entry of the log, or of the one before it begins. */
  termAt(index: number): number {
    assert(index >= this.#start.index && index <= this.#lastIndex, `entry ${index} is in the log`);
    return this.#terms.findLast((start) => start.index <= index)?.term ?? this.#start.term;
  }

  /** Does the log agree with another that holds this entry? Unknown of what was released. */
  holds({ index, term }: LogPosition): boolean {
    return index >= this.#start.index && index <= this.#lastIndex && this.termAt(index) === term;
  }

  /**
   * Takes note of a frame on disk. Entries at or below the last index replace the tail. They may also
   * begin below the start, when a log is read whose older segments were released after that.
   */
  add(segment: Segment, frame: Pick<Frame, 'offset' | 'bytes' | 'termBefore' | 'entries'>): void {
    const first = frame.entries[0]?.index;
    if (first === undefined) return;
    assert(first <= this.#lastIndex + 1, 'the log has no gaps');
    this.#truncate(first, frame.termBefore);
    for (const { index, term } of frame.entries) {
      if (this.#terms.at(-1)?.term !== term) this.#terms.push({ index, term });
    }
    this.#lastIndex = first + frame.entries.length - 1;
    const run = this.#runs.at(-1);
    const joins =
      run?.segment === segment && run.offset + run.bytes === frame.offset && run.bytes < RUN_BYTES;
    if (joins) {
      run.bytes += frame.bytes;
      run.lastIndex = this.#lastIndex;
    } else {
      this.#runs.push({
        segment,
        offset: frame.offset,
        bytes: frame.bytes,
        firstIndex: first,
        lastIndex: this.#lastIndex,
        termBefore: frame.termBefore,
      });
    }
  }

  #truncate(first: number, termBefore: number): void {
    if (first <= this.#start.index) this.#start = { index: first - 1, term: termBefore };
    this.#runs = dropTail(this.#runs, ({ firstIndex }) => firstIndex >= first);
    this.#terms = dropTail(this.#terms, ({ index }) => index >= first);
    const run = this.#runs.at(-1);
    if (run !== undefined) run.lastIndex = Math.min(run.lastIndex, first - 1);
  }

  /** The runs that hold from..to, in order. */
  runs(from: number, to: number): readonly Run[] {
    let low = 0;
    let high = this.#runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#runs[middle]?.lastIndex ?? 0) < from) low = middle + 1;
      else high = middle;
    }
    const found: Run[] = [];
    for (let at = low; at < this.#runs.length; at++) {
      const run = this.#runs[at];
      if (run === undefined || run.firstIndex > to) break;
      found.push({ ...run });
    }
    return found;
  }

  /** Does the segment hold an entry behind `index`? */
  isNeeded(segment: Segment, index: number): boolean {
    return this.#runs.some((run) => run.segment === segment && run.lastIndex > index);
  }

  /** Forgets the entries of segments that are about to go: the oldest ones. */
  forget(segments: ReadonlySet<Segment>): void {
    const { last } = this;
    this.#runs = this.#runs.filter((run) => !segments.has(run.segment));
    const first = this.#runs[0];
    this.#start =
      first === undefined ? last : { index: first.firstIndex - 1, term: first.termBefore };
    const { index, term } = this.#start;
    this.#terms = [{ index, term }, ...this.#terms.filter((start) => start.index > index)];
  }
}

function dropTail<Item>(items: Item[], isDropped: (item: Item) => boolean): Item[] {
  let length = items.length;
  for (; length > 0; length--) {
    const item = items[length - 1];
    if (item === undefined || !isDropped(item)) break;
  }
  items.length = length;
  return items;
}
