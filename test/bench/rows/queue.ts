/** Jobs from producers to consumers: as many as the system carries with a bounded backlog. */
import { type LoopMeasurement, LoopRecorder, monotonicMs } from '../measure.ts';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';
import { type LoopArgument, valueBytes } from './loop.ts';

/** Jobs that may wait, for each producer: more would measure an ever longer queue. */
const backlogPerProducer = 8;

const flow: Task<LoopArgument, LoopMeasurement> = {
  name: 'queue',
  run: async ({ client, space }, { concurrency, ...times }) => {
    const queue = await required(client.queue, 'queue')(`${space}jobs`);
    const backlogMax = concurrency * backlogPerProducer;
    let backlog = 0;
    let stopped = false;
    const recorder = new LoopRecorder(times, concurrency);
    const waiting: (() => void)[] = [];
    const stop = await queue.consume(concurrency, (job) => {
      backlog -= 1;
      recorder.record(monotonicMs() - Number(job.trimEnd()));
      waiting.shift()?.();
    });
    const producers = Array.from({ length: concurrency }, async () => {
      while (!stopped) {
        if (backlog >= backlogMax) {
          await new Promise<void>((resolve) => waiting.push(resolve));
          continue;
        }
        backlog += 1;
        await queue.push(`${monotonicMs()}`.padEnd(valueBytes));
      }
    });
    const producing = Promise.all(producers);
    const timing = recorder.measure();
    await Promise.race([timing, producing]);
    const measurement = await timing;
    stopped = true;
    for (const wake of waiting) wake();
    await producing;
    await stop();
    await queue.close();
    return measurement;
  },
};

export const queue: Row = {
  name: 'queue',
  title: 'queue, as many producers as consumers',
  isAdjustable: true,
  tasks: [flow],
  cases: [
    {
      members: 1,
      concurrency: 64,
      figure: 'operationsPerSecond',
      peers: ['nats', 'redis', 'etcd'],
      goal: { kind: 'times', times: 1, of: ['nats'] },
      remarks: { redis: 'BullMQ', etcd: 'own recipe, without claims' },
    },
  ],
  measure: (stage, settings) => stage.loop(flow, settings),
};
