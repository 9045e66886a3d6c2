/** Puts of 256 bytes, each to a new key. */
import { loopRow, loopTask, value } from './loop.ts';

export const putLoop = loopTask('put', ({ client, space }) => {
  let next = 0;
  return () => client.put(`${space}${String(next++).padStart(9, '0')}`, value);
});

export const put = loopRow(
  {
    name: 'put',
    title: 'put, 256 B',
    cases: [
      {
        title: 'put, 256 B, median',
        members: 1,
        concurrency: 1,
        figure: 'p50Ms',
        peers: ['etcd', 'redis', 'nats'],
        goal: { kind: 'atMost', limit: 0.3 },
      },
      {
        members: 1,
        concurrency: 16,
        figure: 'operationsPerSecond',
        peers: ['etcd', 'redis'],
      },
      {
        members: 1,
        concurrency: 128,
        figure: 'operationsPerSecond',
        peers: ['etcd', 'redis'],
        goal: { kind: 'times', times: 15, of: ['etcd'] },
      },
      {
        members: 1,
        concurrency: 1024,
        figure: 'operationsPerSecond',
        peers: ['etcd', 'redis'],
      },
      {
        members: 3,
        concurrency: 128,
        figure: 'operationsPerSecond',
        peers: ['etcd', 'zookeeper'],
        goal: { kind: 'times', times: 15, of: ['etcd', 'zookeeper'] },
      },
    ],
  },
  putLoop,
);
