/** What the cases of a row share while they are measured on one system: its members and clients. */
import { processorSecondsOf } from '../support/process.ts';
import { ClientHandle } from './client-handle.ts';
import type { LoopMeasurement, Measurement } from './measure.ts';
import type { Cluster, StartOptions } from './servers/server.ts';
import type { BenchSystem } from './systems.ts';
import type { Task } from './task.ts';

export class Stage {
  readonly system: BenchSystem;
  readonly members: number;
  readonly #clients: ClientHandle[] = [];
  #cluster: Promise<Cluster> | undefined;
  #client: Promise<ClientHandle> | undefined;

  constructor(system: BenchSystem, members: number) {
    this.system = system;
    this.members = members;
  }

  /** The members, started by the first call, whose options count. */
  cluster(options: Omit<StartOptions, 'members'> = {}): Promise<Cluster> {
    this.#cluster ??= this.system.server.start({ ...options, members: this.members });
    return this.#cluster;
  }

  /** The client process that all cases share. */
  client(): Promise<ClientHandle> {
    this.#client ??= this.anotherClient();
    return this.#client;
  }

  async anotherClient(): Promise<ClientHandle> {
    const { endpoints } = await this.cluster();
    const client = await ClientHandle.start(this.system.name, endpoints);
    this.#clients.push(client);
    return client;
  }

  /** Runs a task that measures a loop, and adds what the members spent on it. */
  async loop<Argument>(
    task: Task<Argument, LoopMeasurement>,
    argument: Argument,
  ): Promise<Measurement> {
    const client = await this.client();
    const { pids } = await this.cluster();
    return await withServerTime(pids, () => client.call(task, argument));
  }

  async close(): Promise<void> {
    for (const client of this.#clients) client.stop();
    // A cluster that did not start has told so to whoever wanted it.
    await (await this.#cluster?.catch(() => undefined))?.stop();
  }
}

/** The members are busy all the time, also before they are measured: what they spent is spread evenly. */
export async function withServerTime(
  pids: readonly number[],
  measure: () => Promise<LoopMeasurement>,
): Promise<Measurement> {
  const secondsSoFar = (): number => pids.reduce((sum, pid) => sum + processorSecondsOf(pid), 0);
  const startSeconds = secondsSoFar();
  const startMs = performance.now();
  const measurement = await measure();
  const seconds = secondsSoFar() - startSeconds;
  const elapsedSeconds = (performance.now() - startMs) / 1_000;
  const operations = Math.max(1, measurement.operationsPerSecond * elapsedSeconds);
  return { ...measurement, serverMicroseconds: (seconds * 1e6) / operations };
}
