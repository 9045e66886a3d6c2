/** The member as the network face sees it: reads, writes and facts of one running node. */
import type { Logger } from 'pino';
import type { ClientCall } from './clients/call.ts';
import type { Command } from './command.ts';
import { Fault } from './faults.ts';
import type { LeaderQuestions } from './leader-questions.ts';
import { LongReads } from './long-reads.ts';
import type { Machine } from './machine.ts';
import type { MembershipCommand } from './membership.ts';
import type { MembershipChanges } from './membership-changes.ts';
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
import type { PeerStatus } from './raft/raft.ts';
import type { Replica } from './replica.ts';
import type { Alarm, MemberFact } from './roster.ts';
import type {
  Caller,
  HashDescription,
  LeaseDescription,
  Member,
  RangeOptions,
  ReadOptions,
  ResultOf,
} from './rpc/member.ts';
import { DamagedValueError } from './storage/errors.ts';
import { sleep } from './time-slice.ts';
import type { Replies } from './transport/transport.ts';
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
  readonly questions: LeaderQuestions;
  /** How far the others are, while this member leads. */
  readonly progress: () => readonly PeerStatus[];
  readonly changes: MembershipChanges;
};

/** How long a member that stops waits for another one to lead. */
const HAND_OVER_MS = 1_000;

export class LocalMember implements Member {
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly name: string;
  readonly electionTimeoutMs: number;
  readonly hub: Hub;
  readonly #options: LocalMemberOptions;
  readonly #machine: Machine;
  readonly #longReads: LongReads;
  #isStopping = false;
  /** Asked for by what came in the message that is being read. */
  #proof: Promise<void> | undefined;
  #learner: { readonly members: readonly MemberFact[]; readonly isLearner: boolean } | undefined;

  constructor(options: LocalMemberOptions) {
    this.#options = options;
    this.#machine = options.replica.machine;
    this.#longReads = new LongReads(options);
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
    const { members } = this;
    // Every request asks, and the list is another one whenever something in it is different.
    if (this.#learner?.members !== members) {
      const self = members.find(({ id }) => id === this.memberId);
      this.#learner = { members, isLearner: self?.isLearner === true };
    }
    return this.#learner.isLearner;
  }

  get isStopping(): boolean {
    return this.#isStopping;
  }

  get isInstalling(): boolean {
    return this.#options.node.installation.isRunning;
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

  propose<C extends Command>(command: C, client?: ClientCall): Promise<ResultOf<C>> {
    const { node } = this.#options;
    const result = node.propose(command, client) as Promise<ResultOf<C>>;
    if (command.kind !== 'compact' || !command.physical) return result;
    return result.then(async (compacted) => {
      await node.compacted();
      return compacted;
    });
  }

  async range(request: RangeRequest, options: RangeOptions): Promise<RangeResult> {
    // Not given up with the caller: a round ends soon, and by itself.
    if (!options.serializable) await this.linearize();
    for (;;) {
      const work = this.#machine.range(this.#options.state, request, options.sink?.());
      const result = await this.#inSlices(work, options.caller);
      if (result.kind !== 'fault') return result;
      // A compaction passed a long read of what was the newest revision: there is a newer one.
      const isNewest = request.revision <= 0;
      if (!(isNewest && result.code === 'compacted')) throw new Fault(result.code);
    }
  }

  async readTxn(request: TxnRequest, options: ReadOptions): Promise<TxnResult> {
    if (!options.serializable) await this.linearize();
    const work = this.#machine.readTxn(this.#options.state, request);
    const result = await this.#inSlices(work, options.caller);
    if (result.kind === 'fault') throw new Fault(result.code);
    return result;
  }

  linearize(signal?: AbortSignal): Promise<void> {
    return this.#options.node.linearize(signal);
  }

  async renewLease(id: LeaseId, caller?: Caller): Promise<number | undefined> {
    const [ttlSeconds] = await this.renewLeases([id], caller);
    return ttlSeconds;
  }

  async renewLeases(
    ids: readonly LeaseId[],
    caller?: Caller,
  ): Promise<readonly (number | undefined)[]> {
    const { ttlSeconds } = await this.#options.questions.ask<'renew-leases'>(
      { kind: 'renew-leases', ids },
      () => this.renewLeasesHere(ids),
      { isRepeatable: true, caller },
    );
    return ttlSeconds;
  }

  async describeLease(
    id: LeaseId,
    withKeys: boolean,
    caller?: Caller,
  ): Promise<LeaseDescription | undefined> {
    const { lease } = await this.#options.questions.ask<'describe-lease'>(
      { kind: 'describe-lease', id, withKeys },
      () => this.describeLeaseHere(id, withKeys),
      { isRepeatable: true, caller },
    );
    if (lease === undefined) return undefined;
    const { ttlSeconds, grantedTtlSeconds, keys } = lease;
    return { remainingSeconds: ttlSeconds, grantedSeconds: grantedTtlSeconds, keys };
  }

  async leases(caller?: Caller): Promise<readonly LeaseId[]> {
    const { ids } = await this.#options.questions.ask<'leases'>(
      { kind: 'leases' },
      () => this.leasesHere(),
      { isRepeatable: true, caller },
    );
    return ids;
  }

  renewLeasesHere(ids: readonly LeaseId[]): Promise<Replies['renew-leases']> {
    return this.#proveLeadership().then(() => {
      const nowMs = this.#options.clock.nowMs();
      const ttlSeconds = ids.map((id) => this.#machine.leases.renew(id, nowMs));
      return { kind: 'leases-renewed', ttlSeconds };
    });
  }

  async describeLeaseHere(id: LeaseId, withKeys: boolean): Promise<Replies['describe-lease']> {
    await this.#proveLeadership();
    const info = this.#machine.leases.info(id, this.#options.clock.nowMs());
    if (info === undefined) return { kind: 'lease', lease: undefined };
    return {
      kind: 'lease',
      lease: {
        ttlSeconds: Math.floor(info.remainingMs / 1000),
        grantedTtlSeconds: info.ttlSeconds,
        keys: withKeys ? this.#machine.leaseKeys(this.#options.state, id) : [],
      },
    };
  }

  async leasesHere(): Promise<Replies['leases']> {
    await this.#proveLeadership();
    const leases = this.#machine.leases.list(this.#options.clock.nowMs());
    return { kind: 'leases', ids: leases.map((lease) => lease.id) };
  }

  /**
   * The read round proves that this member still leads: a deposed leader renews nothing. Questions that
   * came in one message share the proof, which begins when the last of them is here.
   */
  #proveLeadership(): Promise<void> {
    if (!this.#options.replica.isServingLeader) return Promise.reject(new Fault('not-leader'));
    if (this.#proof === undefined) {
      this.#proof = this.linearize().then(() => {
        if (!this.#options.replica.isServingLeader) throw new Fault('leader-changed');
      });
      queueMicrotask(() => {
        this.#proof = undefined;
      });
    }
    return this.#proof;
  }

  async changeMembership(
    change: MembershipCommand,
    signal: AbortSignal,
  ): Promise<readonly MemberFact[]> {
    const { changes } = this.#options;
    const index = await changes.make(change, signal);
    // Not by a read: a first member that has just got a second one leads nobody before it comes.
    if (this.appliedIndex >= index) return this.members;
    const leaves =
      change.kind === 'member-remove'
        ? change.id
        : change.kind === 'member-replace'
          ? change.old
          : undefined;
    const isOwnRemoval = leaves === this.memberId;
    // A member that is no more is not told of it by the log.
    if (isOwnRemoval) return this.members.filter((member) => member.id !== this.memberId);
    await this.linearize(signal);
    return this.members;
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

  moveLeader(target: bigint): Promise<void> {
    return this.#options.node.transferLeadership(target);
  }

  /**
   * Gives leadership to the member that is closest behind, if this one leads and there is another.
   * Waits a moment only: without it the others elect one as soon as this member's connections break.
   */
  async handOver(): Promise<void> {
    const { node, replica, timers, electionTimeoutMs } = this.#options;
    if (!replica.isLeader) return;
    const voters = replica.machine.configuration.voters;
    const [heir] = this.#options
      .progress()
      .filter((peer) => peer.active && voters.includes(peer.id))
      .sort((a, b) => b.match - a.match);
    if (heir === undefined) return;
    const patience = sleep(timers, Math.min(electionTimeoutMs, HAND_OVER_MS));
    await Promise.race([node.transferLeadership(heir.id).catch(() => undefined), patience]);
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

  async #inSlices<T>(work: Generator<void, T>, caller: Caller | undefined): Promise<T> {
    const { node } = this.#options;
    while (node.installation.isRunning) await node.installation.ended;
    const { generation } = node.installation;
    const next = () => this.#undamaged(() => work.next());
    const first = next();
    // Nearly every read is short.
    if (first.done === true) return first.value;
    const check = () => {
      caller?.signal.throwIfAborted();
      // What was read so far is of a state that is no more.
      if (node.installation.generation !== generation) throw new Fault('leader-changed');
    };
    return this.#longReads.run(next, check);
  }
}

const describeDamage = (error: DamagedValueError | MissingVersionError): string =>
  error instanceof DamagedValueError
    ? describeStoredKey(error.key)
    : `key ${JSON.stringify(Buffer.from(error.key).toString())}`;
