/** The disks of members vanish at once, with everything that was not flushed. */
import type { FaultMember } from '../cluster/member.ts';
import { type Nemesis, NotFired, restartAll, type World } from './nemesis.ts';

const cut = (
  name: string,
  victimsOf: (world: World) => Promise<readonly FaultMember[]>,
  keepsMajority: boolean,
): Nemesis => ({
  ...{ name, needs: ['disks'], holdMs: 2_000, keepsMajority },
  async inject(world) {
    const { cluster, load } = world;
    const victims = await victimsOf(world);
    const disks = victims.map(({ index }) => cluster.disks[index]);
    const from = performance.now();
    const cuts = await Promise.allSettled(disks.map(async (disk) => await disk?.cutPower()));
    await Promise.all(victims.map((victim) => victim.kill('SIGKILL')));
    // With a majority of disks gone, an answer may come from a store that can no longer keep it.
    if (!keepsMajority) load.distrust(from, performance.now());
    return {
      async evidence() {
        const failed = cuts.find(({ status }) => status === 'rejected');
        if (failed !== undefined || disks.includes(undefined) || disks.length === 0)
          throw new NotFired(`not cut: ${JSON.stringify(failed)}`);
        return `cut ${victims.map((victim) => victim.name).join(', ')}`;
      },
      async heal() {
        for (const disk of disks) {
          await disk?.unmount();
          await disk?.mount();
        }
        await restartAll(world);
      },
    };
  },
});

export const powerCutLeader = cut(
  'power-cut-leader',
  async ({ cluster }) => [await cluster.leader()],
  true,
);
export const powerCutAll = cut('power-cut-all', async ({ cluster }) => cluster.members, false);
