/**
 * The call metadata that etcd's clients send and its servers check, and what clients of conclave add.
 *
 * `client-api-version` is not looked at: gRPC lets only printable ASCII through, which is all that
 * etcd asks of it.
 */
import { Fault } from '../faults.ts';
import type { MemberFacts } from './member.ts';

/** The values under a name in lower case, in order. */
export interface CallMetadata {
  get(name: string): readonly (string | Buffer)[];
}

const HAS_LEADER = 'hasleader';
const PARTS = 'conclave-parts';

/** Whether the client wants an error at once rather than to wait while there is no leader. */
export const needsLeader = (metadata: CallMetadata): boolean =>
  metadata.get(HAS_LEADER)[0] === 'true';

/** Whether the client of a batched stream puts parts of answers together. */
export const takesParts = (metadata: CallMetadata): boolean => metadata.get(PARTS)[0] === 'true';

/** Throws `no leader`, also when the member stops: nothing was done, so clients may try another. */
export function checkMetadata(metadata: CallMetadata, member: MemberFacts): void {
  const isLeaderless = member.leader === 0n && needsLeader(metadata);
  if (member.isStopping || isLeaderless) throw new Fault('no-leader');
}
