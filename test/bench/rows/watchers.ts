/** A process full of watchers of one key, for the rows that write to it from another process. */

import { waitFor } from '../../support/wait.ts';
import { latencies, monotonicMs } from '../measure.ts';
import { required, type Task } from '../task.ts';
import { valueBytes } from './loop.ts';

const connections = 10;
/** How long the last event may take to reach the last watcher. */
const drainTimeoutMs = 60_000;

/** Of this process. */
type Watching = { latenciesMs: number[]; lastMs: number };
let watching: Watching | undefined;

/** What a writer puts: when it did, on the clock that the processes share. */
export const stamp = (): string => `${monotonicMs()}`.padEnd(valueBytes);

/** Resolves when all watchers stand. They end with their process. */
export const openWatchers: Task<{ readonly key: string; readonly count: number }, void> = {
  name: 'watchers.open',
  run: async ({ connect }, { key, count }) => {
    const clients = await Promise.all(Array.from({ length: connections }, connect));
    const own: Watching = { latenciesMs: [], lastMs: 0 };
    watching = own;
    const receive = (text: string): void => {
      own.lastMs = monotonicMs();
      own.latenciesMs.push(own.lastMs - Number(text.trimEnd()));
    };
    await Promise.all(
      clients.flatMap((client, number) =>
        Array.from({ length: shareOf(number, count) }, () =>
          required(client.watch, 'watch')(key, receive),
        ),
      ),
    );
  },
};

const shareOf = (connection: number, count: number): number =>
  Math.floor(count / connections) + (connection < count % connections ? 1 : 0);

export type Received = {
  readonly deliveries: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** When the last event came, on the clock that the processes share. */
  readonly lastMs: number;
};

/** Waits until so many events came since the last call. Rejects when some do not, or more do. */
export const collect: Task<{ readonly expected: number }, Received> = {
  name: 'watchers.collect',
  run: async (_, { expected }) => {
    const own = watching;
    if (own === undefined) throw new Error('no watchers were opened');
    await waitFor(
      `${expected} deliveries`,
      () => (own.latenciesMs.length >= expected ? true : undefined),
      { timeoutMs: drainTimeoutMs, intervalMs: 5 },
    );
    const { latenciesMs, lastMs } = own;
    if (latenciesMs.length > expected)
      throw new Error(`${latenciesMs.length} deliveries, of ${expected} that were due`);
    own.latenciesMs = [];
    return { deliveries: latenciesMs.length, ...latencies(latenciesMs), lastMs };
  },
};
