/**
 * Raft for one group (Ongaro, "Consensus: Bridging Theory and Practice", 2014), as a pure state
 * machine. The host feeds it ticks, messages, proposals and storage confirmations, and carries out
 * what `ready` returns:
 *
 * ```
 *   tick step propose read ──▶ Raft ──▶ ready: write ──▶ Log.append ──▶ stored(sequence)
 *                                              messages ──▶ peers
 *                                              committed ──▶ state machine ──▶ configure, applied
 *                                              needsSnapshot ──▶ peers ──▶ snapshotReported
 *                                              reads, refused, leadership ──▶ clients
 * ```
 *
 * The host must: store writes in order and confirm each after it is durable; apply `committed` in
 * order, and call `configure` for every configuration entry in it; carry snapshots to the peers that
 * need one and report how that went; call nothing more after a write failed. Messages may be lost,
 * doubled and reordered at will.
 *
 * Where to look: `state.ts` what a member is; `step.ts` who handles a message; `follower.ts`,
 * `candidate.ts`, `leader.ts` one role each; `vote.ts` answering candidates; `replication.ts` and
 * `progress.ts` the leader's traffic; `proposal.ts` what enters the log; `configuration.ts`,
 * `quorum.ts` and `membership.ts` who takes part; `snapshot.ts` peers that lag too far behind;
 * `transfer.ts` handing over; `read-index.ts` linearizable reads; `log.ts` and `durability.ts` the log
 * and what of it is safe.
 *
 * In: pre-vote, check-quorum, no-op at the start of a term, batched read index with forwarding by
 * followers, storage that answers later, leadership transfer, pipelined appends with limits, simple
 * and joint changes of the members, in force when applied, learners, snapshots, forwarding of
 * proposals, elections at once when the leader's connections break.
 *
 * Left out: the bytes of snapshots, which travel apart. Reads by leader lease, on purpose: a paused
 * process would answer them wrongly.
 *
 * This file only collects what goes out.
 */
import { assert, unreachable } from '../assert.ts';
import { campaign, candidateStored, tickCandidate } from './candidate.ts';
import { type RaftConfig, validateConfig } from './config.ts';
import type { Configuration } from './configuration.ts';
import { flushFollower, inherit, leaderUnreachable, tickFollower } from './follower.ts';
import { flushLeader, peerUnreachable, tickLeader } from './leader.ts';
import { configure } from './membership.ts';
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
  type SnapshotOutcome,
  type TransferOutcome,
} from './message.ts';
import type { Flow } from './progress.ts';
import { forward, propose } from './proposal.ts';
import { read } from './read-index.ts';
import { advanceCommit } from './replication.ts';
import { snapshotReported } from './snapshot.ts';
import { State } from './state.ts';
import { step } from './step.ts';
import { resign, startTransfer } from './transfer.ts';

/** How far a peer is, for people and metrics. */
export type PeerStatus = {
  readonly id: NodeId;
  readonly match: number;
  readonly next: number;
  readonly flow: Flow['kind'];
  /** Heard from since the quorum was last checked. */
  readonly active: boolean;
};

export class Raft {
  readonly #state: State;
  /** The last entry given out in `Ready.committed`. */
  #givenToApply: number;
  #reported: Leadership;

  /** Throws `RaftConfigError`. */
  constructor(config: RaftConfig) {
    validateConfig(config);
    this.#state = new State(config);
    this.#givenToApply = config.appliedIndex;
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
    return this.#state.appliedIndex;
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
    step(this.#state, message);
  }

  /** Campaigns now, unless this member leads or may not vote. */
  campaign(): void {
    campaign(this.#state);
  }

  /**
   * Appends to the log, in order, or forwards to the leader, all or nothing. Whether they get
   * committed is not known yet. One configuration entry at a time, and only on the leader.
   */
  propose(proposals: readonly Proposal[]): ProposalOutcome {
    const { role } = this.#state;
    if (role.kind === 'leader') return propose(this.#state, role, proposals);
    if (role.kind === 'follower') return forward(this.#state, role, proposals);
    return { accepted: false, reason: 'not-leader' };
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

  /** A hint that the connection to a member broke, once for each break. Never needed, only faster. */
  unreachable(node: NodeId): void {
    const state = this.#state;
    const { role } = state;
    if (node === state.id || node === NO_NODE) return;
    state.silent.add(node);
    if (role.kind === 'leader') peerUnreachable(role, node);
    else if (role.kind === 'follower' && role.leader === node) leaderUnreachable(state);
  }

  /**
   * The own disk takes too long over the write under way. A leader hands over and follows, and this
   * member does not try to lead again before that write is finished.
   */
  stepDown(): void {
    const state = this.#state;
    state.isStalled = state.durability.isWriting;
    if (state.role.kind === 'leader') resign(state, state.role);
  }

  /** How carrying a snapshot to a peer named in `Ready.needsSnapshot` ended. */
  snapshotReported(to: NodeId, outcome: SnapshotOutcome): void {
    const { role } = this.#state;
    if (role.kind === 'leader') snapshotReported(role, to, outcome);
  }

  /** The write is durable. Throws `InvariantError` if it is not the one under way. */
  stored(sequence: number): void {
    const state = this.#state;
    const { messages, snapshot } = state.durability.end(sequence);
    state.messages.push(...messages);
    state.isStalled = false;
    if (snapshot !== undefined) {
      this.#givenToApply = Math.max(this.#givenToApply, snapshot.index);
      state.appliedIndex = Math.max(state.appliedIndex, snapshot.index);
      configure(state, snapshot.index, snapshot.configuration);
    }
    if (state.role.kind === 'candidate') candidateStored(state, state.role);
    else if (state.role.kind === 'leader') advanceCommit(state, state.role);
    else if (state.role.kind === 'follower') inherit(state, state.role);
  }

  /**
   * What is in force since the configuration entry at `index` was applied, changed or not. Called for
   * each such entry, before `applied` names it.
   */
  configure(index: number, configuration: Configuration): void {
    const state = this.#state;
    assert(index <= this.#givenToApply, 'only what was given out is applied');
    configure(state, index, configuration);
    if (state.role.kind === 'follower') inherit(state, state.role);
  }

  /** The state machine has applied everything up to `index`. */
  applied(index: number): void {
    const state = this.#state;
    assert(index <= this.#givenToApply, 'only what was given out is applied');
    const configured = Math.max(state.appliedIndex, state.configuredIndex);
    const change = state.log.lastChange(configured, index);
    assert(change === undefined, 'a configuration entry is configured, then applied');
    state.appliedIndex = Math.max(state.appliedIndex, index);
  }

  /** Entries at or below `index` leave memory, as far as they are applied. */
  release(index: number): void {
    this.#state.log.release(Math.min(index, this.#state.appliedIndex));
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
      state.forgotten !== undefined ||
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
      forgotten: state.forgotten,
      refused: state.refused,
      leadership,
    };
    state.messages = [];
    state.confirmedReads = [];
    state.droppedReads = [];
    state.needsSnapshot = [];
    state.forgotten = undefined;
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
    if (this.#state.durability.isInstalling) return this.#givenToApply;
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
}
