/**
 * Members in memory, driven by hand: replicas on a network that is a list of messages under way and
 * on disks that finish a write at once. Time passes when a test says so, and not otherwise.
 */
import { assert } from '../../server/assert.ts';
import type { ClientCall } from '../../server/clients/call.ts';
import type { Command } from '../../server/command.ts';
import { Machine } from '../../server/machine.ts';
import { encodeMembership, type MembershipCommand } from '../../server/membership.ts';
import { runToEnd } from '../../server/mvcc/range.ts';
import type { Random, Recovered } from '../../server/ports.ts';
import type { RaftLimits } from '../../server/raft/config.ts';
import { type Configuration, singleMember } from '../../server/raft/configuration.ts';
import type { Entry, HardState, Message, StorageWrite } from '../../server/raft/message.ts';
import { Raft } from '../../server/raft/raft.ts';
import { Replica } from '../../server/replica.ts';
import type { Effects, Outcome } from '../../server/replica-events.ts';
import { SortedState } from '../support/sorted-state.ts';

export const TICK_MS = 100;
export const ELECTION_MS = 1_000;
const ELECTION_TICKS = ELECTION_MS / TICK_MS;
const REQUEST_TIMEOUT_MS = 7_000;

/** What a member's disk holds. A write is finished at once, the state with it. */
class Disk {
  hardState: HardState = { term: 0, votedFor: 0n, commit: 0 };
  start = { index: 0, term: 0 };
  entries: Entry[] = [];
  state = new SortedState();

  append(write: StorageWrite): void {
    if (write.hardState !== undefined) this.hardState = write.hardState;
    const first = write.entries[0];
    if (first === undefined) return;
    this.entries.length = Math.min(this.entries.length, first.index - this.start.index - 1);
    this.entries.push(...write.entries);
  }

  recovered(): Recovered {
    return { hardState: this.hardState, start: this.start, entries: [...this.entries] };
  }
}

export class Member {
  readonly id: bigint;
  readonly disk = new Disk();
  readonly outcomes = new Map<number, Outcome>();
  readonly readable = new Set<number>();
  readonly transferred = new Set<number>();
  readonly published: number[] = [];
  readonly configurations: Configuration[] = [];
  installed = 0;
  membersChanged = 0;
  /** False: its state is too far ahead of its disk. */
  mayApply = true;
  /** Undefined while it is down. */
  replica: Replica | undefined;
  raft: Raft | undefined;
  /** Copies of other members' states that were carried here. */
  readonly received = new Map<number, SortedState>();

  constructor(id: bigint) {
    this.id = id;
  }

  get machine(): Machine {
    return this.up.machine;
  }

  get up(): Replica {
    assert(this.replica !== undefined, `member ${this.id} is up`);
    return this.replica;
  }

  /** Of everything replicated. */
  checksum(): number {
    return runToEnd(this.machine.hash(this.disk.state));
  }

  fault(request: number): string | undefined {
    const outcome = this.outcomes.get(request);
    if (outcome === undefined) return undefined;
    if ('fault' in outcome) return outcome.fault;
    return outcome.result.kind === 'fault' ? outcome.result.code : 'none';
  }

  result(request: number): unknown {
    const outcome = this.outcomes.get(request);
    return outcome !== undefined && 'result' in outcome ? outcome.result : outcome;
  }
}

export class Cluster {
  readonly members = new Map<bigint, Member>();
  readonly #limits: Partial<RaftLimits>;
  readonly #cut = new Set<string>();
  /** Sent and not yet delivered, oldest first. */
  network: Message[] = [];
  nowMs = 1;
  /** States do not get through, messages do. */
  blockStates = false;
  /** States are announced with a configuration that is not theirs. */
  wrongConfiguration = false;
  #nextRequest = 1;
  #seed = 7;

  /** Founded with so many members. */
  constructor(size: number, raftLimits: Partial<RaftLimits> = {}) {
    this.#limits = raftLimits;
    const founders = Array.from({ length: size }, (_, at) => {
      const id = BigInt(at + 1);
      return { id, name: `m${id}`, peerUrls: [`http://m${id}`] };
    });
    const data = encodeMembership({ kind: 'bootstrap', members: founders });
    for (const { id } of founders) {
      const member = new Member(id);
      member.disk.hardState = { term: 1, votedFor: 0n, commit: 1 };
      member.disk.entries = [{ index: 1, term: 1, kind: 'configuration', data }];
      this.members.set(id, member);
      this.start(id);
    }
  }

  /** A member that knows nothing and is nobody's member yet. */
  join(id: bigint): Member {
    const member = new Member(id);
    this.members.set(id, member);
    this.start(id);
    return member;
  }

  member(id: bigint): Member {
    const member = this.members.get(id);
    assert(member !== undefined, `there is a member ${id}`);
    return member;
  }

  get #random(): Random {
    const next = (): number => {
      this.#seed = (this.#seed * 48_271) % 2_147_483_647;
      return this.#seed;
    };
    return { below: (bound) => next() % bound, id: () => BigInt(next()) * 65_537n };
  }

  start(id: bigint): void {
    const member = this.member(id);
    const { state } = member.disk;
    const machine = new Machine({ minLeaseTtlSeconds: 2, maxTxnOps: 128 });
    machine.load(state, this.nowMs);
    member.raft = new Raft({
      id,
      configuration: machine.configuration,
      electionTicks: ELECTION_TICKS,
      heartbeatTicks: 1,
      preVote: true,
      checkQuorum: true,
      random: this.#random,
      recovered: member.disk.recovered(),
      appliedIndex: state.appliedIndex,
      limits: this.#limits,
    });
    member.replica = new Replica({
      raft: member.raft,
      machine,
      state,
      requestTimeoutMs: REQUEST_TIMEOUT_MS,
      electionTimeoutMs: ELECTION_MS,
    });
    this.#pump(member);
  }

  /** Everything that is not on its disk is gone. */
  crash(id: bigint): void {
    const member = this.member(id);
    member.replica = undefined;
    member.raft = undefined;
    this.network = this.network.filter(({ to }) => to !== id);
  }

  restart(id: bigint): void {
    this.crash(id);
    this.start(id);
  }

  cut(from: bigint, to: bigint): void {
    this.#cut.add(`${from}>${to}`);
  }

  isolate(id: bigint): void {
    for (const other of this.members.keys()) {
      this.cut(id, other);
      this.cut(other, id);
    }
  }

  heal(): void {
    this.#cut.clear();
  }

  propose(at: bigint, command: Command, client?: ClientCall): number {
    const id = this.#nextRequest++;
    const request = client === undefined ? { id, command } : { id, command, client };
    return this.#handle(at, id, { kind: 'propose', requests: [request] });
  }

  change(at: bigint, command: MembershipCommand): number {
    const id = this.#nextRequest++;
    return this.#handle(at, id, { kind: 'propose-configuration', id, command });
  }

  read(at: bigint): number {
    const id = this.#nextRequest++;
    return this.#handle(at, id, { kind: 'read', id });
  }

  transfer(at: bigint, to: bigint): number {
    const id = this.#nextRequest++;
    return this.#handle(at, id, { kind: 'transfer', id, to });
  }

  #handle(at: bigint, id: number, event: Parameters<Replica['handle']>[0]): number {
    const member = this.member(at);
    member.up.handle(event, this.nowMs);
    this.#pump(member);
    return id;
  }

  storageSlow(at: bigint): void {
    this.#handle(at, 0, { kind: 'storage-slow' });
  }

  unreachable(at: bigint, node: bigint): void {
    this.#handle(at, 0, { kind: 'unreachable', node });
  }

  /** What has been under way longest arrives. */
  step(): void {
    const message = this.network.shift();
    if (message !== undefined) this.#deliver(message);
  }

  /** Everything under way arrives, and whatever follows from it, until nothing is under way. */
  settle(): void {
    for (let rounds = 0; this.network.length > 0; rounds += 1) {
      assert(rounds < 100_000, 'messages come to an end');
      this.step();
    }
  }

  #deliver(message: Message): void {
    const { from, to } = message;
    const member = this.members.get(to);
    if (this.#cut.has(`${from}>${to}`) || member?.replica === undefined) return;
    member.replica.handle({ kind: 'message', message }, this.nowMs);
    this.#pump(member);
  }

  /** A tick of one member alone; nothing that it sends arrives yet. */
  tickOnly(id: bigint): void {
    this.#handle(id, 0, { kind: 'tick' });
  }

  /** Time passes in ticks, and everything arrives between two of them. */
  tick(count = 1): void {
    for (let done = 0; done < count; done += 1) {
      this.nowMs += TICK_MS;
      for (const member of this.members.values()) {
        if (member.replica === undefined) continue;
        member.replica.handle({ kind: 'tick' }, this.nowMs);
        this.#pump(member);
      }
      this.settle();
    }
  }

  /** Time passes without anybody noticing before the next tick. */
  pause(durationMs: number): void {
    this.nowMs += durationMs;
  }

  elect(id: bigint): void {
    this.#handle(id, 0, { kind: 'campaign' });
    this.settle();
    for (let ticks = 0; !this.member(id).up.isServingLeader; ticks += 1) {
      assert(ticks < 3 * ELECTION_TICKS, `member ${id} can be elected`);
      this.tick();
      if (!this.member(id).up.isLeader) this.#handle(id, 0, { kind: 'campaign' });
      this.settle();
    }
  }

  /** What is applied leaves memory: who lacks it needs the state. */
  release(id: bigint): void {
    const { up, disk } = this.member(id);
    up.release(disk.state.appliedIndex);
  }

  #pump(member: Member): void {
    for (;;) {
      const { replica } = member;
      if (replica === undefined) return;
      const { write, messages } = replica.outgoing(this.nowMs);
      this.network.push(...messages);
      const effects = replica.effects(this.nowMs, member.mayApply, () => false);
      this.#carryOut(member, effects);
      if (write !== undefined) {
        this.#store(member, write);
        replica.handle({ kind: 'stored', sequence: write.sequence }, this.nowMs);
      } else if (!effects.more || !member.mayApply) return;
    }
  }

  #carryOut(member: Member, effects: Effects): void {
    for (const outcome of effects.outcomes) {
      assert(!member.outcomes.has(outcome.id), 'a request is answered once');
      member.outcomes.set(outcome.id, outcome);
    }
    for (const id of effects.readable) member.readable.add(id);
    for (const id of effects.transferred) member.transferred.add(id);
    for (const { revision } of effects.published) member.published.push(revision);
    if (effects.configuration !== undefined) member.configurations.push(effects.configuration);
    if (effects.installed) member.installed += 1;
    if (effects.membersChanged) member.membersChanged += 1;
    for (const { to } of effects.needsSnapshot) this.#carryState(member, to);
  }

  #store(member: Member, write: StorageWrite): void {
    const { disk } = member;
    if (write.snapshot !== undefined) {
      const { index, term } = write.snapshot;
      const copy = member.received.get(index);
      assert(copy !== undefined, 'the state was carried over before');
      disk.state.replaceBy(copy, index, term);
      disk.start = { index, term };
      disk.entries = [];
    }
    disk.append(write);
  }

  /** The state goes another way than messages; only who is cut off does not get it. */
  #carryState(leader: Member, to: bigint): void {
    const target = this.members.get(to);
    const isCut = this.blockStates || this.#cut.has(`${leader.id}>${to}`);
    const { index, term: indexTerm } = leader.disk.state.applied;
    if (target?.replica !== undefined && !isCut) {
      target.received.set(index, leader.disk.state.copy());
      const configuration = this.wrongConfiguration
        ? singleMember(leader.id)
        : leader.machine.configuration;
      const { term } = leader.up;
      const from = leader.id;
      this.network.push({ kind: 'snapshot', from, to, term, index, indexTerm, configuration });
    }
    const outcome = isCut ? ({ sent: false } as const) : ({ sent: true, index } as const);
    leader.up.handle({ kind: 'snapshot-reported', to, outcome }, this.nowMs);
  }
}
