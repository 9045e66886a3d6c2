/**
 * A cluster of Raft cores under faults, then with a random quorum healed. The fastest of the layers:
 * no bytes, no requests, only the algorithm, its disk and its network.
 */
import type { PointName } from '../../../server/points.ts';
import { emptyConfiguration } from '../../../server/raft/configuration.ts';
import type { Message, NodeId, Proposal } from '../../../server/raft/message.ts';
import type { Raft } from '../../../server/raft/raft.ts';
import type { SimulatedCluster } from '../cluster.ts';
import type { Site } from '../engine/decisions.ts';
import { type Engine, SECOND } from '../engine/engine.ts';
import { type DiskFaults, drawFaults, type Faults, noFaults } from '../faults.ts';
import { Nemesis } from '../nemesis.ts';
import { Network } from '../network.ts';
import { PointCounts, raftPoints } from '../points.ts';
import { RaftChecker } from './checker.ts';
import { drawKnobs, type RaftKnobs } from './knobs.ts';
import { RaftMember } from './member.ts';
import { chooseChanges, encodeChanges } from './membership.ts';
import { recover } from './recovery.ts';
import { SnapshotCarrier } from './snapshots.ts';
import type { StateImage } from './store.ts';
import type { RaftWorld } from './world.ts';

export type RaftRunOptions = {
  /** Events of the phase with faults. */
  readonly events: number;
};

export const defaultRaftRun: RaftRunOptions = { events: 10_000 };

/** The phase with faults ends at the latest then. */
const LONGEST_US = 600 * SECOND;
/** Members that may join in one run. */
const NEWCOMERS = 6;

export class RaftSimulation implements RaftWorld, SimulatedCluster {
  readonly engine: Engine;
  readonly knobs: RaftKnobs;
  readonly checker: RaftChecker;
  readonly network: Network<never>;
  readonly points = new PointCounts();
  diskFaults: DiskFaults;
  driftPpm: number;
  readonly #faults: Faults;
  readonly #options: RaftRunOptions;
  readonly #network: Network<Message>;
  readonly #nemesis: Nemesis;
  readonly #snapshots: SnapshotCarrier;
  readonly #initial: StateImage;
  /** Those that were ever started, in the order of their numbers. */
  readonly #members: RaftMember[] = [];
  readonly #askers = new Map<number, RaftMember>();
  readonly #sites = new Map<string, Site>();
  #numbers: readonly number[] = [];
  #reads = 0;

  constructor(engine: Engine, options: RaftRunOptions = defaultRaftRun) {
    this.engine = engine;
    this.#options = options;
    this.knobs = drawKnobs(engine.decisions);
    this.#faults = drawFaults(engine, raftPoints);
    this.diskFaults = this.#faults.disk;
    this.driftPpm = this.#faults.driftPpm;
    this.#network = new Network<Message>(engine, (to, message) =>
      this.#members[to - 1]?.receive(message),
    );
    this.#network.faults = this.#faults.network;
    this.network = this.#network as Network<never>;
    const numbers = Array.from({ length: this.knobs.members }, (_, at) => at + 1);
    const configuration = { ...emptyConfiguration, voters: numbers.map(BigInt) };
    this.#initial = { index: 0, term: 0, configuration };
    this.checker = new RaftChecker(this.#members, configuration, this.knobs.uncommittedBytes);
    this.#snapshots = new SnapshotCarrier(engine, this.network, (to) => this.#members[to - 1]);
    for (const _ of numbers) this.#add();
    this.#nemesis = new Nemesis(engine, this, this.#faults);
  }

  run(): void {
    const { engine } = this;
    engine.tell(() => `knobs ${JSON.stringify(this.knobs)}`);
    for (const member of this.#members) member.start();
    this.#proposeLater();
    this.#readLater();
    while (engine.events < this.#options.events && engine.step(LONGEST_US)) {
      // Everything happens in `step`.
    }
    this.#nemesis.stop();
    this.#network.heal();
    this.#network.faults = noFaults.network;
    this.diskFaults = noFaults.disk;
    recover(this, this.#members, (bound) => this.#client('quorum').below(bound));
  }

  send(from: number, message: Message): void {
    const { trace } = this.engine;
    const to = Number(message.to);
    trace.add(from * 64 + to);
    trace.add(message.kind.length * 65_536 + message.term);
    this.#network.send(from, to, message);
  }

  reached(member: RaftMember, point: PointName): void {
    this.points.add(point);
    this.#nemesis.reached(member.number, point);
  }

  failed(member: RaftMember): void {
    this.crash(member.number);
    this.#nemesis.died(member.number);
  }

  readsEnded(reads: readonly number[]): void {
    for (const id of reads) this.#askers.delete(id);
  }

  carrySnapshot(from: RaftMember, to: NodeId): void {
    this.#snapshots.carry(from, to);
  }

  /** Messages of a link kept their order in the first phase, too. */
  get isInOrder(): boolean {
    const { inOrder, replayRate, duplicateRate } = this.#faults.network;
    return inOrder && replayRate === 0 && duplicateRate === 0;
  }

  get members(): readonly number[] {
    return this.#numbers;
  }

  get leader(): number {
    return this.#members.find(({ raft }) => raft?.role === 'leader')?.number ?? 0;
  }

  isUp(member: number): boolean {
    return this.#member(member).isUp;
  }

  isPaused(member: number): boolean {
    return this.#member(member).isPaused;
  }

  crash(number: number): void {
    const member = this.#member(number);
    if (!member.isUp) return;
    member.crash();
    for (const [id, asker] of this.#askers) {
      if (asker !== member) continue;
      this.#askers.delete(id);
      this.checker.readForgotten(id);
    }
    this.engine.trace.add(number + 7_000);
    if (!this.#faults.resets) return;
    for (const each of this.#members) {
      if (each !== member) this.#resetAt(each, member.id);
    }
  }

  /** To Raft both are alike: it never relies on what the operating system has cached. */
  losePower(number: number): void {
    this.crash(number);
  }

  start(number: number): void {
    this.engine.trace.add(number + 8_000);
    this.#member(number).start();
  }

  pause(number: number): void {
    this.#member(number).pause();
  }

  resume(number: number): void {
    this.#member(number).resume();
  }

  slowDisk(number: number, writeUs: number, durationUs: number): void {
    this.#member(number).writer.slowDown(writeUs, durationUs);
  }

  breakConnection(number: number, to: number): void {
    if (number !== to) this.#resetAt(this.#member(number), BigInt(to));
  }

  campaign(number: number): void {
    this.#member(number).input((raft) => raft.campaign());
  }

  transfer(number: number, to: number): void {
    if (number === 0 || number === to) return;
    this.engine.tell(() => `member ${number} hands over to ${to}`);
    this.#member(number).input((raft) => raft.transferLeadership(BigInt(to)));
  }

  /** A newcomer is started when the change is proposed: it waits for a leader to be found by. */
  changeMembership(choose: (bound: number) => number): void {
    const leader = this.#members[this.leader - 1];
    if (leader === undefined) return;
    const newcomer = BigInt(this.#members.length + 1);
    const isFull = this.#members.length >= this.knobs.members + NEWCOMERS;
    const changes = chooseChanges(leader.configuration, isFull ? undefined : newcomer, choose);
    if (changes.length === 0 && !leader.configuration.autoLeave) return;
    if (changes.some(({ node }) => node === newcomer)) this.#add().start();
    leader.input((raft) => {
      const id = this.checker.proposals.nextId;
      const data = changes.length === 0 ? new Uint8Array(0) : encodeChanges(id, changes);
      const names = changes.map(({ kind, node }) => `${kind} ${node}`).join(', ');
      const outcome = raft.propose([{ kind: 'configuration', data }]);
      const result = outcome.accepted ? 'accepted' : outcome.reason;
      this.engine.tell(() => `member ${leader.number} proposes ${names || 'to leave'}: ${result}`);
      if (data.length > 0) this.checker.proposals.add(`${raft.incarnation}`, [id], outcome);
    });
    leader.reached('configuration-proposed');
  }

  #add(): RaftMember {
    const member = new RaftMember(this, this.#members.length + 1, this.#initial);
    this.#members.push(member);
    this.#numbers = this.#members.map(({ number }) => number);
    return member;
  }

  /** The news that a connection broke takes a moment, and may be lost with the one that it is for. */
  #resetAt(member: RaftMember, peer: NodeId): void {
    const delayUs = this.#client('reset').below(2_000);
    this.engine.after(delayUs, () => member.input((raft) => raft.unreachable(peer)));
  }

  #proposeLater(): void {
    const mean = this.knobs.meanProposalUs;
    this.engine.after(1 + this.#client('proposal-wait').exponential(mean), () => {
      const member = this.#members[this.#client('proposal-at').pick(this.#members.length) - 1];
      const count = 1 + this.#client('proposal-count').below(4);
      if (member !== undefined) this.#memberFor(member).input((raft) => this.#propose(raft, count));
      this.#proposeLater();
    });
  }

  /** Mostly the leader, sometimes the one that was picked. */
  #memberFor(picked: RaftMember): RaftMember {
    const leader = this.#members[this.leader - 1];
    return leader !== undefined && this.#client('to-leader').below(4) < 3 ? leader : picked;
  }

  #propose(raft: Raft, count: number): void {
    const { proposals } = this.checker;
    const first = proposals.nextId;
    const ids = Array.from({ length: count }, (_, at) => first + at);
    const asked = ids.map((id): Proposal => ({ kind: 'command', data: encodeChanges(id, []) }));
    proposals.add(`${raft.incarnation}`, ids, raft.propose(asked));
  }

  #readLater(): void {
    this.engine.after(1 + this.#client('read-wait').exponential(this.knobs.meanReadUs), () => {
      const member = this.#members[this.#client('read-at').pick(this.#members.length) - 1];
      if (member !== undefined) this.#read(member);
      this.#readLater();
    });
  }

  #read(member: RaftMember): void {
    this.#reads += 1;
    const id = this.#reads;
    member.input((raft) => {
      if (!raft.read(id)) return;
      this.checker.readStarted(id);
      this.#askers.set(id, member);
    });
  }

  #member(number: number): RaftMember {
    const member = this.#members[number - 1];
    if (member === undefined) throw new RangeError(`there is no member ${number}`);
    return member;
  }

  #client(name: string): Site {
    const known = this.#sites.get(name);
    if (known !== undefined) return known;
    const site = this.engine.decisions.site('client', name);
    this.#sites.set(name, site);
    return site;
  }
}
