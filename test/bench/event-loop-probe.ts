/**
 * Loaded into a server (`node --import`): measures how late its event loop is. On SIGUSR2 it appends a
 * line with what it saw since the last one to the file that `CONCLAVE_BENCH_EVENT_LOOP` names.
 */
import { appendFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { isMainThread } from 'node:worker_threads';

export const probeVariable = 'CONCLAVE_BENCH_EVENT_LOOP';
export const probeSignal = 'SIGUSR2';

export type EventLoopDelay = { readonly p50Ms: number; readonly p99Ms: number };

const resolutionMs = 1;
const path = process.env[probeVariable];
if (isMainThread && path !== undefined) {
  const histogram = monitorEventLoopDelay({ resolution: resolutionMs });
  histogram.enable();
  // What is recorded is the time between two ticks of a timer: its period is no delay.
  const delayMs = (percentile: number): number =>
    Math.max(0, histogram.percentile(percentile) / 1e6 - resolutionMs);
  process.on(probeSignal, () => {
    const delays: EventLoopDelay = { p50Ms: delayMs(50), p99Ms: delayMs(99) };
    histogram.reset();
    appendFileSync(path, `${JSON.stringify(delays)}\n`);
  });
}
