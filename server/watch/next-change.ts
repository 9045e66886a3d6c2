/**
 * Who wants to hear of the next change of a key: for reads that wait. Unlike a watcher a listener gets
 * no events and has no place in history; it reads the state itself, after it has begun to listen.
 */
import { nameOf } from '../mvcc/key-name.ts';
import type { Bytes, Event } from '../mvcc/types.ts';

export class NextChange {
  readonly #listeners = new Map<string, Set<() => void>>();

  /** Calls back at each write to one of the keys. Returns the way to stop that. */
  listen(keys: readonly Bytes[], onChange: () => void): () => void {
    const names = keys.map(nameOf);
    for (const name of names) {
      const listeners = this.#listeners.get(name);
      if (listeners === undefined) this.#listeners.set(name, new Set([onChange]));
      else listeners.add(onChange);
    }
    return () => {
      for (const name of names) {
        const listeners = this.#listeners.get(name);
        if (listeners?.delete(onChange) && listeners.size === 0) this.#listeners.delete(name);
      }
    };
  }

  /** These took effect. */
  announce(events: readonly Event[]): void {
    if (this.#listeners.size === 0) return;
    for (const { kv } of events) {
      for (const onChange of [...(this.#listeners.get(nameOf(kv.key)) ?? [])]) onChange();
    }
  }

  /** The state was replaced: any key may have changed. */
  announceAll(): void {
    for (const listeners of [...this.#listeners.values()]) {
      for (const onChange of [...listeners]) onChange();
    }
  }
}
