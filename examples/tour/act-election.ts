/** Third act: three candidates; the leader is killed, twice. */
import { json } from '../../recipes/index.ts';
import { type Check, check } from './check.ts';
import { type Child, startChild } from './processes.ts';
import { heading, say } from './progress.ts';
import type { Stage } from './stage.ts';
import type { ElectionReport } from './worker-election.ts';

const CANDIDATES = 3;
const KILLS = 2;
const TTL_MS = 3_000;

type Elected = { readonly pid: number; readonly term: bigint; readonly atMs: number };

export async function actElection(stage: Stage): Promise<readonly Check[]> {
  heading(`An election: ${CANDIDATES} candidates, and the leader is killed ${KILLS} times`);
  const session = await stage.conclave.session();
  const observed: (number | null)[] = [];
  const observer = session
    .election('tour/leader', { codec: json<number>() })
    .leader$.subscribe((leader) => observed.push(leader?.value ?? null));

  const candidates = new Map<number, Child<ElectionReport>>();
  const terms: Elected[] = [];
  let announce: () => void = () => {};
  for (let i = 0; i < CANDIDATES; i++) {
    const child = startChild<ElectionReport>('worker-election', {
      TOUR_ENDPOINT: stage.endpoint,
      TOUR_TTL: `${TTL_MS}ms`,
    });
    candidates.set(child.pid, child);
    child.onMessage((message) => {
      if (message.kind !== 'elected') return;
      terms.push({ pid: child.pid, term: BigInt(message.term), atMs: performance.now() });
      announce();
    });
  }
  const electedAfter = async (count: number): Promise<Elected> => {
    while (terms.length <= count) {
      await new Promise<void>((resolve) => {
        announce = resolve;
      });
    }
    return terms[count] as Elected;
  };

  const takeoversMs: number[] = [];
  for (let kill = 0; kill < KILLS; kill++) {
    const leader = await electedAfter(kill);
    say(`  process ${leader.pid} leads in term ${leader.term}; killing it with SIGKILL`);
    const killedAtMs = performance.now();
    await candidates.get(leader.pid)?.kill();
    candidates.delete(leader.pid);
    const next = await electedAfter(kill + 1);
    takeoversMs.push(next.atMs - killedAtMs);
    say(`  process ${next.pid} took over after ${((next.atMs - killedAtMs) / 1000).toFixed(1)} s`);
  }
  await Promise.all([...candidates.values()].map((child) => child.stop()));
  observer.unsubscribe();
  await session.close();

  const rising = terms.every((elected, i) => i === 0 || elected.term > (terms[i - 1]?.term ?? 0n));
  const seen = observed.filter((pid) => pid !== null);
  return [
    check(
      'every killed leader was replaced',
      terms.length === KILLS + 1,
      `${terms.length} leaders, take-over in ${takeoversMs.map((ms) => `${(ms / 1000).toFixed(1)} s`).join(' and ')} with sessions of ${TTL_MS / 1000} s`,
    ),
    check('terms rose with every leader', rising, `terms ${terms.map((t) => t.term).join(' < ')}`),
    check(
      'an observer saw the same leaders in the same order',
      JSON.stringify(dedupe(seen)) === JSON.stringify(terms.map((t) => t.pid)),
      `${observed.length} changes observed, "nobody leads" included`,
    ),
  ];
}

function dedupe(pids: readonly number[]): number[] {
  return pids.filter((pid, i) => pid !== pids[i - 1]);
}
