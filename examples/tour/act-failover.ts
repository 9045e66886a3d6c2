/** First act: a client writes as fast as it can while the store's leader is killed, twice. */
import { type Check, check } from './check.ts';
import { throwIfInterrupted } from './processes.ts';
import { heading, startBar } from './progress.ts';
import type { Stage } from './stage.ts';

const WRITERS = 8;
const WRITES = 4_000;
/** Acknowledged writes after which the leader is killed, and comes back. */
const KILL_AT = [1_000, 2_500];
const BACK_AT = [1_800, 3_300];
const PREFIX = 'tour/failover/';

type Kill = { readonly name: string; readonly atMs: number };

export async function actFailover(stage: Stage): Promise<readonly Check[]> {
  heading(`A store of three: ${WRITES} writes while its leader is killed ${KILL_AT.length} times`);
  const { store, conclave } = stage;
  const bar = startBar('writes', WRITES);
  const kills: Promise<Kill>[] = [];
  const revivals: Promise<void>[] = [];
  const acknowledgedAtMs: number[] = [];
  let begun = 0;
  let failures = 0;

  const onAcknowledged = (): void => {
    const count = acknowledgedAtMs.push(performance.now());
    bar.update(count, kills.length === 0 ? '' : `the leader was killed ${kills.length} times`);
    if (KILL_AT.includes(count)) {
      kills.push(store.killLeader().then((name) => ({ name, atMs: performance.now() })));
    }
    const last = kills.at(-1);
    if (BACK_AT.includes(count) && last !== undefined) {
      revivals.push(last.then(({ name }) => store.revive(name)));
    }
  };
  const write = async (): Promise<void> => {
    for (let number = begun++; number < WRITES; number = begun++) {
      throwIfInterrupted();
      // The SDK numbers it and repeats it until it is answered: a write whose answer was lost with
      // the leader is not made twice.
      await conclave.kv.put(`${PREFIX}${number}`, String(number)).then(onAcknowledged, () => {
        failures += 1;
      });
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, write));
  await Promise.all(revivals);
  const killed = await Promise.all(kills);
  const waits = killed.map(({ atMs }) => `${Math.round(longestWaitMs(acknowledgedAtMs, atMs))} ms`);
  const names = killed.map(({ name }) => name).join(' and ');
  bar.finish(`killed ${names}; the longest waits for a write were ${waits.join(' and ')}`);

  const { kvs } = await conclave.kv.list({ prefix: PREFIX });
  const repeated = kvs.filter(({ version }) => version !== 1n).length;
  return [
    check(
      'no acknowledged write was lost, and none failed',
      kvs.length === WRITES && acknowledgedAtMs.length === WRITES,
      `${acknowledgedAtMs.length} acknowledged, ${failures} failed, ${kvs.length} there`,
    ),
    check(
      'no write was made twice',
      repeated === 0,
      `${repeated} keys were written more than once`,
    ),
    check(
      'writing went on without anybody doing anything',
      killed.length === KILL_AT.length,
      `the longest waits were ${waits.join(' and ')}`,
    ),
  ];
}

/** Between two answers, in the two seconds after a kill. */
function longestWaitMs(answersMs: readonly number[], killedAtMs: number): number {
  let longest = 0;
  for (const [index, atMs] of answersMs.entries()) {
    const before = answersMs[index - 1] ?? atMs;
    if (atMs > killedAtMs && before < killedAtMs + 2_000)
      longest = Math.max(longest, atMs - before);
  }
  return longest;
}
