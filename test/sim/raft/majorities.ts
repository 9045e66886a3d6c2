/** Majorities, counted here and not by the code that is looked at: a wrong count there must show. */
import type { Configuration } from '../../../server/raft/configuration.ts';
import type { NodeId } from '../../../server/raft/message.ts';

/** Whether those that `has` names can decide. */
export function isQuorum(
  { voters, outgoing }: Configuration,
  has: (voter: NodeId) => boolean,
): boolean {
  const isMajorityOf = (members: readonly NodeId[]) =>
    members.filter(has).length * 2 > members.length;
  return isMajorityOf(voters) && (outgoing.length === 0 || isMajorityOf(outgoing));
}
