/** Locks that nobody else wants: every caller locks and unlocks one of its own. */
import { required } from '../task.ts';
import { loopRow, loopTask } from './loop.ts';

/** Figures within this factor of each other are equal: so much two runs differ. */
const level = 1 / 1.3;

const lockLoop = loopTask('lock', ({ client, space }) => {
  const acquire = required(client.lock, 'lock');
  return async (caller) => {
    const release = await acquire(`${space}${caller}`);
    await release();
  };
});

export const lock = loopRow(
  {
    name: 'lock',
    title: 'lock and unlock, different locks',
    cases: [
      {
        members: 1,
        concurrency: 128,
        figure: 'operationsPerSecond',
        peers: ['redis', 'etcd'],
        goal: { kind: 'times', times: level, of: ['redis'] },
        remarks: { redis: 'redlock' },
      },
    ],
  },
  lockLoop,
);
