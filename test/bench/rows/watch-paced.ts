/** 1,000 watchers of one key and ten events a second: from the call of the writer to each watcher. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';
import { collect, openWatchers, type Received, stamp } from './watchers.ts';

const eventsPerSecond = 10;
const secondsMin = 3;
const quickEvents = 8;
const warmUpEvents = 5;

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
  title: 'watch latency p99, 10 events/s',
  tasks: [openWatchers, collect, writePaced],
  cases: [
    {
      members: 1,
      concurrency: 1_000,
      figure: 'p99Ms',
      peers: ['redis', 'etcd'],
      goal: { kind: 'atMost', limit: 10 },
      remarks: { redis: 'pub/sub' },
    },
  ],
  measure: async (stage, { concurrency, durationMs, isQuick }) => {
    const key = 'watched';
    const [writer, watchers] = await Promise.all([stage.client(), stage.anotherClient()]);
    try {
      await watchers.call(openWatchers, { key, count: concurrency });
      const write = async (events: number): Promise<Received> => {
        await writer.call(writePaced, { key, events });
        return await watchers.call(collect, { expected: events * concurrency });
      };
      await write(warmUpEvents);
      const seconds = Math.max(secondsMin, durationMs / 1_000);
      const { p50Ms, p99Ms } = await write(
        isQuick ? quickEvents : Math.round(eventsPerSecond * seconds),
      );
      return { p50Ms, p99Ms };
    } finally {
      watchers.stop();
    }
  },
};
