/**
 * Which slots of a queue are taken, as one consumer knows it. A queue whose concurrency is limited has
 * that many slots, each a key that exists while a claim holds it, so that claims of different slots do
 * not meet.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { viewPrefix } from '../common/prefix-view.ts';
import { unlessAborted } from '../common/signals.ts';

export class SlotBoard {
  readonly #client: Client;
  readonly #prefix: string;
  #taken: ReadonlySet<number> = new Set();
  #followed = false;
  #trusted = false;
  #needed: () => void = () => undefined;
  readonly #inUse = new Promise<void>((resolve) => {
    this.#needed = resolve;
  });
  /** Slots that claims of this consumer are about to take. */
  readonly #asked = new Set<number>();

  constructor(client: Client, prefix: string) {
    this.#client = client;
    this.#prefix = prefix;
  }

  /** Whether a watch keeps the board fresh. */
  get isFresh(): boolean {
    return this.#followed && this.#trusted;
  }

  /** A watch may have missed something: look before saying that all are taken. */
  mistrust(): void {
    this.#trusted = false;
  }

  /** So many slots to ask for, at most, at random among those that seem free. Give them back. */
  ask(count: number, limit: number): number[] {
    this.#needed();
    const free: number[] = [];
    for (let slot = 0; slot < limit; slot++) {
      if (!this.#taken.has(slot) && !this.#asked.has(slot)) free.push(slot);
    }
    const chosen: number[] = [];
    while (chosen.length < count && free.length > 0) {
      const [slot] = free.splice(Math.floor(this.#client.random() * free.length), 1);
      if (slot !== undefined) chosen.push(slot);
    }
    for (const slot of chosen) this.#asked.add(slot);
    return chosen;
  }

  giveBack(slots: readonly number[]): void {
    for (const slot of slots) this.#asked.delete(slot);
  }

  /** Takes note of all the slots' keys. */
  see(kvs: Iterable<KeyValue>): void {
    const taken = new Set<number>();
    for (const { key } of kvs) taken.add(Number(key.slice(this.#prefix.length)));
    this.#taken = taken;
    this.#trusted = true;
  }

  /**
   * Keeps the board fresh, once slots are in use, until the signal aborts.
   *
   * @param onFree hears when slots become free
   */
  async follow(signal: AbortSignal, onFree: () => void): Promise<void> {
    await unlessAborted(this.#inUse, signal).catch(() => undefined);
    const onStale = (stale: boolean) => {
      this.#followed = !stale;
    };
    for await (const { entries } of viewPrefix(this.#client, this.#prefix, { signal, onStale })) {
      const before = this.#taken.size;
      this.see(entries.values());
      if (this.#taken.size < before) onFree();
    }
    this.#followed = false;
  }
}
