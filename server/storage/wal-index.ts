/**
 * Where the entries are: runs of neighbouring frames of one segment, each of about `RUN_BYTES`, so
 * that the index stays small and one read fetches a useful amount.
 */
import { assert } from '../assert.ts';
import type { Frame, LogPosition } from './wal-format.ts';
import type { Segment } from './wal-segment.ts';

const RUN_BYTES = 64 * 1024;

/** Entries firstIndex..lastIndex are in the frames at `offset`; where one occurs twice the later counts. */
export type Run = {
  readonly segment: Segment;
  readonly offset: number;
  bytes: number;
  readonly firstIndex: number;
  lastIndex: number;
};

export class WalIndex {
  #runs: Run[] = [];
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

  get lastIndex(): number {
    return this.#lastIndex;
  }

  /** Takes note of a frame on disk. Entries at or below the last index replace the tail. */
  add(segment: Segment, frame: Pick<Frame, 'offset' | 'bytes' | 'entries'>): void {
    const first = frame.entries[0]?.index;
    if (first === undefined) return;
    assert(first > this.#start.index && first <= this.#lastIndex + 1, 'the log has no gaps');
    let run = this.#runs.at(-1);
    while (run !== undefined && run.firstIndex >= first) {
      this.#runs.pop();
      run = this.#runs.at(-1);
    }
    if (run !== undefined) run.lastIndex = Math.min(run.lastIndex, first - 1);
    this.#lastIndex = first + frame.entries.length - 1;
    const joins =
      run !== undefined &&
      run.segment === segment &&
      run.offset + run.bytes === frame.offset &&
      run.bytes < RUN_BYTES;
    if (run !== undefined && joins) {
      run.bytes += frame.bytes;
      run.lastIndex = this.#lastIndex;
    } else {
      this.#runs.push({
        segment,
        offset: frame.offset,
        bytes: frame.bytes,
        firstIndex: first,
        lastIndex: this.#lastIndex,
      });
    }
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

  /** Forgets entries up to `start`; its segments are about to go. */
  release(start: LogPosition, removed: ReadonlySet<Segment>): void {
    this.#start = start;
    this.#runs = this.#runs.filter((run) => !removed.has(run.segment));
  }
}
