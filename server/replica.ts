/**
 * One member as a pure state machine: Raft, the store behind it, and the requests that wait.
 *
 * `handle(event)` takes what happened, `effects()` returns what must be done about it. Time, disk,
 * network and dice are arguments, so a simulator runs exactly the code that ships.
 *
 * Invariants kept here:
 * - A request is answered only after its entry is applied, and an entry is applied only after it is
 *   durable on a quorum (a quorum of one included).
 * - An entry that another leader's entry replaced is answered with `leader changed`, never with the
 *   result of the entry that took its index.
 * - A linearizable read is released only when everything committed before it was asked is applied.
 * - A lease expires only through the log, proposed by the leader of the term that applies it.
 */
import { type Command, type CommandResult, decodeCommand, encodeCommand } from './command.ts';
import type { FaultCode } from './faults.ts';
import { limits } from './limits.ts';
import type { Machine } from './machine.ts';
import type { Event, Revision } from './mvcc/types.ts';
import type { State } from './ports.ts';
import {
  type Entry,
  type Message,
  NO_NODE,
  type NodeId,
  type ProposalOutcome,
  type Ready,
  type StorageWrite,
} from './raft/message.ts';
import type { Raft } from './raft/raft.ts';

export type RequestId = number;

export type ReplicaEvent =
  | { readonly kind: 'tick' }
  | { readonly kind: 'message'; readonly message: Message }
  /** Everything proposed in one turn: one batch of entries. */
  | { readonly kind: 'propose'; readonly requests: readonly Proposal[] }
  | { readonly kind: 'read'; readonly id: RequestId }
  /** The write with this sequence is durable. */
  | { readonly kind: 'stored'; readonly sequence: number };

export type Proposal = { readonly id: RequestId; readonly command: Command };

export type Outcome =
  | { readonly id: RequestId; readonly result: CommandResult }
  | { readonly id: RequestId; readonly fault: FaultCode };

export type Published = { readonly revision: Revision; readonly events: readonly Event[] };

export type Effects = {
  /** To the log; then a `stored` event. The next one appears only after that. */
  readonly write: StorageWrite | undefined;
  readonly messages: readonly Message[];
  readonly outcomes: readonly Outcome[];
  /** Linearizable reads that may be served now. */
  readonly readable: readonly RequestId[];
  /** Watch events by revision, in order. */
  readonly published: readonly Published[];
  readonly leadershipChanged: boolean;
  /** Committed entries are left over for the next turn. */
  readonly more: boolean;
};

export type ReplicaOptions = {
  readonly raft: Raft;
  readonly machine: Machine;
  readonly state: State;
  /** How long a proposal may wait for its entry to be applied. */
  readonly requestTimeoutMs: number;
  readonly electionTimeoutMs: number;
};

/** Committed entries applied in one turn: bounds how long one turn can take. */
const APPLY_PER_TURN = 512;
/** Leases whose expiry is proposed per tick; etcd's rate of 1,000 a second at ten ticks a second. */
const EXPIRE_PER_TICK = 100;
/** Request id of proposals that the replica makes for itself: nobody waits for them. */
const INTERNAL: RequestId = 0;

type ProposalRefusal = Extract<ProposalOutcome, { readonly accepted: false }>['reason'];

type Pending = {
  readonly id: RequestId;
  readonly term: number;
  readonly command: Command;
  readonly deadlineMs: number;
};

export class Replica {
  readonly machine: Machine;
  readonly #raft: Raft;
  readonly #state: State;
  readonly #options: ReplicaOptions;
  /** Proposed, not yet applied, by log index; insertion order is deadline order. */
  readonly #pending = new Map<number, Pending>();
  #committed: Entry[] = [];
  #waitingReads: { readonly id: RequestId; readonly index: number }[] = [];
  #outcomes: Outcome[] = [];
  #leadershipChanged = false;
  /** The term in which this member, as leader, has applied its first own entry; 0 when none. */
  #leaseTerm = 0;
  #lastTickMs = Number.POSITIVE_INFINITY;

  constructor(options: ReplicaOptions) {
    this.#options = options;
    this.#raft = options.raft;
    this.machine = options.machine;
    this.#state = options.state;
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

  /** Entries up to `index` are durable in the state: they need not stay in memory any longer. */
  release(index: number): void {
    this.#raft.release(index);
  }

  handle(event: ReplicaEvent, nowMs: number): void {
    switch (event.kind) {
      case 'tick':
        this.#noticePause(nowMs);
        this.#raft.tick();
        this.#expirePending(nowMs);
        this.#expireLeases(nowMs);
        return;
      case 'message':
        this.#raft.step(event.message);
        return;
      case 'propose':
        this.#propose(event.requests, nowMs);
        return;
      case 'read':
        if (!this.#raft.read(event.id)) this.#outcomes.push({ id: event.id, fault: 'no-leader' });
        return;
      case 'stored':
        this.#raft.stored(event.sequence);
        return;
    }
  }

  /**
   * Everything to be done about the events handled so far. Applies what is committed, unless
   * `mayApply` is false because the state has too much in memory that is not on disk yet.
   */
  effects(nowMs: number, mayApply: boolean): Effects {
    const ready = this.#raft.hasReady() ? this.#raft.ready() : undefined;
    if (ready !== undefined) this.#take(ready);
    const published = mayApply ? this.#apply(nowMs) : [];
    const effects: Effects = {
      write: ready?.write,
      messages: ready?.messages ?? [],
      outcomes: this.#outcomes,
      readable: this.#releaseReads(),
      published,
      leadershipChanged: this.#leadershipChanged,
      more: this.#committed.length > 0 || this.#raft.hasReady(),
    };
    this.#outcomes = [];
    this.#leadershipChanged = false;
    return effects;
  }

  #take(ready: Ready): void {
    for (const entry of ready.committed) this.#committed.push(entry);
    for (const read of ready.reads) this.#waitingReads.push(read);
    for (const id of ready.droppedReads) this.#outcomes.push({ id, fault: 'leader-changed' });
    if (ready.leadership !== undefined) this.#leadershipChanged = true;
  }

  #propose(requests: readonly Proposal[], nowMs: number): void {
    const lag = this.#raft.commitIndex - this.appliedIndex;
    if (lag > limits.applyLagEntries) {
      this.#refuse(requests, 'too-many-requests');
      return;
    }
    const outcome = this.#raft.propose(
      requests.map((request) => ({ kind: 'command', data: encodeCommand(request.command) })),
    );
    if (!outcome.accepted) {
      this.#refuse(requests, this.#refusal(outcome.reason));
      return;
    }
    const deadlineMs = nowMs + this.#options.requestTimeoutMs;
    requests.forEach(({ id, command }, offset) => {
      const index = outcome.firstIndex + offset;
      this.#dropReplaced(index);
      this.#pending.set(index, { id, term: outcome.term, command, deadlineMs });
    });
  }

  /** A proposal of an earlier term that waited at this index was cut off the log. */
  #dropReplaced(index: number): void {
    const replaced = this.#pending.get(index);
    if (replaced === undefined) return;
    this.#pending.delete(index);
    if (replaced.id !== INTERNAL) this.#outcomes.push({ id: replaced.id, fault: 'leader-changed' });
  }

  #refusal(reason: ProposalRefusal): FaultCode {
    switch (reason) {
      case 'overloaded':
        return 'too-many-requests';
      case 'transferring':
        return 'no-leader';
      case 'not-leader':
        return this.#raft.leader === NO_NODE ? 'no-leader' : 'not-leader';
    }
  }

  #refuse(requests: readonly Proposal[], fault: FaultCode): void {
    for (const { id, command } of requests) {
      if (id !== INTERNAL) this.#outcomes.push({ id, fault });
      // Never proposed, so the lease is free to be renewed, or offered again.
      else if (command.kind === 'lease-expire') this.machine.leases.reoffer(command.id);
    }
  }

  #expirePending(nowMs: number): void {
    for (const [index, pending] of this.#pending) {
      if (pending.deadlineMs > nowMs) return;
      this.#pending.delete(index);
      if (pending.id !== INTERNAL) this.#outcomes.push({ id: pending.id, fault: 'timeout' });
    }
  }

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

  #expireLeases(nowMs: number): void {
    if (!this.isServingLeader) return;
    const expired = this.machine.leases.expired(nowMs, EXPIRE_PER_TICK);
    if (expired.length === 0) return;
    const term = this.#raft.term;
    this.#propose(
      expired.map((id) => ({ id: INTERNAL, command: { kind: 'lease-expire', id, term } })),
      nowMs,
    );
  }

  #apply(nowMs: number): Published[] {
    if (this.#committed.length === 0) return [];
    const published: Published[] = [];
    const batch = this.#committed.splice(0, APPLY_PER_TURN);
    for (const entry of batch) this.#applyEntry(entry, nowMs, published);
    const last = batch.at(-1);
    if (last !== undefined) this.#raft.applied(last.index);
    return published;
  }

  #applyEntry(entry: Entry, nowMs: number, published: Published[]): void {
    const pending = this.#pending.get(entry.index);
    if (pending !== undefined) this.#pending.delete(entry.index);
    const own = pending !== undefined && pending.term === entry.term;
    if (entry.kind !== 'command') {
      this.#state.apply(entry.index, []);
      if (entry.kind === 'no-op') this.#beginServing(entry.term, nowMs);
    } else {
      const command = own ? pending.command : decodeCommand(entry.data);
      const at = { index: entry.index, term: entry.term, nowMs };
      const applied = this.machine.apply(at, command, this.#state);
      this.#state.apply(entry.index, applied.writes);
      if (applied.events.length > 0) {
        published.push({ revision: this.machine.revision, events: applied.events });
      }
      if (own && pending.id !== INTERNAL) {
        this.#outcomes.push({ id: pending.id, result: applied.result });
      }
    }
    if (pending !== undefined && !own && pending.id !== INTERNAL) {
      this.#outcomes.push({ id: pending.id, fault: 'leader-changed' });
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
    this.#leadershipChanged = true;
  }

  #releaseReads(): RequestId[] {
    if (this.#waitingReads.length === 0) return [];
    const applied = this.appliedIndex;
    const released = this.#waitingReads.filter((read) => read.index <= applied);
    if (released.length > 0) {
      this.#waitingReads = this.#waitingReads.filter((read) => read.index > applied);
    }
    return released.map((read) => read.id);
  }
}
