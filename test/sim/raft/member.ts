/**
 * A host for one Raft core, doing what `server/replica.ts` and `server/node.ts` do around it, with a
 * disk that answers when the schedule says so and a state machine that applies when it gets to it.
 */
import type { PointName } from '../../../server/points.ts';
import type { Random } from '../../../server/ports.ts';
import { type Configuration, isJoint } from '../../../server/raft/configuration.ts';
import type {
  Entry,
  Message,
  NodeId,
  Ready,
  RoleKind,
  StorageWrite,
} from '../../../server/raft/message.ts';
import { Raft } from '../../../server/raft/raft.ts';
import type { Scheduled } from '../engine/engine.ts';
import { Violation } from '../engine/violation.ts';
import { pointOfMessage } from '../message-points.ts';
import { LogWriter } from './log-writer.ts';
import { configurationAfter } from './membership.ts';
import { MemberStore, type StateImage } from './store.ts';
import { type RaftWorld, TICK_US } from './world.ts';

export class RaftMember {
  readonly number: number;
  readonly id: NodeId;
  readonly store: MemberStore;
  readonly writer: LogWriter;
  /** Undefined while it is down. */
  raft: Raft | undefined;
  isPaused = false;
  readonly #world: RaftWorld;
  readonly #sites;
  readonly #random: Random;
  /** Counts starts and crashes: what was begun in an earlier life has no effect. */
  #life = 0;
  #pumping: Scheduled | undefined;
  #applying: Scheduled | undefined;
  #toApply: Entry[] = [];
  #whilePaused: (() => void)[] = [];
  #missedTick = false;
  #role: RoleKind = 'follower';
  #commitSeen = 0;
  #ackedTerm = 0;

  constructor(world: RaftWorld, number: number, initial: StateImage) {
    this.#world = world;
    this.number = number;
    this.id = BigInt(number);
    this.store = new MemberStore(initial);
    this.writer = new LogWriter(world, this);
    const { decisions } = world.engine;
    const protocol = (kind: string) => decisions.site('protocol', `${kind} ${number}`);
    this.#sites = {
      flush: decisions.site('disk', `flush ${number}`),
      kept: decisions.site('disk', `kept ${number}`),
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

  get appliedIndex(): number {
    return this.store.state.index;
  }

  /** In force on this member, or what a start would find. */
  get configuration(): Configuration {
    return this.raft?.configuration ?? this.store.state.configuration;
  }

  start(): void {
    const { knobs, driftPpm, checker } = this.#world;
    this.#life += 1;
    const recovered = this.store.recover();
    const { index, configuration } = this.store.state;
    this.raft = this.#guarded(
      () =>
        new Raft({
          id: this.id,
          configuration,
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
          recovered,
          appliedIndex: index,
        }),
    );
    const drift = 1 + (this.#sites.tick.below(2 * driftPpm + 1) - driftPpm) / 1_000_000;
    this.#tickAfter(this.#life, this.#sites.tick.below(TICK_US), TICK_US * drift);
    this.#flushLater(this.#life);
    this.#role = 'follower';
    this.#commitSeen = index;
    checker.stored(this);
    checker.stepped(this);
    this.#pump();
  }

  crash(): void {
    this.writer.crash();
    this.store.crash((bound) => this.#sites.kept.below(bound));
    this.raft = undefined;
    this.#life += 1;
    this.#toApply = [];
    this.isPaused = false;
    this.#whilePaused = [];
    this.#missedTick = false;
    this.#pumping?.cancel();
    this.#pumping = undefined;
    this.#applying?.cancel();
    this.#applying = undefined;
    this.#world.checker.crashed(this);
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    if (!this.isPaused) return;
    this.isPaused = false;
    const missed = this.#whilePaused;
    this.#whilePaused = [];
    if (this.#missedTick) missed.unshift(() => this.#tick());
    this.#missedTick = false;
    for (const each of missed) each();
  }

  /** @returns whether the member is still alive: a fault may wait at this point. */
  reached(point: PointName): boolean {
    const life = this.#life;
    this.#world.reached(this, point);
    return life === this.#life;
  }

  receive(message: Message): void {
    if (message.kind === 'append-accepted' && !this.#noteAck(message.term)) return;
    if (message.kind === 'snapshot' && !this.reached('snapshot-received')) return;
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
    this.#world.checker.stepped(this);
    if (this.#noteCommit(raft.commitIndex)) this.#schedulePump();
  }

  #noteCommit(commit: number): boolean {
    const before = this.#commitSeen;
    if (commit <= before) return true;
    this.#commitSeen = commit;
    for (let index = before + 1; index <= commit; index += 1) {
      const isChange = this.store.log.at(index)?.kind === 'configuration';
      if (isChange && !this.reached('configuration-committed')) return false;
    }
    return this.reached('commit-advanced');
  }

  #noteAck(term: number): boolean {
    const { raft } = this;
    if (raft?.role !== 'leader' || raft.term !== term || this.#ackedTerm === term) return true;
    this.#ackedTerm = term;
    return this.reached('first-append-ack');
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
      this.#carryOut(ready);
      if (life !== this.#life) return;
    }
  }

  #carryOut(ready: Ready): void {
    const { sendFirst } = this.#world.knobs;
    if (!this.#noteRole(ready)) return;
    if (sendFirst && !this.#send(ready)) return;
    if (ready.write !== undefined && !this.#write(ready.write)) return;
    if (!sendFirst && !this.#send(ready)) return;
    if (!this.#endReads(ready)) return;
    if (ready.refused.length > 0 && !this.reached('proposal-refused')) return;
    for (const { to } of ready.needsSnapshot) {
      if (!this.reached('snapshot-needed')) return;
      this.#world.carrySnapshot(this, to);
      if (!this.isUp) return;
    }
    for (const entry of ready.committed) this.#toApply.push(entry);
    this.#applyLater();
  }

  /** What was about to be applied is in the snapshot that the write installs, or comes again. */
  #write(write: StorageWrite): boolean {
    if (write.snapshot !== undefined) {
      this.#toApply = [];
      this.#applying?.cancel();
      this.#applying = undefined;
    }
    return this.writer.begin(write);
  }

  #noteRole({ leadership }: Ready): boolean {
    if (leadership === undefined) return true;
    const was = this.#role;
    const { role, term } = leadership;
    this.#role = role;
    this.#world.engine.tell(() => `member ${this.number} is ${role} in term ${term}`);
    if (role === 'leader') return this.reached('became-leader');
    if (role === 'candidate') return this.reached('became-candidate');
    return was !== 'leader' || this.reached('stepped-down');
  }

  #send({ messages }: Ready): boolean {
    if (messages.length === 0) return true;
    const isLeader = this.raft?.role === 'leader';
    if (!this.reached(isLeader ? 'before-leader-send' : 'before-follower-send')) return false;
    for (const message of messages) {
      this.#world.send(this.number, message);
      const point = pointOfMessage(message);
      if (point !== undefined && !this.reached(point)) return false;
    }
    return this.reached(isLeader ? 'after-leader-send' : 'after-follower-send');
  }

  #endReads({ reads, droppedReads }: Ready): boolean {
    if (reads.length > 0) {
      this.#world.readsEnded(reads.map(({ id }) => id));
      if (!this.reached('read-confirmed')) return false;
    }
    if (droppedReads.length === 0) return true;
    this.#world.readsEnded(droppedReads);
    return this.reached('read-dropped');
  }

  #applyLater(): void {
    if (this.#toApply.length === 0) return;
    const { knobs, engine } = this.#world;
    if (knobs.meanApplyUs === 0) {
      this.#apply();
      return;
    }
    if (this.#applying !== undefined) return;
    this.#applying = engine.after(this.#sites.apply.exponential(knobs.meanApplyUs), () => {
      this.#applying = undefined;
      if (this.isPaused) this.#whilePaused.push(() => this.#applyLater());
      else if (this.#apply()) this.#schedulePump();
    });
  }

  /** @returns whether it survived. */
  #apply(): boolean {
    const { raft } = this;
    if (raft === undefined || !this.reached('before-apply')) return false;
    const entries = this.#toApply;
    this.#toApply = [];
    for (const entry of entries) {
      if (!this.#applyEntry(raft, entry)) return false;
    }
    this.#guarded(() => raft.applied(this.appliedIndex));
    return this.reached('after-apply');
  }

  #applyEntry(raft: Raft, entry: Entry): boolean {
    const { checker, engine } = this.#world;
    const { index, term, kind, data } = entry;
    const before = this.store.state.configuration;
    const configuration = kind === 'configuration' ? configurationAfter(before, data) : before;
    checker.applied(this, entry, configuration);
    this.store.apply({ index, term, configuration });
    engine.trace.add(index * 131 + term);
    if (kind !== 'configuration') return true;
    engine.tell(() => `member ${this.number} applies ${describe(configuration)} at ${index}`);
    this.#guarded(() => raft.configure(index, configuration));
    checker.stepped(this);
    return this.reached(changePoint(before, configuration));
  }

  #flushLater(life: number): void {
    const { engine, knobs } = this.#world;
    engine.after(1 + this.#sites.flush.exponential(knobs.meanFlushUs), () => {
      if (life !== this.#life) return;
      this.store.flush();
      this.#release();
      if (life === this.#life) this.#flushLater(life);
    });
  }

  /** Entries that the state holds durably go, but for the newest, which slow peers may ask for. */
  #release(): void {
    const { raft } = this;
    const index = this.store.durable.index - this.#world.knobs.catchUpEntries;
    if (raft === undefined || index < raft.firstIndex || this.isPaused) return;
    this.#guarded(() => raft.release(index));
    this.store.log.release(index);
    this.reached('log-released');
  }

  #tickAfter(life: number, delayUs: number, everyUs: number): void {
    this.#world.engine.after(delayUs, () => {
      if (life !== this.#life) return;
      const { tickJitter } = this.#world.knobs;
      const jitterUs =
        tickJitter === 0 ? 0 : this.#sites.tick.below(Math.round(everyUs * tickJitter));
      this.#tickAfter(life, everyUs + jitterUs, everyUs);
      if (this.isPaused) this.#missedTick = true;
      else this.#tick();
    });
  }

  #tick(): void {
    const isLate = this.writer.isLate;
    this.input((raft) => {
      if (isLate) raft.stepDown();
      raft.tick();
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

function changePoint(before: Configuration, after: Configuration): PointName {
  if (isJoint(after) && !isJoint(before)) return 'joint-entered';
  if (isJoint(before) && !isJoint(after)) return 'joint-left';
  if (after.learners.length > before.learners.length) return 'learner-added';
  if (after.voters.length > before.voters.length) return 'learner-promoted';
  if (after.voters.length < before.voters.length) return 'member-removed';
  return 'configuration-applied';
}

function describe({ voters, outgoing, learners }: Configuration): string {
  const joint = outgoing.length === 0 ? '' : ` and ${outgoing.join(' ')}`;
  const others = learners.length === 0 ? '' : `, learners ${learners.join(' ')}`;
  return `voters ${voters.join(' ')}${joint}${others}`;
}
