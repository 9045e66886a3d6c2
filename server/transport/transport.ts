/**
 * What a member sees of the others: it sends messages, asks questions, hands over snapshots, and is
 * told what comes in. `PeerTransport` speaks gRPC; tests and the simulator bring their own.
 */
import type { Message } from '../raft/message.ts';
import type {
  IncomingSnapshot,
  OutgoingSnapshot,
  ReceivedSnapshot,
  SnapshotDescription,
} from '../storage/transfer.ts';

export type Peer = { readonly id: bigint; readonly urls: readonly string[] };

/** Who takes part, as far as this member has applied it. */
export type PeerRoster = {
  /** Log index of the newest membership change in it; 0 for the members a cluster began with. */
  readonly index: number;
  /** All members but this one, learners too. */
  readonly peers: readonly Peer[];
  /** Ids that were members once and never will be again. */
  readonly removed: readonly bigint[];
};

/** The message that tells Raft of an installed state; its bytes travel apart. */
export type SnapshotMessage = Extract<Message, { kind: 'snapshot' }>;

export interface Transport {
  /** Connects to who is new, lets go of who is gone. Call at start and at each applied change. */
  setPeers(roster: PeerRoster): void;
  /**
   * Best effort and never blocks: messages to a peer that is not connected, or too slow, are lost.
   * Of those that arrive, entries and proposals keep their order, and so do the others among them.
   */
  send(messages: readonly Message[]): void;
  /**
   * Rejects with a `Fault`: the one that the other member answered, `timeout`, `canceled`, or
   * `timeout-due-to-connection-lost` when it is not known whether the question arrived.
   */
  ask<K extends Question['kind']>(
    to: bigint,
    question: Extract<Question, { kind: K }>,
    options: AskOptions,
  ): Promise<Replies[K]>;
  /**
   * Resolves when the receiver has verified all of it and its Raft knows. Goes on by itself after a
   * broken connection, for a few times. Rejects with `SnapshotSendError`, or with the signal's reason.
   * The caller releases `source` afterwards.
   */
  sendSnapshot(
    to: bigint,
    message: SnapshotMessage,
    source: OutgoingSnapshot,
    signal: AbortSignal,
  ): Promise<void>;
  /** How long this peer has been reachable without a break; undefined when it is not. */
  connectedMs(id: bigint): number | undefined;
  /** Closes all connections; what was not sent yet is lost. Idempotent. */
  close(): Promise<void>;
}

export type AskOptions = { readonly timeoutMs: number; readonly signal?: AbortSignal };

export type TransportHandlers = {
  /** Once per message, in the order of its stream. Must not throw. */
  receive(message: Message): void;
  /** The connection broke, was refused or fell silent for an election timeout. Once per break. */
  unreachable(id: bigint): void;
  /** Connected, for the first time or again. */
  reachable(id: bigint): void;
  /**
   * A member does not let this one in; the sentence is for the operator. Once, until it does or says
   * something else. Whoever was removed, or has lost its data, need not try on.
   */
  refused(by: bigint, code: RefusalCode, sentence: string): void;
  /** Rejects with a `Fault` to refuse. The signal aborts when nobody waits any more. */
  answer(question: Question, from: bigint, signal: AbortSignal): Promise<Reply>;
  /** What a member that wants to join, or to know whether it lived before, is told. */
  members(): MembersReply;
  /** A copy of the state is offered. */
  openSnapshot(message: SnapshotMessage, announced: SnapshotDescription): Promise<IncomingSnapshot>;
  /** It is here and verified. Resolves when Raft has taken `message`; the handler owns `received`. */
  snapshotReceived(message: SnapshotMessage, received: ReceivedSnapshot): Promise<void>;
};

/** Why a member is not let in. */
export type RefusalCode =
  | 'malformed-hello'
  | 'other-protocol'
  | 'other-cluster'
  | 'wrong-receiver'
  | 'own-id'
  | 'removed-member'
  | 'unknown-member'
  | 'other-incarnation'
  | 'already-connected';

/** What only the leader can answer. */
export type Question =
  | { readonly kind: 'renew-leases'; readonly ids: readonly bigint[] }
  | { readonly kind: 'describe-lease'; readonly id: bigint; readonly withKeys: boolean }
  | { readonly kind: 'leases' }
  /** A membership command, encoded as in the log. */
  | { readonly kind: 'propose-membership'; readonly command: Uint8Array };

export type LeaseDescription = {
  /** Negative when it is past and the lease not yet removed. */
  readonly ttlSeconds: number;
  readonly grantedTtlSeconds: number;
  /** Empty unless they were asked for. */
  readonly keys: readonly Uint8Array[];
};

export type Replies = {
  'renew-leases': {
    readonly kind: 'leases-renewed';
    /** The granted TTLs, in the order of the ids. Undefined: no such lease. */
    readonly ttlSeconds: readonly (number | undefined)[];
  };
  'describe-lease': {
    readonly kind: 'lease';
    /** Undefined: no such lease. */
    readonly lease: LeaseDescription | undefined;
  };
  leases: { readonly kind: 'leases'; readonly ids: readonly bigint[] };
  'propose-membership': {
    readonly kind: 'membership-changed';
    /** Log index of the change: a member that applied it sees it. */
    readonly index: number;
  };
};
export type Reply = Replies[Question['kind']];

export type RosterMember = {
  readonly id: bigint;
  /** Empty: added, and not started yet. */
  readonly name: string;
  readonly peerUrls: readonly string[];
  readonly clientUrls: readonly string[];
  readonly isLearner: boolean;
  /** Its data directory, as the answering member knows it; undefined: it never heard of one. */
  readonly incarnation: bigint | undefined;
};

export type MembersReply = {
  readonly clusterId: bigint;
  /** Who answers. */
  readonly memberId: bigint;
  /** As in `PeerRoster.index`. */
  readonly index: number;
  /** All, the answering one too. */
  readonly members: readonly RosterMember[];
  readonly removed: readonly bigint[];
};

/**
 * The version of everything that members say to each other, the entries of the log included: a member
 * that cannot read one would have to stop. Since 2 an entry may be a `refuse`; since 3 one question renews
 * many leases.
 */
export const PROTOCOL_VERSION = 3;

/** How a member introduces itself on every connection. */
export type Hello = {
  readonly protocolVersion: number;
  readonly clusterId: bigint;
  readonly from: bigint;
  /** Whom it means to speak to. */
  readonly to: bigint;
  /** Of its data directory: drawn when that is made. */
  readonly incarnation: bigint;
  /** Of its process: drawn at every start. */
  readonly session: bigint;
  /** `PeerRoster.index` of what it knows. */
  readonly configurationIndex: number;
  /** Where it can be reached. */
  readonly urls: readonly string[];
};

/** Why a snapshot did not arrive. */
export class SnapshotSendError extends Error {
  override name = 'SnapshotSendError';
  readonly code = 'snapshot-not-sent';
}
