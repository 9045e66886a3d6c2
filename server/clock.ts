/** The real clock and the real dice. */
import { randomBytes, randomInt } from 'node:crypto';
import type { Clock, Random } from './ports.ts';

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
};

export const systemRandom: Random = {
  below: (bound) => randomInt(bound),
  id: () => BigInt.asUintN(63, randomBytes(8).readBigUInt64BE()) || 1n,
};
