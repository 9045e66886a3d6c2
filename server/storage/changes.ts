/**
 * The changes of one generation of the overlay, by key.
 *
 * Most keys are written without anybody scanning around them before they are in LMDB. So finding one
 * is a hash lookup, and the order of the keys is made up when the first scan asks for it.
 */
import type { Bytes } from '../mvcc/types.ts';
import { pairsBetween, SortedMap } from './byte-order.ts';

/** What a generation says of a key: its value, or that the key is gone. */
export type Change = Bytes | 'removed';

export class Changes {
  readonly #values = new Map<string, Change>();
  /** The keys that had been written when the last scan came. */
  readonly #order = new SortedMap<undefined>();
  #unordered: string[] = [];

  /** Distinct keys. */
  get size(): number {
    return this.#values.size;
  }

  get(name: string): Change | undefined {
    return this.#values.get(name);
  }

  set(name: string, change: Change): void {
    const before = this.#values.size;
    this.#values.set(name, change);
    if (this.#values.size > before) this.#unordered.push(name);
  }

  /** All, in order of their first change. */
  entries(): IterableIterator<[name: string, change: Change]> {
    return this.#values.entries();
  }

  /** Those with from <= name < to, ascending, or descending from the end. `to` undefined is open. */
  *between(
    from: string,
    to: string | undefined,
    reverse: boolean,
  ): Generator<readonly [name: string, change: Change], void> {
    for (const name of this.#unordered) this.#order.set(name, undefined);
    this.#unordered = [];
    for (const [name] of pairsBetween(this.#order, from, to, reverse)) {
      const change = this.#values.get(name);
      if (change !== undefined) yield [name, change];
    }
  }
}
