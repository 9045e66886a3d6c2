/** Users who do not write for Node: etcd's own Go client, unchanged, against either server. */
import { missingGoClient, prepareGoClient, runGoClient } from '../go-client.ts';
import type { Goal, Row } from '../row.ts';
import { withServerTime } from '../stage.ts';

const goRow = (operation: 'put' | 'get', title: string, goal: Goal): Row => ({
  name: `go-${operation}`,
  title,
  driver: 'go',
  missing: missingGoClient,
  prepare: prepareGoClient,
  isAdjustable: true,
  cases: [
    {
      members: 1,
      concurrency: 128,
      figure: 'operationsPerSecond',
      peers: ['etcd'],
      goal,
    },
  ],
  measure: async (stage, { concurrency, ...times }) => {
    const { endpoints, pids } = await stage.cluster();
    return await withServerTime(pids, () => runGoClient(endpoints, operation, concurrency, times));
  },
});

export const goPut = goRow('put', "put, etcd's Go client", {
  kind: 'times',
  times: 1,
  of: ['etcd'],
});

export const goGet = goRow('get', "linearizable get, etcd's Go client", {
  kind: 'times',
  times: 2,
  of: ['etcd'],
});
