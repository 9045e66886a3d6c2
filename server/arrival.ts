/**
 * How a member comes into its cluster: back with its data, as one of those who found it, or later, by
 * the place that was made for it.
 *
 * A member that starts with an empty directory in the place of one that lived before would have
 * forgotten its vote and what it promised to keep. So an empty directory asks the others first.
 */
import { foundersOf, type InitialMember, identityOf } from './identity.ts';
import { idToHex } from './ids.ts';
import type { Founder } from './membership.ts';
import type { Clock, Timers } from './ports.ts';
import type { Identity } from './storage/identity.ts';
import { sleep } from './time-slice.ts';
import type { MembersReply, RosterMember } from './transport/transport.ts';

export type Arrival = {
  readonly kind: 'return' | 'found' | 'join';
  readonly identity: Identity;
  /** The members a cluster of these settings begins with; undefined when this member is none of them. */
  readonly founders: readonly Founder[] | undefined;
  /** What the others said of the cluster; undefined when nobody was asked or answered. */
  readonly known: MembersReply | undefined;
};

/** `removed`: with what sentence the member ended that was removed from its cluster. */
type ExistingIdentity = Identity & { readonly removed?: string | undefined };

export type ArrivalOptions = {
  /** What the data directory says; undefined: it is empty. */
  readonly existing: ExistingIdentity | undefined;
  readonly name: string;
  readonly clusterToken: string;
  /** This member among them. */
  readonly initialCluster: readonly InitialMember[];
  readonly initialClusterState: 'new' | 'existing';
  readonly ask: (url: string, options: { readonly timeoutMs: number }) => Promise<MembersReply>;
  readonly clock: Clock;
  readonly timers: Timers;
  /** How long a member that joins looks for the others, and for its place among them. */
  readonly patienceMs: number;
};

/** The member cannot take part as it is started. The sentence says what to do. */
export class ArrivalError extends Error {
  override name = 'ArrivalError';
  readonly code:
    | 'other-member'
    | 'other-cluster'
    | 'wiped'
    | 'removed'
    | 'not-added'
    | 'name-taken'
    | 'nobody-answers';

  constructor(code: ArrivalError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

const ASK_MS = 1_000;
const RETRY_MS = 200;

/** @throws {ArrivalError} */
export async function arrive(options: ArrivalOptions): Promise<Arrival> {
  const { existing, name, clusterToken, initialCluster } = options;
  const founded = identityOf(name, clusterToken, initialCluster);
  const founders = foundersOf(clusterToken, initialCluster);
  if (existing !== undefined) return comeBack(options, existing, founded, founders);
  if (options.initialClusterState === 'existing') return join(options);
  const known = await lookForLife(options, founded);
  return { kind: 'found', identity: founded, founders, known };
}

async function comeBack(
  options: ArrivalOptions,
  existing: ExistingIdentity,
  founded: Identity,
  founders: readonly Founder[],
): Promise<Arrival> {
  if (existing.removed !== undefined) throw new ArrivalError('removed', existing.removed);
  if (existing.name !== options.name) {
    throw new ArrivalError(
      'other-member',
      `The data directory belongs to member '${existing.name}' (${idToHex(existing.memberId)}) and this member is started as --name '${options.name}'. Use the directory of this member, or an empty one for a new member.`,
    );
  }
  const isFounder =
    existing.clusterId === founded.clusterId && existing.memberId === founded.memberId;
  if (isFounder) return { kind: 'return', identity: existing, founders, known: undefined };
  // The flags tell how the cluster began, or how this member joined; both may be long ago.
  const known = (await askAll(options)).find((reply) => reply.members.length > 0);
  if (known !== undefined && known.clusterId !== existing.clusterId) {
    throw new ArrivalError(
      'other-cluster',
      `The data directory belongs to cluster ${idToHex(existing.clusterId)} and the members of --initial-cluster to cluster ${idToHex(known.clusterId)}. Use the directory of this member, or an empty one for a new member.`,
    );
  }
  return { kind: 'return', identity: existing, founders: undefined, known };
}

/** Whether somebody has met this very member before, with the directory that it has lost. */
async function lookForLife(
  options: ArrivalOptions,
  founded: Identity,
): Promise<MembersReply | undefined> {
  let known: MembersReply | undefined;
  for (const reply of await askAll(options)) {
    if (reply.clusterId !== founded.clusterId) {
      throw new ArrivalError(
        'other-cluster',
        `Member ${idToHex(reply.memberId)} of --initial-cluster belongs to cluster ${idToHex(reply.clusterId)}, which did not begin with these members and this --initial-cluster-token. To join it, add this member with 'conclave member add' and start it with --initial-cluster-state existing.`,
      );
    }
    refuseRemoved(reply, founded);
    const self = reply.members.find(({ id }) => id === founded.memberId);
    if (self?.incarnation !== undefined) throw wiped(self);
    known ??= reply;
  }
  return known;
}

function refuseRemoved(reply: MembersReply, { name, memberId }: Identity): void {
  if (!reply.removed.includes(memberId)) return;
  throw new ArrivalError(
    'removed',
    `Member '${name}' (${idToHex(memberId)}) was removed from its cluster, for good. To bring the machine back, add it with 'conclave member add' and start it with --initial-cluster-state existing.`,
  );
}

function wiped({ name, id }: RosterMember): ArrivalError {
  return new ArrivalError(
    'wiped',
    `Member '${name}' (${idToHex(id)}) has lived before, in a data directory that is not this empty one, and may have promised what it no longer knows. Start it with its old directory, or put a new member in its place: conclave member replace ${idToHex(id)} NAME --peer-urls URL`,
  );
}

/** Finds the place that `member add` has made. */
async function join(options: ArrivalOptions): Promise<Arrival> {
  const { clock, timers, patienceMs, name } = options;
  const untilMs = clock.nowMs() + patienceMs;
  for (;;) {
    const [known] = (await askAll(options)).filter((reply) => reply.members.length > 0);
    const self = known?.members.find((member) => isSame(member.peerUrls, ownUrls(options)));
    if (known !== undefined && self !== undefined) {
      if (self.name !== '' || self.incarnation !== undefined) throw wiped(self);
      refuseTakenName(known, name);
      const identity = { name, clusterId: known.clusterId, memberId: self.id };
      return { kind: 'join', identity, founders: undefined, known };
    }
    // Whoever was asked may not know yet that this member was added.
    if (clock.nowMs() >= untilMs) throw notAdded(options, known);
    await sleep(timers, RETRY_MS);
  }
}

function refuseTakenName({ members }: MembersReply, name: string): void {
  const other = members.find((member) => member.name === name);
  if (other === undefined) return;
  throw new ArrivalError(
    'name-taken',
    `Member ${idToHex(other.id)} of the cluster has the name '${name}' already. Give this one another --name.`,
  );
}

function notAdded(options: ArrivalOptions, known: MembersReply | undefined): ArrivalError {
  const urls = ownUrls(options).join(',');
  if (known === undefined) {
    const asked = otherUrls(options).join(', ');
    return new ArrivalError(
      'nobody-answers',
      asked === ''
        ? `--initial-cluster names no other member, and --initial-cluster-state existing means to join some. Name them as 'conclave member add' has printed it.`
        : `No member of the cluster answers at ${asked}. Check --initial-cluster and that those members listen there (--listen-peer-urls).`,
    );
  }
  return new ArrivalError(
    'not-added',
    `The cluster has no member with the peer URLs ${urls}. Add it first: conclave member add ${options.name} --peer-urls ${urls}`,
  );
}

/** Answers of those who give one, each asked at all of its addresses. */
async function askAll(options: ArrivalOptions): Promise<readonly MembersReply[]> {
  const asked = otherUrls(options).map((url) =>
    options.ask(url, { timeoutMs: ASK_MS }).catch(() => undefined),
  );
  return (await Promise.all(asked)).filter((reply) => reply !== undefined);
}

const ownUrls = ({ initialCluster, name }: ArrivalOptions): readonly string[] =>
  initialCluster.find((member) => member.name === name)?.peerUrls ?? [];

const otherUrls = ({ initialCluster, name }: ArrivalOptions): readonly string[] =>
  initialCluster.filter((member) => member.name !== name).flatMap(({ peerUrls }) => peerUrls);

const isSame = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((url) => b.includes(url));
