/**
 * The replicated state machine: the store, leases, alarms and members behind one `apply`.
 *
 * Invariants:
 * - The result and the writes of `apply` are a function of the entries so far. Clocks only set when
 *   a lease runs out on this member, which decides nothing by itself.
 * - `apply` never throws: whatever an entry asks has a defined result, a fault among them. What does
 *   throw is a bug or a corrupt state, and stops the member.
 * - An entry makes at most one revision; a refused one makes no change at all.
 * - Revisions never go back: the newest and the compacted one are stored facts, never derived.
 */
import { assert, unreachable } from './assert.ts';
import type { ClientCall, ClientId } from './clients/call.ts';
import { Clients, forgetClients } from './clients/clients.ts';
import { decodeResult, encodeResult } from './clients/result-codec.ts';
import type { Command, CommandResult, MembershipResultKind, PlainResultKind } from './command.ts';
import type { FaultCode } from './faults.ts';
import { Lessor } from './lease/lessor.ts';
import type { MembershipCommand } from './membership.ts';
import { CompactionState } from './mvcc/compaction-state.ts';
import { CreationOrders, type CreationOrdersOptions } from './mvcc/creation-orders.ts';
import { Draft, type ForwardReader } from './mvcc/draft.ts';
import { readFact, writeFact } from './mvcc/facts.ts';
import { Crc32c, type HashResult, readHash } from './mvcc/hash.ts';
import { type RevisionEvents, readHistory, readPrevious } from './mvcc/history.ts';
import { allLeases, leaseKey } from './mvcc/keys.ts';
import { deleteLease, encodeLease, readLeaseKeys, readLeases } from './mvcc/leased-keys.ts';
import { type Horizon, readRange } from './mvcc/range.ts';
import { slices } from './mvcc/slices.ts';
import {
  executeDeleteRange,
  executePut,
  executeTxn,
  prepareTxn,
  putFault,
  readTxn,
} from './mvcc/txn.ts';
import {
  type Bytes,
  type Event,
  type FaultResult,
  type KeyValue,
  type LeaseId,
  NO_LEASE,
  type PairSink,
  type RangeRequest,
  type RangeResult,
  type Revision,
  type TxnRequest,
  type TxnResult,
} from './mvcc/types.ts';
import {
  validateDeleteRange,
  validateLeaseTtl,
  validatePut,
  validateTxn,
} from './mvcc/validate.ts';
import type { StateReader, Write } from './ports.ts';
import type { Configuration } from './raft/configuration.ts';
import { type Alarm, forgetRoster, type MemberFact, Roster } from './roster.ts';

/** Where in the log an entry is, and when this member applies it. */
export type AppliedAt = {
  readonly index: number;
  readonly term: number;
  readonly nowMs: number;
  /** The incarnation that proposed the entry; what it is does not matter, but it is in the log. */
  readonly origin?: bigint | undefined;
};

export type Applied = {
  /** To be stored together with the entry's index, before anything else is applied. */
  readonly writes: Write[];
  readonly result: CommandResult;
  /** The events of the one revision that the entry made, in order; none when it made none. */
  readonly events: readonly Event[];
  /** The result is that of an earlier entry, for the same call of a client. */
  readonly isRepetition?: boolean;
};

export type MachineOptions = {
  /** Shorter leases get this: a lease must outlive an election. */
  readonly minLeaseTtlSeconds: number;
  /** The most operations in a list of a transaction. */
  readonly maxTxnOps: number;
  /** Records that one compaction step looks at. Default: as many as fit a small number of bytes. */
  readonly compactionStepRecords?: number;
  readonly creationOrders?: CreationOrdersOptions;
};

/** The revision of a store in which nothing was ever written. */
const FIRST_REVISION = 1;

const NO_EVENTS: readonly Event[] = [];

export class Machine implements Horizon {
  readonly leases = new Lessor();
  readonly clients = new Clients();
  readonly #options: MachineOptions;
  readonly #roster = new Roster();
  readonly #compaction: CompactionState;
  readonly #orders: CreationOrders;
  #revision: Revision = FIRST_REVISION;

  constructor(options: MachineOptions) {
    this.#options = options;
    this.#compaction = new CompactionState(options.compactionStepRecords);
    this.#orders = new CreationOrders(options.creationOrders);
  }

  /** The newest revision. */
  get revision(): Revision {
    return this.#revision;
  }

  /** The oldest revision that can be read; -1, as in etcd, before the first compaction. */
  get compactRevision(): Revision {
    return this.#compaction.revision;
  }

  /** Up to here the removal of compacted records is finished; lags behind `compactRevision`. */
  get physicallyCompactedRevision(): Revision {
    return this.#compaction.finishedRevision;
  }

  get alarms(): readonly Alarm[] {
    return this.#roster.alarms;
  }

  /** In order of id; a new array whenever anything about a member changed. */
  get members(): readonly MemberFact[] {
    return this.#roster.members;
  }

  /** Ids of former members, which are never used again. */
  get removed(): readonly bigint[] {
    return this.#roster.removed;
  }

  /** Who takes part in Raft, as of the last entry applied. */
  get configuration(): Configuration {
    return this.#roster.configuration;
  }

  /** The entry that last changed who takes part, or under which address; 0 when none did. */
  get configurationIndex(): number {
    return this.#roster.configurationIndex;
  }

  /** Reads the facts kept in memory, at boot or after a snapshot. Leases get their full time. */
  load(reader: StateReader, nowMs: number): void {
    this.#revision = readFact(reader, 'revision') ?? FIRST_REVISION;
    this.#orders.clear();
    this.#compaction.load(reader);
    this.#roster.load(reader);
    this.leases.clear();
    for (const { id, ttlSeconds } of readLeases(reader)) {
      this.leases.grant(id, ttlSeconds, nowMs);
    }
    this.clients.load(reader, nowMs);
  }

  /**
   * Applies one command of the log. The writes must be stored before the next call.
   *
   * A call that a client repeats gets its first result, and changes nothing.
   */
  apply(
    at: AppliedAt,
    command: Command | MembershipCommand,
    reader: StateReader,
    call?: ClientCall,
  ): Applied {
    return call === undefined
      ? this.#execute(at, command, reader)
      : this.#executeOnce(at, command, reader, call);
  }

  #executeOnce(
    at: AppliedAt,
    command: Command | MembershipCommand,
    reader: StateReader,
    call: ClientCall,
  ): Applied {
    const verdict = this.clients.judge(call);
    if (typeof verdict === 'number') {
      const result = this.clients.firstResult(reader, call, verdict);
      assert(result !== undefined, 'the state has the result of every call that is remembered');
      return { writes: [], result: decodeResult(result), events: NO_EVENTS, isRepetition: true };
    }
    if (verdict !== 'new') return this.#refuse(verdict);
    const applied = this.#execute(at, command, reader);
    const result = encodeResult(applied.result, this.clients.spaceFor(call));
    const record = this.clients.record(call, at.index, at.nowMs, result);
    if (record !== undefined) applied.writes.push(record);
    return applied;
  }

  #execute(at: AppliedAt, command: Command | MembershipCommand, reader: StateReader): Applied {
    switch (command.kind) {
      case 'put': {
        const fault = validatePut(command) ?? putFault(reader, this.leases, command);
        if (fault !== undefined) return this.#refuse(fault);
        const draft = new Draft(reader, this.#revision, false);
        return this.#finish(draft, executePut(draft, command));
      }
      case 'delete-range': {
        const fault = validateDeleteRange(command);
        if (fault !== undefined) return this.#refuse(fault);
        const draft = new Draft(reader, this.#revision, false);
        return this.#finish(draft, executeDeleteRange(draft, command));
      }
      case 'txn':
        return this.#applyTxn(command, reader);
      case 'compact': {
        const fault = this.#compaction.faultOf(command.revision, this.#revision);
        if (fault !== undefined) return this.#refuse(fault);
        return this.#answer('compact', [this.#compaction.schedule(command.revision)]);
      }
      case 'lease-grant':
        return this.#grant(command.id, command.ttlSeconds, at.nowMs);
      case 'lease-revoke':
        if (!this.leases.has(command.id)) return this.#refuse('lease-not-found');
        return this.#endLease(command.id, 'lease-revoke', reader);
      case 'lease-expire':
        // Another leader may have renewed the lease since the one of that term proposed this.
        if (at.term !== command.term || !this.leases.has(command.id)) {
          return this.#answer('lease-expire', []);
        }
        return this.#endLease(command.id, 'lease-expire', reader);
      case 'alarm': {
        const alarm = { memberId: command.memberId, alarm: command.alarm };
        const raise = command.action === 'activate';
        return this.#answer('alarm', [
          raise ? this.#roster.raise(alarm) : this.#roster.clear(alarm),
        ]);
      }
      case 'member': {
        const { memberId: id, name, peerUrls, clientUrls } = command;
        return this.#settle(
          'member',
          this.#roster.introduceOnly({ id, name, peerUrls, clientUrls }),
        );
      }
      case 'introduce': {
        const { memberId, name, clientUrls, incarnation } = command;
        return this.#settle(
          'introduce',
          this.#roster.introduce(memberId, { name, clientUrls, incarnation }),
        );
      }
      case 'member-update':
        return this.#reorganize(
          'member-update',
          this.#roster.update(command.memberId, command.peerUrls, at.index),
          at.index,
        );
      case 'bootstrap':
      case 'member-add':
      case 'member-remove':
      case 'member-promote':
      case 'member-replace':
      case 'member-leave':
        return this.#reorganize(command.kind, this.#roster.change(command, at.index), at.index);
      case 'client-register':
        return this.#registerClient(at);
      case 'refuse':
        return this.#refuse(command.fault);
      case 'client-forget':
        return this.#answer('client-forget', this.clients.forget(command.id));
      case 'client-expire': {
        // Another leader may have heard of the client since the one of that term proposed this.
        const isValid = at.term === command.term;
        const writes = isValid ? this.clients.expire(command.id, command.idleSince) : [];
        return this.#answer('client-expire', writes);
      }
      default:
        return unreachable(command);
    }
  }

  /**
   * Pauses as `readRange` does; pinned to the revision at its first step. The pairs go
   * to the sink if there is one.
   */
  range(
    reader: StateReader,
    request: RangeRequest,
    sink?: PairSink,
  ): Generator<void, RangeResult | FaultResult> {
    return readRange(reader, request, this, this.#orders.over(reader, request), sink);
  }

  /**
   * A transaction that `isReadOnly`, without a log entry. Pauses; pinned to the revision at its first step.
   *
   * @throws {InvariantError} at the first step, when it could write.
   */
  *readTxn(reader: StateReader, request: TxnRequest): Generator<void, TxnResult | FaultResult> {
    const result = yield* readTxn(reader, this, request, this.#orders);
    return typeof result === 'string' ? this.#fault(result) : result;
  }

  /**
   * The events of whole revisions from `from` on, which must not be below `compactRevision`: at most
   * `maxRevisions`, and none further once `maxBytes` are reached.
   */
  history(
    reader: StateReader,
    from: Revision,
    bounds: { readonly maxRevisions: number; readonly maxBytes: number },
  ): readonly RevisionEvents[] {
    return readHistory(reader, from, bounds);
  }

  /** What a key was before an event, whose `kv` is given; undefined for a creation or if compacted. */
  previous(reader: StateReader, kv: KeyValue): KeyValue | undefined {
    return readPrevious(reader, kv, this.compactRevision);
  }

  /** A lease's keys in order. */
  leaseKeys(reader: StateReader, id: LeaseId): readonly Bytes[] {
    return readLeaseKeys(reader, id);
  }

  /** A checksum of the keys at a revision (0: the newest), equal on members that agree. Pauses. */
  hashKv(reader: StateReader, revision: Revision): Generator<void, HashResult | FaultResult> {
    return readHash(reader, revision, this);
  }

  /** A checksum of everything replicated: keys, leases, clients, alarms, members. Pauses. */
  *hash(reader: StateReader): Generator<void, number> {
    const keys = yield* readHash(reader, 0, this);
    const crc = new Crc32c();
    if (keys.kind === 'hash') crc.addNumber(keys.hash);
    crc.addNumber(this.#revision);
    crc.addNumber(this.compactRevision + 1);
    for (const slice of slices(reader, allLeases.start, allLeases.end)) {
      for (const [key, value] of slice) {
        crc.addField(key);
        crc.addField(value);
      }
      yield;
    }
    yield* this.clients.addTo(crc, reader);
    this.#roster.addTo(crc);
    return crc.value;
  }

  /**
   * The next piece of removing what was compacted: to be stored before anything else is applied.
   * `done` when nothing is left to do, until the next compaction.
   */
  compactionStep(reader: StateReader): { readonly writes: Write[]; readonly done: boolean } {
    return this.#compaction.step(reader);
  }

  #applyTxn(request: TxnRequest, reader: StateReader): Applied {
    const fault = validateTxn(request, this.#options.maxTxnOps);
    if (fault !== undefined) return this.#refuse(fault);
    const prepared = prepareTxn(reader, this.leases, this, request);
    if (typeof prepared === 'string') return this.#refuse(prepared);
    const draft = new Draft(reader, this.#revision, prepared.readsOwnWrites, this.#orders);
    return this.#finish(draft, executeTxn(draft, this.compactRevision, prepared));
  }

  #grant(id: LeaseId, requestedSeconds: number, nowMs: number): Applied {
    const fault = validateLeaseTtl(requestedSeconds);
    if (fault !== undefined) return this.#refuse(fault);
    if (id === NO_LEASE) return this.#refuse('lease-not-found');
    if (this.leases.has(id)) return this.#refuse('lease-exists');
    const ttlSeconds = Math.max(requestedSeconds, this.#options.minLeaseTtlSeconds);
    this.leases.grant(id, ttlSeconds, nowMs);
    return {
      writes: [{ kind: 'put', key: leaseKey(id), value: encodeLease(ttlSeconds) }],
      result: { kind: 'lease-grant', id, ttlSeconds, revision: this.#revision },
      events: NO_EVENTS,
    };
  }

  /** Deletes the keys of a lease in their order, in one revision, and the lease. */
  #endLease(id: LeaseId, kind: 'lease-revoke' | 'lease-expire', reader: ForwardReader): Applied {
    const draft = new Draft(reader, this.#revision, false);
    deleteLease(draft, reader, id);
    this.leases.revoke(id);
    return this.#finish(draft, { kind, revision: draft.revision });
  }

  /** Makes a draft's changes the new revision; a fault leaves the draft without effect. */
  #finish(draft: Draft, result: CommandResult | FaultCode): Applied {
    if (typeof result === 'string') return this.#refuse(result);
    if (draft.events.length > 0) {
      this.#revision = draft.nextRevision;
      draft.writes.push(writeFact('revision', this.#revision));
      this.#orders.announce(draft.events);
    }
    return { writes: draft.writes, result, events: draft.events };
  }

  /** Whoever knows an id of this store knows none of another one that was restored from the same. */
  #registerClient({ index, nowMs, origin = 0n }: AppliedAt): Applied {
    let id: ClientId = BigInt.asUintN(63, origin) ^ BigInt(index);
    while (id === 0n || this.clients.has(id)) id += 1n;
    const write = this.clients.register(id, index, nowMs);
    if (write === undefined) return this.#refuse('too-many-requests');
    const result = { kind: 'client-register', id, revision: this.#revision } as const;
    return { writes: [write], result, events: NO_EVENTS };
  }

  #answer(kind: PlainResultKind, writes: Write[]): Applied {
    return { writes, result: { kind, revision: this.#revision }, events: NO_EVENTS };
  }

  #settle(kind: PlainResultKind, writes: Write[] | FaultCode): Applied {
    return typeof writes === 'string' ? this.#refuse(writes) : this.#answer(kind, writes);
  }

  /** The answer to a change of members lists them. */
  #reorganize(kind: MembershipResultKind, writes: Write[] | FaultCode, index: number): Applied {
    if (typeof writes === 'string') return this.#refuse(writes);
    const result = { kind, index, members: this.members, revision: this.#revision };
    return { writes, result, events: NO_EVENTS };
  }

  #refuse(code: FaultCode): Applied {
    return { writes: [], result: this.#fault(code), events: NO_EVENTS };
  }

  #fault(code: FaultCode): FaultResult {
    return { kind: 'fault', code, revision: this.#revision };
  }
}

/** What a store must forget that is restored from a snapshot and begins a new cluster. */
export const forgetCluster = (reader: StateReader): Write[] => [
  ...forgetRoster(reader),
  ...forgetClients(reader),
];
