/**
 * What one log entry has written so far, by key: a hash lookup, as most of it is never scanned. The order
 * of the keys is made up when a scan asks for it.
 */
import { ByteMap } from './byte-map.ts';
import { nameOf } from './key-name.ts';
import type { Bytes } from './types.ts';

/** `value` undefined: the key was removed. */
export type OwnWrite = { readonly key: Bytes; readonly value: Bytes | undefined };

export class OwnWrites {
  readonly #byName = new Map<string, OwnWrite>();
  readonly #ordered = new ByteMap<Bytes | undefined>();
  /** Written since the last scan. */
  #unordered: OwnWrite[] = [];

  get isEmpty(): boolean {
    return this.#byName.size === 0;
  }

  get(key: Bytes): OwnWrite | undefined {
    return this.#byName.size === 0 ? undefined : this.#byName.get(nameOf(key));
  }

  set(key: Bytes, value: Bytes | undefined): void {
    const write = { key, value };
    this.#byName.set(nameOf(key), write);
    this.#unordered.push(write);
  }

  /** Ascending, from this key on. */
  entries(from: Bytes): IterableIterator<[key: Bytes, value: Bytes | undefined]> {
    for (const { key, value } of this.#unordered) this.#ordered.set(key, value);
    this.#unordered = [];
    return this.#ordered.entries(from);
  }
}
