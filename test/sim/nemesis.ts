/** Causes the faults of a run, at random times and at named points. */
import type { SimulatedCluster } from './cluster.ts';
import type { Site } from './engine/decisions.ts';
import { type Engine, MS, SECOND } from './engine/engine.ts';
import type { Faults, NemesisKind } from './faults.ts';
import { between, type Direction, isolation } from './network.ts';

const KINDS: readonly NemesisKind[] = [
  'partition',
  'crash',
  'power-loss',
  'pause',
  'slow-disk',
  'campaign',
  'transfer',
  'broken-connection',
  'membership',
];

const LEAST_PAUSE_US = 50 * MS;
const LONGEST_PAUSE_US = 30 * SECOND;

export class Nemesis {
  readonly #engine: Engine;
  readonly #cluster: SimulatedCluster;
  readonly #faults: Faults;
  readonly #sites = new Map<string, Site>();
  #isStopped = false;

  constructor(engine: Engine, cluster: SimulatedCluster, faults: Faults) {
    this.#engine = engine;
    this.#cluster = cluster;
    this.#faults = faults;
    for (const kind of KINDS) {
      const meanUs = faults.meanUs[kind];
      if (Number.isFinite(meanUs)) this.#repeat(kind, meanUs);
    }
  }

  stop(): void {
    this.#isStopped = true;
  }

  /** Kills the member, and starts it again after a while. */
  kill(member: number, power: boolean): void {
    const cluster = this.#cluster;
    if (!cluster.isUp(member)) return;
    this.#engine.tell(() => `${power ? 'power loss at' : 'crash of'} member ${member}`);
    if (power) cluster.losePower(member);
    else cluster.crash(member);
    this.died(member);
  }

  /** It died of its own, of a broken disk say: somebody starts it again. */
  died(member: number): void {
    this.#engine.after(this.#site('down').exponential(this.#faults.downUs), () => {
      if (this.#isStopped || this.#cluster.isUp(member)) return;
      this.#engine.tell(() => `start of member ${member}`);
      this.#cluster.start(member);
    });
  }

  /** A state-triggered fault: this member has just come to this point. */
  reached(member: number, point: string): void {
    const probability = this.#faults.points.get(point);
    if (probability === undefined || this.#isStopped) return;
    if (!this.#site(`point ${point}`).chance(probability)) return;
    const action = this.#site(`at ${point}`).pick(6);
    this.#engine.tell(() => `fault at point ${point} of member ${member}`);
    if (action <= 2) this.kill(member, action === 2);
    else if (action === 3) this.#pause(member);
    else this.#isolate(member, action);
  }

  #repeat(kind: NemesisKind, meanUs: number): void {
    this.#engine.after(1 + this.#site(`wait for ${kind}`).exponential(meanUs), () => {
      if (this.#isStopped) return;
      this.#act(kind);
      this.#repeat(kind, meanUs);
    });
  }

  #act(kind: NemesisKind): void {
    const cluster = this.#cluster;
    const chosen = this.#site(kind).pick(cluster.members.length);
    const member = cluster.members[chosen - 1];
    if (member === undefined) return;
    switch (kind) {
      case 'partition':
        this.#partition(member);
        return;
      case 'crash':
        this.kill(this.#preferLeader(member), false);
        return;
      case 'power-loss':
        for (const each of cluster.members) this.kill(each, true);
        return;
      case 'pause':
        this.#pause(this.#preferLeader(member));
        return;
      case 'slow-disk': {
        const writeUs = this.#site('slow-write').below(2 * SECOND);
        const durationUs = this.#site('slow-for').exponential(2 * SECOND);
        this.#engine.tell(() => `writes of member ${member} take ${writeUs / MS} ms`);
        cluster.slowDisk(member, writeUs, durationUs);
        return;
      }
      case 'campaign':
        this.#engine.tell(() => `member ${member} is made to campaign`);
        cluster.campaign(member);
        return;
      case 'transfer':
        cluster.transfer(cluster.leader, member);
        return;
      case 'broken-connection':
        cluster.breakConnection(this.#other('broken-to'), member);
        return;
      case 'membership':
        cluster.changeMembership((bound) => this.#site('membership-change').below(bound));
        return;
    }
  }

  /** Half of the time the leader: it is where most is at stake. */
  #preferLeader(member: number): number {
    const { leader } = this.#cluster;
    return leader !== 0 && this.#site('leader-instead').chance(0.5) ? leader : member;
  }

  #other(site: string): number {
    const { members } = this.#cluster;
    return members[this.#site(site).below(members.length)] ?? 1;
  }

  #pause(member: number): void {
    const cluster = this.#cluster;
    if (!cluster.isUp(member) || cluster.isPaused(member)) return;
    const forUs = LEAST_PAUSE_US + this.#site('pause-for').exponential(SECOND);
    this.#engine.tell(() => `pause of member ${member} for ${forUs / MS} ms`);
    cluster.pause(member);
    this.#engine.after(Math.min(forUs, LONGEST_PAUSE_US), () => cluster.resume(member));
  }

  /** `how`: both directions, only outgoing, or only incoming. */
  #isolate(member: number, how: number): void {
    const directions = isolation(member, this.#cluster.members).filter(
      ([from]) => how === 4 || (from === member) === (how === 5),
    );
    this.#cut(directions, `isolation of member ${member}`);
  }

  #partition(member: number): void {
    const { members } = this.#cluster;
    switch (this.#site('partition-kind').below(7)) {
      case 0:
      case 1:
        this.#isolate(this.#preferLeader(member), 4);
        return;
      case 2:
        this.#isolate(member, 5 + this.#site('partition-way').below(2));
        return;
      case 3: {
        const group = members.filter(() => this.#site('partition-side').below(2) === 1);
        this.#cut(between(group, members), `partition of ${group.join(' ')} from the rest`);
        return;
      }
      case 4: {
        const others = members.filter((each) => each !== member);
        const half = others.slice(0, Math.floor(others.length / 2));
        const rest = others.slice(half.length);
        this.#cut(between(half, rest), `member ${member} is the only bridge`);
        return;
      }
      case 5:
        this.#cut(ring(members), 'every member reaches its neighbours only');
        return;
      default: {
        const other = this.#other('partition-link');
        if (other !== member) this.#cut([[member, other]], `link ${member}>${other} is down`);
      }
    }
  }

  #cut(directions: readonly Direction[], what: string): void {
    const forUs = this.#site('partition-for').exponential(this.#faults.partitionUs);
    this.#engine.tell(() => `${what} for ${forUs / MS} ms`);
    this.#cluster.network.cut(directions, forUs);
  }

  #site(name: string): Site {
    const known = this.#sites.get(name);
    if (known !== undefined) return known;
    const site = this.#engine.decisions.site('nemesis', name);
    this.#sites.set(name, site);
    return site;
  }
}

/** What is not between neighbours, with the members in a circle. */
function ring(members: readonly number[]): Direction[] {
  const count = members.length;
  return members.flatMap((from, at) =>
    members.flatMap((to, other): Direction[] => {
      const distance = Math.abs(at - other);
      return distance > 1 && distance < count - 1 ? [[from, to]] : [];
    }),
  );
}
