/**
 * Who is admitted to a semaphore: whoever's weight, with the weights of all places ahead, is within
 * the limit. Holders are always at the front, so this is first come, first served: a light member
 * does not pass a heavy one.
 *
 * A grant is sticky. All places ahead of a holder were there when it was granted and can only leave,
 * so the weights held never exceed the largest limit that any holder was granted under.
 */
import { parseRecord, type Stored } from '../common/json-record.ts';
import type { Place } from '../line/line.ts';
import type { LineView } from '../line/line-membership.ts';
import { decodeLineRecord } from '../line/line-record.ts';

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
export function decodeLimit(kv: Stored): Limit | undefined {
  const { declared, limit } = parseRecord(kv);
  return isPermits(declared) && isPermits(limit) ? { declared, limit } : undefined;
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

/**
 * The nearest place ahead while there is not enough room; without a known limit, everybody alone. What
 * is seen of a longer line never admits: there may be more ahead.
 */
export function permitBlocker(weight: number, view: LineView): Place | undefined {
  const { ahead, isPartial = false, beside } = view;
  const limit = decodeLimit(beside)?.limit ?? weight;
  return !isPartial && sum(ahead) + weight <= limit ? undefined : ahead.at(-1);
}

/** How many places a look must show to say for certain that there is no room, with some to spare. */
export const permitReach = (limit: number): number => 2 * limit;

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
