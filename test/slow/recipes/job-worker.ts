/** A process that works on the jobs of a queue until it is killed. */
import { setTimeout as delay } from 'node:timers/promises';
import { connect } from '../../../recipes/index.ts';
import { childSettings } from './children.ts';
import { type JobSettings, resultOf } from './jobs.ts';

const { endpoints, queue } = childSettings<JobSettings>();
const conclave = await connect(endpoints);
const session = await conclave.session({ ttl: '2s' });
session.worker<number, number>(
  queue,
  async ({ data }) => {
    // Long enough to be killed in the middle now and then.
    if (data % 50 === 0) await delay(20);
    return resultOf(data);
  },
  { concurrency: 16, visibility: '5s', maxAttempts: 1_000, keepResults: '10m' },
);
process.send?.('at work');
process.on('disconnect', () => process.exit());
