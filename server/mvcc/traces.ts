/**
 * Keys in order, the deleted ones among them where they matter.
 *
 * Who reads the newest revision needs only the live keys. Who reads an older one also meets those
 * that were deleted since: their tombstones are merged in, in key order. A read of the newest
 * revision that pauses becomes one of an older revision when something is written meanwhile.
 */
import { limits } from '../limits.ts';
import type { ForwardReader } from './draft.ts';
import { type Bounds, currentKey, successor, tombstoneKeyOf, userKeyOfCurrent } from './keys.ts';
import type { Bytes } from './types.ts';

type Pair = readonly [stored: Bytes, value: Bytes];

export type Traces = {
  readonly pairs: readonly Pair[];
  /** In the table `c`: where the next slice begins; undefined after the last one. */
  readonly next: Bytes | undefined;
};

/**
 * What is stored of the keys within `bounds` of the table `c`, in slices, each read when it is asked
 * for. `isNewest` is asked before each slice. The user key of a pair is `userKeyOfCurrent` of its key.
 *
 * `expected`: how many keys are probably enough. Slices begin with so many, and grow.
 */
export function* traces(
  reader: ForwardReader,
  { start, end }: Bounds,
  isNewest: () => boolean = () => false,
  expected: number = limits.readSliceKeys,
): Generator<Traces, void> {
  let from = start;
  for (let keys = expected; Buffer.compare(from, end) < 0; keys *= 2) {
    const limit = Math.min(keys, limits.readSliceKeys);
    const live = reader.scan(from, end, { limit });
    const dead = isNewest() ? [] : reader.scan(tombstoneKeyOf(from), tombstoneEnd(end), { limit });
    const lastLive = live.length === limit ? live[limit - 1] : undefined;
    const lastDead = dead.length === limit ? dead[limit - 1] : undefined;
    const last = lower(lastLive?.[0], lastDead?.[0]);
    const next = last && currentKey(successor(userKeyOfCurrent(last)));
    yield { pairs: dead.length === 0 ? live : merge(live, dead, last), next };
    if (next === undefined) return;
    from = next;
  }
}

/** The end of the table `c` is not a key of it: it stands for the end of the other table. */
function tombstoneEnd(end: Bytes): Bytes {
  const result = Buffer.from(end);
  result[0] = (result[0] ?? 0) + 1;
  return result;
}

/** The stored key whose user key comes first. */
function lower(a: Bytes | undefined, b: Bytes | undefined): Bytes | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return compareUserKeys(a, b) <= 0 ? a : b;
}

const compareUserKeys = (a: Bytes, b: Bytes): number =>
  Buffer.compare(userKeyOfCurrent(a), userKeyOfCurrent(b));

/** Both lists in key order, up to `last` where one of them was cut off. No key is in both. */
function merge(live: readonly Pair[], dead: readonly Pair[], last: Bytes | undefined): Pair[] {
  const merged: Pair[] = [];
  let nextLive = 0;
  let nextDead = 0;
  for (;;) {
    const a = live[nextLive];
    const b = dead[nextDead];
    const takesLive = a !== undefined && (b === undefined || compareUserKeys(a[0], b[0]) < 0);
    const pair = takesLive ? a : b;
    if (pair === undefined) return merged;
    if (last !== undefined && compareUserKeys(pair[0], last) > 0) return merged;
    merged.push(pair);
    if (takesLive) nextLive += 1;
    else nextDead += 1;
  }
}
