/** Orderly hand-overs: the leader is asked to stop, or to hand over. */
import type { Nemesis } from './nemesis.ts';
import { NotFired, restartAll } from './nemesis.ts';

export const stopLeader: Nemesis = {
  ...{ name: 'stop-leader', needs: [], holdMs: 2_000, keepsMajority: true },
  async inject(world) {
    const leader = await world.cluster.leader();
    const exit = await leader.kill('SIGTERM');
    return {
      async evidence() {
        if (leader.isRunning) throw new NotFired(`${leader.name} still runs`);
        return `${leader.name} ended with ${exit.code ?? exit.signal}`;
      },
      heal: () => restartAll(world),
    };
  },
};

export const moveLeader: Nemesis = {
  ...{ name: 'move-leader', needs: [], holdMs: 1_000, keepsMajority: true },
  async inject({ cluster, random }) {
    const leader = await cluster.leader();
    const followers = await cluster.followers();
    const target = followers[random.below(followers.length)] ?? leader;
    const { header } = await target.status();
    await leader.client.maintenance.moveLeader({ targetID: header?.memberId ?? 0n });
    const now = await cluster.leader();
    return {
      async evidence() {
        if (now !== target) throw new NotFired(`${now.name} leads, not ${target.name}`);
        return `${leader.name} to ${target.name}`;
      },
      async heal() {
        // Nothing is broken.
      },
    };
  },
};
