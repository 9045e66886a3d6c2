/** The small vocabulary of generated requests: few keys, so that operations meet often. */
import type { SeededRandom } from './random.ts';
import type { Symbols } from './step.ts';

export const bytes = (text: string): Buffer => Buffer.from(text, 'latin1');

/** Keys that sort in awkward ways: prefixes of each other, with zero and 0xff bytes. */
const keys = ['a', 'b', 'aa', 'ab', 'b\0', 'c', 'ab\xff', '\xff', '\0'] as const;
const values = ['', 'x', 'y', '1', '2', '\0\xff'] as const;

export const leaseSlots = [0, 1, 2, 3] as const;
/** A lease nobody grants. */
export const missingLeaseId = 424242n;

export function key(random: SeededRandom): Buffer {
  return bytes(random.pick(keys));
}

/** Mostly a key, sometimes none at all. */
export function keyOrEmpty(random: SeededRandom): Buffer {
  return random.chance(0.03) ? bytes('') : key(random);
}

export function value(random: SeededRandom): Buffer {
  return random.chance(0.02) ? Buffer.alloc(2048, 'v') : bytes(random.pick(values));
}

/** Key and range end: single keys, prefixes, everything from a key on, and empty intervals. */
export function interval(random: SeededRandom): { key: Buffer; rangeEnd: Buffer } {
  return random.weighted<() => { key: Buffer; rangeEnd: Buffer }>([
    [4, () => ({ key: keyOrEmpty(random), rangeEnd: bytes('') })],
    [3, () => ({ key: key(random), rangeEnd: key(random) })],
    [2, () => ({ key: bytes('a'), rangeEnd: bytes('b') })],
    [2, () => ({ key: bytes('\0'), rangeEnd: bytes('\0') })],
    [1, () => ({ key: key(random), rangeEnd: bytes('\0') })],
    [1, () => ({ key: bytes(''), rangeEnd: bytes('\0') })],
  ])();
}

/** A revision that matters to the sequence, or a nearby one that must be refused. */
export function revision(random: SeededRandom): (symbols: Symbols) => bigint {
  const delta = BigInt(random.between(-2, 1));
  const back = BigInt(random.between(0, 8));
  return random.weighted<(symbols: Symbols) => bigint>([
    [5, (symbols) => symbols.current - back],
    [2, (symbols) => symbols.current + delta],
    [2, (symbols) => symbols.compacted + delta],
    [2, (symbols) => symbols.base + back],
    [1, () => delta],
    [1, (symbols) => symbols.current + 100n],
  ]);
}

/** The id of a lease: none, one of the slots, or one that does not exist. */
export function leaseId(random: SeededRandom): (symbols: Symbols) => bigint {
  const slot = random.pick(leaseSlots);
  return random.weighted<(symbols: Symbols) => bigint>([
    [6, (symbols) => symbols.lease(slot)],
    [1, () => missingLeaseId],
    [1, () => 0n],
  ]);
}

/** An enum's number, sometimes one outside of the enum. */
export function enumeration<T extends number>(
  random: SeededRandom,
  valid: readonly [T, ...T[]],
  invalidProbability = 0,
): T {
  if (random.chance(invalidProbability)) return random.pick([99, -1, 7]) as T;
  return random.pick(valid);
}
