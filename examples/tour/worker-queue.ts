/** Works on the queue. Writes down every job it begins, so that being killed leaves a trace. */
import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { connect, json } from '../../recipes/index.ts';
import { report, requiredVariable } from './processes.ts';

export type Job = { readonly number: number };
export type QueueReport =
  | { readonly kind: 'begun'; readonly number: number; readonly attempt: number }
  | { readonly kind: 'acknowledged'; readonly number: number };

const journal = requiredVariable('TOUR_JOURNAL');
const WORK_MS = 3;

await using conclave = await connect(requiredVariable('TOUR_ENDPOINT'));
const session = await conclave.session({ ttl: requiredVariable('TOUR_TTL') });
const worker = session.worker<Job, number>(
  'tour/jobs',
  async (job) => {
    appendFileSync(journal, `${job.data.number}\n`);
    void report({ kind: 'begun', number: job.data.number, attempt: job.attempt });
    await delay(WORK_MS);
    return job.data.number;
  },
  { codec: json<Job>(), concurrency: 8, visibility: requiredVariable('TOUR_TTL') },
);
worker.events$.subscribe((event) => {
  if (event.type === 'done') void report({ kind: 'acknowledged', number: event.job.data.number });
});
await new Promise<void>((resolve) => {
  process.once('SIGTERM', () => resolve());
});
await worker.close();
await session.close();
process.disconnect();
