/** SIGKILL: of the leader, a follower, a majority, everybody. */
import type { FaultMember } from '../cluster/member.ts';
import { type Nemesis, NotFired, restartAll, type World } from './nemesis.ts';

const kill = (
  name: string,
  victimsOf: (world: World) => Promise<readonly FaultMember[]>,
  keepsMajority: boolean,
): Nemesis => ({
  ...{ name, needs: [], holdMs: 2_500, keepsMajority },
  async inject(world) {
    const victims = await victimsOf(world);
    const exits = await Promise.all(victims.map((victim) => victim.kill('SIGKILL')));
    return {
      async evidence() {
        if (victims.length === 0 || exits.some(({ signal }) => signal !== 'SIGKILL'))
          throw new NotFired(`ended with ${JSON.stringify(exits)}`);
        return `killed ${victims.map((victim) => victim.name).join(', ')}`;
      },
      heal: () => restartAll(world),
    };
  },
});

export const killLeader = kill(
  'kill-leader',
  async ({ cluster }) => [await cluster.leader()],
  true,
);

export const killFollower = kill(
  'kill-follower',
  async ({ cluster, random }) => {
    const followers = await cluster.followers();
    return followers.slice(random.below(followers.length)).slice(0, 1);
  },
  true,
);

export const killMajority = kill(
  'kill-majority',
  async ({ cluster, random }) => {
    const leader = await cluster.leader();
    const spared = cluster.members[random.below(cluster.members.length)];
    return spared === leader
      ? await cluster.followers()
      : cluster.members.filter((member) => member !== spared);
  },
  false,
);

export const killAll = kill('kill-all', async ({ cluster }) => cluster.members, false);
