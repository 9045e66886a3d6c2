/** System calls that reach a disk fail or take long, by injection through strace. */
import { readFileSync } from 'node:fs';
import { waitFor } from '../../support/wait.ts';
import type { FaultMember } from '../cluster/member.ts';
import { type Nemesis, NotFired, restartAll, type World } from './nemesis.ts';

/** By which data reaches a disk: the log writes through, LMDB flushes. */
const calls = 'pwrite64,pwritev,pwritev2,fdatasync,fsync,msync,sync_file_range';
const attachTimeoutMs = 5_000;

const injected = (
  name: string,
  injection: string,
  mark: RegExp,
  victimOf: (world: World) => Promise<FaultMember | undefined>,
  holdMs: number,
): Nemesis => ({
  ...{ name, needs: ['strace'], holdMs, keepsMajority: true },
  async inject(world) {
    const victim = await victimOf(world);
    if (victim === undefined) throw new NotFired('there is no such member');
    const output = `${victim.logPath}.strace`;
    const tracer = victim.attach([
      ...['strace', '-f', '-qq', '-o', output],
      ...['-e', `trace=${calls}`, '-e', `inject=${calls}:${injection}`],
    ]);
    await waitFor(
      `strace to meet a call of ${victim.name}`,
      () => marks(output, mark) || undefined,
      {
        timeoutMs: attachTimeoutMs,
        intervalMs: 20,
      },
    ).catch(() => undefined);
    return {
      async evidence() {
        const count = marks(output, mark);
        if (count === 0) throw new NotFired(`no call was touched: ${tracer.logTail(3)}`);
        const end = victim.isRunning ? 'it went on' : `it ended: ${lastWords(victim)}`;
        return `${victim.name}: ${count} calls, ${end}`;
      },
      async heal() {
        await tracer.kill('SIGTERM');
        await restartAll(world);
      },
    };
  },
});

const leader = async ({ cluster }: World) => await cluster.leader();
const follower = async ({ cluster }: World) => (await cluster.followers())[0];

export const eioFollower = injected(
  'eio-follower',
  'error=EIO:when=3+',
  /INJECTED/g,
  follower,
  2_500,
);
export const eioLeader = injected('eio-leader', 'error=EIO:when=3+', /INJECTED/g, leader, 2_500);

/** A flush takes as long as several heartbeats. */
export const slowFollower = injected(
  'slow-disk-follower',
  'delay_enter=400000',
  /DELAYED/g,
  follower,
  4_000,
);
/** A flush takes longer than an election. */
export const slowLeader = injected(
  'slow-disk-leader',
  'delay_enter=1500000',
  /DELAYED/g,
  leader,
  6_000,
);

function marks(path: string, mark: RegExp): number {
  try {
    return readFileSync(path, 'utf8').match(mark)?.length ?? 0;
  } catch {
    return 0;
  }
}

function lastWords(member: FaultMember): string {
  const line = member.process
    .logTail(40)
    .split('\n')
    .find((one) => /EIO|input\/output/i.test(one));
  return (line ?? member.process.logTail(1)).slice(0, 160);
}
