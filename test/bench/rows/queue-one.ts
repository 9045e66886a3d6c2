/** One job at a time through an idle queue: from the call of push to the call of the handler. */
import { setTimeout as delay } from 'node:timers/promises';
import {
  coldAndWarm,
  latencies,
  type Measurement,
  repeatUntilWarm,
  type Times,
  warmUpOneByOneMs,
} from '../measure.ts';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';
import { valueBytes } from './loop.ts';

/** Until the queue has settled the job before and is idle again. */
const pauseMs = 10;
const settlingJobs = 10;

const oneByOne: Task<Times, Measurement> = {
  name: 'queue-one',
  run: async ({ client, space }, { durationMs, isQuick }) => {
    const queue = await required(client.queue, 'queue')(`${space}jobs`);
    let handled: () => void = () => undefined;
    const stop = await queue.consume(1, () => handled());
    const payload = ' '.repeat(valueBytes);
    const one = async (): Promise<number> => {
      const arrived = new Promise<number>((resolve) => {
        handled = () => resolve(performance.now());
      });
      const startMs = performance.now();
      await queue.push(payload);
      return (await arrived) - startMs;
    };
    const spaced = async (): Promise<number> => {
      const latencyMs = await one();
      await delay(pauseMs);
      return latencyMs;
    };
    const measure = async (): Promise<Measurement> => {
      const latenciesMs: number[] = [];
      const endMs = performance.now() + durationMs;
      while (performance.now() < endMs) latenciesMs.push(await spaced());
      return latencies(latenciesMs);
    };
    for (let job = 0; job < settlingJobs; job += 1) await spaced();
    const measurement = await coldAndWarm(isQuick, measure, async () => {
      await repeatUntilWarm(one, warmUpOneByOneMs);
      await delay(pauseMs);
    });
    await stop();
    await queue.close();
    return measurement;
  },
};

export const queueOne: Row = {
  name: 'queue-one',
  title: 'queue, one job at a time, median',
  tasks: [oneByOne],
  cases: [
    {
      members: 1,
      concurrency: 1,
      figure: 'p50Ms',
      peers: ['redis', 'nats'],
      goal: { kind: 'atMost', limit: 0.9 },
      remarks: { redis: 'BullMQ' },
    },
  ],
  measure: async (stage, settings) => await (await stage.client()).call(oneByOne, settings),
};
