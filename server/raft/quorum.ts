/**
 * Majorities. Whatever a quorum has to agree on (votes, the replicated index, the confirmed read
 * round, being alive) is asked here and nowhere else, so that a configuration of two majorities
 * changes one file. Any two quorums share a member: that is all Raft's safety rests on.
 */
import type { NodeId } from './message.ts';

/** The fewest members that are more than half. */
export function majority(members: number): number {
  return Math.floor(members / 2) + 1;
}

/** Whether a quorum of the voters satisfies `holds`. */
export function isQuorum(voters: readonly NodeId[], holds: (voter: NodeId) => boolean): boolean {
  return voters.filter(holds).length >= majority(voters.length);
}

/** The greatest value that a quorum of the voters has reached; 0 without voters. */
export function quorumValue(voters: readonly NodeId[], reached: (voter: NodeId) => number): number {
  const descending = voters.map(reached).sort((a, b) => b - a);
  return descending[majority(voters.length) - 1] ?? 0;
}

/** `lost` once those who may still answer cannot make a quorum any more. */
export function tally(
  voters: readonly NodeId[],
  votes: ReadonlyMap<NodeId, boolean>,
): 'won' | 'lost' | 'open' {
  if (isQuorum(voters, (voter) => votes.get(voter) === true)) return 'won';
  return isQuorum(voters, (voter) => votes.get(voter) !== false) ? 'open' : 'lost';
}
