/**
 * A leader dies, and its connections break: how soon there is another. No tick passes, so there is no
 * timer to help; messages and writes finish in any order, and members notice at any time.
 */
import { expect, test } from 'vitest';
import { assert } from '../../server/assert.ts';
import { Cluster } from './cluster.ts';
import { seededRandom } from './simulation.ts';

/** @returns whether there is a leader once nothing moves any more. */
function failover(size: number, seed: number): boolean {
  const random = seededRandom(seed * 31 + size);
  const pick = <T>(from: T[]): T => {
    const [picked] = from.splice(random.below(from.length), 1);
    assert(picked !== undefined, 'there is something to pick from');
    return picked;
  };
  const options = { electionTicks: 10, heartbeatTicks: 1, preVote: true, checkQuorum: true };
  const cluster = new Cluster(size, 0, { ...options, limits: {} }, () => random, {
    onReady: () => {},
    onConfigured: () => {},
  });
  const members = [...cluster.members.values()];
  const steps = (unaware: (() => void)[]) => {
    for (;;) {
      const writers = members.filter((member) => member.write !== undefined);
      const moves = cluster.network.length + writers.length;
      if (moves + unaware.length === 0) return;
      if (random.below(moves + unaware.length) >= moves) pick(unaware)();
      else if (random.below(moves) < writers.length) cluster.finishWrite(pick(writers));
      else cluster.deliver(pick(cluster.network));
    }
  };

  const leader = cluster.member(BigInt(1 + random.below(size)));
  leader.raft?.campaign();
  cluster.pump(leader);
  steps([]);
  // One entry reaches some of them only.
  for (const member of members) if (random.below(3) === 0) cluster.cut(leader.id, member.id);
  leader.raft?.propose([{ kind: 'command', data: Buffer.from('a') }]);
  cluster.pump(leader);
  steps([]);
  cluster.heal();

  leader.crash();
  const rest = members.filter((member) => member !== leader);
  steps(
    rest.map((member) => () => {
      member.raft?.unreachable(leader.id);
      cluster.pump(member);
    }),
  );
  return rest.some(({ raft }) => raft?.role === 'leader');
}

test.each([
  { size: 3, atLeast: 500 },
  // Two of four may get two votes each; they ask again after a few ticks.
  { size: 5, atLeast: 475 },
  { size: 7, atLeast: 450 },
])('$size members have a new leader without a tick in $atLeast of 500 cases', (given) => {
  const seeds = Array.from({ length: 500 }, (_, seed) => seed + 1);
  const elected = seeds.filter((seed) => failover(given.size, seed));
  expect(elected.length).toBeGreaterThanOrEqual(given.atLeast);
});
