/**
 * Links between members: they delay, lose, double, reorder and replay, clog for a while and break in
 * either direction. Members are numbered from 1.
 */
import type { Site } from './engine/decisions.ts';
import { type Engine, MS, SECOND } from './engine/engine.ts';

export type NetworkFaults = {
  readonly meanDelayUs: number;
  readonly lossRate: number;
  readonly duplicateRate: number;
  /** Of messages that are delivered once more, much later. */
  readonly replayRate: number;
  /** Of messages with which a link stops to move for up to five seconds. */
  readonly clogRate: number;
  /** Messages of one link keep their order, as on one connection. */
  readonly inOrder: boolean;
};

export const calmNetwork: NetworkFaults = {
  meanDelayUs: MS,
  lossRate: 0,
  duplicateRate: 0,
  replayRate: 0,
  clogRate: 0,
  inOrder: true,
};

const MOST_CLOG_US = 5 * SECOND;
const REPLAY_MEAN_US = 2 * SECOND;
const LEAST_DELAY_US = 50;

type Sites = {
  readonly loss: Site;
  readonly duplicate: Site;
  readonly replay: Site;
  readonly replayDelay: Site;
  readonly clog: Site;
  readonly delay: Site;
};

/** One direction between two members. */
export class Link {
  readonly sites: Sites;
  /** Partitions that cut it now. */
  cuts = 0;
  clogged = 0;
  lastArrival = 0;
  readonly #engine: Engine;
  readonly #faults: () => NetworkFaults;

  constructor(engine: Engine, name: string, faults: () => NetworkFaults) {
    this.#engine = engine;
    this.#faults = faults;
    const site = (kind: string) => engine.decisions.site('network', `${kind} ${name}`);
    this.sites = {
      loss: site('lose'),
      duplicate: site('double'),
      replay: site('replay'),
      replayDelay: site('replay-after'),
      clog: site('clog'),
      delay: site('delay'),
    };
  }

  /** As on one connection: in order and once, or `lost` when the link is cut. */
  carryReliably(arrive: () => void, lost: () => void): void {
    if (this.cuts > 0) {
      lost();
      return;
    }
    const { now } = this.#engine;
    const arrival = Math.max(this.arrival(now), this.lastArrival);
    this.lastArrival = arrival;
    this.#engine.after(arrival - now, () => {
      if (this.cuts > 0) lost();
      else arrive();
    });
  }

  /** When something that is sent now arrives. */
  arrival(now: number): number {
    const { clogRate, meanDelayUs } = this.#faults();
    if (this.sites.clog.chance(clogRate)) {
      this.clogged = Math.max(this.clogged, now + this.sites.delay.below(MOST_CLOG_US));
    }
    return Math.max(now + LEAST_DELAY_US + this.sites.delay.exponential(meanDelayUs), this.clogged);
  }
}

export type Direction = readonly [from: number, to: number];

export class Network<Message> {
  faults: NetworkFaults = calmNetwork;
  /** Messages handed to the network so far. */
  sent = 0;
  readonly #engine: Engine;
  readonly #deliver: (to: number, message: Message) => void;
  readonly #links = new Map<number, Link>();
  #epoch = 0;

  constructor(engine: Engine, deliver: (to: number, message: Message) => void) {
    this.#engine = engine;
    this.#deliver = deliver;
  }

  send(from: number, to: number, message: Message): void {
    this.sent += 1;
    const link = this.link(from, to);
    const { faults } = this;
    if (link.cuts > 0) return;
    if (link.sites.loss.chance(faults.lossRate)) return;
    this.#carry(link, to, message, faults);
    if (link.sites.duplicate.chance(faults.duplicateRate)) this.#carry(link, to, message, faults);
    if (link.sites.replay.chance(faults.replayRate)) {
      const later = link.sites.replayDelay.exponential(REPLAY_MEAN_US);
      this.#engine.after(later, () => this.#arrive(link, to, message));
    }
  }

  #carry(link: Link, to: number, message: Message, faults: NetworkFaults): void {
    const { now } = this.#engine;
    let arrival = link.arrival(now);
    if (faults.inOrder) {
      arrival = Math.max(arrival, link.lastArrival);
      link.lastArrival = arrival;
    }
    this.#engine.after(arrival - now, () => this.#arrive(link, to, message));
  }

  /** What is under way when the link breaks is lost. */
  #arrive(link: Link, to: number, message: Message): void {
    if (link.cuts === 0) this.#deliver(to, message);
  }

  isCut(from: number, to: number): boolean {
    return this.link(from, to).cuts > 0;
  }

  /** Cuts these directions for a while; cuts may overlap. */
  cut(directions: readonly Direction[], durationUs: number): void {
    const epoch = this.#epoch;
    const links = directions.map(([from, to]) => this.link(from, to));
    for (const link of links) link.cuts += 1;
    this.#engine.after(durationUs, () => {
      if (epoch !== this.#epoch) return;
      for (const link of links) link.cuts -= 1;
    });
  }

  /** Ends every partition. */
  heal(): void {
    this.#epoch += 1;
    for (const link of this.#links.values()) {
      link.cuts = 0;
      link.clogged = 0;
    }
  }

  link(from: number, to: number): Link {
    const key = from * 64 + to;
    const known = this.#links.get(key);
    if (known !== undefined) return known;
    const link = new Link(this.#engine, `${from}>${to}`, () => this.faults);
    this.#links.set(key, link);
    return link;
  }
}

/** Both directions between one member and all others. */
export function isolation(member: number, members: readonly number[]): Direction[] {
  return between([member], members);
}

/** Both directions between every member of one group and every other of the second. */
export function between(group: readonly number[], others: readonly number[]): Direction[] {
  return group.flatMap((one) =>
    others.flatMap((other): Direction[] =>
      one === other || group.includes(other)
        ? []
        : [
            [one, other],
            [other, one],
          ],
    ),
  );
}
