/** Second act: workers compete for one mutex; one of them falls asleep while it holds it. */
import { join } from 'node:path';
import { type Check, check } from './check.ts';
import { createLedger, readLedger } from './ledger.ts';
import { startChild } from './processes.ts';
import { heading, startBar } from './progress.ts';
import type { Stage } from './stage.ts';
import type { LockReport } from './worker-lock.ts';

const WORKERS = 4;
const ROUNDS = 50;
const TTL_MS = 3_000;
/** Turns after which the member that leads the store is killed, and after which it comes back. */
const STORE_KILL_AT = 60;
const STORE_BACK_AT = 120;

export async function actLock(stage: Stage): Promise<readonly Check[]> {
  heading(`A mutex: ${WORKERS} processes change one file, ${ROUNDS} times each; the leader dies`);
  const ledger = join(stage.directory, 'ledger.json');
  await createLedger(ledger);
  const start = (sleepy: boolean) =>
    startChild<LockReport>('worker-lock', {
      TOUR_ENDPOINT: stage.endpoint,
      TOUR_LEDGER: ledger,
      TOUR_ROUNDS: String(ROUNDS),
      TOUR_TTL: `${TTL_MS}ms`,
      TOUR_SLEEPY: sleepy ? 'yes' : 'no',
    });

  const total = WORKERS * ROUNDS;
  const bar = startBar('ledger', total);
  const sleeper = start(true);
  const late = new Promise<LockReport & { kind: 'late' }>((resolve) => {
    sleeper.onMessage((message) => {
      if (message.kind === 'late') resolve(message);
    });
  });
  await new Promise<void>((resolve) => {
    sleeper.onMessage((message) => {
      if (message.kind === 'holding') resolve();
    });
  });
  process.kill(sleeper.pid, 'SIGSTOP');
  bar.update(0, `process ${sleeper.pid} holds the lock and was just put to sleep`);

  let turns = 0;
  let killed: Promise<string> | undefined;
  let revived: Promise<void> | undefined;
  const outcomes = { written: 0, refused: 0, overlap: 0 };
  const workers = Array.from({ length: WORKERS }, () => start(false));
  for (const worker of workers) {
    worker.onMessage((message) => {
      if (message.kind !== 'turn') return;
      turns += 1;
      outcomes[message.outcome] += 1;
      bar.update(turns, `process ${worker.pid} had the lock`);
      if (turns === STORE_KILL_AT) killed = stage.store.killLeader();
      if (turns === STORE_BACK_AT) revived = killed?.then((name) => stage.store.revive(name));
    });
  }
  await Promise.all(workers.map((worker) => worker.exited));
  const member = await killed;
  await revived;
  bar.finish(`${turns} turns by ${WORKERS} processes; the store's leader ${member} was killed`);

  // The sleeper wakes up only now: its session expired, others held the lock since.
  process.kill(sleeper.pid, 'SIGCONT');
  sleeper.send({ wake: true });
  const woken = await late;
  await sleeper.exited;

  const lines = await readLedger(ledger);
  const rising = lines.every(
    (line, index) => index === 0 || BigInt(line.token) > BigInt(lines[index - 1]?.token ?? 0),
  );
  return [
    check(
      'only the holder wrote',
      outcomes.overlap === 0 && outcomes.refused === 0,
      `${outcomes.overlap} overlapping writers in ${turns} turns`,
    ),
    check('no line was lost', lines.length === total, `${lines.length} of ${total} lines`),
    check('fencing tokens rose with every turn', rising, `${lines.length} tokens compared`),
    check(
      'the sleeper lost its lock, and its late write was refused by its old token',
      woken.lost && woken.outcome === 'refused',
      `lost: ${woken.lost}, late write: ${woken.outcome}`,
    ),
  ];
}
