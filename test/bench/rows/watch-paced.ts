/** 1,000 watchers of one key and ten events a second: from the call of the writer to each watcher. */
import { setTimeout as delay } from 'node:timers/promises';
import { coldAndWarm, type Measurement, repeatUntilWarm, warmUpMs } from '../measure.ts';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';
import { collect, openWatchers, stamp } from './watchers.ts';

const eventsPerSecond = 10;
const secondsMin = 3;
const quickEvents = 8;
const settlingEvents = 5;
const pauseMs = 1_000 / eventsPerSecond;

type WriteArgument = { readonly key: string; readonly events: number; readonly pauseMs: number };

const writePaced: Task<WriteArgument, void> = {
  name: 'watch-paced.write',
  run: async ({ client }, { key, events, pauseMs: pause }) => {
    const announce = required(client.announce, 'announce');
    for (let event = 0; event < events; event += 1) {
      await announce(key, stamp());
      await delay(pause);
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
      const write = async (events: number, pause = pauseMs): Promise<Measurement> => {
        await writer.call(writePaced, { key, events, pauseMs: pause });
        const expected = events * concurrency;
        const { p50Ms, p99Ms } = await watchers.call(collect, { expected });
        return { p50Ms, p99Ms };
      };
      await write(settlingEvents);
      const seconds = Math.max(secondsMin, durationMs / 1_000);
      const events = isQuick ? quickEvents : Math.round(eventsPerSecond * seconds);
      const measure = (): Promise<Measurement> => write(events);
      return await coldAndWarm(isQuick, measure, () =>
        repeatUntilWarm(() => write(1, 0), warmUpMs),
      );
    } finally {
      watchers.stop();
    }
  },
};
