/**
 * When a waiter of a semaphore looks again.
 *
 * Whoever is ahead may leave first, so a watch on the place directly ahead would not do; and if every
 * waiter watched the whole line, each release would be told to all of them. Instead a waiter picks
 * guards: the nearest places ahead whose weights, together with its own, are above the limit. While
 * those are there it has no room, whatever becomes of all others, so it need not hear of them. It
 * picks about twice as many as it must, to look only once when they leave in any order:
 *
 * - R1 No lost wake-up: while guards that are left and the own weight are above the limit there is no
 *   room; when they are not, it looks.
 * - R2 With places to spare on top, or all places ahead as guards, a look seldom finds no room.
 *
 * So a release is told to at most twice as many waiters as there are permits, however long the line
 * is, and one of them looks.
 */
import type { WatchNotice } from '../../sdk/watch.ts';
import { pause } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import type { LineView } from '../line/line-membership.ts';
import type { Wake } from '../line/wake.ts';
import { decodeLimit, weightOf } from './permits.ts';

/** With more guards than this, one watch on the whole line costs less than one on each of them. */
const watchesMax = 64;

/** What a waiter knows of the room there is for it. Pure. */
export class Room {
  readonly #weight: number;
  readonly #guards: Map<string, number>;
  #taken = 0;
  #limit: number | undefined;
  /** Whether nobody else is ahead. */
  readonly isWholeLine: boolean;

  constructor(weight: number, { ahead, beside, isPartial = false }: LineView) {
    const limit = decodeLimit(beside)?.limit;
    this.#weight = weight;
    this.#limit = limit;
    this.#guards = new Map();
    for (const place of ahead.toReversed()) {
      if (limit !== undefined && this.#taken + weight >= 2 * limit) break;
      this.#guards.set(place.key, weightOf(place));
      this.#taken += weightOf(place);
    }
    this.isWholeLine = !isPartial && this.#guards.size === ahead.length;
  }

  /** The places whose leaving it wants to hear of. */
  get guards(): readonly string[] {
    return [...this.#guards.keys()];
  }

  /** Whether it is worth a look: there is room, or never will be. */
  get mayHaveRoom(): boolean {
    const limit = this.#limit;
    return limit === undefined || this.#weight > limit || this.#taken + this.#weight <= limit;
  }

  left(key: string): void {
    this.#taken -= this.#guards.get(key) ?? 0;
    this.#guards.delete(key);
  }

  setLimit(limit: number | undefined): void {
    this.#limit = limit;
  }
}

/** Wakes a waiter when it may have room, by what it hears of its guards and of the limit. */
export const whenRoom =
  (weight: number, linePrefix: string, limitKey: string): Wake =>
  async ({ client, view, restMs, signal }) => {
    const stop = linkedSignal(signal);
    const room = new Room(weight, view);
    const judge = () => {
      if (room.mayHaveRoom) stop.abort();
    };
    // What was seen of a longer line may be too little to tell.
    judge();
    const from = view.revision + 1n;
    const follow = async (
      range: string | { readonly prefix: string },
      puts: boolean,
      changed: (notice: WatchNotice) => void,
    ) => {
      try {
        for await (const notice of client.kv.watch(range, { from, puts, signal: stop.signal })) {
          changed(notice);
          judge();
        }
      } catch {
        // Ended on purpose, or broken: the slow re-read covers what it would have reported.
      }
      await pause(client.clock, restMs, stop.signal).catch(() => undefined);
      stop.abort();
    };
    const guardsLeave = (guards: readonly string[]) => (notice: WatchNotice) => {
      if (notice.type === 'events') {
        for (const { kv } of notice.events) room.left(kv.key);
      } else if (notice.type === 'reset') {
        const present = new Set(notice.kvs.map(({ key }) => key));
        for (const key of guards) if (!present.has(key)) room.left(key);
      }
    };
    const limitChanged = (notice: WatchNotice) => {
      if (notice.type === 'reset') room.setLimit(decodeLimit(notice.kvs[0])?.limit);
      else if (notice.type === 'events') {
        const last = notice.events.at(-1);
        room.setLimit(last?.type === 'put' ? decodeLimit(last.kv)?.limit : undefined);
      }
    };
    const { guards, isWholeLine } = room;
    const oneByOne = !isWholeLine && guards.length <= watchesMax;
    await Promise.all([
      ...(oneByOne
        ? guards.map((key) => follow(key, false, guardsLeave([key])))
        : [follow({ prefix: linePrefix }, false, guardsLeave(guards))]),
      follow(limitKey, true, limitChanged),
    ]);
  };
