/**
 * One member as a pure state machine: Raft, the store behind it, and the requests that wait.
 *
 * `handle(event)` takes what happened; `outgoing()` and then `effects()` return what must be done about
 * it. Time, disk, network and dice are arguments, so a simulator runs exactly the code that ships.
 *
 * Invariants kept here:
 * - A request is answered only after its entry is applied, and an entry is applied only after it is
 *   durable on a quorum (a quorum of one included).
 * - An entry names the life of the member that proposed it and the request, so an answer never goes
 *   to another request than the one that it belongs to, wherever the entry was appended.
 * - `leader changed` for a proposal is certain: it has not taken effect and never will. What may still
 *   take effect, or did without this member knowing the answer, is said to have timed out.
 * - A linearizable read is released only when everything committed before it was asked is applied.
 * - A lease or a client expires only through the log, proposed by the leader of the term that applies
 *   it.
 * - Raft learns of every change of members when its entry is applied, and of no change otherwise.
 */
import { assert } from './assert.ts';
import type { Command } from './command.ts';
import { type Envelope, openCommand, openMembership } from './envelope.ts';
import { limits } from './limits.ts';
import type { Applied, Machine } from './machine.ts';
import type { MembershipCommand } from './membership.ts';
import type { PointName } from './points.ts';
import type { State } from './ports.ts';
import type { Request } from './proposals.ts';
import { INTERNAL, type Proposal, Proposer } from './proposer.ts';
import { type Configuration, isSameConfiguration } from './raft/configuration.ts';
import type { Entry, NodeId, Ready, StorageWrite } from './raft/message.ts';
import type { PeerStatus, Raft } from './raft/raft.ts';
import type {
  Effects,
  Outcome,
  Outgoing,
  Published,
  ReplicaEvent,
  RequestId,
} from './replica-events.ts';
import type { MemberFact } from './roster.ts';
import { Transfers } from './transfers.ts';

export type ReplicaOptions = {
  readonly raft: Raft;
  readonly machine: Machine;
  readonly state: State;
  /** How long a proposal may wait for its entry to be applied. */
  readonly requestTimeoutMs: number;
  readonly electionTimeoutMs: number;
  /** Told of moments that cannot be seen from outside. */
  readonly reached?: (point: PointName) => void;
};

/**
 * Committed entries applied in one turn, however quick they are. Few, because the answers of a turn leave
 * with it: clients go on with the first while the rest is still applied.
 */
const APPLY_PER_TURN = 64;
const NOTHING_OUTGOING: Outgoing = { write: undefined, messages: [], forgotten: undefined };
/** Leases whose expiry is proposed per tick; etcd's rate of 1,000 a second at ten ticks a second. */
const EXPIRE_PER_TICK = 100;
/** A client may have thousands of records to remove. */
const EXPIRE_CLIENTS_PER_TICK = 10;

export class Replica {
  readonly machine: Machine;
  readonly #raft: Raft;
  readonly #state: State;
  readonly #options: ReplicaOptions;
  readonly #proposer: Proposer;
  readonly #transfers = new Transfers();
  #committed: Entry[] = [];
  #waitingReads: { readonly id: RequestId; readonly index: number }[] = [];
  #outcomes: Outcome[] = [];
  #transferred: RequestId[] = [];
  #needsSnapshot: Ready['needsSnapshot'] = [];
  #leadershipChanged = false;
  /** The write that brings a snapshot: nothing is applied until it is stored. */
  #installing: StorageWrite | undefined;
  #installed = false;
  #configuration: Configuration;
  #members: readonly MemberFact[];
  /** The term in which this member, as leader, has applied its first own entry; 0 when none. */
  #leaseTerm = 0;
  #lastTickMs = Number.POSITIVE_INFINITY;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    this.#raft = options.raft;
    this.machine = options.machine;
    this.#state = options.state;
    this.#proposer = new Proposer({
      ...options,
      onFault: (id, fault) => this.#outcomes.push({ id, fault }),
      onNotProposed: (command) => this.#offerAgain(command),
    });
    this.#configuration = options.machine.configuration;
    this.#members = options.machine.members;
  }

  get isLeader(): boolean {
    return this.#raft.role === 'leader';
  }

  /** Leader, and everything of earlier terms is applied: leases may be renewed and expired. */
  get isServingLeader(): boolean {
    return this.isLeader && this.#leaseTerm === this.#raft.term;
  }

  get term(): number {
    return this.#raft.term;
  }

  get leader(): NodeId {
    return this.#raft.leader;
  }

  get lastIndex(): number {
    return this.#raft.lastIndex;
  }

  get commitIndex(): number {
    return this.#raft.commitIndex;
  }

  get appliedIndex(): number {
    return this.#state.appliedIndex;
  }

  /** How far the others are; empty unless this member leads. */
  peers(): readonly PeerStatus[] {
    return this.#raft.peers();
  }

  /** Entries up to `index` are durable in the state: they need not stay in memory any longer. */
  release(index: number): void {
    this.#raft.release(index);
  }

  handle(event: ReplicaEvent, nowMs: number): void {
    switch (event.kind) {
      case 'tick':
        this.#tick(nowMs);
        return;
      case 'message':
        this.#raft.step(event.message);
        return;
      case 'campaign':
        this.#raft.campaign();
        return;
      case 'propose':
        this.#propose(event.requests, nowMs);
        return;
      case 'propose-configuration':
        this.#proposer.proposeChange(event, nowMs);
        return;
      case 'read':
        if (!this.#raft.read(event.id)) this.#outcomes.push({ id: event.id, fault: 'no-leader' });
        return;
      case 'transfer':
        this.#transfer(event.id, event.to, nowMs);
        return;
      case 'unreachable':
        this.#raft.unreachable(event.node);
        return;
      case 'snapshot-reported':
        this.#raft.snapshotReported(event.to, event.outcome);
        return;
      case 'stored':
        this.#stored(event.sequence, nowMs);
        return;
      case 'storage-slow':
        this.#raft.stepDown();
        return;
    }
  }

  /**
   * What is to be stored and sent because of the events handled so far. To be begun before `effects` is
   * asked: applying takes as long as a disk does.
   */
  outgoing(nowMs: number): Outgoing {
    if (!this.#raft.hasReady()) return NOTHING_OUTGOING;
    const ready = this.#raft.ready();
    this.#take(ready, nowMs);
    return ready;
  }

  /** No other member waits for what this one does. */
  get isSoleVoter(): boolean {
    const { voters, outgoing } = this.machine.configuration;
    return voters.length === 1 && outgoing.length === 0 && voters[0] === this.#raft.id;
  }

  /** Whether `effects` would find something to apply, or answers to give, beside reads to let go. */
  get hasEffects(): boolean {
    return this.#mayApplyMore || this.#outcomes.length > 0;
  }

  /**
   * Everything else to be done about the events handled so far. Applies what is committed, unless
   * `mayApply` is false because the state has too much in memory that is not on disk yet.
   *
   * @param isTurnOver asked after each entry, which may be a single put or a transaction of thousands:
   *   once it is, the rest waits for the next turn
   */
  effects(nowMs: number, mayApply: boolean, isTurnOver: () => boolean): Effects {
    const published = mayApply ? this.#apply(nowMs, isTurnOver) : [];
    const effects: Effects = {
      outcomes: this.#outcomes,
      readable: this.#releaseReads(),
      transferred: this.#transferred,
      published,
      leadershipChanged: this.#leadershipChanged,
      installed: this.#installed,
      configuration: this.#takeConfiguration(),
      membersChanged: this.#members !== this.machine.members,
      needsSnapshot: this.#needsSnapshot,
      more: this.#mayApplyMore || this.#raft.hasReady(),
    };
    this.#outcomes = [];
    this.#transferred = [];
    this.#needsSnapshot = [];
    this.#leadershipChanged = false;
    this.#installed = false;
    this.#members = this.machine.members;
    return effects;
  }

  get #mayApplyMore(): boolean {
    return this.#committed.length > 0 && this.#installing === undefined;
  }

  #tick(nowMs: number): void {
    this.#noticePause(nowMs);
    this.#raft.tick();
    this.#proposer.tick(nowMs);
    this.#settleTransfers(nowMs);
    this.#expireLeases(nowMs);
    this.#expireClients(nowMs);
  }

  #take(ready: Ready, nowMs: number): void {
    for (const entry of ready.committed) this.#committed.push(entry);
    for (const read of ready.reads) this.#waitingReads.push(read);
    for (const id of ready.droppedReads) this.#outcomes.push({ id, fault: 'leader-changed' });
    if (ready.needsSnapshot.length > 0) {
      this.#needsSnapshot = [...this.#needsSnapshot, ...ready.needsSnapshot];
    }
    for (const { request, reason } of ready.refused) {
      this.#proposer.refused(request, reason, nowMs);
    }
    if (ready.write?.snapshot !== undefined) this.#beginInstalling(ready.write);
    if (ready.leadership !== undefined) {
      this.#leadershipChanged = true;
      this.#settleTransfers(nowMs);
      this.#proposer.proposeHeld(nowMs);
    }
  }

  /** Committed entries that are not applied yet take memory: there must not be ever more of them. */
  #propose(proposals: readonly Proposal[], nowMs: number): void {
    const lag = this.#raft.commitIndex - this.appliedIndex;
    if (lag > limits.applyLagEntries) this.#proposer.refuse(proposals, 'too-many-requests');
    else this.#proposer.propose(proposals, nowMs);
  }

  #transfer(id: RequestId, to: NodeId, nowMs: number): void {
    if (this.isLeader && to === this.#raft.id) {
      this.#transferred.push(id);
      return;
    }
    const outcome = this.#raft.transferLeadership(to);
    if (outcome === 'started')
      this.#transfers.begin(id, to, nowMs + this.#options.requestTimeoutMs);
    else {
      const fault = outcome === 'not-leader' ? 'not-leader' : 'bad-leader-transferee';
      this.#outcomes.push({ id, fault });
    }
  }

  #settleTransfers(nowMs: number): void {
    for (const { id, fault } of this.#transfers.settle(this.#raft, nowMs)) {
      if (fault === undefined) this.#transferred.push(id);
      else this.#outcomes.push({ id, fault });
    }
  }

  // Leases and clients.

  /**
   * A member that did not run (a stopped process, a suspended machine) could not hear renewals.
   * The leases it leads start anew, since their holders may well be alive.
   */
  #noticePause(nowMs: number): void {
    const pausedMs = nowMs - this.#lastTickMs;
    this.#lastTickMs = nowMs;
    if (pausedMs > this.#options.electionTimeoutMs && this.isServingLeader) {
      this.machine.leases.extendRenewable(nowMs, 0);
    }
  }

  /** Its end was not proposed after all: a lease may be renewed again, or offered again. */
  #offerAgain(command: Command): void {
    if (command.kind === 'lease-expire') this.machine.leases.reoffer(command.id);
    else if (command.kind === 'client-expire') this.machine.clients.reoffer(command.id);
  }

  #expireLeases(nowMs: number): void {
    if (!this.isServingLeader) return;
    const expired = this.machine.leases.expired(nowMs, EXPIRE_PER_TICK);
    if (expired.length === 0) return;
    this.#options.reached?.('lease-expiry-proposed');
    const term = this.#raft.term;
    this.#propose(
      expired.map((id) => ({ id: INTERNAL, command: { kind: 'lease-expire', id, term } })),
      nowMs,
    );
  }

  #expireClients(nowMs: number): void {
    if (!this.isServingLeader) return;
    const idle = this.machine.clients.idle(nowMs, EXPIRE_CLIENTS_PER_TICK);
    if (idle.length === 0) return;
    const term = this.#raft.term;
    this.#propose(
      idle.map(({ id, idleSince }) => ({
        id: INTERNAL,
        command: { kind: 'client-expire', id, term, idleSince },
      })),
      nowMs,
    );
  }

  // Entries.

  #apply(nowMs: number, isTurnOver: () => boolean): Published[] {
    if (!this.#mayApplyMore) return [];
    const published: Published[] = [];
    let count = 0;
    for (const entry of this.#committed) {
      this.#applyEntry(entry, nowMs, published);
      count += 1;
      if (count === APPLY_PER_TURN || isTurnOver()) break;
    }
    this.#committed.splice(0, count);
    this.#raft.applied(this.appliedIndex);
    this.#proposer.proposeHeld(nowMs);
    return published;
  }

  #applyEntry(entry: Entry, nowMs: number, published: Published[]): void {
    switch (entry.kind) {
      case 'no-op':
        this.#state.apply(entry.index, [], entry.term);
        this.#proposer.endTermsBefore(entry.term, nowMs);
        this.#beginServing(entry.term, nowMs);
        return;
      case 'command':
        this.#applyCommand(entry, nowMs, published);
        return;
      case 'configuration':
        this.#applyChange(entry, nowMs);
        return;
    }
  }

  #applyCommand(entry: Entry, nowMs: number, published: Published[]): void {
    const request = this.#proposer.end(entry.data);
    const applied =
      request?.kind === 'command'
        ? this.#execute(entry, nowMs, request, this.#raft.incarnation)
        : this.#executeForeign(entry, nowMs, openCommand(entry.data));
    if (applied.events.length > 0) {
      published.push({ revision: this.machine.revision, events: applied.events });
    }
    this.#answer(request, applied);
  }

  /** Raft is told in any case: it waits for every entry of this kind, refused ones included. */
  #applyChange(entry: Entry, nowMs: number): void {
    const applied = this.#executeForeign(entry, nowMs, openMembership(entry.data));
    this.#raft.configure(entry.index, this.machine.configuration);
    this.#answer(this.#proposer.end(entry.data), applied);
  }

  #executeForeign(
    entry: Entry,
    nowMs: number,
    content: Envelope<Command | MembershipCommand>,
  ): Applied {
    return this.#execute(entry, nowMs, content, content.origin?.incarnation);
  }

  #execute(
    { index, term }: Entry,
    nowMs: number,
    content: Omit<Envelope<Command | MembershipCommand>, 'origin'>,
    origin: bigint | undefined,
  ): Applied {
    const { command, client } = content;
    const applied = this.machine.apply(
      { index, term, nowMs, origin },
      command,
      this.#state,
      client,
    );
    this.#state.apply(index, applied.writes, term);
    if (applied.isRepetition) this.#options.reached?.('duplicate-answered');
    return applied;
  }

  #answer(request: Request | undefined, { result }: Applied): void {
    if (request !== undefined && request.id !== INTERNAL) {
      this.#outcomes.push({ id: request.id, result });
    }
  }

  /**
   * The first entry of this leader's own term is applied, so every lease granted before is known
   * here. Holders may have renewed with the previous leader just before it went: all get their full
   * time again, which can only make them expire later, never sooner.
   */
  #beginServing(term: number, nowMs: number): void {
    if (!this.isLeader || term !== this.#raft.term || this.#leaseTerm === term) return;
    this.#leaseTerm = term;
    this.machine.leases.extendAll(nowMs, this.#options.electionTimeoutMs);
    this.machine.clients.extendAll(nowMs);
    this.#options.reached?.('leases-extended');
    this.#leadershipChanged = true;
  }

  #takeConfiguration(): Configuration | undefined {
    const { configuration } = this.machine;
    if (isSameConfiguration(configuration, this.#configuration)) return undefined;
    this.#configuration = configuration;
    return configuration;
  }

  // Snapshots.

  /**
   * What the snapshot holds is not to be applied again. Whose entries are among it cannot be known, so
   * nobody can be answered but with the truth: the outcome is open.
   */
  #beginInstalling(write: StorageWrite): void {
    this.#installing = write;
    this.#committed = [];
    this.#proposer.skipped();
  }

  #stored(sequence: number, nowMs: number): void {
    const installing = this.#installing;
    if (installing?.snapshot !== undefined && installing.sequence === sequence) {
      const { index, configuration } = installing.snapshot;
      assert(this.appliedIndex === index, 'a snapshot is the state at the position it names');
      this.machine.load(this.#state, nowMs);
      assert(
        isSameConfiguration(this.machine.configuration, configuration),
        'a snapshot comes with the configuration that its state holds',
      );
      this.#installing = undefined;
      this.#installed = true;
    }
    this.#raft.stored(sequence);
  }

  // Reads.

  #releaseReads(): RequestId[] {
    if (this.#waitingReads.length === 0 || this.#installing !== undefined) return [];
    const applied = this.appliedIndex;
    const released = this.#waitingReads.filter((read) => read.index <= applied);
    if (released.length > 0) {
      this.#waitingReads = this.#waitingReads.filter((read) => read.index > applied);
    }
    return released.map((read) => read.id);
  }
}
