/**
 * Writes that readers see and LMDB does not have yet.
 *
 * They come in generations: the newest takes writes, older ones are frozen and wait, oldest first,
 * to be written. Each holds whole applies, so one LMDB transaction a generation keeps the promise
 * that an apply is durable entirely or not at all. Generations are limited in size, which bounds how
 * long preparing one transaction keeps the event loop.
 */
import { assert } from '../assert.ts';
import type { Bytes } from '../mvcc/types.ts';
import type { LogPosition, Write } from '../ports.ts';
import { keyOf } from './byte-order.ts';
import { type Change, Changes } from './changes.ts';

const GENERATION_WRITES = 8_192;
const GENERATION_BYTES = 2 * 1024 * 1024;

export class Generation {
  readonly changes = new Changes();
  /** Applied up to here. */
  applied: LogPosition;
  /** The number of the last apply in it. Unlike the index, every apply has its own. */
  sequence: number;
  bytes = 0;

  constructor(applied: LogPosition, sequence: number) {
    this.applied = applied;
    this.sequence = sequence;
  }

  get full(): boolean {
    return this.changes.size >= GENERATION_WRITES || this.bytes >= GENERATION_BYTES;
  }
}

export class Overlay {
  /** Newest first; the first takes writes. */
  #generations: Generation[];

  constructor(applied: LogPosition) {
    this.#generations = [new Generation(applied, 0)];
  }

  get #newest(): Generation {
    const generation = this.#generations[0];
    assert(generation !== undefined, 'one generation takes writes');
    return generation;
  }

  get applied(): LogPosition {
    return this.#newest.applied;
  }

  get sequence(): number {
    return this.#newest.sequence;
  }

  get bytes(): number {
    let bytes = 0;
    for (const generation of this.#generations) bytes += generation.bytes;
    return bytes;
  }

  /** Is there a frozen generation, or would it pay to freeze the newest? */
  isWorthFlushing(bytes: number, writes: number): boolean {
    const newest = this.#newest;
    return this.#generations.length > 1 || newest.bytes >= bytes || newest.changes.size >= writes;
  }

  apply(applied: LogPosition, writes: readonly Write[]): void {
    const sequence = this.sequence + 1;
    if (this.#newest.full) this.#generations.unshift(new Generation(applied, sequence));
    const generation = this.#newest;
    for (const write of writes) {
      const change = write.kind === 'put' ? write.value : 'removed';
      generation.changes.set(keyOf(write.key), change);
      generation.bytes += write.key.length + (change === 'removed' ? 0 : change.length);
    }
    generation.applied = applied;
    generation.sequence = sequence;
  }

  /** The oldest generation, frozen: it stays visible until `drop`. */
  freezeOldest(): Generation {
    if (this.#generations.length === 1) {
      this.#generations.unshift(new Generation(this.applied, this.sequence));
    }
    const oldest = this.#generations.at(-1);
    assert(oldest !== undefined, 'freezing leaves a frozen generation');
    return oldest;
  }

  /** Forgets a frozen generation. Only once LMDB shows its writes to the next reader. */
  drop(generation: Generation): void {
    assert(this.#generations.length > 1, 'the generation that takes writes stays');
    assert(this.#generations.at(-1) === generation, 'generations become durable in order');
    this.#generations.pop();
  }

  /** undefined: ask LMDB. */
  get(name: string): Change | undefined {
    for (const { changes } of this.#generations) {
      const change = changes.get(name);
      if (change !== undefined) return change;
    }
    return undefined;
  }

  /** Changes with start <= key < end in order, one source a generation, newest first. */
  sources(
    start: Bytes,
    end: Bytes | undefined,
    reverse: boolean,
  ): Iterator<readonly [key: string, change: Change]>[] {
    const used = this.#generations.filter((generation) => generation.changes.size > 0);
    if (used.length === 0) return [];
    const from = keyOf(start);
    const to = end === undefined ? undefined : keyOf(end);
    return used.map((generation) => generation.changes.between(from, to, reverse));
  }
}
