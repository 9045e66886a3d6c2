/**
 * The only loop with I/O: turns what happens into events for the replica, and carries out the
 * effects that come back.
 *
 * Whatever is proposed or asked in one turn of the event loop is handed over together, so it shares
 * one log write and one read round. After a storage error nothing more is acknowledged: everybody
 * who waits is told that the server stopped, and `onFatal` ends the process.
 */
import type { AutoCompaction } from './auto-compaction.ts';
import type { ClientCall } from './clients/call.ts';
import type { Command, CommandResult } from './command.ts';
import { Compactor } from './compactor.ts';
import { Fault, type FaultCode } from './faults.ts';
import { Installation } from './installation.ts';
import { limits } from './limits.ts';
import { LogRetention } from './log-retention.ts';
import type { MembershipCommand } from './membership.ts';
import type { Revision } from './mvcc/types.ts';
import { PendingProposals } from './pending-proposals.ts';
import type { Clock, Log, State, Timers } from './ports.ts';
import type { Proposal } from './proposer.ts';
import { type Message, NO_NODE, type SnapshotOutcome, type StorageWrite } from './raft/message.ts';
import { ReadRounds } from './read-rounds.ts';
import type { Replica } from './replica.ts';
import type { Effects, Published, ReplicaEvent } from './replica-events.ts';
import type { ReceivedSnapshot } from './storage/transfer.ts';
import { SLICE_MS } from './time-slice.ts';
import { orAborted, Waiting } from './waiting.ts';

/** Told what the loop measures. */
export interface NodeObserver {
  /** A batch of log entries is durable, after so long. */
  stored(durationMs: number): void;
  /** Another member's state has replaced the own one, after so long. */
  installed(durationMs: number): void;
  proposalFailed(): void;
  leadershipChanged(): void;
}

export type NodeOptions = {
  readonly replica: Replica;
  readonly log: Log;
  readonly state: State;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly autoCompaction: AutoCompaction;
  readonly tickMs: number;
  readonly electionTimeoutMs: number;
  readonly requestTimeoutMs: number;
  /** Entries that may go are released at the latest when they are so many. */
  readonly snapshotCount: number;
  /** Entries kept behind the newest applied one for members that are behind. */
  readonly catchUpEntries: number;
  /** To the other members. */
  readonly send: (messages: readonly Message[]) => void;
  readonly onPublished: (published: Published) => void;
  readonly onCompacted: (revision: Revision) => void;
  /** The state was replaced by a later one of another member. */
  readonly onInstalled: () => void;
  readonly onLeadership: () => void;
  /** Anything about any member, or who votes, is different now. */
  readonly onMembers: () => void;
  /** A member lacks entries that were released here. To be answered by `snapshotReported`. */
  readonly onSnapshotNeeded: (to: bigint) => void;
  /** The disk lost an entry that this member had confirmed. The loop has stopped: it may not go on. */
  readonly onForgotten: (index: number) => void;
  readonly observer: NodeObserver;
  /** Called once per tick, after everything else. */
  readonly onTick: (nowMs: number) => void;
  /** Called once. The process must not go on using this data directory. */
  readonly onFatal: (error: Error) => void;
};

export class Node {
  readonly installation: Installation;
  readonly retention: LogRetention;
  readonly #options: NodeOptions;
  readonly #replica: Replica;
  readonly #compactor: Compactor;
  readonly #proposals = new PendingProposals();
  readonly #transfers = new Waiting<void>();
  readonly #reads: ReadRounds;
  #queued: Proposal[] = [];
  #nextId = 1;
  #turnScheduled = false;
  #stopTicking: () => void = () => {};
  #stopped = false;
  #compactRevision: Revision;
  /** The log write under way. */
  #writing: Promise<void> = Promise.resolve();
  #writeBeganMs: number | undefined;
  #autoCompactionPending = false;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.#replica = options.replica;
    this.#compactRevision = options.replica.machine.compactRevision;
    this.installation = new Installation(options);
    this.retention = new LogRetention(options);
    this.#reads = new ReadRounds(options);
    this.#compactor = new Compactor({
      ...options,
      machine: options.replica.machine,
      installation: this.installation,
      retryMs: options.tickMs,
      onFailure: (error) => this.#fail(error),
    });
  }

  start(): void {
    this.#stopTicking = this.#options.timers.every(this.#options.tickMs, () => this.#tick());
    this.#compactor.schedule();
    this.#schedule();
  }

  /** Answers in flight are refused from here on; what is committed stays committed. */
  async stop(): Promise<void> {
    this.#halt();
    await Promise.all([this.#writing, this.#compactor.done]);
  }

  /** Proposals that wait for their entry to be applied. */
  get pendingProposals(): number {
    return this.#proposals.size;
  }

  /** Never resolves with a result of kind 'fault': it rejects instead. */
  propose(command: Command, client?: ClientCall): Promise<CommandResult> {
    if (this.#stopped) return Promise.reject(new Fault('stopped'));
    const id = this.#nextId++;
    const proposal = client === undefined ? { id, command } : { id, command, client };
    this.#queued.push(proposal);
    this.#schedule();
    return this.#proposals.waitFor(proposal, this.#now() + this.#options.requestTimeoutMs);
  }

  /** Only the leader takes it. */
  proposeMembership(command: MembershipCommand): Promise<CommandResult> {
    if (this.#stopped) return Promise.reject(new Fault('stopped'));
    const id = this.#nextId++;
    const result = this.#proposals.waitForOnce(id);
    this.#handle({ kind: 'propose-configuration', id, command });
    return result;
  }

  /** Resolves once the other member leads, as seen from here. Only the leader can do it. */
  transferLeadership(to: bigint): Promise<void> {
    if (this.#stopped) return Promise.reject(new Fault('stopped'));
    const id = this.#nextId++;
    const transferred = this.#transfers.wait(id);
    this.#handle({ kind: 'transfer', id, to });
    return transferred;
  }

  /** Resolves once everything committed before the call is applied here. */
  linearize(signal?: AbortSignal): Promise<void> {
    return this.#acrossLeaders(() => {
      const passed = this.#reads.join(this.#now(), () => this.#nextId++);
      this.#schedule();
      return orAborted(passed, signal);
    });
  }

  /** Messages of other members. */
  receive(message: Message): void {
    this.#handle({ kind: 'message', message });
  }

  /** The bytes of a snapshot are here; `message` is what tells Raft. */
  receiveSnapshot(message: Message, received: ReceivedSnapshot): void {
    this.installation.offer(received);
    this.receive(message);
  }

  /** The connection to another member broke. */
  unreachable(node: bigint): void {
    this.#handle({ kind: 'unreachable', node });
  }

  snapshotReported(to: bigint, outcome: SnapshotOutcome): void {
    this.#handle({ kind: 'snapshot-reported', to, outcome });
  }

  /** The replica has something to do that did not come this way. */
  wake(): void {
    this.#schedule();
  }

  /** Resolves once everything below the compact revision is physically gone. */
  compacted(): Promise<void> {
    return this.#compactor.done;
  }

  /**
   * `leader changed` is a promise that what was asked did not happen and never will, so it is asked
   * again: to the caller a change of leaders is a delay.
   */
  #acrossLeaders<T>(
    attempt: () => Promise<T>,
    deadlineMs = this.#now() + this.#options.requestTimeoutMs,
  ): Promise<T> {
    if (this.#stopped) return Promise.reject(new Fault('stopped'));
    return attempt().catch((error: unknown) => {
      const isUndone = error instanceof Fault && error.code === 'leader-changed';
      if (!isUndone || this.#now() >= deadlineMs) throw error;
      return this.#acrossLeaders(attempt, deadlineMs);
    });
  }

  #now(): number {
    return this.#options.clock.nowMs();
  }

  #handle(event: ReplicaEvent): void {
    this.#guarded(() => this.#replica.handle(event, this.#now()));
    this.#schedule();
  }

  #schedule(): void {
    if (this.#turnScheduled) return;
    this.#turnScheduled = true;
    this.#options.timers.soon(() => {
      this.#turnScheduled = false;
      this.#guarded(() => this.#turn());
    });
  }

  /** Whatever throws in here is a broken invariant or a broken disk: the member cannot go on. */
  #guarded(work: () => void): void {
    if (this.#stopped) return;
    try {
      work();
    } catch (error) {
      this.#fail(error);
    }
  }

  #turn(): void {
    const nowMs = this.#now();
    if (this.#queued.length > 0) {
      const requests = this.#queued;
      this.#queued = [];
      this.#replica.handle({ kind: 'propose', requests }, nowMs);
    }
    const read = this.#reads.take(nowMs, this.#replica.leader !== NO_NODE);
    if (read !== undefined) this.#replica.handle({ kind: 'read', id: read }, nowMs);
    this.#carryOut(nowMs);
  }

  #carryOut(nowMs: number): void {
    const { state, send, onSnapshotNeeded } = this.#options;
    const mayApply = state.backlogBytes < limits.overlayBytes && !this.installation.isRunning;
    const { write, messages, forgotten } = this.#replica.outgoing(nowMs);
    if (forgotten !== undefined) {
      this.#halt();
      this.#options.onForgotten(forgotten);
      return;
    }
    if (messages.length > 0) send(messages);
    if (write !== undefined) this.#write(write, nowMs, this.#mayBlock(messages));
    const endMs = this.#now() + SLICE_MS;
    const effects = this.#replica.effects(nowMs, mayApply, () => this.#now() >= endMs);
    if (effects.installed) this.#onInstalled();
    for (const published of effects.published) this.#options.onPublished(published);
    this.#answer(effects);
    for (const { to } of effects.needsSnapshot) onSnapshotNeeded(to);
    if (effects.leadershipChanged) {
      this.#options.observer.leadershipChanged();
      this.#options.onLeadership();
      if (this.#reads.isAnyHeld) this.#schedule();
    }
    if (effects.membersChanged || effects.configuration !== undefined) this.#options.onMembers();
    if (this.#replica.machine.compactRevision !== this.#compactRevision) this.#onCompacted();
    if (effects.more && !this.installation.isRunning) this.#goOn(mayApply);
  }

  /**
   * Nobody but clients whose writes wait for the disk anyway may be kept waiting by it: a member of
   * several goes on hearing and answering the others, however long its disk takes.
   */
  #mayBlock(messages: readonly Message[]): boolean {
    return this.#replica.isSoleVoter && messages.length === 0 && !this.#replica.hasEffects;
  }

  #answer(effects: Effects): void {
    for (const outcome of effects.outcomes) {
      if ('result' in outcome) this.#proposals.resolve(outcome.id, outcome.result);
      else this.#reject(outcome.id, outcome.fault);
    }
    for (const id of effects.transferred) this.#transfers.resolve(id, undefined);
    for (const id of effects.readable) this.#reads.resolve(id);
  }

  #reject(id: number, fault: FaultCode): void {
    const failed = this.#proposals.fail(id, fault, this.#now());
    if (failed === 'nobody-waits') {
      if (!this.#transfers.reject(id, fault)) this.#reads.reject(id, fault);
    } else if (failed === 'failed') this.#options.observer.proposalFailed();
    else {
      this.#queued.push(failed);
      this.#schedule();
    }
  }

  #write(write: StorageWrite, nowMs: number, mayBlock: boolean): void {
    const { observer, log } = this.#options;
    const { sequence, snapshot, ...batch } = write;
    this.retention.stored(batch.entries);
    this.#writeBeganMs = nowMs;
    const stored =
      snapshot === undefined
        ? log.append(batch, mayBlock).then(() => observer.stored(this.#now() - nowMs))
        : this.installation
            .run(snapshot, batch)
            .then(() => observer.installed(this.#now() - nowMs));
    this.#writing = stored.then(
      () => this.#guarded(() => this.#stored(sequence)),
      (error: unknown) => this.#fail(error),
    );
  }

  #stored(sequence: number): void {
    this.#writeBeganMs = undefined;
    const nowMs = this.#now();
    this.#replica.handle({ kind: 'stored', sequence }, nowMs);
    if (this.installation.isRunning) {
      // Everybody takes over the state as it was sent, before what follows it in the log is applied.
      this.#carryOut(nowMs);
      this.installation.end();
    }
    if (!this.#stopped) this.#turn();
  }

  #onInstalled(): void {
    this.#compactRevision = this.#replica.machine.compactRevision;
    this.#options.onInstalled();
    this.#compactor.schedule();
  }

  /** Nothing can be applied until the state has caught up with its disk; otherwise the next turn. */
  #goOn(mayApply: boolean): void {
    if (mayApply) this.#schedule();
    else {
      // A failed disk is reported through `onFailure`; a full one is tried again at the next tick.
      this.#options.state.flush().then(
        () => this.#schedule(),
        () => undefined,
      );
    }
  }

  #tick(): void {
    this.#guarded(() => {
      const nowMs = this.#now();
      this.#noticeSlowDisk(nowMs);
      this.#replica.handle({ kind: 'tick' }, nowMs);
      this.#reads.expire(nowMs);
      this.#compactByPolicy(nowMs);
      if (!this.installation.isRunning) {
        this.retention.release(nowMs).catch((error: unknown) => this.#fail(error));
      }
      this.#turn();
      if (!this.#stopped) this.#options.onTick(nowMs);
    });
  }

  /** A leader whose disk takes longer than an election lets one lead whose disk does not. */
  #noticeSlowDisk(nowMs: number): void {
    if (this.#writeBeganMs === undefined || this.installation.isRunning) return;
    if (nowMs - this.#writeBeganMs <= this.#options.electionTimeoutMs) return;
    this.#replica.handle({ kind: 'storage-slow' }, nowMs);
  }

  #compactByPolicy(nowMs: number): void {
    if (!this.#replica.isServingLeader || this.#autoCompactionPending) return;
    const machine = this.#replica.machine;
    const revision = this.#options.autoCompaction.tick(nowMs, machine.revision);
    if (revision === undefined || revision <= machine.compactRevision) return;
    this.#autoCompactionPending = true;
    this.propose({ kind: 'compact', revision, physical: false })
      // A refusal is no loss: the policy asks again.
      .catch(() => undefined)
      .finally(() => {
        this.#autoCompactionPending = false;
      });
  }

  #onCompacted(): void {
    this.#compactRevision = this.#replica.machine.compactRevision;
    this.#options.onCompacted(this.#compactRevision);
    this.#compactor.schedule();
  }

  #fail(error: unknown): void {
    if (this.#stopped) return;
    this.#halt();
    this.#options.onFatal(error instanceof Error ? error : new Error(String(error)));
  }

  /** Nothing is taken in or sent any more, and whoever waits is told. */
  #halt(): void {
    this.#stopped = true;
    this.#stopTicking();
    this.#compactor.stop();
    this.#proposals.failAll('stopped');
    this.#transfers.rejectAll('stopped');
    this.#reads.rejectAll('stopped');
    this.#queued = [];
  }
}
