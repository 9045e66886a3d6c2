/** What is measured, in terms of what every client can do. */

import { setTimeout as delay } from 'node:timers/promises';
import { closedLoop, enough, type Measurement, openWindow, warmUpMs } from './measure.ts';

/** One connected client; every method is one operation of the store. */
export type BenchClient = {
  put(key: string, value: string): Promise<unknown>;
  /** Linearizable. */
  get(key: string): Promise<string | null>;
  /** Puts `next` if the value is `expected`; says whether it did. */
  swap(key: string, expected: string, next: string): Promise<boolean>;
  /** Acquires a lock nobody else wants; resolves with its release. */
  lock(name: string): Promise<() => Promise<unknown>>;
  /** Resolves once the watcher stands. */
  watch(key: string, onValue: (value: string) => void): Promise<() => Promise<unknown>>;
  close(): Promise<void>;
};

export const rowNames = ['put', 'get', 'txn', 'lock', 'watch'] as const;
export type RowName = (typeof rowNames)[number];

export const rowTitles: { readonly [Name in RowName]: string } = {
  put: 'put, 256 B',
  get: 'linearizable get',
  txn: 'compare and set',
  lock: 'lock and unlock',
  watch: 'watch deliveries',
};

type Row = (
  client: BenchClient,
  concurrency: number,
  durationMs: number,
  space: string,
) => Promise<Measurement>;

const valueBytes = 256;
const value = 'v'.repeat(valueBytes);
/** Revisions that may be on their way to watchers while the writer goes on. */
const revisionsInFlight = 16;

const put: Row = async (client, concurrency, durationMs, space) => {
  let next = 0;
  return await closedLoop(concurrency, durationMs, () =>
    client.put(`${space}${String(next++).padStart(9, '0')}`, value),
  );
};

const get: Row = async (client, concurrency, durationMs, space) => {
  await client.put(space, value);
  return await closedLoop(concurrency, durationMs, async () => {
    if ((await client.get(space)) !== value) throw new Error('the value read is not the one put');
  });
};

const txn: Row = async (client, concurrency, durationMs, space) => {
  const counts = Array.from({ length: concurrency }, () => 0);
  await Promise.all(counts.map((_, caller) => client.put(`${space}${caller}`, '0')));
  return await closedLoop(concurrency, durationMs, async (caller) => {
    const count = counts[caller] ?? 0;
    if (!(await client.swap(`${space}${caller}`, `${count}`, `${count + 1}`)))
      throw new Error('nobody else writes this key, but the comparison failed');
    counts[caller] = count + 1;
  });
};

const lock: Row = async (client, concurrency, durationMs, space) =>
  await closedLoop(concurrency, durationMs, async (caller) => {
    const release = await client.lock(`${space}${caller}`);
    await release();
  });

/**
 * One writer, `concurrency` watchers of the key it writes. Counted are deliveries; their latency is
 * from the start of the put to the watcher. The writer waits when watchers fall behind, so that the
 * rate is one the store keeps up with.
 */
const watch: Row = async (client, concurrency, durationMs, space) => {
  const startsMs: number[] = [];
  const left: number[] = [];
  let done = 0;
  let recording = false;
  let wake: () => void = () => undefined;
  const latenciesMs: number[] = [];
  await client.put(space, 'start');
  const deliver = (text: string): void => {
    const index = Number(text);
    const startMs = startsMs[index];
    if (startMs === undefined) return;
    if (recording) latenciesMs.push(performance.now() - startMs);
    left[index] = (left[index] ?? 0) - 1;
    if (left[index] !== 0) return;
    done += 1;
    wake();
  };
  const cancels = await Promise.all(
    Array.from({ length: concurrency }, () => client.watch(space, deliver)),
  );
  let stopped = false;
  const write = async (): Promise<void> => {
    while (!stopped) {
      if (startsMs.length - done >= revisionsInFlight)
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      const index = startsMs.push(performance.now()) - 1;
      left.push(concurrency);
      await client.put(space, `${index}`);
    }
  };
  const writing = write();
  const timed = async (): Promise<Measurement> => {
    await delay(warmUpMs);
    recording = true;
    const window = openWindow();
    await enough(durationMs, () => latenciesMs.length >= concurrency);
    recording = false;
    return window.close(latenciesMs);
  };
  const timing = timed();
  await Promise.race([timing, writing]);
  const measurement = await timing;
  stopped = true;
  await writing;
  const deadlineMs = performance.now() + 10_000;
  while (done < startsMs.length && performance.now() < deadlineMs) await delay(5);
  await Promise.all(cancels.map((cancel) => cancel()));
  if (done < startsMs.length)
    throw new Error(`${startsMs.length - done} revisions did not reach every watcher`);
  return measurement;
};

export const rows: { readonly [Name in RowName]: Row } = { put, get, txn, lock, watch };
