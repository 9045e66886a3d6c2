/** Fourth act: 1,000 jobs, four workers; one of them and the store's leader are killed on the way. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { json } from '../../recipes/index.ts';
import { type Check, check } from './check.ts';
import { startChild } from './processes.ts';
import { heading, startBar } from './progress.ts';
import type { Stage } from './stage.ts';
import type { Done, Job, QueueReport } from './worker-queue.ts';

const JOBS = 1_000;
const WORKERS = 4;
const KILL_AFTER = 250;
/** Acknowledged jobs after which the member that leads the store is killed, and comes back. */
const STORE_KILL_AT = 450;
const STORE_BACK_AT = 700;
const TTL = '3s';

export async function actQueue(stage: Stage): Promise<readonly Check[]> {
  heading(`A work queue: ${JOBS} jobs, ${WORKERS} workers, one is killed in the middle of a job`);
  const session = await stage.conclave.session();
  const queue = session.queue<Job>('tour/jobs', { codec: json<Job>() });
  const ids = await Promise.all(
    Array.from({ length: JOBS }, async (_, number) => (await queue.push({ number })).id),
  );

  const bar = startBar('jobs', JOBS);
  let acknowledged = 0;
  let killed: Promise<string> | undefined;
  let revived: Promise<void> | undefined;
  const workers = Array.from({ length: WORKERS }, (_, i) => {
    const journal = join(stage.directory, `worker-${i}.journal`);
    const child = startChild<QueueReport>('worker-queue', {
      TOUR_ENDPOINT: stage.endpoint,
      TOUR_JOURNAL: journal,
      TOUR_TTL: TTL,
    });
    return { child, journal };
  });
  const [victim, ...others] = workers;
  if (victim === undefined) throw new Error('the act needs a worker');
  let isKilled = false;
  victim.child.onMessage((message) => {
    if (message.kind !== 'lingering' || isKilled) return;
    isKilled = true;
    void victim.child.kill();
  });
  for (const { child } of workers) {
    child.onMessage((message) => {
      if (message.kind !== 'acknowledged') return;
      acknowledged += 1;
      if (acknowledged === KILL_AFTER) victim.child.send({ linger: true });
      if (acknowledged === STORE_KILL_AT) killed = stage.store.killLeader();
      if (acknowledged === STORE_BACK_AT)
        revived = killed?.then((name) => stage.store.revive(name));
      bar.update(acknowledged, isKilled ? `process ${victim.child.pid} was killed` : '');
    });
  }
  await waitUntilEmpty(queue);
  await Promise.all(others.map(({ child }) => child.stop()));
  const member = await killed;
  await revived;
  bar.finish(
    `the queue is empty; process ${victim.child.pid} and the leader ${member} were killed`,
  );

  const results = await Promise.all(ids.map((id) => queue.result<Done>(id)));
  const done = results.filter((result) => result !== undefined).length;
  const ofVictim = await readJournal(victim.journal);
  const ofOthers = await Promise.all(others.map(({ journal }) => readJournal(journal)));
  const twice = ids.filter(
    (id) => [ofVictim, ...ofOthers].filter((each) => each.acknowledged.has(id)).length > 1,
  ).length;
  const inHand = [...ofVictim.begun].filter((id) => !ofVictim.acknowledged.has(id));
  const redone = inHand.filter((id) => ofOthers.some(({ begun }) => begun.has(id)));
  // Its acknowledgement had reached the store; only the note of it was never written.
  const settled = inHand.filter(
    (id) => !redone.includes(id) && results[ids.indexOf(id)]?.by === victim.child.pid,
  );
  const stats = await queue.stats();
  await session.close();
  return [
    check('no job was lost', done === JOBS, `the store holds ${done} of ${JOBS} results`),
    check('no job was acknowledged twice', twice === 0, `${twice} acknowledged more than once`),
    check(
      'the jobs that the killed worker had in hand were done by others',
      redone.length > 0 && redone.length + settled.length === inHand.length,
      `${inHand.length} in hand: ${redone.length} done again by others, ${settled.length} acknowledged just before`,
    ),
    check(
      'the queue is empty at the end',
      stats.ready + stats.delayed + stats.active + stats.dead === 0,
      `ready ${stats.ready}, delayed ${stats.delayed}, active ${stats.active}, dead ${stats.dead}`,
    ),
  ];
}

type Journal = { readonly begun: ReadonlySet<string>; readonly acknowledged: ReadonlySet<string> };

async function readJournal(path: string): Promise<Journal> {
  const lines = (await readFile(path, 'utf8')).split('\n').map((line) => line.split(' '));
  const ids = (what: string): Set<string> =>
    new Set(lines.filter(([kind]) => kind === what).map(([, id]) => id ?? ''));
  return { begun: ids('begun'), acknowledged: ids('acknowledged') };
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
