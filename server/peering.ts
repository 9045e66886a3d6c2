/**
 * Between this member and the others: what comes in goes to the node, what the node needs sent goes
 * out, and the transport knows who takes part as soon as that is applied here.
 */
import type { Logger } from 'pino';
import { Fault } from './faults.ts';
import { idToHex } from './ids.ts';
import type { LocalMember } from './local-member.ts';
import { decodeMembership, type MembershipCommand } from './membership.ts';
import type { MembershipChanges } from './membership-changes.ts';
import type { Node } from './node.ts';
import type { Clock, PeerBook } from './ports.ts';
import { votersOf } from './raft/configuration.ts';
import { type Message, NO_NODE } from './raft/message.ts';
import type { Raft } from './raft/raft.ts';
import type { Replica } from './replica.ts';
import type {
  IncomingSnapshot,
  OutgoingSnapshot,
  ReceivedSnapshot,
  SnapshotDescription,
  SnapshotInbox,
  SnapshotOutbox,
} from './storage/transfer.ts';
import { removedSentence } from './transport/gatekeeper.ts';
import type {
  MembersReply,
  Question,
  RefusalCode,
  Reply,
  SnapshotMessage,
  Transport,
  TransportHandlers,
} from './transport/transport.ts';

/** Told how this member is connected, and how copies of the state travel. */
export interface PeeringObserver {
  connectionChanged(local: bigint, remote: bigint, isReachable: boolean): void;
  snapshotSendStarted(to: bigint): (outcome: 'sent' | 'failed') => void;
  snapshotReceived(from: bigint, sizeBytes: number): void;
}

export type PeeringOptions = {
  readonly node: Node;
  readonly member: LocalMember;
  readonly changes: MembershipChanges;
  readonly replica: Replica;
  readonly raft: Raft;
  readonly peerBook: PeerBook;
  readonly inbox: SnapshotInbox;
  readonly outbox: SnapshotOutbox;
  /** What the others said of the cluster before this member had any of its log. */
  readonly known: MembersReply | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observer: PeeringObserver;
  /**
   * The cluster goes on without this member. Called once; `isRemoved` when it was removed, and so will
   * be refused whatever is done about it.
   */
  readonly onExpelled: (reason: string, isRemoved: boolean) => void;
};

/** What ends a member: no patience will make the others take it back. */
const final: readonly RefusalCode[] = ['removed-member', 'other-incarnation', 'other-cluster'];

export class Peering implements TransportHandlers {
  readonly #options: PeeringOptions;
  readonly #connected = new Set<bigint>();
  #transport: Transport | undefined;
  /** Ends transfers of copies when this member stops, or leads no more. */
  #sending = new AbortController();
  /** Who is sent a copy, and what ends that. */
  readonly #receivers = new Map<bigint, AbortSignal>();
  #isExpelled = false;

  constructor(options: PeeringOptions) {
    this.#options = options;
  }

  begin(transport: Transport): void {
    this.#transport = transport;
    this.membersChanged();
  }

  async close(): Promise<void> {
    this.#sending.abort();
    await this.#transport?.close();
  }

  get ask(): Transport['ask'] {
    return (to, question, options) =>
      this.#transport === undefined
        ? Promise.reject(new Fault('no-leader'))
        : this.#transport.ask(to, question, options);
  }

  send(messages: readonly Message[]): void {
    this.#transport?.send(messages);
  }

  connectedMs(id: bigint): number | undefined {
    return this.#transport?.connectedMs(id);
  }

  /** Whom to connect to may have changed. */
  membersChanged(): void {
    const { member, replica, known } = this.#options;
    const { machine } = replica;
    // A leader that was removed has still to say so to the others, and who leads next.
    if (machine.removed.includes(replica.leader) && !replica.isLeader) return;
    const isNew = machine.members.length === 0;
    const members = isNew ? (known?.members ?? []) : machine.members;
    this.#transport?.setPeers({
      index: isNew ? (known?.index ?? 0) : replica.appliedIndex,
      peers: members
        .filter(({ id }) => id !== member.memberId)
        .map(({ id, peerUrls }) => ({ id, urls: peerUrls })),
      removed: machine.removed,
    });
    this.#noticeRemoval();
  }

  leadershipChanged(): void {
    this.membersChanged();
    if (this.#options.replica.isLeader) return;
    this.#sending.abort();
    this.#sending = new AbortController();
  }

  /**
   * A leader that was removed leads on until another one can. While nobody is known to lead, the others
   * may not have heard that the removal is committed, and need this member's answer to learn it: it
   * stays until one of them leads, or refuses it as removed.
   */
  #noticeRemoval(): void {
    const { member, replica } = this.#options;
    if (replica.isLeader || replica.leader === NO_NODE) return;
    if (!replica.machine.removed.includes(member.memberId)) return;
    this.#expel(removedSentence(member.memberId, member.clusterId), true);
  }

  receive(message: Message): void {
    this.#options.node.receive(message);
  }

  unreachable(id: bigint): void {
    if (this.#connected.delete(id)) {
      const { logger, member, observer } = this.#options;
      logger.info({ peer: idToHex(id) }, 'lost the connection to a member');
      observer.connectionChanged(member.memberId, id, false);
    }
    this.#options.node.unreachable(id);
  }

  reachable(id: bigint): void {
    this.#connected.add(id);
    const { logger, member, observer } = this.#options;
    logger.info({ peer: idToHex(id) }, 'connected to a member');
    observer.connectionChanged(member.memberId, id, true);
    this.#campaignFirst();
  }

  refused(by: bigint, code: RefusalCode, sentence: string): void {
    this.#options.logger.error({ peer: idToHex(by), code }, `refused by a member: ${sentence}`);
    if (final.includes(code)) this.#expel(sentence, code === 'removed-member');
  }

  async answer(question: Question): Promise<Reply> {
    const { member, changes } = this.#options;
    switch (question.kind) {
      case 'renew-leases':
        return member.renewLeasesHere(question.ids);
      case 'describe-lease':
        return member.describeLeaseHere(question.id, question.withKeys);
      case 'leases':
        return member.leasesHere();
      case 'propose-membership':
        return changes.makeHere(decodeChange(question.command));
    }
  }

  members(): MembersReply {
    const { member, replica, peerBook } = this.#options;
    return {
      clusterId: member.clusterId,
      memberId: member.memberId,
      index: replica.appliedIndex,
      members: replica.machine.members.map(({ incarnation, ...fact }) => ({
        ...fact,
        incarnation: incarnation === 0n ? peerBook.known(fact.id) : incarnation,
      })),
      removed: replica.machine.removed,
    };
  }

  openSnapshot(
    _message: SnapshotMessage,
    announced: SnapshotDescription,
  ): Promise<IncomingSnapshot> {
    return this.#options.inbox.open(announced);
  }

  async snapshotReceived(message: SnapshotMessage, received: ReceivedSnapshot): Promise<void> {
    const { node, logger, observer } = this.#options;
    const { index, sizeBytes } = received;
    logger.info({ peer: idToHex(message.from), index, sizeBytes }, 'received a copy of the state');
    observer.snapshotReceived(message.from, sizeBytes);
    node.receiveSnapshot(message, received);
  }

  /** A member is so far behind that the log does not reach back to it. */
  snapshotNeeded(to: bigint): void {
    const { node, logger } = this.#options;
    const { signal } = this.#sending;
    if (this.#receivers.get(to) === signal) return;
    this.#receivers.set(to, signal);
    const sent = this.#sendSnapshot(to, signal).finally(() => {
      if (this.#receivers.get(to) === signal) this.#receivers.delete(to);
    });
    sent.then(
      (index) => {
        logger.info({ peer: idToHex(to), index }, 'sent a copy of the state');
        node.snapshotReported(to, { sent: true, index });
      },
      (error: unknown) => {
        if (signal.aborted) return;
        logger.warn({ err: error, peer: idToHex(to) }, 'cannot send a copy of the state');
        node.snapshotReported(to, { sent: false });
      },
    );
  }

  /** Returns the index of the copy. */
  async #sendSnapshot(to: bigint, signal: AbortSignal): Promise<number> {
    const { node, member, raft, outbox, clock, observer } = this.#options;
    const ended = observer.snapshotSendStarted(to);
    let source: OutgoingSnapshot | undefined;
    // Nothing that the copy may need behind it is released while it is made.
    node.retention.hold(to, raft.firstIndex - 1);
    try {
      source = await outbox.take(raft.firstIndex - 1);
      node.retention.hold(to, source.index);
      const message: SnapshotMessage = {
        kind: 'snapshot',
        from: member.memberId,
        to,
        term: raft.term,
        index: source.index,
        indexTerm: source.term,
        configuration: source.configuration,
      };
      signal.throwIfAborted();
      if (this.#transport === undefined) throw new Fault('stopped');
      await this.#transport.sendSnapshot(to, message, source, signal);
      ended('sent');
      return source.index;
    } catch (error) {
      ended('failed');
      throw error;
    } finally {
      source?.release();
      node.retention.letGo(to, clock.nowMs());
    }
  }

  /**
   * Where nobody leads, as when all members start at once, one need not wait for its election
   * timeout. The others grant it nothing if they do hear a leader.
   */
  #campaignFirst(): void {
    const { node, member, raft } = this.#options;
    if (raft.leader !== NO_NODE) return;
    const voters = votersOf(raft.configuration);
    const present = voters.filter((id) => id === member.memberId || this.#connected.has(id));
    if (present.length * 2 <= voters.length || present[0] !== member.memberId) return;
    raft.campaign();
    node.wake();
  }

  #expel(reason: string, isRemoved: boolean): void {
    if (this.#isExpelled) return;
    this.#isExpelled = true;
    this.#options.onExpelled(reason, isRemoved);
  }
}

function decodeChange(bytes: Uint8Array): MembershipCommand {
  try {
    return decodeMembership(bytes);
  } catch {
    throw new Fault('not-capable');
  }
}
