/**
 * Works on the queue. Writes down, in a file, every job it begins and every acknowledgement that the
 * store has confirmed, so that what a killed worker did can still be counted.
 */
import { appendFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { connect, json } from '../../recipes/index.ts';
import { report, requiredVariable } from './processes.ts';

export type Job = { readonly number: number };
export type Done = { readonly by: number };
export type QueueReport = { readonly kind: 'lingering' | 'acknowledged' };

const journal = requiredVariable('TOUR_JOURNAL');
const WORK_MS = 3;
const LINGER_MS = 60_000;

/** The tour wants to kill this worker in the middle of a job: the next ones take their time. */
let lingers = false;
process.once('message', () => {
  lingers = true;
});

await using conclave = await connect(requiredVariable('TOUR_ENDPOINT'));
const session = await conclave.session({ ttl: requiredVariable('TOUR_TTL') });
const worker = session.worker<Job, Done>(
  'tour/jobs',
  async (job) => {
    appendFileSync(journal, `begun ${job.id}\n`);
    if (lingers) void report({ kind: 'lingering' });
    await delay(lingers ? LINGER_MS : WORK_MS);
    return { by: process.pid };
  },
  {
    codec: json<Job>(),
    concurrency: 8,
    visibility: requiredVariable('TOUR_TTL'),
    keepResults: '10m',
  },
);
worker.events$.subscribe((event) => {
  if (event.type !== 'done') return;
  appendFileSync(journal, `acknowledged ${event.id}\n`);
  void report({ kind: 'acknowledged' });
});
await new Promise<void>((resolve) => {
  process.once('SIGTERM', () => resolve());
});
await worker.close();
await session.close();
process.disconnect();
