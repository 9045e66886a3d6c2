/** Chance as an argument, so that a run can be repeated from its seed. Only this file asks the system for it. */
import { randomFillSync } from 'node:crypto';

/** Uniform in [0, 1). */
export type Random = () => number;

const pool = new Uint32Array(512);
let used = pool.length;

/** From the system's cryptographic source, so that ids drawn by many processes do not meet. */
export const systemRandom: Random = () => {
  if (used + 2 > pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  const high = (pool[used] ?? 0) >>> 5;
  const low = (pool[used + 1] ?? 0) >>> 6;
  used += 2;
  return (high * 2 ** 26 + low) / 2 ** 53;
};

/** Uniform in [1, 2^63). */
export const randomId63 = (random: Random): bigint => {
  const high = BigInt(Math.floor(random() * 2 ** 31));
  const low = BigInt(Math.floor(random() * 2 ** 32));
  const id = (high << 32n) | low;
  return id === 0n ? 1n : id;
};
