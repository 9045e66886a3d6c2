/** Links that carry nothing, in one direction or both, while every process lives. */
import type { FaultMember } from '../cluster/member.ts';
import { type Nemesis, NotFired, type World } from './nemesis.ts';

type Cut = readonly [FaultMember, FaultMember];

const partition = (
  name: string,
  cutsOf: (leader: FaultMember, followers: readonly FaultMember[]) => readonly Cut[],
  keepsMajority: boolean,
): Nemesis => ({
  ...{ name, needs: [], holdMs: 5_000, keepsMajority },
  async inject({ cluster }: World) {
    const leader = await cluster.leader();
    const followers = cluster.members.filter((member) => member !== leader);
    const cuts = cutsOf(leader, followers);
    for (const [from, to] of cuts) await cluster.network.cut(from.index, to.index);
    return {
      async evidence() {
        const lost = await cluster.network.lost();
        if (lost === 0) throw new NotFired('nothing was held back');
        return `${cuts.map(([from, to]) => `${from.name}>${to.name}`).join(' ')}, ${lost} lost`;
      },
      heal: () => cluster.network.heal(),
    };
  },
});

const bothWays = (one: FaultMember, others: readonly FaultMember[]): Cut[] =>
  others.flatMap((other): Cut[] => [
    [one, other],
    [other, one],
  ]);

export const isolateLeader = partition('partition-leader', bothWays, true);

export const isolateFollower = partition(
  'partition-follower',
  (leader, [first, ...others]) => (first === undefined ? [] : bothWays(first, [leader, ...others])),
  true,
);

/** It hears its followers, they do not hear it. */
export const muteLeader = partition(
  'one-way-mute-leader',
  (leader, followers) => followers.map((follower): Cut => [leader, follower]),
  true,
);

/** They hear it, it does not hear them. */
export const deafLeader = partition(
  'one-way-deaf-leader',
  (leader, followers) => followers.map((follower): Cut => [follower, leader]),
  true,
);

/** One follower loses the leader in one direction, and keeps the other follower. */
export const deafFollower = partition(
  'one-way-deaf-follower',
  (leader, [first]) => (first === undefined ? [] : [[leader, first]]),
  true,
);

/** The followers lose each other: nobody may notice. */
export const splitFollowers = partition(
  'partition-followers',
  (_, [first, second]) =>
    first === undefined || second === undefined ? [] : bothWays(first, [second]),
  true,
);

export const splitAll = partition(
  'partition-all',
  (leader, followers) => [
    ...bothWays(leader, followers),
    ...followers.slice(0, 1).flatMap((first) => bothWays(first, followers.slice(1))),
  ],
  false,
);
