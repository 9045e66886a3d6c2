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
    // Enough that the log needs space which it has not reserved.
    await world.load.burst({ count: 24, valueBytes: 512 * 1024 });
    return {
      async evidence() {
        const { bavail } = await statfs(mountPoint);
        if (bavail > 16) throw new NotFired(`${bavail} blocks are free again`);
        return `${victim.name}: ${await reaction(world, victim)}`;
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

async function fill(filler: string, mountPoint: string): Promise<void> {
  let size = 0;
  for (let step = 256 * 1024 * 1024; step >= 4096; ) {
    const { bavail, bsize } = await statfs(mountPoint);
    if (bavail === 0) return;
    const wanted = size + Math.min(step, bavail * bsize);
    try {
      await run('fallocate', ['-l', `${wanted}`, filler]);
      size = wanted;
    } catch {
      step /= 2;
    }
  }
}

async function reaction({ cluster }: World, victim: FaultMember): Promise<string> {
  if (!victim.isRunning) return `ended: ${victim.process.logTail(1).slice(0, 160)}`;
  const alarms = await alarmsOf(cluster.members.find((member) => member.isRunning) ?? victim);
  return alarms.length === 0 ? 'full, it went on' : `alarm ${alarms.join(', ')}`;
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
