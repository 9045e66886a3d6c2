/**
 * A member without Raft: the real machine over a state in memory, applying at once. Tests steer what
 * a cluster would decide: who leads, whether it stops, how long answers take.
 */
import type { ClientCall } from '../../server/clients/call.ts';
import type { Command } from '../../server/command.ts';
import { Fault } from '../../server/faults.ts';
import { Machine } from '../../server/machine.ts';
import type { MembershipCommand } from '../../server/membership.ts';
import type { LeaseId, RangeRequest, RangeResult, TxnRequest } from '../../server/mvcc/types.ts';
import type { StateCopy } from '../../server/ports.ts';
import type { MemberFact } from '../../server/roster.ts';
import type {
  HashDescription,
  LeaseDescription,
  Member,
  RangeOptions,
  ReadOptions,
  ResultOf,
} from '../../server/rpc/member.ts';

import { Hub, type HubOptions } from '../../server/watch/hub.ts';
import { SortedState } from './sorted-state.ts';

export type FakeMemberOptions = Partial<
  Pick<HubOptions, 'ringBytes' | 'streamBytes' | 'watchersPerStream' | 'catchUpRevisions'>
>;

export class FakeMember implements Member {
  readonly clusterId = 0xc0n;
  readonly memberId = 0xabcn;
  readonly name = 'fake';
  readonly electionTimeoutMs = 20;
  readonly state = new SortedState();
  readonly machine = new Machine({ minLeaseTtlSeconds: 2, maxTxnOps: 128 });
  readonly hub: Hub;
  leader = 0xabcn;
  term = 2;
  isLearner = false;
  isStopping = false;
  isInstalling = false;
  quotaBytes = 0;
  usedBytes = 1_000;
  nowMs = 0;
  snapshotPayload: Buffer = Buffer.alloc(0);
  movedTo: bigint | undefined;
  readonly membershipChanges: MembershipCommand[] = [];

  /** While set, reads and writes wait for it before they are answered. */
  gate: Promise<void> | undefined;
  /** Reads of transactions take until it opens. */
  readGate: Promise<void> | undefined;
  readTxns = 0;
  /** Writes that wait at the gate. */
  waiting = 0;
  members: MemberFact[] = [
    {
      id: 0xabcn,
      name: 'fake',
      peerUrls: ['http://127.0.0.1:2380'],
      clientUrls: ['http://127.0.0.1:2379'],
      isLearner: false,
      incarnation: 1n,
    },
  ];
  #index = 0;

  constructor(options: FakeMemberOptions = {}) {
    this.machine.load(this.state, 0);
    this.hub = new Hub({
      ...options,
      revision: this.machine.revision,
      compactRevision: this.machine.compactRevision,
      source: {
        history: (from, maxima) => this.machine.history(this.state, from, maxima),
        previous: (kv) => this.machine.previous(this.state, kv),
      },
    });
  }

  get revision(): number {
    return this.machine.revision;
  }

  get compactRevision(): number {
    return this.machine.compactRevision;
  }

  get isLeader(): boolean {
    return this.leader === this.memberId;
  }

  get alarms(): Member['alarms'] {
    return this.machine.alarms;
  }

  get lastIndex(): number {
    return this.#index;
  }

  get commitIndex(): number {
    return this.#index;
  }

  get appliedIndex(): number {
    return this.#index;
  }

  get space(): Member['space'] {
    return { sizeBytes: 4_096, usedBytes: this.usedBytes, quotaBytes: this.quotaBytes };
  }

  async propose<C extends Command>(command: C, client?: ClientCall): Promise<ResultOf<C>> {
    this.waiting += 1;
    await this.gate;
    this.waiting -= 1;
    if (this.leader === 0n) throw new Fault('no-leader');
    return this.applyNow(command, client);
  }

  /** Applies and publishes in this very turn. */
  applyNow<C extends Command>(command: C, client?: ClientCall): ResultOf<C> {
    this.#index += 1;
    const at = { index: this.#index, term: this.term, nowMs: this.nowMs };
    const { writes, result, events } = this.machine.apply(at, command, this.state, client);
    this.state.apply(this.#index, writes);
    if (events.length > 0) this.hub.publish(this.machine.revision, events);
    if (command.kind === 'compact') {
      while (!this.#compactionStep());
      this.hub.compacted(this.machine.compactRevision);
    }
    if (result.kind === 'fault') throw new Fault(result.code);
    return result as ResultOf<C>;
  }

  #compactionStep(): boolean {
    this.#index += 1;
    const { writes, done } = this.machine.compactionStep(this.state);
    this.state.apply(this.#index, writes);
    return done;
  }

  async range(request: RangeRequest, { serializable, sink }: RangeOptions): Promise<RangeResult> {
    if (!serializable) await this.linearize();
    const result = finish(this.machine.range(this.state, request, sink?.()));
    if (result.kind === 'fault') throw new Fault(result.code);
    return result;
  }

  async readTxn(request: TxnRequest, { serializable }: ReadOptions) {
    if (!serializable) await this.linearize();
    const result = finish(this.machine.readTxn(this.state, request));
    this.readTxns += 1;
    await this.readGate;
    if (result.kind === 'fault') throw new Fault(result.code);
    return result;
  }

  async linearize(signal?: AbortSignal): Promise<void> {
    await this.gate;
    signal?.throwIfAborted();
    if (this.leader === 0n) throw new Fault('no-leader');
  }

  async renewLease(id: LeaseId): Promise<number | undefined> {
    await this.linearize();
    return this.machine.leases.renew(id, this.nowMs);
  }

  async renewLeases(ids: readonly LeaseId[]): Promise<readonly (number | undefined)[]> {
    return Promise.all(ids.map((id) => this.renewLease(id)));
  }

  async describeLease(id: LeaseId, withKeys: boolean): Promise<LeaseDescription | undefined> {
    const granted = this.machine.leases.ttlSeconds(id);
    if (granted === undefined) return undefined;
    return {
      remainingSeconds: granted,
      grantedSeconds: granted,
      keys: withKeys ? this.machine.leaseKeys(this.state, id) : [],
    };
  }

  async leases(): Promise<readonly LeaseId[]> {
    return this.machine.leases.list(this.nowMs).map((lease) => lease.id);
  }

  async hashKv(revision: number): Promise<HashDescription> {
    const result = finish(this.machine.hashKv(this.state, revision));
    if (result.kind === 'fault') throw new Fault(result.code);
    return result;
  }

  async snapshot(): Promise<StateCopy> {
    const payload = this.snapshotPayload;
    async function* chunks(): AsyncGenerator<Buffer> {
      for (let at = 0; at < payload.length; at += 100_000) yield payload.subarray(at, at + 100_000);
    }
    return { sizeBytes: payload.length, chunks: chunks() };
  }

  async moveLeader(target: bigint): Promise<void> {
    this.movedTo = target;
  }

  async changeMembership(change: MembershipCommand): Promise<readonly MemberFact[]> {
    this.membershipChanges.push(change);
    return this.members;
  }
}

function finish<T>(work: Generator<void, T>): T {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
  }
}
