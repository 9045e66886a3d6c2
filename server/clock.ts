/** The real clock, the real timers and the real dice. */
import { randomBytes, randomInt } from 'node:crypto';
import type { PointName } from './points.ts';
import type { Clock, Random, Timers } from './ports.ts';

/** Everything about the world that a member cannot know beforehand. */
export type Environment = {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  /** For tests that make something fail at a moment that cannot be seen from outside. */
  readonly reached?: (point: PointName) => void;
};

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
};

export const systemTimers: Timers = {
  after: (delayMs, run) => {
    const timer = setTimeout(run, delayMs);
    return () => clearTimeout(timer);
  },
  every: (intervalMs, run) => {
    const timer = setInterval(run, intervalMs);
    return () => clearInterval(timer);
  },
  soon: (run) => {
    setImmediate(run);
  },
};

export const systemRandom: Random = {
  below: (bound) => randomInt(bound),
  id: () => BigInt.asUintN(63, randomBytes(8).readBigUInt64BE()) || 1n,
};

export const systemEnvironment: Environment = {
  clock: systemClock,
  timers: systemTimers,
  random: systemRandom,
};
