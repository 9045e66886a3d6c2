/**
 * A cluster of Raft cores under faults, then with a random quorum healed. The fastest of the layers:
 * no bytes, no requests, only the algorithm, its disk and its network.
 */
import type { PointName } from '../../../server/points.ts';
import { emptyConfiguration } from '../../../server/raft/configuration.ts';
import type { Message, NodeId } from '../../../server/raft/message.ts';
import type { SimulatedCluster } from '../cluster.ts';
import { type Engine, SECOND } from '../engine/engine.ts';
import { hold } from '../engine/violation.ts';
import { type DiskFaults, drawFaults, type Faults, noFaults } from '../faults.ts';
import { Nemesis } from '../nemesis.ts';
import { Network } from '../network.ts';
import { PointCounts } from '../points.ts';
import { RaftChecker } from './checker.ts';
import { drawKnobs, type RaftKnobs } from './knobs.ts';
import { RaftMember, type RaftWorld, TICK_US } from './member.ts';

export type RaftRunOptions = {
  /** Events of the phase with faults. */
  readonly events: number;
};

export const defaultRaftRun: RaftRunOptions = { events: 10_000 };

/** The phase with faults ends at the latest then. */
const LONGEST_US = 600 * SECOND;
/** A healed quorum has so many election timeouts to do everything. */
const RECOVERY_ELECTIONS = 50;
/** Terms that may pass until it has a leader. */
const MOST_TERMS = 3;

export class RaftSimulation implements RaftWorld, SimulatedCluster {
  readonly engine: Engine;
  readonly knobs: RaftKnobs;
  readonly checker: RaftChecker;
  readonly network: Network<never>;
  readonly points = new PointCounts();
  readonly members: readonly number[];
  diskFaults: DiskFaults;
  driftPpm: number;
  readonly #faults: Faults;
  readonly #options: RaftRunOptions;
  readonly #network: Network<Message>;
  readonly #nemesis: Nemesis;
  readonly #members: RaftMember[] = [];
  readonly #data: readonly Uint8Array[];
  readonly #askers = new Map<number, RaftMember>();
  #proposals = 0;
  #reads = 0;

  constructor(engine: Engine, options: RaftRunOptions = defaultRaftRun) {
    this.engine = engine;
    this.#options = options;
    this.knobs = drawKnobs(engine.decisions);
    this.#faults = drawFaults(engine);
    this.diskFaults = this.#faults.disk;
    this.driftPpm = this.#faults.driftPpm;
    this.#network = new Network<Message>(engine, (to, message) =>
      this.#members[to - 1]?.receive(message),
    );
    this.#network.faults = this.#faults.network;
    this.network = this.#network as Network<never>;
    this.members = Array.from({ length: this.knobs.members }, (_, at) => at + 1);
    this.#data = Array.from({ length: 256 }, (_, at) => Buffer.from([at, at ^ 0x5a]));
    const configuration = { ...emptyConfiguration, voters: this.members.map(BigInt) };
    for (const number of this.members)
      this.#members.push(new RaftMember(this, number, configuration));
    this.checker = new RaftChecker(this.#members);
    this.#nemesis = new Nemesis(engine, this, this.#faults);
  }

  run(): void {
    this.engine.tell(() => `knobs ${JSON.stringify(this.knobs)}`);
    for (const member of this.#members) member.start();
    this.#proposeLater();
    this.#readLater();
    while (this.engine.events < this.#options.events && this.engine.step(LONGEST_US)) {
      // Everything happens in `step`.
    }
    this.#recover();
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

  readsConfirmed(_member: RaftMember, reads: readonly { readonly id: number }[]): void {
    for (const { id } of reads) this.#askers.delete(id);
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
    const member = this.#member(number);
    member.slowWriteUs = writeUs;
    member.slowUntil = this.engine.now + durationUs;
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

  changeMembership(): void {
    // The voters of this layer are fixed.
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
      if (member !== undefined) this.#propose(member, 1 + this.#client('proposal-count').below(4));
      this.#proposeLater();
    });
  }

  /** Whoever believes to lead gets proposals, half of the time instead of the one that was picked. */
  #propose(picked: RaftMember, count: number): void {
    const leader = this.#members[this.leader - 1];
    const member = leader !== undefined && this.#client('to-leader').below(4) < 3 ? leader : picked;
    member.input((raft) => {
      const proposals = Array.from({ length: count }, () => {
        this.#proposals += 1;
        const data = this.#data[this.#proposals % this.#data.length] ?? Buffer.alloc(0);
        return { kind: 'command' as const, data };
      });
      raft.propose(proposals);
    });
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

  /** Only a quorum is healed; the rest stays down. It must elect, commit and answer. */
  #recover(): void {
    const { engine } = this;
    this.#nemesis.stop();
    this.#network.heal();
    this.#network.faults = noFaults.network;
    this.diskFaults = noFaults.disk;
    const quorum = this.#chooseQuorum();
    engine.tell(() => `faults end; members ${quorum.map(({ number }) => number).join(' ')} go on`);
    for (const member of this.#members) {
      member.slowUntil = 0;
      member.resume();
      if (quorum.includes(member)) {
        if (!member.isUp) this.start(member.number);
      } else this.crash(member.number);
    }
    const electionUs = this.knobs.electionTicks * TICK_US;
    const until = engine.now + RECOVERY_ELECTIONS * electionUs;
    const target = this.checker.committedIndex + 1;
    const termBefore = Math.max(...quorum.map(({ raft }) => raft?.term ?? 0));
    const isDone = () =>
      this.checker.committedIndex >= target &&
      quorum.every((member) => member.appliedIndex >= this.checker.committedIndex);
    while (!isDone()) {
      hold(engine.step(until), 21, () => this.#describe(quorum));
    }
    const termNow = Math.max(...quorum.map(({ raft }) => raft?.term ?? 0));
    // Without pre-vote and check-quorum, which ship, members may depose each other for a while.
    const isSettledSoon = this.knobs.preVote && this.knobs.checkQuorum;
    hold(
      !isSettledSoon || termNow - termBefore <= MOST_TERMS,
      21,
      () => `it took ${termNow - termBefore} terms to elect a leader`,
    );
  }

  #chooseQuorum(): readonly RaftMember[] {
    const others = [...this.#members];
    const quorum: RaftMember[] = [];
    while (!isMajority(quorum.length, this.#members.length)) {
      const [chosen] = others.splice(this.#client('quorum').below(others.length), 1);
      if (chosen !== undefined) quorum.push(chosen);
    }
    return quorum.sort((a, b) => a.number - b.number);
  }

  #describe(quorum: readonly RaftMember[]): string {
    const states = quorum.map(({ number, raft, appliedIndex }) =>
      raft === undefined
        ? `${number} down`
        : `${number} ${raft.role} term ${raft.term} applied ${appliedIndex} commit ${raft.commitIndex} last ${raft.lastIndex}`,
    );
    return `nothing new is committed: ${states.join(', ')}`;
  }

  #member(number: number): RaftMember {
    const member = this.#members[number - 1];
    if (member === undefined) throw new RangeError(`there is no member ${number}`);
    return member;
  }

  #client(name: string) {
    return this.engine.decisions.site('client', name);
  }
}

const isMajority = (count: number, all: number): boolean => 2 * count > all;
