/** Last act: instances of a service come and go, and a client sees it. */
import { filter, firstValueFrom, map, timeout } from 'rxjs';
import { type Check, check } from './check.ts';
import { startChild } from './processes.ts';
import { heading, say } from './progress.ts';
import type { Stage } from './stage.ts';

const INSTANCES = 3;
const TTL_MS = 3_000;
const PATIENCE_MS = 30_000;

export async function actDiscovery(stage: Stage): Promise<readonly Check[]> {
  heading(`Service discovery: ${INSTANCES} instances; one leaves, one is killed`);
  const session = await stage.conclave.session();
  const pool = session.discovery('tour-api').pool();
  const sees = async (count: number): Promise<number> => {
    const sinceMs = performance.now();
    await firstValueFrom(
      pool.instances$.pipe(
        map((instances) => instances.length),
        filter((length) => length === count),
        timeout(PATIENCE_MS),
      ),
    );
    const tookMs = performance.now() - sinceMs;
    say(`  the client sees ${count} instance${count === 1 ? '' : 's'} (${tookMs.toFixed(0)} ms)`);
    return tookMs;
  };

  const instances = Array.from({ length: INSTANCES }, () =>
    startChild('worker-service', { TOUR_ENDPOINT: stage.endpoint, TOUR_TTL: `${TTL_MS}ms` }),
  );
  const [leaver, victim, ...rest] = instances;
  if (leaver === undefined || victim === undefined) throw new Error('the act needs instances');
  await sees(INSTANCES);
  const leaving = sees(INSTANCES - 1);
  await leaver.stop();
  const leftMs = await leaving;
  const dying = sees(INSTANCES - 2);
  await victim.kill();
  const diedMs = await dying;
  const left = pool.snapshot.length;
  await Promise.all(rest.map((instance) => instance.stop()));
  await sees(0);
  await pool.close();
  await session.close();
  return [
    check(
      'the client saw every instance come and go',
      left === INSTANCES - 2,
      `${INSTANCES} came; one left after ${leftMs.toFixed(0)} ms, one died and was gone after ${(diedMs / 1000).toFixed(1)} s (sessions of ${TTL_MS / 1000} s)`,
    ),
  ];
}
