/**
 * Whole clusters with clients: the shipped members (loop, replica, log, services) and the shipped SDK
 * and recipes, on simulated machines, disks and links.
 */
import type { PointName } from '../../../server/points.ts';
import type { SimulatedCluster } from '../cluster.ts';
import { type Engine, MS, SECOND } from '../engine/engine.ts';
import { RandomStream } from '../engine/random.ts';
import { hold, Violation } from '../engine/violation.ts';
import { type DiskFaults, drawFaults, type Faults, noFaults, softened } from '../faults.ts';
import { pointOfMessage } from '../message-points.ts';
import { Nemesis } from '../nemesis.ts';
import { Network } from '../network.ts';
import { fullPoints, PointCounts } from '../points.ts';
import { agree, describeMembers } from './agreement.ts';
import { checkBounds } from './bounds.ts';
import { CommitLog } from './commit-log.ts';
import { Crowd } from './crowd.ts';
import { closeRealWorld, drained } from './drain.ts';
import { drawFullKnobs, type FullKnobs } from './knobs.ts';
import { FullMember, peerUrlOf } from './member.ts';
import { observe } from './observe.ts';
import type { PeerEndpoint, PeerNetwork } from './peer-transport.ts';
import type { Clocks } from './process.ts';
import { DeadProcessError } from './state-guard.ts';
import { chooseWork, makeWorkloads } from './workload/choice.ts';
import type { Machines } from './workload/members.ts';
import type { Workload } from './workload/workload.ts';
import type { FullWorld } from './world.ts';

export type FullRunOptions = {
  /** Events of the phase with faults. */
  readonly events: number;
  /** What clients do, when it is not the seed that chooses. */
  readonly workload?: string | undefined;
};

export const defaultFullRun: FullRunOptions = { events: 6_000 };

/** Machines beside those of the first members. */
const NEWCOMERS = 3;
const LONGEST_US = 300 * SECOND;
/** A healed quorum, and its clients, have so long. */
const RECOVERY_US = 120 * SECOND;

export class FullSimulation implements FullWorld, SimulatedCluster {
  readonly engine: Engine;
  readonly knobs: FullKnobs;
  readonly network: Network<never>;
  readonly points = new PointCounts();
  readonly clocks: Clocks;
  readonly peers: PeerNetwork;
  readonly log = new CommitLog();
  diskFaults: DiskFaults;
  readonly #faults: Faults;
  readonly #options: FullRunOptions;
  readonly #network: Network<() => void>;
  readonly #nemesis: Nemesis;
  readonly #members: FullMember[] = [];
  readonly #crowd: Crowd;
  readonly #workloads: readonly Workload[];
  readonly #machines: Machines;
  readonly #removed = new Set<number>();
  #violation: Violation | undefined;
  /** Nobody promises that a cluster gets over that. */
  #hasLostOneThatLeaves = false;

  constructor(engine: Engine, options: FullRunOptions = defaultFullRun) {
    this.engine = engine;
    this.#options = options;
    this.knobs = drawFullKnobs(engine.decisions);
    const work = chooseWork(engine.decisions, options.workload);
    this.#faults = softened(drawFaults(engine, fullPoints), work.calm);
    this.diskFaults = this.#faults.disk;
    this.clocks = { driftPpm: this.#faults.driftPpm, spreadMs: this.knobs.clockSpreadMs };
    this.#network = new Network<() => void>(engine, (_, deliver) => deliver());
    this.#network.faults = this.#faults.network;
    this.network = this.#network as unknown as Network<never>;
    this.peers = {
      network: this.#network,
      electionTimeoutMs: this.knobs.electionTimeoutMs,
      usesCodec: this.knobs.usesCodec,
      find: (id) => this.#endpoint(id),
      onMessage: (from, message) => {
        engine.trace.add(from * 64 + Number(message.to & 63n));
        engine.trace.add(message.kind.length * 65_536 + message.term);
        const point = pointOfMessage(message);
        if (point !== undefined) this.reached(this.#member(from), point);
      },
      onSnapshot: (from) => this.reached(this.#member(from), 'snapshot-opened'),
    };
    const initialCluster = Array.from({ length: this.knobs.members }, (_, at) => ({
      name: `member-${at + 1}`,
      peerUrls: [peerUrlOf(at + 1)],
    }));
    for (const [at, { name }] of initialCluster.entries()) {
      const role = { name, initialCluster, initialClusterState: 'new' } as const;
      this.#members.push(new FullMember(this, at + 1, role));
    }
    const machines = this.#newMachines();
    this.#machines = machines;
    this.#workloads = makeWorkloads(work.names, {
      now: () => engine.now,
      machines: this.knobs.changesMembers ? machines : undefined,
    });
    this.#crowd = new Crowd({
      engine,
      knobs: this.knobs,
      clocks: this.clocks,
      network: this.#network,
      workloads: this.#workloads,
      machines: Array.from({ length: this.knobs.members + NEWCOMERS }, (_, at) => at + 1),
      memberOf: (number) => this.#members[number - 1],
      rejected: (reason) => this.#rejected(reason),
    });
    this.#nemesis = new Nemesis(engine, this, this.#faults);
  }

  async run(): Promise<void> {
    const { engine } = this;
    engine.tell(() => `knobs ${JSON.stringify(this.knobs)}`);
    const random = new RandomStream(engine.decisions.seed, 'dice of the shipped code');
    const openRealWorld = closeRealWorld(
      random,
      (run) => engine.after(0, run),
      engine.narrate !== undefined,
    );
    const onRejection = (reason: unknown) => this.#rejected(reason);
    process.on('unhandledRejection', onRejection);
    try {
      for (const member of this.#members) member.start();
      this.#crowd.start();
      this.#checkBoundsLater();
      await this.#advance(
        () => engine.events >= this.#options.events || engine.now >= LONGEST_US,
        LONGEST_US,
      );
      await this.#recover();
      for (const workload of this.#workloads) workload.check(this.log, engine.now);
    } finally {
      await drained();
      process.off('unhandledRejection', onRejection);
      openRealWorld();
      for (const { process: each } of this.#members) each.kill();
      this.#crowd.kill();
    }
  }

  reached(member: FullMember, point: PointName): void {
    this.points.add(point);
    this.#nemesis.reached(member.number, point);
  }

  started(member: FullMember): void {
    observe(member, {
      log: this.log,
      reached: (point) => this.reached(member, point),
      published: (revision) => this.engine.trace.add(member.number * 131 + revision),
      watching: (check) => this.#watching(check),
    });
    this.engine.tell(() => `member ${member.number} serves`);
  }

  failed(member: FullMember): void {
    this.crash(member.number);
    this.#nemesis.died(member.number);
  }

  expelled(member: FullMember): void {
    this.#removed.add(member.number);
    member.crash();
  }

  violated(violation: Violation): void {
    this.#violation ??= violation;
  }

  memberAt(url: string): FullMember | undefined {
    return this.#members.find(({ number }) => peerUrlOf(number) === url);
  }

  get members(): readonly number[] {
    return this.#members.map(({ number }) => number);
  }

  get leader(): number {
    return this.#members.find(({ running }) => running?.member.isLeader === true)?.number ?? 0;
  }

  isUp(number: number): boolean {
    return this.#member(number).isUp;
  }

  isPaused(number: number): boolean {
    return this.#member(number).process.isPaused;
  }

  crash(number: number): void {
    this.#end(number, (member) => member.crash());
  }

  losePower(number: number): void {
    this.#end(number, (member) => member.losePower());
  }

  start(number: number): void {
    if (this.#removed.has(number)) return;
    this.engine.trace.add(number + 8_000);
    this.#member(number).start();
  }

  pause(number: number): void {
    this.#member(number).process.pause();
  }

  resume(number: number): void {
    this.#member(number).process.resume();
  }

  slowDisk(number: number, writeUs: number, durationUs: number): void {
    this.#member(number).stores.slowDown(writeUs, durationUs);
  }

  breakConnection(number: number, to: number): void {
    if (number !== to) this.#resetAt(this.#member(number), this.#member(to));
  }

  campaign(number: number): void {
    const running = this.#member(number).running;
    running?.endpoint.life.run(() => running.campaign());
  }

  transfer(number: number, to: number): void {
    const running = this.#members[number - 1]?.running;
    const target = this.#member(to).running?.endpoint.id;
    if (running === undefined || target === undefined || number === to) return;
    this.engine.tell(() => `member ${number} hands over to ${to}`);
    running.endpoint.life.run(() => {
      running.node.transferLeadership(target).catch(() => undefined);
    });
  }

  changeMembership(): void {
    // An operator does that, see the workload of members.
  }

  #newMachines(): Machines {
    const isFull = () => this.#members.length >= this.knobs.members + NEWCOMERS;
    return {
      unused: () => (isFull() ? undefined : peerUrlOf(this.#members.length + 1)),
      start: (peerUrl, members) => {
        const known = this.memberAt(peerUrl);
        if (known !== undefined) {
          if (!known.isUp) this.start(known.number);
          return;
        }
        const number = this.#members.length + 1;
        if (peerUrl !== peerUrlOf(number)) return;
        const name = `member-${number}`;
        const others = members.filter(({ peerUrls }) => !peerUrls.includes(peerUrl));
        const initialCluster = [...others, { name, peerUrls: [peerUrl] }];
        const role = { name, initialCluster, initialClusterState: 'existing' } as const;
        this.#members.push(new FullMember(this, number, role));
        this.engine.tell(() => `member ${number} joins`);
        this.start(number);
      },
    };
  }

  #endpoint(id: bigint): PeerEndpoint | undefined {
    return this.#members.find(({ running }) => running?.endpoint.id === id)?.running?.endpoint;
  }

  #end(number: number, how: (member: FullMember) => void): void {
    const member = this.#member(number);
    if (!member.isUp) return;
    // The others may need its vote to learn that they need it no more.
    if (member.isLeaving) this.#hasLostOneThatLeaves = true;
    how(member);
    this.engine.trace.add(number + 7_000);
    if (!this.#faults.resets) return;
    for (const each of this.#members) if (each !== member) this.#resetAt(each, member);
  }

  #resetAt(member: FullMember, peer: FullMember): void {
    const id = peer.stores.identity?.memberId;
    const delayUs = this.engine.decisions.site('network', 'reset').below(2 * MS);
    if (id === undefined) return;
    this.engine.after(delayUs, () => member.running?.endpoint.transport.reset(id));
  }

  /** Runs events, and all that they lead to, until `isDone`. */
  async #advance(isDone: () => boolean, untilUs: number): Promise<boolean> {
    while (!isDone()) {
      if (!this.engine.step(untilUs)) return isDone();
      await drained();
      if (this.#violation !== undefined) throw this.#violation;
    }
    return true;
  }

  #checkBoundsLater(): void {
    for (const member of this.#members) checkBounds(member, this.#crowd.size);
    this.engine.after(SECOND, () => this.#checkBoundsLater());
  }

  /** What was checked inside shipped code must not be taken for one of its own errors. */
  #watching(check: () => void): void {
    try {
      check();
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.violated(error);
    }
  }

  #rejected(reason: unknown): void {
    if (reason instanceof DeadProcessError) return;
    if (reason instanceof Violation) this.violated(reason);
    else {
      const text = reason instanceof Error ? (reason.stack ?? reason.message) : String(reason);
      this.violated(new Violation(22, `nobody handles ${text}`, { cause: reason }));
    }
  }

  /** A random quorum goes on, the rest is down; clients come to an end, and all must agree. */
  async #recover(): Promise<void> {
    const { engine } = this;
    this.#nemesis.stop();
    this.#network.heal();
    this.#network.faults = noFaults.network;
    this.diskFaults = noFaults.disk;
    const healed = this.#chooseQuorum();
    engine.tell(() => `faults end; members ${healed.map(({ number }) => number).join(' ')} go on`);
    for (const member of this.#members) {
      member.stores.slowDown(0, 0);
      member.process.resume();
      if (!healed.includes(member)) this.crash(member.number);
      else if (!member.isUp) this.start(member.number);
    }
    this.#crowd.end();
    this.#startAdded();
    const isOver = await this.#advance(
      () => this.#crowd.busy.length === 0,
      engine.now + RECOVERY_US,
    );
    if (!isOver && this.#hasLostOneThatLeaves) return;
    hold(
      isOver,
      21,
      () => `${this.#crowd.busy.join(', ')} did not come to an end: ${describeMembers(healed)}`,
    );
    // Those that join meanwhile have to catch up too.
    const members = () => (this.knobs.changesMembers ? this.#members : healed);
    const isEven = await agree(
      {
        log: this.log,
        members,
        leader: () => this.#members[this.leader - 1],
        advance: (isDone, forUs) => this.#advance(isDone, engine.now + forUs),
        rejected: (reason) => this.#rejected(reason),
      },
      RECOVERY_US,
    );
    if (!isEven && this.#hasLostOneThatLeaves) return;
    hold(isEven, 21, () => `the members do not become equal: ${describeMembers(members())}`);
  }

  /** Members that were added and whose operator did not get to starting them. */
  #startAdded(): void {
    for (const { running } of this.#members) {
      const members = running?.member.members ?? [];
      for (const { name, peerUrls } of members) {
        const [url] = peerUrls;
        if (name === '' && url !== undefined) this.#machines.start(url, members);
      }
    }
    this.engine.after(SECOND, () => this.#startAdded());
  }

  #chooseQuorum(): readonly FullMember[] {
    const others = this.#members.filter(({ number }) => !this.#removed.has(number));
    // Who votes is being changed: any of them may be needed to find that out.
    if (this.knobs.changesMembers) return others;
    const count = Math.floor(others.length / 2) + 1;
    const site = this.engine.decisions.site('client', 'quorum');
    const chosen: FullMember[] = [];
    while (chosen.length < count) {
      const [member] = others.splice(site.below(others.length), 1);
      if (member !== undefined) chosen.push(member);
    }
    return chosen.sort((a, b) => a.number - b.number);
  }

  #member(number: number): FullMember {
    const member = this.#members[number - 1];
    if (member === undefined) throw new RangeError(`there is no member ${number}`);
    return member;
  }
}
