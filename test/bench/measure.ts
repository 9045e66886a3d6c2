/** Closed loops: so many callers, each with one operation in flight, for so long. */
import { setTimeout as delay } from 'node:timers/promises';

export type Measurement = {
  readonly operationsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Processor time of the client process, in microseconds for each operation. */
  readonly clientMicroseconds: number;
};

/** Runs before the clock starts, so that connections, caches and compiled code are warm. */
export const warmUpMs = 300;

/** A slow machine gets longer: a rate needs at least one operation of every caller. */
const maxDurationMs = 20_000;

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
): Promise<Measurement> {
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
  const timed = async (): Promise<Measurement> => {
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
export function openWindow(): { close(latenciesMs: readonly number[]): Measurement } {
  const startMs = performance.now();
  const start = process.cpuUsage();
  return {
    close: (latenciesMs) => {
      const elapsedSeconds = (performance.now() - startMs) / 1_000;
      const { user, system } = process.cpuUsage(start);
      const sorted = Float64Array.from(latenciesMs).sort();
      return {
        operationsPerSecond: sorted.length / elapsedSeconds,
        p50Ms: quantile(sorted, 0.5),
        p99Ms: quantile(sorted, 0.99),
        clientMicroseconds: (user + system) / Math.max(1, sorted.length),
      };
    },
  };
}

export function quantile(sorted: ArrayLike<number>, fraction: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(fraction * sorted.length))] ?? Number.NaN;
}

export function median(values: readonly number[]): number {
  return quantile(Float64Array.from(values).sort(), 0.5);
}
