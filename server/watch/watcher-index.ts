/** Finds the watchers of a key at a cost of those found, not of those there are. */
import { isSingle } from '../mvcc/interval.ts';
import { IntervalTree } from '../mvcc/interval-tree.ts';
import { nameOf } from '../mvcc/key-name.ts';
import type { Bytes } from '../mvcc/types.ts';
import type { Watcher } from './watcher.ts';

export class WatcherIndex {
  readonly #byKey = new Map<string, Set<Watcher>>();
  readonly #byRange = new IntervalTree<Watcher>();

  add(watcher: Watcher): void {
    if (!isSingle(watcher.interval)) {
      this.#byRange.add(watcher.interval, watcher);
      return;
    }
    const name = nameOf(watcher.interval.start);
    const watchers = this.#byKey.get(name);
    if (watchers === undefined) this.#byKey.set(name, new Set([watcher]));
    else watchers.add(watcher);
  }

  /** Does nothing when the watcher is not there. */
  remove(watcher: Watcher): void {
    if (!isSingle(watcher.interval)) {
      this.#byRange.remove(watcher.interval, watcher);
      return;
    }
    const name = nameOf(watcher.interval.start);
    const watchers = this.#byKey.get(name);
    if (watchers?.delete(watcher) && watchers.size === 0) this.#byKey.delete(name);
  }

  get isEmpty(): boolean {
    return this.#byKey.size === 0 && this.#byRange.isEmpty;
  }

  match(key: Bytes, visit: (watcher: Watcher) => void): void {
    if (this.#byKey.size > 0) {
      for (const watcher of this.#byKey.get(nameOf(key)) ?? []) visit(watcher);
    }
    if (!this.#byRange.isEmpty) this.#byRange.stab(key, visit);
  }
}
