/** One member: a process that can be killed, stopped, traced, and started again on its data. */
import { rmSync } from 'node:fs';
import type { StatusResponse } from '../../../server/wire/etcdserverpb/rpc.ts';
import { type Exit, Launched } from '../../support/process.ts';
import { conclaveCommand, type SystemName } from '../../support/servers.ts';
import { waitFor, within } from '../../support/wait.ts';
import { connectWire, type WireClient } from '../../support/wire-client.ts';
import { noteProcess } from '../ledger.ts';
import type { Network, Site } from '../network/network.ts';

const statusTimeoutMs = 1_000;

export type MemberSettings = {
  readonly store: SystemName;
  readonly network: Network;
  /** Its number in the network. */
  readonly index: number;
  /** Made from the number unless given. */
  readonly name?: string;
  readonly site: Site;
  /** Must not exist when the member starts for the first time. */
  readonly dataDirectory: string;
  readonly logPath: string;
};

export type StartFlags = {
  /** As `--initial-cluster` takes it. */
  readonly initialCluster: string;
  readonly state: 'new' | 'existing';
  readonly token: string;
};

export class FaultMember {
  readonly name: string;
  readonly index: number;
  readonly site: Site;
  readonly dataDirectory: string;
  readonly logPath: string;
  readonly #settings: MemberSettings;
  #process: Launched | undefined;
  #client: WireClient | undefined;
  isStopped = false;

  constructor(settings: MemberSettings) {
    this.#settings = settings;
    this.index = settings.index;
    this.name = settings.name ?? `m${settings.index}`;
    this.site = settings.site;
    this.dataDirectory = settings.dataDirectory;
    this.logPath = settings.logPath;
  }

  get peerUrl(): string {
    return `http://${this.site.advertisedPeer}`;
  }

  get process(): Launched {
    if (this.#process === undefined) throw new Error(`${this.name} was never started`);
    return this.#process;
  }

  get isRunning(): boolean {
    return this.#process !== undefined && this.#process.exit === undefined;
  }

  /** A client of this member alone. */
  get client(): WireClient {
    this.#client ??= connectWire(this.site.client);
    return this.#client;
  }

  start(flags: StartFlags): void {
    if (this.isRunning) throw new Error(`${this.name} is running`);
    const [program = '', ...rest] = [
      ...this.site.prefix,
      ...this.#command(),
      ...this.#flags(flags),
    ];
    this.#process = new Launched(program, rest, { logPath: this.logPath });
    this.isStopped = false;
    noteProcess(this.#process.pid);
    this.#settings.network.occupy(this.index, this.#process.pid);
  }

  #command(): readonly string[] {
    return this.#settings.store === 'etcd' ? ['etcd'] : [...conclaveCommand(), 'serve'];
  }

  #flags({ initialCluster, state, token }: StartFlags): string[] {
    const clientUrl = `http://${this.site.client}`;
    return [
      ...['--name', this.name, '--data-dir', this.dataDirectory],
      ...['--listen-client-urls', clientUrl, '--advertise-client-urls', clientUrl],
      ...['--listen-peer-urls', `http://${this.site.peer}`],
      ...['--initial-advertise-peer-urls', this.peerUrl],
      ...['--initial-cluster', initialCluster, '--initial-cluster-state', state],
      ...['--initial-cluster-token', token],
      ...(this.#settings.store === 'etcd' ? ['--logger', 'zap', '--log-level', 'warn'] : []),
    ];
  }

  async kill(signal: 'SIGKILL' | 'SIGTERM' = 'SIGKILL'): Promise<Exit> {
    // A stopped process takes no other signal than SIGKILL until it goes on.
    if (signal !== 'SIGKILL') this.resume();
    this.isStopped = false;
    return await this.process.kill(signal);
  }

  stop(): void {
    process.kill(this.process.pid, 'SIGSTOP');
    this.isStopped = true;
  }

  resume(): void {
    if (this.isStopped && this.isRunning) process.kill(this.process.pid, 'SIGCONT');
    this.isStopped = false;
  }

  /** Attaches a tracer to every thread: the command with `-p` and the process id behind it. */
  attach(command: readonly string[]): Launched {
    const [program = '', ...rest] = command;
    const logPath = `${this.logPath}.tracer`;
    const tracer = new Launched(program, [...rest, '-p', `${this.process.pid}`], { logPath });
    noteProcess(tracer.pid);
    return tracer;
  }

  async status(): Promise<StatusResponse> {
    return await within(
      this.client.maintenance.status({}),
      statusTimeoutMs,
      `status of ${this.name}`,
    );
  }

  /** Resolves when it answers a linearizable read; rejects when its process ends before. */
  async ready(timeoutMs = 30_000): Promise<void> {
    await waitFor(
      `${this.name} to serve`,
      async () => {
        if (!this.isRunning) return 'ended' as const;
        await within(this.client.kv.range({ key: Buffer.from('ready') }), 1_000, 'a read');
        return 'serves' as const;
      },
      { timeoutMs, intervalMs: 20 },
    ).then(
      (state) => {
        if (state === 'ended') throw this.#failure('ended before it served');
      },
      (error: unknown) => {
        throw this.#failure('does not serve', error);
      },
    );
  }

  #failure(what: string, cause?: unknown): Error {
    return new Error(`${this.name} ${what}:\n${this.process.logTail(12)}`, { cause });
  }

  wipe(): void {
    rmSync(this.dataDirectory, { recursive: true, force: true });
  }

  async close(): Promise<void> {
    this.#client?.close();
    if (this.isRunning) await this.kill();
  }
}
