/**
 * Raft for one group (Ongaro, "Consensus: Bridging Theory and Practice", 2014), as a pure state
 * machine. The host feeds it ticks, messages, proposals and storage confirmations, and carries out
 * what `ready` returns:
 *
 * ```
 *   tick step propose read ──▶ Raft ──▶ ready: write ──▶ Log.append ──▶ stored(sequence)
 *                                              messages ──▶ peers
 *                                              committed ──▶ state machine ──▶ applied(index)
 *                                              reads, droppedReads, leadership ──▶ clients
 * ```
 *
 * The host must: store writes in order and confirm each after it is durable; apply `committed` in
 * order; call nothing more after a write failed. Messages may be lost, doubled and reordered at will.
 *
 * Where to look: `state.ts` what a member is; `follower.ts`, `candidate.ts`, `leader.ts` one role
 * each; `vote.ts` answering candidates; `replication.ts` and `progress.ts` the leader's traffic;
 * `read-index.ts` linearizable reads; `log.ts` and `durability.ts` the log and what of it is safe.
 *
 * In: pre-vote, check-quorum, no-op at the start of a term, batched read index with forwarding by
 * followers, storage that answers later, leadership transfer, pipelined appends with limits.
 *
 * Left out: the voters are fixed. Learners, joint consensus and snapshots are not here. A peer that
 * needs released entries is reported by `Ready.needsSnapshot` and waits. Membership changes enter at
 * `quorum.ts` (every majority is asked there) and `State.voters`; a snapshot is a third kind of
 * `Progress.flow` and another start position for the log. Reads by leader lease are left out on
 * purpose: a paused process would answer them wrongly.
 *
 * This file only sorts what comes in by term and role, and collects what goes out.
 */
import { assert, unreachable } from '../assert.ts';
import {
  campaign,
  candidateStored,
  stepCandidate,
  stepPreCandidate,
  tickCandidate,
} from './candidate.ts';
import { type RaftConfig, validateConfig } from './config.ts';
import type { Configuration } from './configuration.ts';
import { flushFollower, leaderUnreachable, stepFollower, tickFollower } from './follower.ts';
import {
  flushLeader,
  peerUnreachable,
  propose,
  startTransfer,
  stepLeader,
  tickLeader,
} from './leader.ts';
import {
  type Entry,
  type HardState,
  type Leadership,
  type Message,
  NO_NODE,
  type NodeId,
  type Proposal,
  type ProposalOutcome,
  type Ready,
  type RoleKind,
  type TransferOutcome,
} from './message.ts';
import { read } from './read-index.ts';
import { advanceCommit } from './replication.ts';
import { State } from './state.ts';
import { answerPreVote, answerVote, hearsLeader } from './vote.ts';

/** How far a peer is, for people and metrics. */
export type PeerStatus = {
  readonly id: NodeId;
  readonly match: number;
  readonly next: number;
  readonly flow: 'probe' | 'replicate';
  /** Heard from since the quorum was last checked. */
  readonly active: boolean;
};

export class Raft {
  readonly #state: State;
  /** The last entry given out in `Ready.committed`. */
  #givenToApply: number;
  #appliedIndex: number;
  #reported: Leadership;

  /** Throws `RaftConfigError`. */
  constructor(config: RaftConfig) {
    validateConfig(config);
    this.#state = new State(config);
    this.#givenToApply = config.appliedIndex;
    this.#appliedIndex = config.appliedIndex;
    this.#reported = this.#leadership;
  }

  get id(): NodeId {
    return this.#state.id;
  }

  /** In force on this member. */
  get configuration(): Configuration {
    return this.#state.configuration;
  }

  /** Differs at every start of a member. */
  get incarnation(): bigint {
    return this.#state.incarnation;
  }

  get role(): RoleKind {
    return this.#state.role.kind;
  }

  get term(): number {
    return this.#state.term;
  }

  /** NO_NODE while none is known. */
  get leader(): NodeId {
    return this.#state.leader;
  }

  get hardState(): HardState {
    return this.#state.hardState;
  }

  get commitIndex(): number {
    return this.#state.log.commit;
  }

  get appliedIndex(): number {
    return this.#appliedIndex;
  }

  /** Entries up to here are durable on this member. */
  get durableIndex(): number {
    return this.#state.durability.durableIndex;
  }

  /** The first entry in memory. */
  get firstIndex(): number {
    return this.#state.log.firstIndex;
  }

  get lastIndex(): number {
    return this.#state.log.lastIndex;
  }

  /** The member that leadership is being handed to. */
  get transferee(): NodeId | undefined {
    const { role } = this.#state;
    return role.kind === 'leader' ? role.transfer?.to : undefined;
  }

  /** The term of an entry in memory. */
  termAt(index: number): number | undefined {
    return this.#state.log.term(index);
  }

  /** Empty unless this member leads. */
  peers(): readonly PeerStatus[] {
    const { role } = this.#state;
    if (role.kind !== 'leader') return [];
    return [...role.peers].map(([id, { match, next, flow, active }]) => ({
      id,
      match,
      next,
      flow: flow.kind,
      active,
    }));
  }

  /** Time passes. */
  tick(): void {
    const { role } = this.#state;
    switch (role.kind) {
      case 'follower':
        tickFollower(this.#state, role);
        return;
      case 'pre-candidate':
      case 'candidate':
        tickCandidate(this.#state, role);
        return;
      case 'leader':
        tickLeader(this.#state, role);
        return;
      default:
        unreachable(role);
    }
  }

  /** A message from another member. */
  step(message: Message): void {
    const state = this.#state;
    if (message.to !== state.id || message.from === state.id) return;
    if (this.#isUnwelcomeElection(message)) return;

    if (message.term > state.term && bindsToItsTerm(message)) {
      const isFromLeader = message.kind === 'append' || message.kind === 'heartbeat';
      state.becomeFollower(message.term, isFromLeader ? message.from : NO_NODE);
    }

    // Candidates get an answer whatever their term is: a refusal tells them the newer one.
    if (message.kind === 'pre-vote') answerPreVote(state, message);
    else if (message.kind === 'vote') answerVote(state, message);
    else if (message.term < state.term) this.#answerPastTerm(message);
    else this.#stepRole(message);
  }

  /** Campaigns now, unless this member leads or may not vote. */
  campaign(): void {
    campaign(this.#state);
  }

  /** Appends to the log, in order, if this member leads. Whether they get committed is not known yet. */
  propose(proposals: readonly Proposal[]): ProposalOutcome {
    const { role } = this.#state;
    if (role.kind !== 'leader') return { accepted: false, reason: 'not-leader' };
    return propose(this.#state, role, proposals);
  }

  /**
   * Asks for a read index; `id` comes back in `Ready.reads` or `Ready.droppedReads`.
   *
   * @returns false when no leader is known: nothing will come back.
   */
  read(id: number): boolean {
    return read(this.#state, id);
  }

  /** Hands leadership over; given up after an election timeout. `transferee` says whether it runs. */
  transferLeadership(to: NodeId): TransferOutcome {
    const { role } = this.#state;
    return role.kind === 'leader' ? startTransfer(this.#state, role, to) : 'not-leader';
  }

  /** A hint that the connection to a member broke. Never needed, only faster. */
  unreachable(node: NodeId): void {
    const { role } = this.#state;
    if (role.kind === 'leader') peerUnreachable(role, node);
    else if (role.kind === 'follower' && role.leader === node && node !== NO_NODE) {
      leaderUnreachable(this.#state, role);
    }
  }

  /** The write is durable. Throws `InvariantError` if it is not the one under way. */
  stored(sequence: number): void {
    const state = this.#state;
    state.messages.push(...state.durability.end(sequence));
    if (state.role.kind === 'candidate') candidateStored(state, state.role);
    else if (state.role.kind === 'leader') advanceCommit(state, state.role);
  }

  /** The state machine has applied everything up to `index`. */
  applied(index: number): void {
    assert(index <= this.#givenToApply, 'only what was given out is applied');
    this.#appliedIndex = Math.max(this.#appliedIndex, index);
  }

  /** Entries at or below `index` leave memory, as far as they are applied. */
  release(index: number): void {
    this.#state.log.release(Math.min(index, this.#appliedIndex));
  }

  /** Whether `ready` may have something to do. */
  hasReady(): boolean {
    const state = this.#state;
    return (
      state.unsent ||
      state.messages.length > 0 ||
      state.confirmedReads.length > 0 ||
      state.droppedReads.length > 0 ||
      state.refused.length > 0 ||
      state.needsSnapshot.length > 0 ||
      this.#applicableIndex > this.#givenToApply ||
      state.durability.hasWork(state.log, state.hardState) ||
      this.#leadershipChange !== undefined
    );
  }

  /** Takes everything there is to do. */
  ready(): Ready {
    const state = this.#state;
    if (state.unsent) this.#flush();
    const { write, messages: released } = state.durability.begin(state.log, state.hardState);
    const leadership = this.#leadershipChange;
    const ready: Ready = {
      write,
      messages: [...state.messages, ...released],
      committed: this.#takeCommitted(),
      reads: state.confirmedReads,
      droppedReads: state.droppedReads,
      needsSnapshot: state.needsSnapshot,
      refused: state.refused,
      leadership,
    };
    state.messages = [];
    state.confirmedReads = [];
    state.droppedReads = [];
    state.needsSnapshot = [];
    state.refused = [];
    if (leadership !== undefined) this.#reported = leadership;
    return ready;
  }

  #flush(): void {
    const state = this.#state;
    state.unsent = false;
    if (state.role.kind === 'leader') flushLeader(state, state.role);
    else if (state.role.kind === 'follower') flushFollower(state, state.role);
  }

  /** The state machine never gets ahead of the log on disk, or a restart would find a gap. */
  get #applicableIndex(): number {
    return Math.min(this.#state.log.commit, this.#state.durability.durableIndex);
  }

  #takeCommitted(): readonly Entry[] {
    if (this.#applicableIndex <= this.#givenToApply) return [];
    const entries = this.#state.log.slice(
      this.#givenToApply + 1,
      this.#applicableIndex,
      this.#state.limits.committedBytes,
    );
    this.#givenToApply += entries.length;
    return entries;
  }

  get #leadership(): Leadership {
    return { role: this.role, term: this.term, leader: this.leader };
  }

  get #leadershipChange(): Leadership | undefined {
    const now = this.#leadership;
    const { role, term, leader } = this.#reported;
    const isSame = now.role === role && now.term === term && now.leader === leader;
    return isSame ? undefined : now;
  }

  /** An election that would only disturb: the leader is well, as seen from here. */
  #isUnwelcomeElection(message: Message): boolean {
    if (message.term <= this.#state.term || !hearsLeader(this.#state)) return false;
    if (message.kind === 'pre-vote') return true;
    return message.kind === 'vote' && this.#state.config.checkQuorum && !message.transfer;
  }

  /** A leader of a past term, or one that cannot know of the newer one, is told. */
  #answerPastTerm(message: Message): void {
    const { id: from, term } = this.#state;
    const to = message.from;
    if (message.kind === 'append') {
      const rejectedIndex = message.prevIndex;
      this.#state.send({
        kind: 'append-rejected',
        from,
        to,
        term,
        rejectedIndex,
        hintIndex: 0,
        hintTerm: 0,
      });
    } else if (message.kind === 'heartbeat') {
      const { context } = message;
      this.#state.send({ kind: 'heartbeat-response', from, to, term, context, matchIndex: 0 });
    }
  }

  #stepRole(message: Message): void {
    const state = this.#state;
    if (message.kind === 'append' || message.kind === 'heartbeat') this.#recognize(message.from);
    const { role } = state;
    switch (role.kind) {
      case 'follower':
        stepFollower(state, role, message);
        return;
      case 'pre-candidate':
        stepPreCandidate(state, role, message);
        return;
      case 'candidate':
        stepCandidate(state, role, message);
        return;
      case 'leader':
        stepLeader(state, role, message);
        return;
      default:
        unreachable(role);
    }
  }

  /** Follows the leader of this term. */
  #recognize(leader: NodeId): void {
    const state = this.#state;
    if (state.leader === leader) return;
    assert(state.leader === NO_NODE, 'there is one leader in a term');
    state.becomeFollower(state.term, leader);
  }
}

/** Whether receiving it means that its term has begun; asking about a term does not begin it. */
function bindsToItsTerm(message: Message): boolean {
  if (message.kind === 'pre-vote') return false;
  return message.kind !== 'pre-vote-response' || !message.granted;
}
