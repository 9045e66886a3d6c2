/**
 * `npm start`: a durable store of three members, and over it real processes that lock, lead, work and
 * register, while the tour kills and freezes some of them, the store's leader included. What it claims
 * at the end it has counted.
 *
 * With `--once` it exits: 0 if everything held, 1 if not. Without, the store stays up until Ctrl-C.
 */
import { styleText } from 'node:util';
import { connect } from '../../recipes/index.ts';
import { actDiscovery } from './act-discovery.ts';
import { actElection } from './act-election.ts';
import { actFailover } from './act-failover.ts';
import { actLock } from './act-lock.ts';
import { actQueue } from './act-queue.ts';
import type { Check } from './check.ts';
import { Interrupted, interrupt, killAll } from './processes.ts';
import { heading, say } from './progress.ts';
import { startStore, type TourStore } from './store.ts';

const acts = [actFailover, actLock, actElection, actQueue, actDiscovery];

async function play(store: TourStore): Promise<readonly Check[]> {
  await using conclave = await connect(store.endpoints);
  const checks: Check[] = [];
  for (const act of acts) {
    const { endpoints: endpoint, directory } = store;
    const stage = { store, endpoint, directory, conclave };
    checks.push(...(await Promise.race([act(stage), store.failed])));
  }
  return checks;
}

function summarize(checks: readonly Check[]): boolean {
  heading('What held');
  for (const { held, claim, counted } of checks) {
    const mark = held ? 'yes' : 'NO ';
    const shown = process.stdout.isTTY ? styleText(held ? 'green' : 'red', mark) : mark;
    say(`  ${shown}  ${claim} (${counted})`);
  }
  const broken = checks.filter((one) => !one.held);
  say();
  if (broken.length > 0) say(`${broken.length} of ${checks.length} claims did not hold.`);
  else say(`All ${checks.length} claims held.`);
  return broken.length === 0;
}

function whatNext(endpoints: string): void {
  heading(`The store stays up at ${endpoints}. In another terminal:`);
  const suffix = endpoints.includes(':2379,') ? '' : ` --endpoints ${endpoints}`;
  say(`  npx conclave lock demo${suffix} -- sleep 10     # twice, and see the second one wait`);
  say(`  npx conclave kv put greeting hello${suffix}`);
  say(`  npx conclave kv watch greeting${suffix}`);
  say(`  npx conclave status --endpoints ${endpoints}`);
  say(`  etcdctl --endpoints ${endpoints} get "" --prefix --keys-only`);
  say();
  say('Ctrl-C stops it.');
}

const once = process.argv.includes('--once');
process.once('exit', killAll);
const store = await startStore();
let interrupted = false;
const leave = async (): Promise<void> => {
  if (interrupted) return;
  interrupted = true;
  process.exitCode = 130;
  interrupt();
  await store.stop();
  process.exit();
};
process.on('SIGINT', () => void leave());
process.on('SIGTERM', () => void leave());

say(
  `A conclave store of three members is up at ${store.endpoints}, its data in ${store.directory}`,
);
try {
  const held = summarize(await play(store));
  process.exitCode = held ? 0 : 1;
  if (!once) whatNext(store.endpoints);
} catch (error) {
  // `leave` ends the process; what an act finds missing meanwhile is nobody's fault.
  if (interrupted || error instanceof Interrupted) say('\n\nInterrupted.');
  else {
    say(`The tour broke off: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
if (!interrupted && (once || process.exitCode !== 0)) {
  killAll();
  await store.stop();
}
