/** Linearizable reads of one key. */
import { required } from '../task.ts';
import { loopRow, loopTask, value } from './loop.ts';

const getLoop = loopTask('get', async ({ client, space }) => {
  const read = required(client.get, 'get');
  await client.put(space, value);
  return async () => {
    if ((await read(space)) !== value) throw new Error('the value read is not the one put');
  };
});

export const get = loopRow(
  {
    name: 'get',
    title: 'linearizable get',
    cases: [
      {
        members: 1,
        concurrency: 128,
        figure: 'operationsPerSecond',
        peers: ['etcd'],
        goal: { kind: 'times', times: 15, of: ['etcd'] },
      },
    ],
  },
  getLoop,
);
