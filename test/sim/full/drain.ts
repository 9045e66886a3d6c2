/**
 * Shipped code uses promises. Between two events everything that became ready has to run, and nothing
 * else; and while it runs nothing may reach for the real clock, real timers or real dice. Those throw
 * here, so that a leak is found by the first run that goes past it.
 */
import crypto from 'node:crypto';
import { syncBuiltinESMExports } from 'node:module';
import type { RandomStream } from '../engine/random.ts';

const realImmediate = globalThis.setImmediate;

/** Resolves when no microtask is left. */
export function drained(): Promise<void> {
  return new Promise((resolve) => {
    realImmediate(resolve);
  });
}

export class RealWorldError extends Error {
  override readonly name = 'RealWorldError';
}

/** Whether whoever called the function that asks is not of this project. */
function isCalledByLibrary(): boolean {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = 3;
  const { stack } = new Error();
  Error.stackTraceLimit = limit;
  return stack?.split('\n')[3]?.includes('/node_modules/') ?? false;
}

type Restored = () => void;

/** Closes the real world until the function returned is called. `soon` takes what has to be later. */
export function closeRealWorld(
  random: RandomStream,
  soon: (run: () => void) => void,
  keepStacks: boolean,
): Restored {
  const restores: Restored[] = [];
  const replace = <T extends object, K extends keyof T>(holder: T, key: K, value: T[K]): void => {
    const before = holder[key];
    holder[key] = value;
    restores.push(() => {
      holder[key] = before;
    });
  };
  const forbid = <T extends object>(holder: T, key: keyof T, name: string): void => {
    const refuse = (): never => {
      throw new RealWorldError(`${name} was called while a simulation runs`);
    };
    replace(holder, key, refuse as T[keyof T]);
  };
  forbid(globalThis, 'setTimeout', 'setTimeout');
  forbid(globalThis, 'setInterval', 'setInterval');
  forbid(Date, 'now', 'Date.now');
  forbid(Math, 'random', 'Math.random');
  replace(performance, 'now', () => {
    // A library may measure: it gets a clock that stands still, which decides nothing.
    if (isCalledByLibrary()) return 0;
    throw new RealWorldError('performance.now was called while a simulation runs');
  });
  forbid(AbortSignal, 'timeout', 'AbortSignal.timeout');
  // The end of a turn is an event like others.
  const immediate = (run: (...given: unknown[]) => void, ...given: unknown[]): void =>
    soon(() => run(...given));
  replace(globalThis, 'setImmediate', immediate as typeof setImmediate);
  const bytes = (count: number): Buffer => {
    const drawn = Buffer.alloc(count);
    for (let at = 0; at < count; at += 1) drawn[at] = random.below(256);
    return drawn;
  };
  replace(crypto, 'randomBytes', bytes as typeof crypto.randomBytes);
  replace(crypto, 'randomInt', ((bound: number) => random.below(bound)) as typeof crypto.randomInt);
  const fill = (target: Uint8Array): Uint8Array => {
    for (let at = 0; at < target.length; at += 1) target[at] = random.below(256);
    return target;
  };
  replace(crypto, 'randomFillSync', fill as typeof crypto.randomFillSync);
  syncBuiltinESMExports();
  // Shipped code makes many errors that nobody reads: their stacks would cost most of the time.
  replace(Error, 'stackTraceLimit', keepStacks ? Error.stackTraceLimit : 0);
  return () => {
    for (const restore of restores.reverse()) restore();
    syncBuiltinESMExports();
  };
}
