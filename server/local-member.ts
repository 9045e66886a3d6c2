/** The member as the network face sees it: reads, writes and facts of one running node. */
import type { Logger } from 'pino';
import type { Command } from './command.ts';
import { Fault } from './faults.ts';
import type { Machine } from './machine.ts';
import { describeStoredKey } from './mvcc/keys.ts';
import { MissingVersionError } from './mvcc/range.ts';
import type {
  KeyValue,
  LeaseId,
  RangeRequest,
  RangeResult,
  Revision,
  TxnRequest,
  TxnResult,
} from './mvcc/types.ts';
import type { Node } from './node.ts';
import type { Clock, State, StateCopy, Timers } from './ports.ts';
import type { Replica } from './replica.ts';
import type { Alarm, MemberFact } from './roster.ts';
import type {
  HashDescription,
  LeaseDescription,
  Member,
  ReadOptions,
  ResultOf,
} from './rpc/member.ts';
import { DamagedValueError } from './storage/errors.ts';
import { SLICE_MS, yieldTurn } from './time-slice.ts';
import type { Hub } from './watch/hub.ts';

export type LocalMemberOptions = {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly name: string;
  readonly electionTimeoutMs: number;
  readonly quotaBytes: number;
  readonly node: Node;
  readonly replica: Replica;
  readonly state: State;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly hub: Hub;
  readonly logger: Logger;
  readonly snapshot: () => Promise<StateCopy>;
};

export class LocalMember implements Member {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly name: string;
  readonly electionTimeoutMs: number;
  readonly hub: Hub;
  readonly #options: LocalMemberOptions;
  readonly #machine: Machine;
  #isStopping = false;

  constructor(options: LocalMemberOptions) {
    this.#options = options;
    this.#machine = options.replica.machine;
    this.clusterId = options.clusterId;
    this.memberId = options.memberId;
    this.name = options.name;
    this.electionTimeoutMs = options.electionTimeoutMs;
    this.hub = options.hub;
  }

  get revision(): Revision {
    return this.#machine.revision;
  }

  get compactRevision(): Revision {
    return this.#machine.compactRevision;
  }

  get term(): number {
    return this.#options.replica.term;
  }

  get leader(): bigint {
    return this.#options.replica.leader;
  }

  get isLeader(): boolean {
    return this.#options.replica.isLeader;
  }

  get isLearner(): boolean {
    return this.members.some((member) => member.id === this.memberId && member.isLearner);
  }

  get isStopping(): boolean {
    return this.#isStopping;
  }

  get alarms(): readonly Alarm[] {
    return this.#machine.alarms;
  }

  get members(): readonly MemberFact[] {
    return this.#machine.members;
  }

  get lastIndex(): number {
    return this.#options.replica.lastIndex;
  }

  get commitIndex(): number {
    return this.#options.replica.commitIndex;
  }

  get appliedIndex(): number {
    return this.#options.replica.appliedIndex;
  }

  get space(): Member['space'] {
    const { totalBytes, usedBytes } = this.#options.state.size();
    return { sizeBytes: totalBytes, usedBytes, quotaBytes: this.#options.quotaBytes };
  }

  /** New requests are refused from now on; those under way go on. */
  beginStopping(): void {
    this.#isStopping = true;
  }

  async propose<C extends Command>(command: C): Promise<ResultOf<C>> {
    const result = await this.#options.node.propose(command);
    if (command.kind === 'compact' && command.physical) await this.#options.node.compacted();
    return result as ResultOf<C>;
  }

  async range(request: RangeRequest, options: ReadOptions): Promise<RangeResult> {
    if (!options.serializable) await this.linearize(options.signal);
    for (;;) {
      const work = this.#machine.range(this.#options.state, request);
      const result = await this.#inSlices(work, options.signal);
      if (result.kind !== 'fault') return result;
      // A compaction passed a long read of what was the newest revision: there is a newer one.
      const isNewest = request.revision <= 0;
      if (!(isNewest && result.code === 'compacted')) throw new Fault(result.code);
    }
  }

  async readTxn(request: TxnRequest, options: ReadOptions): Promise<TxnResult> {
    if (!options.serializable) await this.linearize(options.signal);
    const result = this.#undamaged(() => this.#machine.readTxn(this.#options.state, request));
    if (result.kind === 'fault') throw new Fault(result.code);
    return result;
  }

  linearize(signal?: AbortSignal): Promise<void> {
    return this.#options.node.linearize(signal);
  }

  /** The read round proves that this member still leads: a deposed leader renews nothing. */
  async renewLease(id: LeaseId): Promise<number | undefined> {
    await this.linearize();
    if (!this.#options.replica.isServingLeader) throw new Fault('leader-changed');
    return this.#machine.leases.renew(id, this.#options.clock.nowMs());
  }

  async describeLease(id: LeaseId, withKeys: boolean): Promise<LeaseDescription | undefined> {
    await this.linearize();
    if (!this.#options.replica.isServingLeader) throw new Fault('leader-changed');
    const info = this.#machine.leases.info(id, this.#options.clock.nowMs());
    if (info === undefined) return undefined;
    return {
      remainingSeconds: Math.floor(info.remainingMs / 1000),
      grantedSeconds: info.ttlSeconds,
      keys: withKeys ? this.#machine.leaseKeys(this.#options.state, id) : [],
    };
  }

  async leases(): Promise<readonly LeaseId[]> {
    await this.linearize();
    return this.#machine.leases.list(this.#options.clock.nowMs()).map((lease) => lease.id);
  }

  async hashKv(revision: Revision): Promise<HashDescription> {
    const hashed = await this.#inSlices(
      this.#machine.hashKv(this.#options.state, revision),
      undefined,
    );
    if (hashed.kind === 'fault') throw new Fault(hashed.code);
    return hashed;
  }

  snapshot(): Promise<StateCopy> {
    return this.#options.snapshot();
  }

  async moveLeader(): Promise<void> {
    throw new Fault('bad-leader-transferee');
  }

  /** A damaged previous value is left out, as a compacted one would be. */
  previous(kv: KeyValue): KeyValue | undefined {
    try {
      return this.#undamaged(() => this.#machine.previous(this.#options.state, kv));
    } catch (error) {
      if (error instanceof Fault) return undefined;
      throw error;
    }
  }

  /** Damage is reported, with the user's key, and refuses this read only. */
  #undamaged<T>(read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (!(error instanceof DamagedValueError || error instanceof MissingVersionError))
        throw error;
      this.#options.logger.error(
        { err: error, damaged: describeDamage(error) },
        'stored data is damaged: this read is refused; write the key anew, or restore a snapshot',
      );
      throw new Fault('corrupt');
    }
  }

  async #inSlices<T>(work: Generator<void, T>, signal: AbortSignal | undefined): Promise<T> {
    let sliceEndsMs = this.#options.clock.nowMs() + SLICE_MS;
    for (;;) {
      const step = this.#undamaged(() => work.next());
      if (step.done === true) return step.value;
      if (this.#options.clock.nowMs() < sliceEndsMs) continue;
      signal?.throwIfAborted();
      await yieldTurn(this.#options.timers);
      sliceEndsMs = this.#options.clock.nowMs() + SLICE_MS;
    }
  }
}

const describeDamage = (error: DamagedValueError | MissingVersionError): string =>
  error instanceof DamagedValueError
    ? describeStoredKey(error.key)
    : `key ${JSON.stringify(Buffer.from(error.key).toString())}`;
