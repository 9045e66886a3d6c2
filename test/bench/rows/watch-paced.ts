/** 1,000 watchers of one key and ten events a second: from the call of the writer to each watcher. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';
import { collect, openWatchers, stamp } from './watchers.ts';

const eventsPerSecond = 10;
const secondsMin = 3;
const quickEvents = 8;

const writePaced: Task<{ readonly key: string; readonly events: number }, void> = {
  name: 'watch-paced.write',
  run: async ({ client }, { key, events }) => {
    const announce = required(client.announce, 'announce');
    for (let event = 0; event < events; event += 1) {
      await announce(key, stamp());
      await delay(1_000 / eventsPerSecond);
    }
  },
};

export const watchPaced: Row = {
  name: 'watch-paced',
  title: 'watch latency p99, watchers, 10 events/s',
  tasks: [writePaced],
  cases: [
    {
      members: 1,
      concurrency: 1_000,
      figure: 'p99Ms',
      peers: ['redis', 'etcd'],
      goal: { kind: 'atMost', limit: 10 },
      remarks: { redis: 'pub/sub, nothing is stored' },
    },
  ],
  measure: async (stage, { concurrency, durationMs, isQuick }) => {
    const key = 'watched';
    const events = isQuick
      ? quickEvents
      : eventsPerSecond * Math.max(secondsMin, durationMs / 1_000);
    const [writer, watchers] = await Promise.all([stage.client(), stage.anotherClient()]);
    await watchers.call(openWatchers, { key, count: concurrency });
    await writer.call(writePaced, { key, events: Math.round(events) });
    const expected = Math.round(events) * concurrency;
    const { p50Ms, p99Ms } = await watchers.call(collect, { expected });
    return { p50Ms, p99Ms };
  },
};
