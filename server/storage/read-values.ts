/**
 * Values that were read lately, as they were read: what is asked for over and over is found in LMDB, checked
 * and copied once. Small, as it is only for that: it is emptied whenever it is full.
 */
import type { Bytes } from '../mvcc/types.ts';

const MAX_VALUES = 1_024;
/** Of a key and its value. */
const MAX_BYTES = 1_024;

export class ReadValues {
  readonly #values = new Map<string, Bytes>();

  get(name: string): Bytes | undefined {
    return this.#values.get(name);
  }

  add(name: string, value: Bytes): void {
    if (name.length + value.length > MAX_BYTES) return;
    if (this.#values.size >= MAX_VALUES) this.#values.clear();
    this.#values.set(name, value);
  }

  clear(): void {
    this.#values.clear();
  }
}
