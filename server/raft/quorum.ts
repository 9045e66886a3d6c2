/**
 * Majorities. Whatever a quorum has to agree on (votes, the replicated index, the confirmed read
 * round, being alive) is asked here and nowhere else, so nobody else has to know that a joint
 * configuration takes two of them. Any two quorums share a member: that is all Raft's safety rests on.
 */
import type { Configuration } from './configuration.ts';
import type { NodeId } from './message.ts';

/** The fewest members that are more than half. */
export function majority(members: number): number {
  return Math.floor(members / 2) + 1;
}

/** Whether a quorum satisfies `holds`; never without voters. */
export function isQuorum(configuration: Configuration, holds: (voter: NodeId) => boolean): boolean {
  return majorities(configuration).every(
    (voters) => voters.filter(holds).length >= majority(voters.length),
  );
}

/** The greatest value that a quorum has reached; 0 without voters. */
export function quorumValue(
  configuration: Configuration,
  reached: (voter: NodeId) => number,
): number {
  const values = majorities(configuration).map((voters) => {
    const descending = voters.map(reached).sort((a, b) => b - a);
    return descending[majority(voters.length) - 1] ?? 0;
  });
  return Math.min(...values);
}

/** `lost` once those who may still answer cannot make a quorum any more. */
export function tally(
  configuration: Configuration,
  votes: ReadonlyMap<NodeId, boolean>,
): 'won' | 'lost' | 'open' {
  if (isQuorum(configuration, (voter) => votes.get(voter) === true)) return 'won';
  return isQuorum(configuration, (voter) => votes.get(voter) !== false) ? 'open' : 'lost';
}

function majorities({ voters, outgoing }: Configuration): readonly (readonly NodeId[])[] {
  return outgoing.length > 0 ? [voters, outgoing] : [voters];
}
