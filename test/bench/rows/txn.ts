/** Compare and set: every caller counts in a key of its own. */
import { required } from '../task.ts';
import { loopRow, loopTask } from './loop.ts';

const txnLoop = loopTask('txn', async ({ client, space }, concurrency) => {
  const swap = required(client.swap, 'swap');
  const counts = Array.from({ length: concurrency }, () => 0);
  await Promise.all(counts.map((_, caller) => client.put(`${space}${caller}`, '0')));
  return async (caller) => {
    const count = counts[caller] ?? 0;
    if (!(await swap(`${space}${caller}`, `${count}`, `${count + 1}`)))
      throw new Error('nobody else writes this key, but the comparison failed');
    counts[caller] = count + 1;
  };
});

export const txn = loopRow(
  {
    name: 'txn',
    title: 'compare and set',
    cases: [
      {
        members: 1,
        concurrency: 128,
        figure: 'operationsPerSecond',
        peers: ['etcd', 'zookeeper'],
        goal: { kind: 'times', times: 12, of: ['etcd', 'zookeeper'] },
      },
    ],
  },
  txnLoop,
);
