/** A log under test together with what was acknowledged, and the judgement of what came back. */
import { expect } from 'vitest';
import type { Log, LogPosition, Recovered } from '../../server/ports.ts';
import type { Entry, HardState } from '../../server/raft/message.ts';
import { openWal } from '../../server/storage/wal.ts';
import type { Below, SimDisk } from './sim-disk.ts';

export const identity = { clusterId: 0xc1n, memberId: 0x3en };
export const SEGMENT_BYTES = 8_192;

export const openOn = (disk: SimDisk): Promise<{ log: Log; recovered: Recovered }> =>
  openWal({ path: '/wal', identity, disk, segmentBytes: SEGMENT_BYTES });

export type Batch = { readonly hardState: HardState; readonly entries: readonly Entry[] };
export type Reset = { readonly position: LogPosition; readonly hardState: HardState };

/** Everything a log should hold. */
export class Ledger {
  /** Where the log began last. */
  base: LogPosition = { index: 0, term: 0 };
  /** What came after it. */
  entries: readonly Entry[] = [];
  hardState: HardState = { term: 0, votedFor: 0n, commit: 0 };
  released = 0;
  #term = 0;

  get lastIndex(): number {
    return this.base.index + this.entries.length;
  }

  #termAt(index: number): number | undefined {
    if (index === this.base.index) return this.base.term;
    return this.entries[index - this.base.index - 1]?.term;
  }

  /** A random batch that may follow: sometimes it replaces the tail, sometimes it has no entries. */
  draw(below: Below): Batch {
    const term = this.#nextTerm();
    const open = this.lastIndex - this.released;
    const back = below(4) === 0 ? below(Math.min(open, 3) + 1) : 0;
    const first = this.lastIndex - back + 1;
    const entries = Array.from({ length: below(4) }, (_, position): Entry => {
      const data = Buffer.alloc(below(10) === 0 ? below(3_000) : below(60), term);
      return { index: first + position, term, kind: 'command', data };
    });
    return { entries, hardState: this.#hardStateIn(term) };
  }

  /** A random reset: behind an entry that the log has or has otherwise, or beyond its end. */
  drawReset(below: Below): Reset {
    const term = this.#nextTerm();
    const index = this.released + below(this.lastIndex - this.released + 5);
    const known = below(2) === 0 ? this.#termAt(index) : undefined;
    return { position: { index, term: known ?? term }, hardState: this.#hardStateIn(term) };
  }

  #nextTerm(): number {
    this.#term += 1;
    return this.#term;
  }

  #hardStateIn(term: number): HardState {
    return { term, votedFor: BigInt(term), commit: this.released };
  }

  add(batch: Batch): void {
    this.hardState = batch.hardState;
    const first = batch.entries[0]?.index;
    if (first === undefined) return;
    this.entries = [...this.entries.slice(0, first - this.base.index - 1), ...batch.entries];
  }

  reset({ position, hardState }: Reset): void {
    this.hardState = hardState;
    if (this.#termAt(position.index) === position.term) return;
    this.base = position;
    this.entries = [];
    this.released = position.index;
  }

  with(change: Batch | Reset): Ledger {
    const after = this.copy();
    if ('entries' in change) after.add(change);
    else after.reset(change);
    return after;
  }

  copy(): Ledger {
    const copy = new Ledger();
    copy.base = this.base;
    copy.entries = this.entries;
    copy.hardState = this.hardState;
    copy.released = this.released;
    copy.#term = this.#term;
    return copy;
  }

  /** Is this what a log with exactly these contents gives back? */
  matches(recovered: Recovered): boolean {
    const { start, entries, hardState } = recovered;
    return (
      start.index <= this.released &&
      start.term === this.#termAt(start.index) &&
      sameHardState(hardState, this.hardState) &&
      sameEntries(entries, this.entries.slice(start.index - this.base.index))
    );
  }

  expectToMatch(recovered: Recovered): void {
    expect(recovered.hardState).toEqual(this.hardState);
    expect(this.matches(recovered)).toBe(true);
  }
}

const sameHardState = (left: HardState, right: HardState): boolean =>
  left.term === right.term && left.votedFor === right.votedFor && left.commit === right.commit;

const sameEntries = (left: readonly Entry[], right: readonly Entry[]): boolean =>
  left.length === right.length &&
  left.every((entry, position) => {
    const other = right[position];
    return (
      other !== undefined &&
      entry.index === other.index &&
      entry.term === other.term &&
      entry.kind === other.kind &&
      Buffer.compare(entry.data, other.data) === 0
    );
  });
