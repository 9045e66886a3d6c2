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

/** The figure of processes that have just been started, beside the one of those that are warm. */
export type ColdFigure = `cold${Capitalize<Figure>}`;
export const coldFigureOf = (figure: Figure): ColdFigure =>
  `cold${figure.charAt(0).toUpperCase()}${figure.slice(1)}` as ColdFigure;

/** What was measured; a row has the figures that mean something there. */
export type Measurement = { readonly [Name in Figure | ColdFigure]?: number } & {
  /** Processor time of the client process, in microseconds for each operation. */
  readonly clientMicroseconds?: number;
  /** Processor time of all members, in microseconds for each operation. */
  readonly serverMicroseconds?: number;
  /** Turns of the caller that had the fewest, for each turn of the one that had most. */
  readonly fairness?: number;
  /** Of the resident memory what is the process's own, without pages of files. */
  readonly anonymousMb?: number;
};

export type LoopMeasurement = {
  readonly operationsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly clientMicroseconds: number;
};

/** Before anything is counted, also before the cold figure: connections open, callers start. */
export const settleMs = 300;

/**
 * Node and the JVM compile what runs often, while they run it: a process is at its speed after seconds
 * only, and stays there. On two processors Node's rates stop rising after 3 s, ZooKeeper's after 5.
 */
export const warmUpMs = 5_000;

/**
 * And so many operations, as code is compiled for how often it runs, not how long: what passes from one
 * caller to the next is far slower than what many do side by side.
 */
const warmUpLoopOperations = 10_000;
const warmUpLongestMs = 15_000;

/** The same where there is one operation at a time. */
const warmUpOperations = 2_000;
/** What these may take at most, where an operation is a few exchanges. */
export const warmUpOneByOneMs = 10_000;

/** A slow machine gets longer: a rate needs at least one operation of every caller. */
const maxDurationMs = 20_000;

/** A clock that all processes of this machine share. */
export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Waits for the duration, and on until `isEnough`. */
async function enough(durationMs: number, isEnough: () => boolean): Promise<void> {
  const endMs = performance.now() + Math.max(durationMs, maxDurationMs);
  await delay(durationMs);
  while (!isEnough() && performance.now() < endMs) await delay(durationMs / 4);
}

/** What a loop is told of time. */
export type Times = {
  readonly durationMs: number;
  /** The figures are not going to be believed: measure once, as soon as everything runs. */
  readonly isQuick: boolean;
};

/** Measures, warms up and measures again. What was measured first is the cold figure. */
export async function coldAndWarm<Measured extends Measurement>(
  isQuick: boolean,
  measure: () => Promise<Measured>,
  warmUp: () => Promise<unknown>,
): Promise<Measured & Measurement> {
  const first = await measure();
  if (isQuick) return first;
  await warmUp();
  const cold = figures.flatMap((figure) => {
    const value = first[figure];
    return value === undefined ? [] : [[coldFigureOf(figure), value]];
  });
  return { ...(await measure()), ...Object.fromEntries(cold) };
}

export async function repeatUntilWarm(
  operation: () => Promise<unknown>,
  longestMs: number,
): Promise<void> {
  const endMs = performance.now() + longestMs;
  for (let count = 0; count < warmUpOperations && performance.now() < endMs; count += 1)
    await operation();
}

/** Latencies of a loop that runs all the time, of which some spans are measured. */
export class LoopRecorder {
  readonly #times: Times;
  /** A span has at least so many operations. */
  readonly #operationsMin: number;
  #latenciesMs: number[] | undefined;
  #operations = 0;

  constructor(times: Times, operationsMin: number) {
    this.#times = times;
    this.#operationsMin = operationsMin;
  }

  record(latencyMs: number): void {
    this.#operations += 1;
    this.#latenciesMs?.push(latencyMs);
  }

  /** Called when the loop starts. */
  async measure(): Promise<LoopMeasurement & Measurement> {
    const startMs = performance.now();
    await delay(settleMs);
    return await coldAndWarm(
      this.#times.isQuick,
      () => this.#measureSpan(),
      () => this.#warmUp(startMs),
    );
  }

  async #warmUp(startMs: number): Promise<void> {
    const isCold = () => {
      const elapsedMs = performance.now() - startMs;
      const isUsed = elapsedMs >= warmUpMs && this.#operations >= warmUpLoopOperations;
      return !isUsed && elapsedMs < warmUpLongestMs;
    };
    while (isCold()) await delay(100);
  }

  async #measureSpan(): Promise<LoopMeasurement> {
    const latenciesMs: number[] = [];
    this.#latenciesMs = latenciesMs;
    const startMs = performance.now();
    const start = process.cpuUsage();
    await enough(this.#times.durationMs, () => latenciesMs.length >= this.#operationsMin);
    this.#latenciesMs = undefined;
    const { user, system } = process.cpuUsage(start);
    return {
      operationsPerSecond: latenciesMs.length / ((performance.now() - startMs) / 1_000),
      ...latencies(latenciesMs),
      clientMicroseconds: (user + system) / Math.max(1, latenciesMs.length),
    };
  }
}

export async function closedLoop(
  callers: number,
  times: Times,
  operation: (caller: number) => Promise<unknown>,
): Promise<LoopMeasurement> {
  const recorder = new LoopRecorder(times, callers);
  let stopped = false;
  const loops = Array.from({ length: callers }, async (_, caller) => {
    while (!stopped) {
      const startMs = performance.now();
      await operation(caller);
      recorder.record(performance.now() - startMs);
    }
  });
  const failed = Promise.all(loops);
  const timing = recorder.measure();
  try {
    // An operation that fails ends the measurement: a rate with errors in it means nothing.
    await Promise.race([timing, failed]);
    return await timing;
  } finally {
    stopped = true;
    await failed;
  }
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
