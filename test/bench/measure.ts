/** Closed loops: so many callers, each with one operation in flight, for so long. */
import { setTimeout as delay } from 'node:timers/promises';

export const figures = [
  'operationsPerSecond',
  'p50Ms',
  'p99Ms',
  'elapsedMs',
  'residentMb',
] as const;
export type Figure = (typeof figures)[number];

/** What was measured; a row has the figures that mean something there. */
export type Measurement = { readonly [Name in Figure]?: number } & {
  /** Processor time of the client process, in microseconds for each operation. */
  readonly clientMicroseconds?: number;
  /** Processor time of all members, in microseconds for each operation. */
  readonly serverMicroseconds?: number;
  /** Turns of the caller that had the fewest, for each turn of the one that had most. */
  readonly fairness?: number;
};

export type LoopMeasurement = {
  readonly operationsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly clientMicroseconds: number;
};

/** Runs before the clock starts, so that connections, caches and compiled code are warm. */
export const warmUpMs = 300;

/** A slow machine gets longer: a rate needs at least one operation of every caller. */
const maxDurationMs = 20_000;

/** A clock that all processes of this machine share. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Waits for the duration, and on until `isEnough`. */
export async function enough(durationMs: number, isEnough: () => boolean): Promise<void> {
  const endMs = performance.now() + Math.max(durationMs, maxDurationMs);
  await delay(durationMs);
  while (!isEnough() && performance.now() < endMs) await delay(durationMs / 4);
}

export async function closedLoop(
  callers: number,
  durationMs: number,
  operation: (caller: number) => Promise<unknown>,
): Promise<LoopMeasurement> {
  let recording = false;
  let stopped = false;
  const latenciesMs: number[] = [];
  const loops = Array.from({ length: callers }, async (_, caller) => {
    while (!stopped) {
      const startMs = performance.now();
      await operation(caller);
      if (recording) latenciesMs.push(performance.now() - startMs);
    }
  });
  const failed = Promise.all(loops);
  const timed = async (): Promise<LoopMeasurement> => {
    await delay(warmUpMs);
    recording = true;
    const window = openWindow();
    await enough(durationMs, () => latenciesMs.length >= callers);
    recording = false;
    return window.close(latenciesMs);
  };
  const timing = timed();
  try {
    // An operation that fails ends the measurement: a rate with errors in it means nothing.
    await Promise.race([timing, failed]);
    return await timing;
  } finally {
    stopped = true;
    await failed;
  }
}

/** A span of time over which operations and processor time are counted. */
export function openWindow(): { close(latenciesMs: readonly number[]): LoopMeasurement } {
  const startMs = performance.now();
  const start = process.cpuUsage();
  return {
    close: (latenciesMs) => {
      const elapsedSeconds = (performance.now() - startMs) / 1_000;
      const { user, system } = process.cpuUsage(start);
      return {
        operationsPerSecond: latenciesMs.length / elapsedSeconds,
        ...latencies(latenciesMs),
        clientMicroseconds: (user + system) / Math.max(1, latenciesMs.length),
      };
    },
  };
}

export function latencies(unsortedMs: readonly number[]): { p50Ms: number; p99Ms: number } {
  const sorted = Float64Array.from(unsortedMs).sort();
  return { p50Ms: quantile(sorted, 0.5), p99Ms: quantile(sorted, 0.99) };
}

export function quantile(sorted: ArrayLike<number>, fraction: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return quantile(Float64Array.from(values).sort(), 0.5);
}
