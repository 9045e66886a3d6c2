/**
 * The watches of a client that want the same: the same range, with the same options. They share one
 * watch at the server, as far as they stand at the same place.
 *
 * Who begins asks the server itself, because only the server knows where "now" is. Once its upstream
 * stands no lower than the main one, its watches are fed by that, and its own is given up; until then it
 * catches up alone, and holds up nobody. Only what is known to be live becomes the main one: those that
 * wait for what happens do not wait for somebody's past.
 */
import type { Key, KeyRange, KeySpan, Keyspace } from './keys.ts';
import type { WatchOptions } from './watch.ts';
import type { WatchSubscription } from './watch-subscription.ts';
import { WatchUpstream } from './watch-upstream.ts';

/** What watches have to have in common, beside the range. */
export type SharedOptions = Required<
  Pick<WatchOptions, 'prevKv' | 'puts' | 'deletes' | 'progress' | 'fragment'>
>;

export const sharedOptions = (options: WatchOptions): SharedOptions => ({
  prevKv: options.prevKv ?? false,
  puts: options.puts ?? true,
  deletes: options.deletes ?? true,
  progress: options.progress ?? false,
  fragment: options.fragment ?? true,
});

export class WatchGroup {
  readonly keyspace: Keyspace;
  readonly range: Key | KeyRange;
  readonly span: KeySpan;
  readonly options: SharedOptions;
  /** All that have not ended. */
  readonly watches = new Set<WatchSubscription>();
  readonly upstreams = new Set<WatchUpstream>();
  #main: WatchUpstream | undefined;

  constructor(keyspace: Keyspace, range: Key | KeyRange, span: KeySpan, options: SharedOptions) {
    this.keyspace = keyspace;
    this.range = range;
    this.span = span;
    this.options = options;
  }

  /** Lets an upstream, new and yet to be asked for, feed these watches. */
  launch(watches: Iterable<WatchSubscription>): WatchUpstream {
    const upstream = new WatchUpstream(this, watches);
    for (const watch of upstream.watches) watch.upstream = upstream;
    this.upstreams.add(upstream);
    return upstream;
  }

  /** Feeds the watch from the main upstream, if that will give it all it was not given yet. */
  join(watch: WatchSubscription): boolean {
    const main = this.#main;
    if (main === undefined || !watch.isCreated || watch.next < main.next) return false;
    attach(watch, main);
    return true;
  }

  /** Nothing feeds the watch any more. Returns its upstream if that feeds nobody now. */
  detach(watch: WatchSubscription): WatchUpstream | undefined {
    const { upstream } = watch;
    watch.upstream = undefined;
    upstream?.watches.delete(watch);
    return upstream?.watches.size === 0 ? upstream : undefined;
  }

  drop(upstream: WatchUpstream): void {
    this.upstreams.delete(upstream);
    this.lost(upstream);
  }

  /** The server does not watch for it any more. */
  lost(upstream: WatchUpstream): void {
    upstream.onLost();
    if (this.#main === upstream) this.#main = undefined;
  }

  /** The upstream has come further. Returns those that are of no use any more. */
  settle(changed: WatchUpstream): readonly WatchUpstream[] {
    if (this.#main === changed) return [];
    if (this.#main === undefined && changed.isLive) {
      this.#main = changed;
      return this.#merge([...this.upstreams]);
    }
    return this.#merge([changed]);
  }

  #merge(candidates: readonly WatchUpstream[]): readonly WatchUpstream[] {
    const merged: WatchUpstream[] = [];
    for (const upstream of candidates) {
      const target = this.#targetOf(upstream);
      if (target === undefined) continue;
      for (const watch of upstream.watches) attach(watch, target);
      upstream.watches.clear();
      merged.push(upstream);
    }
    return merged;
  }

  /** Another that has not received more than this one, and delays nothing. */
  #targetOf(upstream: WatchUpstream): WatchUpstream | undefined {
    const main = this.#main;
    if (!upstream.isStanding || upstream === main) return undefined;
    if (main !== undefined && upstream.next >= main.next) return main;
    for (const other of this.upstreams) {
      const isSame = other.isStanding && other.next === upstream.next;
      if (isSame && other !== upstream && other.watches.size > 0) return other;
    }
    return undefined;
  }
}

function attach(watch: WatchSubscription, upstream: WatchUpstream): void {
  watch.upstream = upstream;
  upstream.watches.add(watch);
}

/** Equal for watches that may share, and for no others. */
export function groupName(
  { prefix }: Keyspace,
  { key, rangeEnd }: KeySpan,
  { prevKv, puts, deletes, progress, fragment }: SharedOptions,
): string {
  const flags = [prevKv, puts, deletes, progress, fragment];
  const numbers = [...flags.map(Number), prefix.length, key.length];
  return `${numbers.join(',')}:${key.toString('latin1')}${rangeEnd.toString('latin1')}`;
}
