/**
 * Seeded randomness of harnesses. The same seed gives the same choices on every machine, so a
 * failure is replayed from its seed alone.
 */
export class SeededRandom {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** A fraction in [0, 1). Algorithm: mulberry32 by Tommy Ettinger, public domain. */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }

  /** An integer in [0, end). */
  below(end: number): number {
    return Math.floor(this.fraction() * end);
  }

  /** An integer in [first, last]. */
  between(first: number, last: number): number {
    return first + this.below(last - first + 1);
  }

  chance(probability: number): boolean {
    return this.fraction() < probability;
  }

  pick<T>(values: readonly [T, ...T[]]): T {
    return values[this.below(values.length)] ?? values[0];
  }

  /** Picks by weight: `[[3, 'often'], [1, 'rarely']]`. */
  weighted<T>(rows: readonly [readonly [number, T], ...(readonly [number, T])[]]): T {
    const total = rows.reduce((sum, [weight]) => sum + weight, 0);
    let left = this.fraction() * total;
    for (const [weight, value] of rows) {
      left -= weight;
      if (left < 0) return value;
    }
    return rows[0][1];
  }

  /** A generator of its own, so that more draws in one part do not shift the draws of another. */
  fork(): SeededRandom {
    return new SeededRandom(this.below(2 ** 32));
  }
}

/** The seed from the command line, or a new one. */
export function seedFrom(given: string | undefined): number {
  if (given === undefined) return (Date.now() ^ (process.pid << 16)) >>> 0;
  const seed = Number(given);
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32)
    throw new Error(`--seed must be an integer in [0, 2^32), got ${given}`);
  return seed;
}
