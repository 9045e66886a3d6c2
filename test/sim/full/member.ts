/** One member: the shipped parts, put together by the shipped assembly, on a simulated machine. */

import { ArrivalError, arrive } from '../../../server/arrival.ts';
import { assemble, type Parts } from '../../../server/assembly.ts';
import { InvariantError } from '../../../server/assert.ts';
import type { InitialMember } from '../../../server/identity.ts';
import type { PointName } from '../../../server/points.ts';
import type { Random } from '../../../server/ports.ts';
import { CorruptionError } from '../../../server/storage/errors.ts';
import type { StoredIdentity } from '../../../server/storage/identity.ts';
import type { MembersReply } from '../../../server/transport/transport.ts';
import { Violation } from '../engine/violation.ts';
import { type PeerEndpoint, SimPeerTransport } from './peer-transport.ts';
import { type Life, SimProcess } from './process.ts';
import { Services } from './services.ts';
import { silentLogger } from './silent-logger.ts';
import { MemberStores } from './stores.ts';
import type { FullWorld } from './world.ts';

export type MemberRole = {
  readonly name: string;
  readonly initialCluster: readonly InitialMember[];
  readonly initialClusterState: 'new' | 'existing';
};

/** What a started member offers to others. */
type Running = Parts & {
  readonly services: Services;
  readonly endpoint: PeerEndpoint;
};

export const peerUrlOf = (number: number): string => `http://member-${number}:2380`;
export const clientUrlOf = (number: number): string => `member-${number}:2379`;

export class FullMember {
  readonly number: number;
  readonly process: SimProcess;
  readonly stores: MemberStores;
  /** Undefined until it has started. */
  running: Running | undefined;
  readonly #world: FullWorld;
  readonly #role: MemberRole;
  readonly #random: Random;
  #draws = 0;

  constructor(world: FullWorld, number: number, role: MemberRole) {
    const { engine, knobs } = world;
    this.#world = world;
    this.number = number;
    this.#role = role;
    this.process = new SimProcess(engine, number, `member ${number}`, world.clocks);
    const election = engine.decisions.site('protocol', `election ${number}`);
    this.#random = {
      below: (bound) => election.below(bound),
      id: () => (BigInt(number) << 40n) | BigInt(++this.#draws),
    };
    this.stores = new MemberStores({
      engine,
      number,
      random: this.#random,
      segmentBytes: knobs.segmentBytes,
      meanFlushUs: knobs.meanFlushUs,
      faults: () => world.diskFaults,
      reached: (point) => this.reached(point),
    });
  }

  get isUp(): boolean {
    return this.process.isUp;
  }

  reached(point: PointName): void {
    this.#world.reached(this, point);
  }

  start(): void {
    const life = this.process.start();
    life.atEnd(() => {
      this.running = undefined;
    });
    this.#boot(life).catch((error: unknown) => this.#failed(life, error));
  }

  crash(): void {
    if (!this.isUp) return;
    this.process.kill();
    this.stores.crash();
  }

  losePower(): void {
    if (!this.isUp) return;
    this.process.kill();
    this.stores.losePower();
  }

  async #boot(life: Life): Promise<void> {
    const { knobs } = this.#world;
    const { name, initialCluster, initialClusterState } = this.#role;
    const arrival = await arrive({
      existing: this.stores.identity,
      name,
      clusterToken: 'simulation',
      initialCluster,
      initialClusterState,
      ask: (url, { timeoutMs }) => this.#askMembers(url, life, timeoutMs),
      clock: life,
      timers: life,
      patienceMs: knobs.requestTimeoutMs,
    });
    const stores = await this.stores.open(arrival.identity, life);
    if (!life.isAlive) return;
    const parts = await assemble({
      options: {
        name,
        heartbeatIntervalMs: knobs.heartbeatMs,
        electionTimeoutMs: knobs.electionTimeoutMs,
        snapshotCount: knobs.snapshotCount,
        catchUpEntries: knobs.catchUpEntries,
        autoCompaction: knobs.autoCompaction,
      },
      arrival,
      stores,
      logger: silentLogger,
      requestTimeoutMs: knobs.requestTimeoutMs,
      onFatal: (error) => this.#failed(life, error),
      onExpelled: () => this.#expelled(life),
      environment: {
        clock: life,
        timers: life,
        random: this.#random,
        reached: (point) => this.reached(point),
      },
    });
    if (!life.isAlive) return;
    this.#serve(life, parts, stores.identity);
  }

  #serve(life: Life, parts: Parts, identity: StoredIdentity): void {
    const { node, peering, introduction, member } = parts;
    const { memberId: id, clusterId, incarnation } = identity;
    const self = { id, clusterId, number: this.number, incarnation, book: parts.peerBook };
    const transport = new SimPeerTransport(this.#world.peers, self, life, peering);
    const services = new Services({
      member,
      life,
      random: this.#random,
      progressIntervalMs: this.#world.knobs.progressIntervalMs,
      reached: (point) => this.reached(point),
    });
    this.running = {
      ...parts,
      services,
      endpoint: { ...self, life, handlers: peering, transport },
    };
    node.start();
    peering.begin(transport);
    parts.campaign();
    const clientUrls = [`http://${clientUrlOf(this.number)}`];
    introduction
      .begin({ incarnation, clientUrls, peerUrls: [peerUrlOf(this.number)] })
      .catch((error: unknown) => this.#failed(life, error));
    this.#world.started(this);
  }

  /** Somebody else tells who the members are. */
  #askMembers(url: string, life: Life, timeoutMs: number): Promise<MembersReply> {
    const { peers } = this.#world;
    return new Promise((resolve, reject) => {
      life.after(timeoutMs, () => reject(new Error(`${url} does not answer`)));
      const asked = this.#world.memberAt(url);
      if (asked === undefined || asked === this) return;
      const { network } = peers;
      network.link(this.number, asked.number).carryReliably(
        () => {
          const { running } = asked;
          if (running === undefined) return;
          running.endpoint.life.run(() => {
            const reply = running.peering.members();
            network.link(asked.number, this.number).carryReliably(
              () => life.run(() => resolve(reply)),
              () => undefined,
            );
          });
        },
        () => undefined,
      );
    });
  }

  /** A broken disk ends the member, and somebody starts it again. A broken invariant ends the run. */
  #failed(life: Life, error: unknown): void {
    if (!life.isAlive) return;
    const reason = error instanceof Error ? error.message : String(error);
    if (isInjected(error)) {
      this.#world.engine.tell(() => `member ${this.number} ends: ${reason}`);
      this.#world.failed(this);
      return;
    }
    if (error instanceof ArrivalError && error.code !== 'wiped') {
      this.#world.engine.tell(() => `member ${this.number} does not start: ${reason}`);
      this.crash();
      return;
    }
    const invariant = error instanceof CorruptionError ? 6 : 22;
    this.#world.violated(
      error instanceof Violation
        ? error
        : new Violation(invariant, `member ${this.number}: ${reason}`, { cause: error }),
    );
  }

  /** Whether it knows that it is no member any more. */
  get isLeaving(): boolean {
    const id = this.stores.identity?.memberId;
    const members = this.running?.member.members ?? [];
    return members.length > 0 && members.every((member) => member.id !== id);
  }

  /** It was removed: it stops in order, and its machine is not started again. */
  #expelled(life: Life): void {
    if (!life.isAlive) return;
    this.#world.engine.tell(() => `member ${this.number} is expelled`);
    this.#close(life).catch((error: unknown) => this.#failed(life, error));
  }

  async #close(life: Life): Promise<void> {
    const { running } = this;
    if (running !== undefined) {
      running.member.beginStopping();
      await running.member.handOver();
      await running.peering.close();
      await running.node.stop();
    }
    if (life.isAlive) this.#world.expelled(this);
  }
}

/** Whether the error goes back to one that the simulated disk raised. */
function isInjected(error: unknown): boolean {
  if (!(error instanceof Error) || error instanceof InvariantError) return false;
  return error.message.startsWith('EIO') || isInjected(error.cause);
}
