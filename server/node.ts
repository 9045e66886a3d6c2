/**
 * The only loop with I/O: turns what happens into events for the replica, and carries out the
 * effects that come back.
 *
 * Whatever is proposed or asked in one turn of the event loop is handed over together, so it shares
 * one log write and one read round. After a storage error nothing more is acknowledged: everybody
 * who waits is told that the server stopped, and `onFatal` ends the process.
 */
import type { AutoCompaction } from './auto-compaction.ts';
import type { Command, CommandResult } from './command.ts';
import { Fault } from './faults.ts';
import { limits } from './limits.ts';
import type { Revision } from './mvcc/types.ts';
import type { Clock, Log, State, Timers } from './ports.ts';
import type { Message } from './raft/message.ts';
import type { Proposal, Published, Replica } from './replica.ts';
import { SLICE_MS, sleep, yieldTurn } from './time-slice.ts';
import { orAborted, Waiting } from './waiting.ts';

/** Told what the loop measures. */
export interface NodeObserver {
  /** A batch of log entries is durable, after so long. */
  stored(durationMs: number): void;
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
  readonly requestTimeoutMs: number;
  /** Entries that may go are released at the latest when they are so many. */
  readonly snapshotCount: number;
  /** Entries kept behind the newest applied one, for slow members; 0 where there are none. */
  readonly catchUpEntries: number;
  /** To the other members. */
  readonly send: (messages: readonly Message[]) => void;
  readonly onPublished: (published: Published) => void;
  readonly onCompacted: (revision: Revision) => void;
  readonly onLeadership: () => void;
  readonly observer: NodeObserver;
  /** Called once per tick, after everything else. */
  readonly onTick: (nowMs: number) => void;
  /** Called once. The process must not go on using this data directory. */
  readonly onFatal: (error: Error) => void;
};

/** Files are removed when all of their entries are released: a release is cheap, a long log is not. */
const RELEASE_ENTRIES = 500;

type Barrier = { readonly id: number; readonly passed: Promise<void> };

export class Node {
  readonly #options: NodeOptions;
  readonly #replica: Replica;
  readonly #proposals = new Waiting<CommandResult>();
  readonly #reads = new Waiting<void>();
  readonly #readDeadlines = new Map<number, number>();
  #queued: Proposal[] = [];
  /** The read round that those who ask in this turn share. */
  #barrier: Barrier | undefined;
  #nextId = 1;
  #turnScheduled = false;
  #stopTicking: () => void = () => {};
  #stopped = false;
  #failure: Error | undefined;
  #releasedIndex = 0;
  #compactRevision: Revision;
  #compacting: Promise<void> = Promise.resolve();
  /** The log write under way. */
  #writing: Promise<void> = Promise.resolve();
  #autoCompactionPending = false;

  constructor(options: NodeOptions) {
    this.#options = options;
    this.#replica = options.replica;
    this.#compactRevision = options.replica.machine.compactRevision;
  }

  start(): void {
    this.#stopTicking = this.#options.timers.every(this.#options.tickMs, () => this.#tick());
    this.#scheduleCompaction();
    this.#schedule();
  }

  /** Answers in flight are refused from here on; what is committed stays committed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopTicking();
    this.#rejectEverybody();
    await Promise.all([this.#writing, this.#compacting]);
  }

  /** Proposals that wait for their entry to be applied. */
  get pendingProposals(): number {
    return this.#proposals.size;
  }

  async propose(command: Command, signal?: AbortSignal): Promise<CommandResult> {
    this.#refuseIfStopped();
    const id = this.#nextId++;
    this.#queued.push({ id, command });
    this.#schedule();
    const result = await orAborted(this.#proposals.wait(id), signal);
    if (result.kind === 'fault') throw new Fault(result.code);
    return result;
  }

  /** Resolves once everything committed before the call is applied here. */
  linearize(signal?: AbortSignal): Promise<void> {
    this.#refuseIfStopped();
    this.#barrier ??= this.#newBarrier();
    return orAborted(this.#barrier.passed, signal);
  }

  /** Messages of other members. */
  receive(message: Message): void {
    this.#replica.handle({ kind: 'message', message }, this.#now());
    this.#schedule();
  }

  /** Resolves once everything below the compact revision is physically gone. */
  async compacted(): Promise<void> {
    await this.#compacting;
  }

  #newBarrier(): Barrier {
    const id = this.#nextId++;
    this.#readDeadlines.set(id, this.#now() + this.#options.requestTimeoutMs);
    this.#schedule();
    return { id, passed: this.#reads.wait(id) };
  }

  #refuseIfStopped(): void {
    if (this.#stopped || this.#failure !== undefined) throw new Fault('stopped');
  }

  #now(): number {
    return this.#options.clock.nowMs();
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
    if (this.#failure !== undefined || this.#stopped) return;
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
    if (this.#barrier !== undefined) {
      this.#replica.handle({ kind: 'read', id: this.#barrier.id }, nowMs);
      this.#barrier = undefined;
    }
    this.#carryOut(nowMs);
  }

  #carryOut(nowMs: number): void {
    const mayApply = this.#options.state.backlogBytes < limits.overlayBytes;
    const effects = this.#replica.effects(nowMs, mayApply);
    if (effects.write !== undefined) {
      const { sequence, ...batch } = effects.write;
      this.#writing = this.#options.log.append(batch).then(
        () =>
          this.#guarded(() => {
            this.#options.observer.stored(this.#now() - nowMs);
            this.#stored(sequence);
          }),
        (error: unknown) => this.#fail(error),
      );
    }
    if (effects.messages.length > 0) this.#options.send(effects.messages);
    for (const published of effects.published) this.#options.onPublished(published);
    for (const outcome of effects.outcomes) {
      if ('result' in outcome) this.#proposals.resolve(outcome.id, outcome.result);
      else if (this.#proposals.reject(outcome.id, outcome.fault)) {
        this.#options.observer.proposalFailed();
      } else this.#rejectRead(outcome.id, outcome.fault);
    }
    for (const id of effects.readable) {
      this.#readDeadlines.delete(id);
      this.#reads.resolve(id, undefined);
    }
    if (effects.leadershipChanged) {
      this.#options.observer.leadershipChanged();
      this.#options.onLeadership();
    }
    if (this.#replica.machine.compactRevision !== this.#compactRevision) this.#onCompacted();
    if (effects.more) this.#goOn(mayApply);
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

  #stored(sequence: number): void {
    const nowMs = this.#now();
    this.#replica.handle({ kind: 'stored', sequence }, nowMs);
    this.#turn();
  }

  #tick(): void {
    this.#guarded(() => {
      const nowMs = this.#now();
      this.#replica.handle({ kind: 'tick' }, nowMs);
      this.#expireReads(nowMs);
      this.#compactByPolicy(nowMs);
      this.#releaseLog();
      this.#turn();
      this.#options.onTick(nowMs);
    });
  }

  #expireReads(nowMs: number): void {
    for (const [id, deadlineMs] of this.#readDeadlines) {
      if (deadlineMs > nowMs) return;
      this.#rejectRead(id, 'timeout');
    }
  }

  #rejectRead(id: number, fault: 'timeout' | Fault['code']): void {
    this.#readDeadlines.delete(id);
    this.#reads.reject(id, fault);
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

  /** What LMDB holds durably needs no log, but slow members may still ask for the recent part. */
  #releaseLog(): void {
    const { state, log, catchUpEntries, snapshotCount } = this.#options;
    this.#replica.release(state.durableIndex);
    const index = Math.min(state.durableIndex, state.appliedIndex - catchUpEntries);
    if (index - this.#releasedIndex < Math.min(snapshotCount, RELEASE_ENTRIES)) return;
    this.#releasedIndex = index;
    log.release(index).catch((error: unknown) => this.#fail(error));
  }

  #onCompacted(): void {
    this.#compactRevision = this.#replica.machine.compactRevision;
    this.#options.onCompacted(this.#compactRevision);
    this.#scheduleCompaction();
  }

  #scheduleCompaction(): void {
    this.#compacting = this.#compacting
      .then(() => this.#compactPhysically())
      .catch((error: unknown) => this.#fail(error));
  }

  /** Removes garbage in slices; what is removed can no longer be read, so no reader is disturbed. */
  async #compactPhysically(): Promise<void> {
    const { state, timers, tickMs } = this.#options;
    while (!this.#stopped && this.#failure === undefined) {
      if (state.backlogBytes > limits.overlayBytes / 2) {
        // A full disk is tried again; removing must not pile up in memory meanwhile.
        await state.flush().catch(() => sleep(timers, tickMs));
        continue;
      }
      const untilMs = this.#now() + SLICE_MS;
      while (this.#now() < untilMs) {
        const step = this.#replica.machine.compactionStep(state);
        if (step.writes.length > 0) state.apply(state.appliedIndex, step.writes);
        if (step.done) return;
      }
      await yieldTurn(timers);
    }
  }

  #fail(error: unknown): void {
    if (this.#failure !== undefined || this.#stopped) return;
    this.#failure = error instanceof Error ? error : new Error(String(error));
    this.#stopTicking();
    this.#rejectEverybody();
    this.#options.onFatal(this.#failure);
  }

  #rejectEverybody(): void {
    this.#proposals.rejectAll('stopped');
    this.#reads.rejectAll('stopped');
    this.#readDeadlines.clear();
    this.#queued = [];
    this.#barrier = undefined;
  }
}
