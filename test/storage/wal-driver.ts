/** A log under test together with what was acknowledged, and the judgement of what came back. */
import { expect } from 'vitest';
import type { Log, Recovered } from '../../server/ports.ts';
import type { Entry, HardState } from '../../server/raft/message.ts';
import { openWal } from '../../server/storage/wal.ts';
import type { Below, SimDisk } from './sim-disk.ts';

export const identity = { clusterId: 0xc1n, memberId: 0x3en };
export const SEGMENT_BYTES = 8_192;

export const openOn = (disk: SimDisk): Promise<{ log: Log; recovered: Recovered }> =>
  openWal({ path: '/wal', identity, disk, segmentBytes: SEGMENT_BYTES });

export type Batch = { readonly hardState: HardState; readonly entries: readonly Entry[] };

/** Everything a log should hold. */
export class Ledger {
  entries: readonly Entry[] = [];
  hardState: HardState = { term: 0, votedFor: 0n, commit: 0 };
  released = 0;
  #term = 0;

  /** A random batch that may follow: sometimes it replaces the tail, sometimes it has no entries. */
  draw(below: Below): Batch {
    this.#term += 1;
    const term = this.#term;
    const open = this.entries.length - this.released;
    const back = below(4) === 0 ? below(Math.min(open, 3) + 1) : 0;
    const first = this.entries.length - back + 1;
    const entries = Array.from({ length: below(4) }, (_, position): Entry => {
      const data = Buffer.alloc(below(10) === 0 ? below(3_000) : below(60), term);
      return { index: first + position, term, kind: 'command', data };
    });
    return { entries, hardState: { term, votedFor: BigInt(term), commit: this.released } };
  }

  add(batch: Batch): void {
    this.hardState = batch.hardState;
    const first = batch.entries[0]?.index;
    if (first !== undefined) this.entries = [...this.entries.slice(0, first - 1), ...batch.entries];
  }

  with(batch: Batch): Ledger {
    const after = this.copy();
    after.add(batch);
    return after;
  }

  copy(): Ledger {
    const copy = new Ledger();
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
      start.term === (this.entries[start.index - 1]?.term ?? 0) &&
      sameHardState(hardState, this.hardState) &&
      sameEntries(entries, this.entries.slice(start.index))
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
