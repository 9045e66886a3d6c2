/** The newest revisions, held in memory up to a number of bytes; the oldest go first. */
import { assert } from '../assert.ts';
import type { Revision } from '../mvcc/types.ts';
import type { SharedRevision } from './watch-event.ts';

/** The dead front of the array is cut off once it is this long and half of the whole. */
const TRIM_AT = 1024;

export class Ring {
  readonly #maxBytes: number;
  #entries: SharedRevision[] = [];
  #head = 0;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Revisions follow each other without a gap. The newest one stays even if it alone is too big. */
  push(entry: SharedRevision): void {
    const last = this.#entries.at(-1);
    assert(
      last === undefined || this.isEmpty || entry.revision === last.revision + 1,
      'published revisions follow each other',
    );
    this.#entries.push(entry);
    this.#bytes += entry.bytes;
    while (this.#bytes > this.#maxBytes && this.#head < this.#entries.length - 1) {
      this.#bytes -= this.#entries[this.#head]?.bytes ?? 0;
      this.#head += 1;
    }
    if (this.#head >= TRIM_AT && this.#head * 2 >= this.#entries.length) {
      this.#entries = this.#entries.slice(this.#head);
      this.#head = 0;
    }
  }

  clear(): void {
    this.#entries = [];
    this.#head = 0;
    this.#bytes = 0;
  }

  get isEmpty(): boolean {
    return this.#head === this.#entries.length;
  }

  /** The oldest revision held. */
  get first(): Revision | undefined {
    return this.#entries[this.#head]?.revision;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Entries from `from`, which must be held, on: at least one, then while both maxima allow. */
  slice(from: Revision, maxRevisions: number, maxBytes: number): readonly SharedRevision[] {
    const first = this.first;
    assert(first !== undefined && from >= first, 'the ring holds the revision asked for');
    const taken: SharedRevision[] = [];
    let bytes = 0;
    for (let index = this.#head + (from - first); index < this.#entries.length; index += 1) {
      const entry = this.#entries[index];
      if (entry === undefined || taken.length >= maxRevisions) break;
      if (taken.length > 0 && bytes + entry.bytes > maxBytes) break;
      taken.push(entry);
      bytes += entry.bytes;
    }
    return taken;
  }
}
