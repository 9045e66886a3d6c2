/** What a watcher or a range covers, in the form that is cheap to compare. */
import type { Bytes, KeySpan } from './types.ts';

/** The keys with start <= key < end; `end` undefined is open. */
export type Interval = { readonly start: Bytes; readonly end: Bytes | undefined };

const isOpenEnd = (rangeEnd: Bytes): boolean => rangeEnd.length === 1 && rangeEnd[0] === 0;

/**
 * The interval of a span in etcd's form. An empty key means the lowest one. The single key k is
 * [k, k+0x00), which nothing but k lies in.
 */
export function intervalOf(span: KeySpan): Interval {
  const start = span.key.length === 0 ? Uint8Array.of(0) : span.key;
  if (span.rangeEnd.length === 0) return { start, end: successor(start) };
  return { start, end: isOpenEnd(span.rangeEnd) ? undefined : span.rangeEnd };
}

/** The lowest key above `key`. */
function successor(key: Bytes): Bytes {
  const next = new Uint8Array(key.length + 1);
  next.set(key);
  return next;
}

export const isEmpty = (interval: Interval): boolean =>
  interval.end !== undefined && Buffer.compare(interval.start, interval.end) >= 0;

/** Whether `interval` is exactly one key. */
export function isSingle({ start, end }: Interval): boolean {
  return (
    end !== undefined &&
    end.length === start.length + 1 &&
    end[start.length] === 0 &&
    Buffer.compare(start, end.subarray(0, start.length)) === 0
  );
}

export const contains = (interval: Interval, key: Bytes): boolean =>
  Buffer.compare(interval.start, key) <= 0 && isBelowEnd(key, interval.end);

export const isBelowEnd = (key: Bytes, end: Bytes | undefined): boolean =>
  end === undefined || Buffer.compare(key, end) < 0;

/** Order of interval ends; an open end is the greatest. */
export function compareEnds(a: Bytes | undefined, b: Bytes | undefined): number {
  if (a === undefined) return b === undefined ? 0 : 1;
  return b === undefined ? -1 : Buffer.compare(a, b);
}
