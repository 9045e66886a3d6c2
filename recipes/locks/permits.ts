/**
 * Who is admitted to a semaphore: whoever's weight, with the weights of all places ahead, is within
 * the limit. Holders are always at the front, so this is first come, first served: a light member
 * does not pass a heavy one.
 *
 * A grant is sticky. All places ahead of a holder were there when it was granted and can only leave,
 * so the weights held never exceed the largest limit that any holder was granted under.
 */
import type { KeyValue } from '../../sdk/kv.ts';
import type { WatchNotice } from '../../sdk/watch.ts';
import { pause } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import type { Place } from '../line/line.ts';
import type { LineView } from '../line/line-membership.ts';
import { decodeLineRecord } from '../line/line-record.ts';
import type { Wake } from '../line/wake.ts';

/** What a semaphore's key `limit` holds. */
export type Limit = {
  /** What the first member asked for; members that ask for it agree, whatever was set since. */
  readonly declared: number;
  /** In force. */
  readonly limit: number;
};

export const isPermits = (value: unknown): value is number =>
  Number.isSafeInteger(value) && (value as number) >= 1;

export const encodeLimit = ({ declared, limit }: Limit): string =>
  JSON.stringify({ v: 1, declared, limit });

/** Undefined for what is no limit. */
export function decodeLimit(kv: Pick<KeyValue, 'value'> | null | undefined): Limit | undefined {
  if (!kv) return undefined;
  try {
    const { declared, limit } = JSON.parse(Buffer.from(kv.value).toString('utf8'));
    return isPermits(declared) && isPermits(limit) ? { declared, limit } : undefined;
  } catch {
    return undefined;
  }
}

/** A key that something else wrote takes one permit. */
export function weightOf({ value }: { readonly value: Uint8Array }): number {
  const weight = decodeLineRecord(value).terms?.weight;
  return isPermits(weight) ? weight : 1;
}

const sum = (places: Iterable<{ readonly value: Uint8Array }>): number => {
  let total = 0;
  for (const place of places) total += weightOf(place);
  return total;
};

/** The nearest place ahead while there is not enough room; without a known limit, everybody alone. */
export function permitBlocker(weight: number, { ahead, beside }: LineView): Place | undefined {
  const limit = decodeLimit(beside)?.limit ?? weight;
  return sum(ahead) + weight <= limit ? undefined : ahead.at(-1);
}

/** How many of a whole line hold under this limit, and the permits they take. */
export function admittedAmong<P extends { readonly value: Uint8Array }>(
  line: readonly P[],
  limit: number,
): { holders: readonly P[]; waiters: readonly P[]; used: number } {
  let used = 0;
  let count = 0;
  for (const place of line) {
    const weight = weightOf(place);
    if (used + weight > limit) break;
    used += weight;
    count += 1;
  }
  return { holders: line.slice(0, count), waiters: line.slice(count), used };
}

/**
 * Wakes a waiter when there is room by its own count: of who has left ahead of it, and of the limit.
 * A watch on the place ahead alone would not do, since whoever is ahead may leave first. So each
 * release wakes those who can go on, and nobody else.
 */
export const whenRoom =
  (weight: number, linePrefix: string, limitKey: string): Wake =>
  async ({ client, view, restMs, signal }) => {
    const stop = linkedSignal(signal);
    const ahead = new Map(view.ahead.map((place) => [place.key, weightOf(place)]));
    let taken = sum(view.ahead);
    let limit = decodeLimit(view.beside)?.limit;
    const judge = () => {
      // A limit that is gone or no limit is for a look to deal with.
      if (limit === undefined || taken + weight <= limit) stop.abort();
    };
    const lineChanged = (notice: WatchNotice) => {
      if (notice.type === 'events') {
        for (const { kv } of notice.events) {
          taken -= ahead.get(kv.key) ?? 0;
          ahead.delete(kv.key);
        }
      } else if (notice.type === 'reset') {
        const present = new Set(notice.kvs.map(({ key }) => key));
        for (const [key, weightAhead] of ahead) {
          if (present.has(key)) continue;
          taken -= weightAhead;
          ahead.delete(key);
        }
      }
    };
    const limitChanged = (notice: WatchNotice) => {
      if (notice.type === 'reset') limit = decodeLimit(notice.kvs[0])?.limit;
      else if (notice.type === 'events') {
        const last = notice.events.at(-1);
        limit = last?.type === 'put' ? decodeLimit(last.kv)?.limit : undefined;
      }
    };
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
    await Promise.all([
      follow({ prefix: linePrefix }, false, lineChanged),
      follow(limitKey, true, limitChanged),
    ]);
  };
