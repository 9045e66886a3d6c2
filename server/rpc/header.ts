/** The header of every answer: who answered, and at which revision. */
import type { Revision } from '../mvcc/types.ts';
import type { ResponseHeader } from '../wire/etcdserverpb/rpc.ts';
import type { MemberFacts } from './member.ts';

export function headerAt(member: MemberFacts, revision: Revision): ResponseHeader {
  return {
    clusterId: member.clusterId,
    memberId: member.memberId,
    revision: BigInt(revision),
    raftTerm: BigInt(member.term),
  };
}

export const headerNow = (member: MemberFacts): ResponseHeader => headerAt(member, member.revision);

/** Cluster calls name no revision. */
export const headerWithoutRevision = (member: MemberFacts): ResponseHeader => headerAt(member, 0);
