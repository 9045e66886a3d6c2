/**
 * What a member is: the state that every role shares, and the role with the data that only it has.
 *
 * ```
 *                 no leader heard           quorum would vote          quorum voted
 *    follower ────────────────▶ pre-candidate ─────────▶ candidate ─────────▶ leader
 *        ▲                            │                      │                  │
 *        └──── a leader, a newer term, a lost vote, no quorum to be heard ──────┘
 * ```
 *
 * The roles' handlers change this state and leave what they want done in it (messages, confirmed
 * reads); `raft.ts` hands that out.
 *
 * Invariant V1: the term never falls, and in one term the vote goes to one member only.
 */
import { assert } from '../assert.ts';
import { defaultRaftLimits, type RaftConfig, type RaftLimits } from './config.ts';
import { type Configuration, isVoter, membersOf, votersOf } from './configuration.ts';
import { Durability } from './durability.ts';
import { entryBytes, type Position, RaftLog } from './log.ts';
import {
  type HardState,
  type Message,
  NO_NODE,
  type NodeId,
  type ProposalRefusal,
} from './message.ts';
import type { Progress } from './progress.ts';

export type Follower = {
  readonly kind: 'follower';
  leader: NodeId;
  /** Ticks since the leader was heard, or a vote was given. */
  electionElapsed: number;
  electionTimeout: number;
  /** How far this log was compared with the leader's in this term, and confirmed to it. */
  matchIndex: number;
  /** The leader hands over: this member campaigns once it has the entry `from`, and may. */
  heir: { readonly from: number; elapsed: number } | undefined;
  readonly reads: {
    /** Reads for the next request to the leader. */
    waiting: number[];
    /** The request that is on its way. */
    sent:
      | { readonly request: number; readonly ids: readonly number[]; elapsed: number }
      | undefined;
  };
};

export type PreCandidate = {
  readonly kind: 'pre-candidate';
  readonly votes: Map<NodeId, boolean>;
  electionElapsed: number;
  readonly electionTimeout: number;
};

export type Candidate = {
  readonly kind: 'candidate';
  /** Own vote included once it is durable. */
  readonly votes: Map<NodeId, boolean>;
  electionElapsed: number;
  readonly electionTimeout: number;
};

/** Who asked the leader for a read index. */
export type Reader =
  | { readonly kind: 'local'; readonly id: number }
  | {
      readonly kind: 'peer';
      readonly from: NodeId;
      readonly incarnation: bigint;
      readonly request: number;
    };

export type Leader = {
  readonly kind: 'leader';
  /** Every other member of the configuration, in ascending order of id. */
  peers: ReadonlyMap<NodeId, Progress>;
  /** The no-op of this term. Nothing before it tells what is committed, so reads wait for it. */
  readonly firstIndex: number;
  heartbeatElapsed: number;
  /** Ticks since the quorum was last checked. */
  quorumElapsed: number;
  transfer: { readonly to: NodeId; elapsed: number } | undefined;
  uncommittedBytes: number;
  /** The newest request that was taken from each incarnation of each follower, or refused. */
  readonly forwarded: Map<bigint, number>;
  readonly reads: {
    /** Readers for the next round. */
    waiting: Reader[];
    /** Rounds that await a quorum, oldest first; contexts rise. */
    rounds: {
      readonly context: number;
      readonly index: number;
      readonly readers: readonly Reader[];
    }[];
    /** The newest round's context. */
    context: number;
  };
};

export type Role = Follower | PreCandidate | Candidate | Leader;

export class State {
  readonly id: NodeId;
  /** In force: the one of the newest configuration entry that is applied. */
  configuration: Configuration;
  appliedIndex: number;
  /** Configuration entries up to here are in force. */
  configuredIndex: number;
  /** Without what was recovered, which would stay in memory for good. */
  readonly config: Omit<RaftConfig, 'recovered'>;
  readonly limits: RaftLimits;
  readonly log: RaftLog;
  readonly durability: Durability;
  /** Differs at every start, see `ReadIndex`. */
  readonly incarnation: bigint;

  term: number;
  votedFor: NodeId;
  role: Role;
  /** Never reused while this incarnation lives, whatever the role does in between. */
  readRequest = 0;
  forwardRequest = 0;
  /** Members whose connection broke and that were not heard since. */
  readonly silent = new Set<NodeId>();
  /** The own disk takes too long over the write under way: no leading before that is finished. */
  isStalled = false;

  /** Set by whoever leaves something to be sent that `ready` has to work out. */
  unsent = false;
  messages: Message[] = [];
  confirmedReads: { readonly id: number; readonly index: number }[] = [];
  droppedReads: number[] = [];
  forgotten: number | undefined;
  refused: { readonly request: number; readonly reason: ProposalRefusal }[] = [];
  needsSnapshot: { readonly to: NodeId; readonly nextIndex: number }[] = [];

  constructor(config: RaftConfig) {
    const { recovered, ...settings } = config;
    const { hardState, start, entries } = recovered;
    this.id = config.id;
    this.configuration = config.configuration;
    this.appliedIndex = config.appliedIndex;
    this.configuredIndex = config.appliedIndex;
    this.config = settings;
    this.limits = { ...defaultRaftLimits, ...config.limits };
    // What was applied was committed, even if the hard state was written before that was known.
    const known = Math.max(hardState.commit, config.appliedIndex);
    this.log = new RaftLog(start, entries, known);
    this.log.commitTo(committedChange(this.log));
    this.durability = new Durability(hardState, this.log.lastIndex);
    this.incarnation = config.random.id();
    this.term = hardState.term;
    this.votedFor = hardState.votedFor;
    this.role = this.#newFollower(NO_NODE);
  }

  /**
   * What to store. It names only entries that are durable already: a write that is cut short by a
   * power loss must not leave a commit index without its entries.
   */
  get hardState(): HardState {
    const commit = Math.min(this.log.commit, this.durability.durableIndex);
    return { term: this.term, votedFor: this.votedFor, commit };
  }

  get leader(): NodeId {
    if (this.role.kind === 'leader') return this.id;
    return this.role.kind === 'follower' ? this.role.leader : NO_NODE;
  }

  get last(): Position {
    return { index: this.log.lastIndex, term: this.log.lastTerm };
  }

  get isVoter(): boolean {
    return isVoter(this.configuration, this.id);
  }

  /** The other members. Ascending, as all lists that something is done for. */
  get peers(): readonly NodeId[] {
    return membersOf(this.configuration).filter((member) => member !== this.id);
  }

  get otherVoters(): readonly NodeId[] {
    return votersOf(this.configuration).filter((voter) => voter !== this.id);
  }

  /**
   * Whether it may try to lead. Not with a change of the members that is committed and not in force
   * here yet: others may be one change further by then, and majorities two changes apart need not
   * share a member.
   */
  get mayCampaign(): boolean {
    return this.isVoter && !this.isStalled && !this.durability.isInstalling && !this.isBehindChange;
  }

  get isBehindChange(): boolean {
    return this.#changeWithin(this.log.commit);
  }

  /** A configuration entry in the log, committed or not, is not in force yet. */
  get isChanging(): boolean {
    return this.#changeWithin(this.log.lastIndex);
  }

  /** Sends at once. */
  send(message: Message): void {
    this.messages.push(message);
  }

  /** Sends after log, term and vote as they are now are durable. */
  sendWhenStored(message: Message): void {
    this.durability.hold(message);
  }

  /** A new term, or the same one with its vote kept (invariant V1). */
  enterTerm(term: number): void {
    assert(term >= this.term, 'V1: the term never falls');
    if (term === this.term) return;
    this.term = term;
    this.votedFor = NO_NODE;
  }

  voteFor(node: NodeId): void {
    assert(this.votedFor === NO_NODE || this.votedFor === node, 'V1: one vote in a term');
    this.votedFor = node;
  }

  becomeFollower(term: number, leader: NodeId): void {
    this.enterTerm(term);
    this.changeRole(this.#newFollower(leader));
  }

  /** Without a leader, and ready to ask for votes soon if nobody else gets them. */
  awaitElection(): void {
    const { electionTicks, heartbeatTicks, random } = this.config;
    const soon = heartbeatTicks + random.below(Math.max(1, Math.floor(electionTicks / 2)));
    this.changeRole({ ...this.#newFollower(NO_NODE), electionTimeout: soon });
  }

  /** Reads of the old role will not be confirmed by the new one: they are given back. */
  changeRole(role: Role): void {
    this.dropReads();
    this.role = role;
  }

  dropReads(): void {
    const { role } = this;
    if (role.kind === 'follower') {
      this.droppedReads.push(...(role.reads.sent?.ids ?? []), ...role.reads.waiting);
      role.reads.sent = undefined;
      role.reads.waiting = [];
    } else if (role.kind === 'leader') {
      const readers = [
        ...role.reads.rounds.flatMap((round) => round.readers),
        ...role.reads.waiting,
      ];
      for (const reader of readers) {
        if (reader.kind === 'local') this.droppedReads.push(reader.id);
      }
      role.reads.rounds = [];
      role.reads.waiting = [];
    }
  }

  commitTo(index: number): void {
    if (index <= this.log.commit) return;
    if (this.role.kind === 'leader') {
      const newly = this.log.slice(this.log.commit + 1, index, Number.POSITIVE_INFINITY);
      for (const entry of newly) this.role.uncommittedBytes -= entryBytes(entry);
    }
    this.log.commitTo(index);
  }

  /** Uniform in [electionTicks, 2 * electionTicks), so that members seldom campaign together. */
  newElectionTimeout(): number {
    const { electionTicks, random } = this.config;
    return electionTicks + random.below(electionTicks);
  }

  #newFollower(leader: NodeId): Follower {
    return {
      kind: 'follower',
      leader,
      electionElapsed: 0,
      electionTimeout: this.newElectionTimeout(),
      matchIndex: 0,
      heir: undefined,
      reads: { waiting: [], sent: undefined },
    };
  }

  #changeWithin(upTo: number): boolean {
    const after = Math.max(this.appliedIndex, this.configuredIndex);
    return this.log.lastChange(after, upTo) !== undefined;
  }
}

/**
 * A leader proposes a change of the members only after it has applied the one before. So a change in
 * the log proves that all earlier ones are committed, though this member may have stopped before it
 * noted that: without this, it might campaign with a configuration that is two changes old.
 */
function committedChange(log: RaftLog): number {
  const last = log.lastChange(log.commit, log.lastIndex);
  return (last !== undefined && log.lastChange(log.commit, last - 1)) || log.commit;
}
