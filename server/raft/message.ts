/**
 * The values that Raft speaks: no wire types, no I/O. Terms and indexes are integers from 1; 0 is
 * "none". Everything that enters or leaves the algorithm is declared here, as closed unions.
 */
export type NodeId = bigint;

export const NO_NODE: NodeId = 0n;

/** What must survive a restart besides the log (Raft, figure 2). */
export type HardState = {
  readonly term: number;
  readonly votedFor: NodeId;
  /** Not needed for safety: written along with the rest, so that a restart applies sooner. */
  readonly commit: number;
};

export type EntryKind = 'command' | 'no-op' | 'configuration';

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
/** Granted: `term` echoes the request. Refused: `term` is the refuser's own. */
export type PreVoteResponse = Envelope & {
  readonly kind: 'pre-vote-response';
  readonly granted: boolean;
};

export type Vote = Envelope & {
  readonly kind: 'vote';
  readonly lastIndex: number;
  readonly lastTerm: number;
  /** The leader itself asked for this election, so members that hear it well still answer. */
  readonly transfer: boolean;
};
export type VoteResponse = Envelope & { readonly kind: 'vote-response'; readonly granted: boolean };

/** Entries after (prevIndex, prevTerm); none at all carries a commit index or probes the position. */
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

/** The leader hands over: the receiver campaigns at once. */
export type TimeoutNow = Envelope & { readonly kind: 'timeout-now' };

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
  | ReadIndexResponse;

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
 */
export type StorageWrite = {
  readonly sequence: number;
  readonly hardState?: HardState;
  readonly entries: readonly Entry[];
};

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
  /** Peers that need entries which were released here, starting with `nextIndex`. */
  readonly needsSnapshot: readonly { readonly to: NodeId; readonly nextIndex: number }[];
  /** Set when role, term or leader differ from the last time it was reported. */
  readonly leadership: Leadership | undefined;
};

export type Proposal = { readonly kind: EntryKind; readonly data: Uint8Array };

export type ProposalOutcome =
  | { readonly accepted: true; readonly firstIndex: number; readonly term: number }
  | {
      readonly accepted: false;
      /** `overloaded`: too many bytes await commit; try again later. */
      readonly reason: 'not-leader' | 'transferring' | 'overloaded';
    };

export type TransferOutcome = 'started' | 'not-leader' | 'bad-transferee';
