/**
 * The values that Raft speaks: no wire types, no I/O. Terms and indexes are integers from 1; 0 is
 * "none". Everything that enters or leaves the algorithm is declared here, as closed unions.
 */
import type { Configuration } from './configuration.ts';

export type NodeId = bigint;

export const NO_NODE: NodeId = 0n;

/** What must survive a restart besides the log (Raft, figure 2). */
export type HardState = {
  readonly term: number;
  readonly votedFor: NodeId;
  /** Not needed for safety: written along with the rest, so that a restart applies sooner. */
  readonly commit: number;
};

/**
 * `configuration`: changes the members, in force once it is applied (`Raft.configure`). With no data
 * it means to leave the joint configuration.
 */
export type EntryKind = 'command' | 'no-op' | 'configuration';

/** Raft looks into no entry: what `data` means is the host's business. */
export type Entry = {
  readonly index: number;
  readonly term: number;
  readonly kind: EntryKind;
  readonly data: Uint8Array;
};

/** Every message names its sender, its receiver and a term; a term of 0 does not occur. */
type Envelope = { readonly from: NodeId; readonly to: NodeId; readonly term: number };

/** "Would you vote for me in `term`?" Binds nobody. `term` is one above the sender's own. */
export type PreVote = Envelope & {
  readonly kind: 'pre-vote';
  readonly lastIndex: number;
  readonly lastTerm: number;
};
/**
 * What the voter knows to be committed. A candidate may hold that very entry and not know, and then
 * not know either that it needs fewer votes by now, or none of a member that was removed.
 */
type KnownCommit = { readonly commitIndex: number; readonly commitTerm: number };

/** Granted: `term` echoes the request. Refused: `term` is the refuser's own. */
export type PreVoteResponse = Envelope &
  KnownCommit & { readonly kind: 'pre-vote-response'; readonly granted: boolean };

export type Vote = Envelope & {
  readonly kind: 'vote';
  readonly lastIndex: number;
  readonly lastTerm: number;
  /** The leader itself asked for this election, so members that hear it well still answer. */
  readonly transfer: boolean;
};
export type VoteResponse = Envelope &
  KnownCommit & { readonly kind: 'vote-response'; readonly granted: boolean };

/**
 * Entries after (prevIndex, prevTerm). None at all: with a commit of 0 it asks whether the receiver
 * agrees up to there, else it only says what is committed and needs no answer.
 */
export type Append = Envelope & {
  readonly kind: 'append';
  readonly prevIndex: number;
  readonly prevTerm: number;
  readonly entries: readonly Entry[];
  readonly commit: number;
};
/** The sender's log equals the leader's up to `matchIndex`, durably. */
export type AppendAccepted = Envelope & {
  readonly kind: 'append-accepted';
  readonly matchIndex: number;
};
/** The sender lacks the entry before the request's first; it may agree at (hintIndex, hintTerm). */
export type AppendRejected = Envelope & {
  readonly kind: 'append-rejected';
  readonly rejectedIndex: number;
  readonly hintIndex: number;
  readonly hintTerm: number;
};

export type Heartbeat = Envelope & {
  readonly kind: 'heartbeat';
  /** Never above what the receiver is known to hold. */
  readonly commit: number;
  /** The newest read round; an answer with it confirms this round and all earlier ones. */
  readonly context: number;
};
export type HeartbeatResponse = Envelope & {
  readonly kind: 'heartbeat-response';
  readonly context: number;
  /** How far the sender has compared its log with this leader's, durable or not. */
  readonly matchIndex: number;
};

/** The leader hands over: the receiver campaigns as soon as it has everything up to `lastIndex`. */
export type TimeoutNow = Envelope & { readonly kind: 'timeout-now'; readonly lastIndex: number };

/**
 * A follower asks for a read index. `incarnation` differs at every start of the follower, so an
 * answer to a request of a former life is never taken for one of this life.
 */
export type ReadIndex = Envelope & {
  readonly kind: 'read-index';
  readonly incarnation: bigint;
  readonly request: number;
};
export type ReadIndexResponse = Envelope & {
  readonly kind: 'read-index-response';
  readonly incarnation: bigint;
  readonly request: number;
  readonly index: number;
};

/**
 * The state up to (index, indexTerm) replaces what the receiver has. Its bytes travel apart and are
 * at the receiver already when it steps this.
 */
export type Snapshot = Envelope & {
  readonly kind: 'snapshot';
  readonly index: number;
  readonly indexTerm: number;
  /** In force at `index`. */
  readonly configuration: Configuration;
};

/**
 * A follower's proposals, for the leader of `term` and no other. Requests of one incarnation rise, so
 * the leader can tell a doubled message from a new one and takes each at most once.
 */
export type Propose = Envelope & {
  readonly kind: 'propose';
  readonly incarnation: bigint;
  readonly request: number;
  readonly proposals: readonly Proposal[];
};
/** Certain: no copy of that request was or will be taken. A request that got lost is not answered. */
export type ProposeRefused = Envelope & {
  readonly kind: 'propose-refused';
  readonly incarnation: bigint;
  readonly request: number;
  readonly reason: ProposalRefusal;
};

export type Message =
  | PreVote
  | PreVoteResponse
  | Vote
  | VoteResponse
  | Append
  | AppendAccepted
  | AppendRejected
  | Heartbeat
  | HeartbeatResponse
  | TimeoutNow
  | ReadIndex
  | ReadIndexResponse
  | Snapshot
  | Propose
  | ProposeRefused;

export type RoleKind = 'follower' | 'pre-candidate' | 'candidate' | 'leader';

/** What a member is now. `leader` is NO_NODE while none is known. */
export type Leadership = {
  readonly role: RoleKind;
  readonly term: number;
  readonly leader: NodeId;
};

/**
 * To be made durable in one flush, then answered by `Raft.stored(sequence)`. The next write appears
 * only after that, so writes never overlap and everything that came up meanwhile shares one flush.
 * `entries` may begin at or below the last stored index: they replace the tail from there. The hard
 * state comes first on disk: a write cut short may lose entries, never keep them without their term.
 *
 * With `snapshot`, in this order: the received state takes the place of the old one, the log begins
 * anew after its position, then come hard state and entries. Entries that were given out in
 * `Ready.committed` before and are not applied yet are not to be applied any more.
 */
export type StorageWrite = {
  readonly sequence: number;
  readonly snapshot?: SnapshotPosition;
  readonly hardState?: HardState;
  readonly entries: readonly Entry[];
};

export type SnapshotPosition = {
  readonly index: number;
  readonly term: number;
  readonly configuration: Configuration;
};

/** How sending a snapshot ended; `index` is its position. */
export type SnapshotOutcome =
  | { readonly sent: true; readonly index: number }
  | { readonly sent: false };

/** One batch of work. Each field may be acted on at once, in any order, without waiting for another. */
export type Ready = {
  readonly write: StorageWrite | undefined;
  /** To send. Those that promise durability have waited inside Raft until the promise is true. */
  readonly messages: readonly Message[];
  /** To apply, in order; each entry appears exactly once and is durable here. */
  readonly committed: readonly Entry[];
  /** Reads that are linearizable once the state machine has applied `index`. */
  readonly reads: readonly { readonly id: number; readonly index: number }[];
  /** Reads that will never be confirmed: the leader changed. */
  readonly droppedReads: readonly number[];
  /**
   * Peers that need entries which were released here, starting with `nextIndex`. Each is named once,
   * and gets nothing but heartbeats until `Raft.snapshotReported` or until it is found not to need one.
   */
  readonly needsSnapshot: readonly { readonly to: NodeId; readonly nextIndex: number }[];
  /**
   * This member had confirmed the entry at this index as durable, and does not have it: its disk lost
   * the end of the log, and who knows which votes. It must not go on under its id.
   */
  readonly forgotten: number | undefined;
  /** Forwarded proposals that the leader did not take, and never will. */
  readonly refused: readonly { readonly request: number; readonly reason: ProposalRefusal }[];
  /** Set when role, term or leader differ from the last time it was reported. */
  readonly leadership: Leadership | undefined;
};

export type Proposal = { readonly kind: EntryKind; readonly data: Uint8Array };

/**
 * - `not-leader`: no leader is known, or it is another member and the proposal cannot be forwarded;
 * - `transferring`: leadership is being handed over;
 * - `overloaded`: too many bytes await commit; try again later;
 * - `change-pending`: another change of the members is not applied yet, or not left;
 * - `not-ready`: a change of the members has to wait until an entry of this term is committed, and
 *   there is nothing to leave unless the configuration is joint.
 */
export type ProposalRefusal =
  | 'not-leader'
  | 'transferring'
  | 'overloaded'
  | 'change-pending'
  | 'not-ready';

/** `forwarded`: sent to the leader of `term`; taken at most once, and only in that term. */
export type ProposalOutcome =
  | {
      readonly accepted: true;
      readonly kind: 'appended';
      readonly firstIndex: number;
      readonly term: number;
    }
  | {
      readonly accepted: true;
      readonly kind: 'forwarded';
      readonly request: number;
      readonly term: number;
    }
  | { readonly accepted: false; readonly reason: ProposalRefusal };

export type TransferOutcome = 'started' | 'not-leader' | 'bad-transferee';
