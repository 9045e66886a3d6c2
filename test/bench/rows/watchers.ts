/** A process full of watchers of one key, for the rows that write to it from another process. */

import { waitFor } from '../../support/wait.ts';
import type { BenchClient, Release } from '../adapters/client.ts';
import { latencies, monotonicMs } from '../measure.ts';
import { required, type Task } from '../task.ts';
import { valueBytes } from './loop.ts';

const connections = 10;
/** How long the last event may take to reach the last watcher. */
const drainTimeoutMs = 60_000;

type Watching = {
  readonly clients: readonly BenchClient[];
  readonly releases: readonly Release[];
  readonly latenciesMs: number[];
  lastMs: number;
};
let watching: Watching | undefined;

/** What a writer puts: when it did, on the clock that the processes share. */
export const stamp = (): string => `${monotonicMs()}`.padEnd(valueBytes);

/** Resolves when all watchers stand. */
export const openWatchers: Task<{ readonly key: string; readonly count: number }, void> = {
  name: 'watchers.open',
  run: async ({ connect }, { key, count }) => {
    const clients = await Promise.all(Array.from({ length: connections }, connect));
    const latenciesMs: number[] = [];
    const receive = (text: string): void => {
      const nowMs = monotonicMs();
      latenciesMs.push(nowMs - Number(text.trimEnd()));
      if (watching !== undefined) watching.lastMs = nowMs;
    };
    const releases = await Promise.all(
      Array.from({ length: count }, async (_, index) => {
        const client = clients[index % connections] as BenchClient;
        return await required(client.watch, 'watch')(key, receive);
      }),
    );
    watching = { clients, releases, latenciesMs, lastMs: 0 };
  },
};

export type Received = {
  readonly deliveries: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** When the last event came, on the clock that the processes share. */
  readonly lastMs: number;
};

/** Waits until so many events came and tells of them. Rejects when some do not come. */
export const collect: Task<{ readonly expected: number }, Received> = {
  name: 'watchers.collect',
  run: async (_, { expected }) => {
    if (watching === undefined) throw new Error('no watchers were opened');
    const { latenciesMs, releases, clients } = watching;
    await waitFor(
      `${expected} deliveries`,
      () => (latenciesMs.length >= expected ? true : undefined),
      { timeoutMs: drainTimeoutMs, intervalMs: 5 },
    );
    if (latenciesMs.length > expected)
      throw new Error(`${latenciesMs.length} deliveries of ${expected} events`);
    const { lastMs } = watching;
    watching = undefined;
    await Promise.all(releases.map((release) => release()));
    await Promise.all(clients.map((client) => client.close()));
    return { deliveries: latenciesMs.length, ...latencies(latenciesMs), lastMs };
  },
};
