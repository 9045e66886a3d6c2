/** A disk without a free byte, under one member. */
import { execFile } from 'node:child_process';
import { rmSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AlarmRequest_AlarmAction, AlarmType } from '../../../server/wire/etcdserverpb/rpc.ts';
import { waitFor } from '../../support/wait.ts';
import type { FaultMember } from '../cluster/member.ts';
import { type Nemesis, NotFired, restartAll, type World } from './nemesis.ts';

const run = promisify(execFile);
const disarmTimeoutMs = 10_000;
const outgrowTimeoutMs = 20_000;

const full = (
  name: string,
  victimOf: (world: World) => Promise<FaultMember | undefined>,
): Nemesis => ({
  // Whether the cluster goes on is for its alarm to say: etcd's stops all writes everywhere.
  ...{ name, needs: ['disks'], holdMs: 4_000, keepsMajority: false },
  async inject(world) {
    const victim = await victimOf(world);
    const mountPoint = world.cluster.disks[victim?.index ?? -1]?.mountPoint;
    if (victim === undefined || mountPoint === undefined) throw new NotFired('it has no disk');
    const filler = join(mountPoint, 'filler');
    await fill(filler, mountPoint);
    await outgrowReserves(world, victim);
    return {
      async evidence() {
        const noticed = await reaction(world, victim);
        if (noticed === undefined) throw new NotFired(`${victim.name} did not need any space`);
        return `${victim.name}: ${noticed}`;
      },
      async heal() {
        rmSync(filler);
        await restartAll(world);
        await waitFor('the alarms to be cleared', () => disarm(world), {
          timeoutMs: disarmTimeoutMs,
          intervalMs: 100,
        });
      },
    };
  },
});

export const diskFullFollower = full(
  'disk-full-follower',
  async ({ cluster }) => (await cluster.followers())[0],
);
export const diskFullLeader = full('disk-full-leader', ({ cluster }) => cluster.leader());

/** To the last block, those included that only root may use. */
async function fill(filler: string, mountPoint: string): Promise<void> {
  let size = 0;
  for (let step = 256 * 1024 * 1024; step >= 4096; ) {
    const { bfree, bsize } = await statfs(mountPoint);
    if (bfree === 0) return;
    const wanted = size + Math.min(step, bfree * bsize);
    try {
      await run('fallocate', ['-l', `${wanted}`, filler]);
      size = wanted;
    } catch {
      step /= 2;
    }
  }
}

/** Logs are allocated ahead: large values use that up until the member has something to say. */
async function outgrowReserves(world: World, victim: FaultMember): Promise<void> {
  const deadline = performance.now() + outgrowTimeoutMs;
  while (performance.now() < deadline && (await reaction(world, victim)) === undefined)
    await world.load.burst({ count: 8, valueBytes: 512 * 1024 });
}

/** What the member, or the cluster, did about it; undefined when nothing. */
async function reaction({ cluster }: World, victim: FaultMember): Promise<string | undefined> {
  const noticed = victim.process
    .log()
    .split('\n')
    .findLast((line) => /ENOSPC|no space|bytes are free/i.test(line));
  const words = noticed === undefined ? [] : [noticed.slice(0, 200)];
  if (!victim.isRunning) return ['it ended', ...words].join(': ');
  // The victim may end at any moment: another one is asked.
  const witness = cluster.members.find((member) => member !== victim && member.isRunning);
  const alarms = await alarmsOf(witness ?? victim);
  if (alarms.length > 0) return [`alarm ${alarms.join(', ')}`, ...words].join(': ');
  return words[0];
}

async function alarmsOf(member: FaultMember): Promise<string[]> {
  const { alarms } = await member.client.maintenance.alarm({});
  return alarms.map(({ alarm }) => (alarm === AlarmType.NOSPACE ? 'NOSPACE' : 'CORRUPT'));
}

async function disarm({ cluster }: World): Promise<true | undefined> {
  const leader = await cluster.leader();
  const { alarms } = await leader.client.maintenance.alarm({});
  for (const { memberID, alarm } of alarms)
    await leader.client.maintenance.alarm({
      action: AlarmRequest_AlarmAction.DEACTIVATE,
      ...{ memberID, alarm },
    });
  return alarms.length === 0 ? true : undefined;
}
