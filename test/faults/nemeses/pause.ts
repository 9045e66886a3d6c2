/** SIGSTOP for longer than an election: the member comes back believing that no time went by. */
import { readFileSync } from 'node:fs';
import type { FaultMember } from '../cluster/member.ts';
import { type Nemesis, NotFired, type World } from './nemesis.ts';

const pause = (
  name: string,
  victimsOf: (world: World) => Promise<readonly FaultMember[]>,
  keepsMajority: boolean,
): Nemesis => ({
  ...{ name, needs: [], holdMs: 3_500, keepsMajority },
  async inject(world) {
    const victims = await victimsOf(world);
    for (const victim of victims) victim.stop();
    return {
      async evidence() {
        const awake = victims.filter(({ process }) => stateOf(process.pid) !== 'T');
        if (victims.length === 0 || awake.length > 0)
          throw new NotFired(`not stopped: ${awake.map((member) => member.name).join(', ')}`);
        return `stopped ${victims.map((victim) => victim.name).join(', ')}`;
      },
      async heal() {
        for (const victim of victims) victim.resume();
      },
    };
  },
});

export const pauseLeader = pause(
  'pause-leader',
  async ({ cluster }) => [await cluster.leader()],
  true,
);

export const pauseFollower = pause(
  'pause-follower',
  async ({ cluster }) => (await cluster.followers()).slice(0, 1),
  true,
);

export const pauseAll = pause('pause-all', async ({ cluster }) => cluster.members, false);

/** T: stopped by a signal. */
function stateOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  return stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
}
