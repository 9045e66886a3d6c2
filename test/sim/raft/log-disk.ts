/** What a member's disk holds of its log. */

import type { Recovered } from '../../../server/ports.ts';
import type { Entry, HardState, StorageWrite } from '../../../server/raft/message.ts';

export class LogDisk {
  hardState: HardState = { term: 0, votedFor: 0n, commit: 0 };
  start = { index: 0, term: 0 };
  #entries: Entry[] = [];

  get lastIndex(): number {
    return this.start.index + this.#entries.length;
  }

  /** The term of the entry at `index`, or of the one before the first; undefined elsewhere. */
  termAt(index: number): number | undefined {
    return index === this.start.index ? this.start.term : this.at(index)?.term;
  }

  at(index: number): Entry | undefined {
    return index > this.start.index ? this.#entries[index - this.start.index - 1] : undefined;
  }

  /** Whether that entry is here, or was before it was released. */
  holds(index: number, term: number): boolean {
    return index <= this.start.index || this.at(index)?.term === term;
  }

  /** Makes the first `entryCount` entries of the write durable, and its hard state. */
  finish(write: StorageWrite, entryCount: number): void {
    if (write.hardState !== undefined) this.hardState = write.hardState;
    const first = write.entries[0];
    if (first === undefined || entryCount === 0) return;
    this.#entries.length = Math.min(this.#entries.length, first.index - 1 - this.start.index);
    for (let at = 0; at < entryCount; at += 1) {
      const entry = write.entries[at];
      if (entry !== undefined) this.#entries.push(entry);
    }
  }

  /** Removes entries up to `index`. */
  release(index: number): void {
    const term = this.termAt(index);
    if (term === undefined || index <= this.start.index) return;
    this.#entries.splice(0, index - this.start.index);
    this.start = { index, term };
  }

  /** Begins anew after `position`, unless it holds that entry: then everything stays. */
  restart(position: { readonly index: number; readonly term: number }): void {
    const term = Math.max(this.hardState.term, position.term);
    const votedFor = term === this.hardState.term ? this.hardState.votedFor : 0n;
    this.hardState = { term, votedFor, commit: Math.max(this.hardState.commit, position.index) };
    if (this.termAt(position.index) === position.term) return;
    this.start = { index: position.index, term: position.term };
    this.#entries = [];
  }

  recovered(): Recovered {
    return { hardState: this.hardState, start: this.start, entries: [...this.#entries] };
  }
}
