/**
 * Who may talk to this member: pure, so that every refusal can be tried.
 *
 * A member that is not in the roster here may still be one: this member may not have applied the
 * change that added it, while it is already sent entries, votes, or leads. It is let in when what it
 * knows of the membership is newer than what is known here. Ids are never reused and removed ones
 * are remembered, so someone who knows less than this member and is not in its roster never was, or
 * no longer is, a member. Letting a stranger in is harmless to Raft, which counts only its
 * configuration; the gate keeps out what would break promises made under a member's name.
 */
import { idToHex } from '../ids.ts';
import { type Hello, PROTOCOL_VERSION, type RefusalCode } from './transport.ts';

/** What this member knows when somebody introduces itself. */
export type GateFacts = {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  /** `PeerRoster.index` of what was applied here. */
  readonly configurationIndex: number;
  isMember(id: bigint): boolean;
  isRemoved(id: bigint): boolean;
  /** The data directory under which that member was met before. */
  knownIncarnation(id: bigint): bigint | undefined;
  /** The process that is connected under that id now and was heard within the election timeout. */
  connectedSession(id: bigint): bigint | undefined;
};

/** The sentence is for the operator of the member that is refused. */
export type Refusal = { readonly code: RefusalCode; readonly sentence: string };

/** What a removed member ends with, whoever tells it. */
export const removedSentence = (member: bigint, cluster: bigint): string =>
  `member ${idToHex(member)} was removed from cluster ${idToHex(cluster)}, for good. To bring the machine back, add it with "conclave member add" and start it with an empty data directory.`;

export function refusalOf(hello: Hello, facts: GateFacts): Refusal | undefined {
  const { from, to } = hello;
  const name = `member ${idToHex(from)}`;
  const here = `member ${idToHex(facts.memberId)}`;
  const cluster = `cluster ${idToHex(facts.clusterId)}`;
  if (hello.protocolVersion !== PROTOCOL_VERSION) {
    const upgrade = hello.protocolVersion > PROTOCOL_VERSION ? here : name;
    return refuse(
      'other-protocol',
      `${name} speaks version ${hello.protocolVersion} of the protocol between members and ${here} version ${PROTOCOL_VERSION}. Upgrade ${upgrade}.`,
    );
  }
  if (hello.clusterId !== facts.clusterId) {
    return refuse(
      'other-cluster',
      `${here} belongs to ${cluster} and ${name} to cluster ${idToHex(hello.clusterId)}. Check the peer URLs in --initial-cluster; a data directory cannot move from one cluster to another.`,
    );
  }
  if (to !== facts.memberId) {
    return refuse(
      'wrong-receiver',
      `${name} means to reach member ${idToHex(to)}, but this address is that of ${here}. Two members cannot share a peer URL; correct one with "conclave member update".`,
    );
  }
  if (from === facts.memberId) {
    return refuse(
      'own-id',
      `${here} was called by its own id. Two members run with the same identity: give each its own --name and data directory, and never start from a copy of another member's directory.`,
    );
  }
  if (facts.isRemoved(from)) {
    return refuse('removed-member', removedSentence(from, facts.clusterId));
  }
  if (!facts.isMember(from) && hello.configurationIndex <= facts.configurationIndex) {
    return refuse(
      'unknown-member',
      `${name} is not a member of ${cluster}. Add it with "conclave member add" before it is started.`,
    );
  }
  const known = facts.knownIncarnation(from);
  if (known !== undefined && known !== hello.incarnation) {
    return refuse(
      'other-incarnation',
      `${name} has come back with another data directory and may have forgotten what it promised. Start it with its old directory, or put a new member in its place with "conclave member replace".`,
    );
  }
  const connected = facts.connectedSession(from);
  if (connected !== undefined && connected !== hello.session) {
    return refuse(
      'already-connected',
      `${name} is connected already, from another process. Two processes run with the same identity: stop one of them, and never start from a copy of another member's directory.`,
    );
  }
  return undefined;
}

const refuse = (code: RefusalCode, sentence: string): Refusal => ({ code, sentence });

const codes: Readonly<Record<RefusalCode, true>> = {
  'malformed-hello': true,
  'other-protocol': true,
  'other-cluster': true,
  'wrong-receiver': true,
  'own-id': true,
  'removed-member': true,
  'unknown-member': true,
  'other-incarnation': true,
  'already-connected': true,
};

export const isRefusalCode = (code: string | undefined): code is RefusalCode =>
  code !== undefined && Object.hasOwn(codes, code);
