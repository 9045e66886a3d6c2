/**
 * A host for one Raft member, doing what `server/replica.ts` and `server/node.ts` do around it, with
 * a disk that answers when the schedule says so and a state machine that applies when it gets to it.
 */

import type { PointName } from '../../../server/points.ts';
import type { Random } from '../../../server/ports.ts';
import type { Configuration } from '../../../server/raft/configuration.ts';
import type {
  Entry,
  Message,
  NodeId,
  Ready,
  RoleKind,
  StorageWrite,
} from '../../../server/raft/message.ts';
import { isQuorum } from '../../../server/raft/quorum.ts';
import { Raft } from '../../../server/raft/raft.ts';
import { type Engine, MS, type Scheduled, SECOND } from '../engine/engine.ts';
import { Violation } from '../engine/violation.ts';
import type { DiskFaults } from '../faults.ts';
import type { RaftChecker } from './checker.ts';
import type { RaftKnobs } from './knobs.ts';
import { LogDisk } from './log-disk.ts';

/** What a member needs of the run it is part of. */
export interface RaftWorld {
  readonly engine: Engine;
  readonly knobs: RaftKnobs;
  readonly checker: RaftChecker;
  readonly diskFaults: DiskFaults;
  readonly driftPpm: number;
  send(from: number, message: Message): void;
  /** The member came to this point; it may be dead or paused afterwards. */
  reached(member: RaftMember, point: PointName): void;
  /** Its disk failed. */
  failed(member: RaftMember): void;
  readsConfirmed(member: RaftMember, reads: readonly { readonly id: number }[]): void;
}

export const TICK_US = 100 * MS;
const LONGEST_WRITE_US = 2 * SECOND;

export class RaftMember {
  readonly number: number;
  readonly id: NodeId;
  readonly disk = new LogDisk();
  /** Undefined while it is down. */
  raft: Raft | undefined;
  isPaused = false;
  appliedIndex = 0;
  /** What a restart finds applied, at least. */
  durableAppliedIndex = 0;
  /** Writes take this long until `slowUntil`. */
  slowWriteUs = 0;
  slowUntil = 0;
  readonly #world: RaftWorld;
  readonly #configuration: Configuration;
  readonly #sites;
  readonly #random: Random;
  /** Counts its starts: what was begun in an earlier life has no effect. */
  #life = 0;
  #write: StorageWrite | undefined;
  #pumping: Scheduled | undefined;
  #applying: Scheduled | undefined;
  #toApply: Entry[] = [];
  #whilePaused: (() => void)[] = [];
  #missedTick = false;
  readonly #acks = new Set<number>();
  #role: RoleKind = 'follower';
  #reportedCommit = 0;

  constructor(world: RaftWorld, number: number, configuration: Configuration) {
    this.#world = world;
    this.number = number;
    this.id = BigInt(number);
    this.#configuration = configuration;
    const { decisions } = world.engine;
    const disk = (kind: string) => decisions.site('disk', `${kind} ${number}`);
    const protocol = (kind: string) => decisions.site('protocol', `${kind} ${number}`);
    this.#sites = {
      write: disk('write'),
      slow: disk('slow'),
      error: disk('error'),
      torn: disk('torn'),
      flush: disk('flush'),
      kept: disk('kept'),
      apply: protocol('apply'),
      tick: protocol('tick'),
      turn: protocol('turn'),
    };
    const election = protocol('election');
    this.#random = {
      below: (bound) => election.below(bound),
      id: () => (this.id << 32n) | BigInt(this.#life),
    };
  }

  get isUp(): boolean {
    return this.raft !== undefined;
  }

  /** Whether a quorum, as this member knows the configuration, satisfies `holds`. */
  isQuorum(holds: (number: number) => boolean): boolean {
    return isQuorum(this.#configuration, (voter) => holds(Number(voter)));
  }

  start(): void {
    const { knobs, driftPpm } = this.#world;
    this.#life += 1;
    const unsure = this.appliedIndex - this.durableAppliedIndex;
    this.appliedIndex = this.durableAppliedIndex + this.#sites.kept.below(unsure + 1);
    this.durableAppliedIndex = this.appliedIndex;
    this.raft = this.#guarded(
      () =>
        new Raft({
          id: this.id,
          configuration: this.#configuration,
          electionTicks: knobs.electionTicks,
          heartbeatTicks: knobs.heartbeatTicks,
          preVote: knobs.preVote,
          checkQuorum: knobs.checkQuorum,
          limits: {
            appendBytes: knobs.appendBytes,
            inflightMessages: knobs.inflightMessages,
            inflightBytes: knobs.inflightBytes,
            uncommittedBytes: knobs.uncommittedBytes,
            committedBytes: knobs.committedBytes,
          },
          random: this.#random,
          recovered: this.disk.recovered(),
          appliedIndex: this.appliedIndex,
        }),
    );
    const drift = 1 + (this.#sites.tick.below(2 * driftPpm + 1) - driftPpm) / 1_000_000;
    this.#tickAfter(this.#life, this.#sites.tick.below(TICK_US), TICK_US * drift);
    this.#flushLater(this.#life);
    this.#world.checker.stepped(this);
    this.#pump();
  }

  /** The write under way is lost, or a part of it, or only its confirmation. */
  crash(): void {
    const { diskFaults, checker } = this.#world;
    const write = this.#write;
    if (write !== undefined && this.#sites.torn.chance(diskFaults.tornRate)) {
      const parts = this.#sites.torn.below(write.entries.length + 2);
      if (parts > 0) this.#store(write, parts - 1);
    }
    this.raft = undefined;
    this.#write = undefined;
    this.#toApply = [];
    this.isPaused = false;
    this.#whilePaused = [];
    this.#missedTick = false;
    this.#pumping?.cancel();
    this.#pumping = undefined;
    this.#applying?.cancel();
    this.#applying = undefined;
    this.#life += 1;
    checker.crashed(this);
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    const missed = this.#whilePaused;
    this.#whilePaused = [];
    if (this.#missedTick) missed.unshift(() => this.input((raft) => raft.tick()));
    this.#missedTick = false;
    for (const each of missed) each();
  }

  receive(message: Message): void {
    if (message.kind === 'append-accepted') this.#noteAck(message.term);
    this.input((raft) => raft.step(message));
  }

  /** Hands something to Raft, and carries out what comes of it, now or a little later. */
  input(act: (raft: Raft) => void): void {
    const { raft } = this;
    if (raft === undefined) return;
    if (this.isPaused) {
      const life = this.#life;
      this.#whilePaused.push(() => {
        if (life === this.#life) this.input(act);
      });
      return;
    }
    this.#guarded(() => act(raft));
    const life = this.#life;
    const commit = raft.commitIndex;
    this.#world.checker.stepped(this);
    if (commit > this.#reportedCommit) {
      this.#reportedCommit = commit;
      this.#world.reached(this, 'commit-advanced');
      if (life !== this.#life) return;
    }
    this.#schedulePump();
  }

  #noteAck(term: number): void {
    if (this.raft?.role !== 'leader' || this.raft.term !== term || this.#acks.has(term)) return;
    this.#acks.add(term);
    this.#world.reached(this, 'first-append-ack');
  }

  #schedulePump(): void {
    const { engine, knobs } = this.#world;
    if (knobs.turnUs === 0) {
      this.#pump();
      return;
    }
    if (this.#pumping !== undefined) return;
    const delayUs = this.#sites.turn.below(knobs.turnUs);
    this.#pumping = engine.after(delayUs, () => {
      this.#pumping = undefined;
      if (!this.isPaused) this.#pump();
      else this.#whilePaused.push(() => this.#schedulePump());
    });
  }

  #pump(): void {
    const life = this.#life;
    const { raft } = this;
    if (raft === undefined) return;
    while (raft.hasReady()) {
      const ready = this.#guarded(() => raft.ready());
      this.#world.checker.observe(this, ready);
      const isSentFirst = this.#world.knobs.sendFirst;
      if (!this.#noteRole(ready, life)) return;
      if (isSentFirst && !this.#send(ready, life)) return;
      if (ready.write !== undefined && !this.#begin(ready.write, life)) return;
      if (!isSentFirst && !this.#send(ready, life)) return;
      if (ready.reads.length > 0) {
        this.#world.readsConfirmed(this, ready.reads);
        if (!this.#reached('read-confirmed', life)) return;
      }
      if (ready.droppedReads.length > 0 && !this.#reached('read-dropped', life)) return;
      for (const entry of ready.committed) this.#toApply.push(entry);
      if (!this.#applyLater(life)) return;
    }
  }

  /** @returns whether it survived. */
  #reached(point: PointName, life: number): boolean {
    this.#world.reached(this, point);
    return life === this.#life;
  }

  #noteRole(ready: Ready, life: number): boolean {
    const { leadership } = ready;
    if (leadership === undefined) return true;
    const was = this.#role;
    this.#role = leadership.role;
    this.#world.engine.tell(
      () => `member ${this.number} is ${leadership.role} in term ${leadership.term}`,
    );
    if (leadership.role === 'leader') return this.#reached('became-leader', life);
    if (leadership.role === 'candidate') return this.#reached('became-candidate', life);
    if (was === 'leader') return this.#reached('stepped-down', life);
    return true;
  }

  #send(ready: Ready, life: number): boolean {
    const { messages } = ready;
    if (messages.length === 0) return true;
    const isLeader = this.raft?.role === 'leader';
    if (!this.#reached(isLeader ? 'before-leader-send' : 'before-follower-send', life))
      return false;
    for (const message of messages) {
      const point = pointOf(message);
      this.#world.send(this.number, message);
      if (point !== undefined && !this.#reached(point, life)) return false;
    }
    return this.#reached(isLeader ? 'after-leader-send' : 'after-follower-send', life);
  }

  #begin(write: StorageWrite, life: number): boolean {
    if (!this.#reached('before-log-write', life)) return false;
    this.#write = write;
    const { engine, diskFaults } = this.#world;
    let takesUs = this.#sites.write.exponential(diskFaults.meanWriteUs);
    if (this.#sites.slow.chance(diskFaults.slowRate))
      takesUs += this.#sites.slow.below(LONGEST_WRITE_US);
    if (engine.now < this.slowUntil) takesUs += this.slowWriteUs;
    engine.after(takesUs, () => {
      if (life === this.#life) this.#endWrite(write, life);
    });
    return this.#reached('during-log-write', life);
  }

  #endWrite(write: StorageWrite, life: number): void {
    const { diskFaults } = this.#world;
    if (this.#sites.error.chance(diskFaults.errorRate)) {
      this.#world.engine.tell(() => `a log write of member ${this.number} fails`);
      this.#world.failed(this);
      return;
    }
    const first = write.entries[0];
    const isReplacing = first !== undefined && first.index <= this.disk.lastIndex;
    this.#store(write, write.entries.length);
    this.#write = undefined;
    if (isReplacing && !this.#reached('tail-replaced', life)) return;
    if (!this.#reached('after-log-write', life)) return;
    this.input((raft) => raft.stored(write.sequence));
  }

  #store(write: StorageWrite, entryCount: number): void {
    const { checker, engine } = this.#world;
    checker.storing(this, entryCount === 0 ? [] : write.entries.slice(0, entryCount));
    this.disk.finish(write, entryCount);
    checker.stored(this);
    engine.trace.add(this.number * 31 + this.disk.lastIndex);
    engine.trace.add(this.disk.hardState.term);
  }

  /** @returns whether it survived. */
  #applyLater(life: number): boolean {
    if (this.#toApply.length === 0) return true;
    const { knobs, engine } = this.#world;
    if (knobs.meanApplyUs === 0) return this.#apply(life);
    if (this.#applying === undefined) {
      const delayUs = this.#sites.apply.exponential(knobs.meanApplyUs);
      this.#applying = engine.after(delayUs, () => {
        this.#applying = undefined;
        if (this.isPaused) this.#whilePaused.push(() => this.#applyLater(this.#life));
        else if (this.#apply(life)) this.#schedulePump();
      });
    }
    return true;
  }

  #apply(life: number): boolean {
    if (!this.#reached('before-apply', life)) return false;
    const { checker, engine } = this.#world;
    const entries = this.#toApply;
    this.#toApply = [];
    for (const entry of entries) {
      checker.applied(this, entry);
      this.appliedIndex = entry.index;
      engine.trace.add(entry.index * 131 + entry.term);
    }
    const { raft } = this;
    if (raft !== undefined) this.#guarded(() => raft.applied(this.appliedIndex));
    return this.#reached('after-apply', life);
  }

  #flushLater(life: number): void {
    const { engine, knobs } = this.#world;
    engine.after(1 + this.#sites.flush.exponential(knobs.meanFlushUs), () => {
      if (life !== this.#life) return;
      this.durableAppliedIndex = this.appliedIndex;
      this.#flushLater(life);
    });
  }

  #tickAfter(life: number, delayUs: number, everyUs: number): void {
    this.#world.engine.after(delayUs, () => {
      if (life !== this.#life) return;
      const { tickJitter } = this.#world.knobs;
      const jitterUs =
        tickJitter === 0 ? 0 : this.#sites.tick.below(Math.round(everyUs * tickJitter));
      this.#tickAfter(life, everyUs + jitterUs, everyUs);
      if (this.isPaused) this.#missedTick = true;
      else this.input((raft) => raft.tick());
    });
  }

  #guarded<T>(act: () => T): T {
    try {
      return act();
    } catch (error) {
      if (error instanceof Violation) throw error;
      const reason = error instanceof Error ? error.message : String(error);
      throw new Violation(22, `member ${this.number}: ${reason}`, { cause: error });
    }
  }
}

function pointOf(message: Message): PointName | undefined {
  switch (message.kind) {
    case 'pre-vote-response':
      return message.granted ? 'pre-vote-granted' : undefined;
    case 'vote':
      return 'vote-requested';
    case 'vote-response':
      return message.granted ? 'vote-granted' : undefined;
    case 'append-rejected':
      return 'append-rejected';
    case 'timeout-now':
      return 'transfer-sent';
    case 'read-index':
      return 'read-round-started';
    default:
      return undefined;
  }
}
