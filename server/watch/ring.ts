/** The newest revisions, held in memory up to a number of bytes; the oldest go first. */
import { assert } from '../assert.ts';
import type { Revision } from '../mvcc/types.ts';
import type { SharedRevision } from './watch-event.ts';

type Slots = (SharedRevision | undefined)[];

/** A power of two, and so is every number of slots: a place is found by masking. */
const FIRST_SLOTS = 256;

const emptySlots = (count: number): Slots => new Array<undefined>(count).fill(undefined);

export class Ring {
  readonly #maxBytes: number;
  #slots: Slots = emptySlots(FIRST_SLOTS);
  /** The place of the oldest one. */
  #head = 0;
  #count = 0;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Revisions follow each other without a gap. The newest one stays even if it alone is too big. */
  push(entry: SharedRevision): void {
    const { first } = this;
    assert(
      first === undefined || entry.revision === first + this.#count,
      'published revisions follow each other',
    );
    if (this.#count === this.#slots.length) this.#grow();
    this.#slots[(this.#head + this.#count) & (this.#slots.length - 1)] = entry;
    this.#count += 1;
    this.#bytes += entry.bytes;
    while (this.#bytes > this.#maxBytes && this.#count > 1) this.#dropOldest();
  }

  /** Holds no more than so many, nor more than so many bytes; the newest one stays. */
  keep(maxRevisions: number, maxBytes: number): void {
    while (this.#count > maxRevisions || (this.#bytes > maxBytes && this.#count > 1)) {
      this.#dropOldest();
    }
  }

  clear(): void {
    this.#slots = emptySlots(FIRST_SLOTS);
    this.#head = 0;
    this.#count = 0;
    this.#bytes = 0;
  }

  /** The oldest revision held. */
  get first(): Revision | undefined {
    return this.#slots[this.#head]?.revision;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Entries from `from`, which must be held, on: at least one, then while both maxima allow. */
  slice(from: Revision, maxRevisions: number, maxBytes: number): readonly SharedRevision[] {
    const { first } = this;
    assert(first !== undefined && from >= first, 'the ring holds the revision asked for');
    const taken: SharedRevision[] = [];
    let bytes = 0;
    for (let index = from - first; index < this.#count; index += 1) {
      const entry = this.#slots[(this.#head + index) & (this.#slots.length - 1)];
      if (entry === undefined || taken.length >= maxRevisions) break;
      if (taken.length > 0 && bytes + entry.bytes > maxBytes) break;
      taken.push(entry);
      bytes += entry.bytes;
    }
    return taken;
  }

  #dropOldest(): void {
    this.#bytes -= this.#slots[this.#head]?.bytes ?? 0;
    this.#slots[this.#head] = undefined;
    this.#head = (this.#head + 1) & (this.#slots.length - 1);
    this.#count -= 1;
  }

  #grow(): void {
    const { length } = this.#slots;
    const inOrder = [...this.#slots.slice(this.#head), ...this.#slots.slice(0, this.#head)];
    this.#slots = [...inOrder, ...emptySlots(length)];
    this.#head = 0;
  }
}
