/** The clients of a run: what they do, what is done to them, and that they come to an end. */
import { setMaxListeners } from 'node:events';
import { type Engine, MS, SECOND } from '../engine/engine.ts';
import { isolation, type Network } from '../network.ts';
import { FIRST_CLIENT, FullClient } from './client.ts';
import type { FullKnobs } from './knobs.ts';
import type { FullMember } from './member.ts';
import type { Clocks } from './process.ts';
import type { ClientContext, Workload } from './workload/workload.ts';

export type CrowdOptions = {
  readonly engine: Engine;
  readonly knobs: FullKnobs;
  readonly clocks: Clocks;
  readonly network: Network<() => void>;
  readonly workloads: readonly Workload[];
  /** Numbers of all machines that members may ever run on. */
  readonly machines: readonly number[];
  readonly memberOf: (number: number) => FullMember | undefined;
  /** What nobody else handles. */
  readonly rejected: (reason: unknown) => void;
};

export class Crowd {
  readonly #options: CrowdOptions;
  readonly #clients: readonly FullClient[];
  readonly #ending = new AbortController();
  /** Those that are not at their end. */
  readonly #busy = new Set<FullClient>();

  constructor(options: CrowdOptions) {
    this.#options = options;
    const { engine, knobs, clocks, network, machines, memberOf } = options;
    setMaxListeners(0, this.#ending.signal);
    this.#clients = Array.from(
      { length: knobs.clients },
      (_, at) =>
        new FullClient({
          engine,
          number: FIRST_CLIENT + at,
          clocks,
          network,
          members: machines,
          memberOf,
          requestTimeoutMs: knobs.requestTimeoutMs,
        }),
    );
  }

  get size(): number {
    return this.#clients.length;
  }

  /** Names of those that are not at their end. */
  get busy(): readonly string[] {
    return [...this.#busy].map(({ name }) => name);
  }

  start(): void {
    for (const client of this.#clients) this.#start(client);
    this.#disturbLater();
  }

  /** They finish what they are at, and leave. */
  end(): void {
    for (const { process } of this.#clients) process.resume();
    this.#ending.abort(new Error('the run ends'));
  }

  kill(): void {
    for (const { process } of this.#clients) process.kill();
  }

  #start(client: FullClient): void {
    const life = client.process.start();
    this.#busy.add(client);
    this.#run(client)
      .catch((error: unknown) => this.#options.rejected(error))
      .finally(() => {
        if (life.isAlive) this.#busy.delete(client);
      });
  }

  async #run(client: FullClient): Promise<void> {
    const { engine, knobs, workloads } = this.#options;
    const { life } = client.process;
    if (life === undefined) return;
    const conclave = await client.connect(life);
    const choose = engine.decisions.site('client', `choices of ${client.name}`);
    const context: ClientContext = {
      name: client.name,
      conclave,
      life,
      knobs,
      choose,
      now: () => engine.now,
      isEnding: () => this.#ending.signal.aborted,
      ending: this.#ending.signal,
      pause: (meanMs) =>
        new Promise((resume) => {
          life.after(choose.exponential(meanMs), resume);
        }),
    };
    await Promise.all(workloads.map((workload) => workload.run(context)));
    await conclave.close();
  }

  /** They stop for a while, die and come back, and lose sight of the members. */
  #disturbLater(): void {
    const { engine, knobs } = this.#options;
    if (knobs.meanDisturbanceUs === 0) return;
    const site = engine.decisions.site('nemesis', 'clients');
    engine.after(1 + site.exponential(knobs.meanDisturbanceUs), () => {
      if (this.#ending.signal.aborted) return;
      const client = this.#clients[site.pick(this.#clients.length) - 1];
      if (client !== undefined) this.#disturb(client, site.below(4), site.exponential(2 * SECOND));
      this.#disturbLater();
    });
  }

  #disturb(client: FullClient, how: number, forUs: number): void {
    const { engine, network, machines } = this.#options;
    const { process, name } = client;
    if (!process.isUp) return;
    if (how <= 1) {
      engine.tell(() => `pause of ${name} for ${forUs / MS} ms`);
      process.pause();
      engine.after(forUs, () => process.resume());
    } else if (how === 2) {
      engine.tell(() => `${name} is killed`);
      if (this.#busy.delete(client)) process.kill();
      engine.after(forUs, () => {
        if (!this.#ending.signal.aborted) this.#start(client);
      });
    } else {
      engine.tell(() => `${name} loses the others for ${forUs / MS} ms`);
      network.cut(isolation(process.number, machines), forUs);
    }
  }
}
