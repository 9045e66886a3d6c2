/** The call metadata that etcd's clients send and its servers check. */
import type { Metadata } from '@grpc/grpc-js';
import { Fault } from '../faults.ts';
import type { MemberFacts } from './member.ts';

const HAS_LEADER = 'hasleader';
const CLIENT_API_VERSION = 'client-api-version';

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** HTTP/2 header values reach us one character a byte. */
function isUtf8(value: string): boolean {
  try {
    utf8.decode(Buffer.from(value, 'latin1'));
    return true;
  } catch {
    return false;
  }
}

/** Whether the client wants an error at once rather than to wait while there is no leader. */
export const needsLeader = (metadata: Metadata): boolean => metadata.get(HAS_LEADER)[0] === 'true';

/** Throws `invalid client api version` or `no leader`. */
export function checkMetadata(metadata: Metadata, member: MemberFacts): void {
  const [version] = metadata.get(CLIENT_API_VERSION);
  if (typeof version === 'string' && !isUtf8(version)) {
    throw new Fault('invalid-client-api-version');
  }
  if (member.leader === 0n && needsLeader(metadata)) throw new Fault('no-leader');
  if (member.isStopping) throw new Fault('stopped');
}
