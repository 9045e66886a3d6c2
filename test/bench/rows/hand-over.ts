/** One lock that all callers want all the time: how often it passes on, and whether in turn. */
import { closedLoop, type LoopMeasurement } from '../measure.ts';
import type { Row } from '../row.ts';
import { required, type Task } from '../task.ts';
import type { LoopArgument } from './loop.ts';

type HandOver = LoopMeasurement & { readonly fairness: number };

const handOverLoop: Task<LoopArgument, HandOver> = {
  name: 'hand-over',
  run: async ({ client, space }, { concurrency, ...times }) => {
    const acquire = required(client.waitForLock, 'waitForLock');
    const turns = Array.from({ length: concurrency }, () => 0);
    let holders = 0;
    const measurement = await closedLoop(concurrency, times, async (caller) => {
      const release = await acquire(`${space}lock`);
      holders += 1;
      if (holders > 1) throw new Error('two hold the lock');
      turns[caller] = (turns[caller] ?? 0) + 1;
      holders -= 1;
      await release();
    });
    return { ...measurement, fairness: Math.min(...turns) / Math.max(1, ...turns) };
  },
};

export const handOver: Row = {
  name: 'hand-over',
  title: 'hand-overs of one lock',
  isAdjustable: true,
  tasks: [handOverLoop],
  cases: [
    {
      members: 1,
      concurrency: 64,
      figure: 'operationsPerSecond',
      peers: ['etcd', 'zookeeper', 'redis'],
      goal: { kind: 'atLeast', limit: 3_000 },
      remarks: { etcd: 'Election as lock', redis: 'redlock, unfair' },
      // Whoever polls first wins, mostly the one that just released: not a hand-over.
      incomparable: ['redis'],
    },
  ],
  measure: (stage, settings) => stage.loop(handOverLoop, settings),
};
