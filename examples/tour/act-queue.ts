/** Third act: 1,000 jobs, four workers, one of which is killed in the middle of its jobs. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { json } from '../../recipes/index.ts';
import { type Check, check } from './check.ts';
import { startChild } from './processes.ts';
import { heading, startBar } from './progress.ts';
import type { Stage } from './stage.ts';
import type { Job, QueueReport } from './worker-queue.ts';

const JOBS = 1_000;
const WORKERS = 4;
const KILL_AFTER = 250;
const TTL = '3s';

export async function actQueue(stage: Stage): Promise<readonly Check[]> {
  heading(`A work queue: ${JOBS} jobs, ${WORKERS} workers, one is killed in the middle of a job`);
  const session = await stage.conclave.session();
  const queue = session.queue<Job>('tour/jobs', { codec: json<Job>() });
  await Promise.all(Array.from({ length: JOBS }, (_, number) => queue.push({ number })));

  const bar = startBar('jobs', JOBS);
  const acknowledged = new Map<number, number>();
  const attempts = new Map<number, number>();
  const journals: string[] = [];
  let finish: () => void = () => {};
  const finished = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const workers = Array.from({ length: WORKERS }, (_, i) => {
    const journal = join(stage.directory, `worker-${i}.journal`);
    journals.push(journal);
    return startChild<QueueReport>('worker-queue', {
      TOUR_ENDPOINT: stage.endpoint,
      TOUR_JOURNAL: journal,
      TOUR_TTL: TTL,
    });
  });
  const victim = workers[0];
  if (victim === undefined) throw new Error('the act needs a worker');
  const inHand = new Set<number>();
  let interrupted: readonly number[] | undefined;
  for (const worker of workers) {
    worker.onMessage((message) => {
      if (message.kind === 'begun') {
        attempts.set(message.number, Math.max(message.attempt, attempts.get(message.number) ?? 0));
        if (worker === victim) inHand.add(message.number);
        if (worker === victim && acknowledged.size >= KILL_AFTER && interrupted === undefined) {
          interrupted = [...inHand];
          void victim.kill();
        }
        return;
      }
      acknowledged.set(message.number, (acknowledged.get(message.number) ?? 0) + 1);
      inHand.delete(message.number);
      const note = interrupted === undefined ? '' : `process ${victim.pid} was killed`;
      bar.update(acknowledged.size, note);
      if (acknowledged.size >= JOBS) finish();
    });
  }
  const emptied = waitUntilEmpty(queue);
  await Promise.race([finished, emptied]);
  await emptied;
  await Promise.all(workers.slice(1).map((worker) => worker.stop()));
  bar.finish(
    `${JOBS} jobs, process ${victim.pid} was killed with ${interrupted?.length ?? 0} in hand`,
  );

  const begun = new Set<string>();
  for (const journal of journals) {
    for (const line of (await readFile(journal, 'utf8')).split('\n')) {
      if (line !== '') begun.add(line);
    }
  }
  const twice = [...acknowledged.values()].filter((count) => count > 1).length;
  const redelivered = [...attempts.values()].filter((attempt) => attempt > 1).length;
  const stats = await queue.stats();
  await session.close();
  return [
    check('no job was lost', begun.size === JOBS, `${begun.size} of ${JOBS} jobs were done`),
    check('no job was acknowledged twice', twice === 0, `${twice} acknowledged more than once`),
    check(
      'the jobs of the killed worker were given to others',
      interrupted !== undefined && interrupted.length > 0 && redelivered > 0,
      `${interrupted?.length ?? 0} in hand when it died, ${redelivered} delivered again`,
    ),
    check(
      'the queue is empty at the end',
      stats.ready + stats.delayed + stats.active + stats.dead === 0,
      `ready ${stats.ready}, delayed ${stats.delayed}, active ${stats.active}, dead ${stats.dead}`,
    ),
  ];
}

/** The store's own word that nothing is left, independent of what the workers report. */
async function waitUntilEmpty(queue: {
  stats(): Promise<{ ready: number; delayed: number; active: number }>;
}): Promise<void> {
  for (;;) {
    const { ready, delayed, active } = await queue.stats();
    if (ready + delayed + active === 0) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
