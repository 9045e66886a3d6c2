/** 1,000 watchers of one key and a writer that puts again as soon as it was answered. */
import { coldAndWarm, type Measurement, monotonicMs, settleMs, warmUpMs } from '../measure.ts';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';
import { collect, openWatchers, stamp } from './watchers.ts';

type Written = { readonly writes: number; readonly startMs: number };

const writeClosed: Task<{ readonly key: string; readonly durationMs: number }, Written> = {
  name: 'watch-closed.write',
  run: async ({ client }, { key, durationMs }) => {
    const announce = required(client.announce, 'announce');
    const startMs = monotonicMs();
    let writes = 0;
    while (monotonicMs() < startMs + durationMs) {
      await announce(key, stamp());
      writes += 1;
    }
    return { writes, startMs };
  },
};

export const watchClosed: Row = {
  name: 'watch-closed',
  title: 'watch deliveries, closed writer',
  tasks: [openWatchers, collect, writeClosed],
  cases: [
    {
      members: 1,
      concurrency: 1_000,
      figure: 'operationsPerSecond',
      peers: ['etcd'],
      goal: { kind: 'times', times: 3, of: ['etcd'] },
    },
  ],
  measure: async (stage, { concurrency, durationMs, isQuick }) => {
    const key = 'watched';
    const [writer, watchers] = await Promise.all([stage.client(), stage.anotherClient()]);
    try {
      await watchers.call(openWatchers, { key, count: concurrency });
      const writeFor = async (forMs: number): Promise<Measurement> => {
        const { writes, startMs } = await writer.call(writeClosed, { key, durationMs: forMs });
        const expected = writes * concurrency;
        const { deliveries, lastMs, p50Ms, p99Ms } = await watchers.call(collect, { expected });
        // A backlog counts: the rate is taken until the last watcher has the last event.
        return { operationsPerSecond: deliveries / ((lastMs - startMs) / 1_000), p50Ms, p99Ms };
      };
      await writeFor(settleMs);
      const measure = (): Promise<Measurement> => writeFor(durationMs);
      return await coldAndWarm(isQuick, measure, () => writeFor(warmUpMs));
    } finally {
      watchers.stop();
    }
  },
};
