/** A `State` in memory with nothing but the contract: what the state machine is tested on. */
import { ByteMap } from '../../server/mvcc/byte-map.ts';
import type { Bytes } from '../../server/mvcc/types.ts';
import type { Counted, LogPosition, State, Write } from '../../server/ports.ts';

export class SortedState implements State {
  readonly #entries = new ByteMap<Bytes>();
  applied: LogPosition = { index: 0, term: 0 };

  get appliedIndex(): number {
    return this.applied.index;
  }

  get durableIndex(): number {
    return this.appliedIndex;
  }

  readonly backlogBytes = 0;

  get(key: Bytes): Bytes | undefined {
    return this.#entries.get(key);
  }

  scan(
    start: Bytes,
    end: Bytes | undefined,
    options: { readonly limit: number; readonly reverse?: boolean },
  ): readonly (readonly [key: Bytes, value: Bytes])[] {
    const found: (readonly [Bytes, Bytes])[] = [];
    for (const [key, value] of this.#entries.entries(start)) {
      if (end !== undefined && Buffer.compare(key, end) >= 0) break;
      if (found.length === options.limit && options.reverse !== true) break;
      found.push([key, value]);
    }
    return options.reverse === true ? found.reverse().slice(0, options.limit) : found;
  }

  count(start: Bytes, end: Bytes | undefined, step: number): Counted {
    const rows = this.scan(start, end, { limit: step + 1 });
    return { count: Math.min(rows.length, step), next: rows[step]?.[0] };
  }

  apply(index: number, writes: readonly Write[], term = this.applied.term): void {
    for (const write of writes) {
      if (write.kind === 'put') this.#entries.set(write.key, write.value);
      else this.#entries.delete(write.key);
    }
    this.applied = { index, term };
  }

  async install(): Promise<void> {
    throw new Error('nothing is installed here');
  }

  /** An independent copy, as after a restart from this point. */
  copy(): SortedState {
    const copy = new SortedState();
    copy.replaceBy(this, this.applied.index, this.applied.term);
    return copy;
  }

  /** Holds what another one holds from now on, and nothing else. */
  replaceBy(other: SortedState, index: number, term: number): void {
    this.#entries.clear();
    const writes = other.dump().map(([key, value]): Write => ({ kind: 'put', key, value }));
    this.apply(index, writes, term);
  }

  /** Every entry in order. */
  dump(): readonly (readonly [key: Bytes, value: Bytes])[] {
    return [...this.#entries.entries()];
  }

  async flush(): Promise<void> {}

  size(): { readonly totalBytes: number; readonly usedBytes: number } {
    let bytes = 0;
    for (const [key, value] of this.#entries.entries()) bytes += key.length + value.length;
    return { totalBytes: bytes, usedBytes: bytes };
  }

  async close(): Promise<void> {}
}
