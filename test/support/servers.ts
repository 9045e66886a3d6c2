/** Real servers for harnesses: etcd from the system and conclave as it is shipped. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from './ports.ts';
import { Launched, memoryDirectory, removeDirectory, temporaryDirectory } from './process.ts';
import { waitFor, within } from './wait.ts';
import { connectWire } from './wire-client.ts';

export type SystemName = 'etcd' | 'conclave';

/** Its place among several members. */
export type Place = {
  readonly name: string;
  readonly ports: { readonly client: number; readonly peer: number };
  /** The value of --initial-cluster. */
  readonly cluster: string;
};

export type ServerOptions = {
  /** Default: the only member, on free ports. */
  readonly place?: Place;
  /** Default: a new temporary directory. */
  readonly dataDirectory?: string;
  /** Default: beside the data directory. */
  readonly logPath?: string;
  readonly flags?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
};

/** The root of the project, from the sources and from `dist` alike. */
export const projectRoot = findRoot(fileURLToPath(new URL('.', import.meta.url)));

function findRoot(folder: string): string {
  const isRoot =
    existsSync(join(folder, 'package.json')) && existsSync(join(folder, 'package-lock.json'));
  return isRoot ? folder : findRoot(join(folder, '..'));
}

/** The command line that users get: what the package names as its program. */
export const conclaveProgram = join(projectRoot, programOf(join(projectRoot, 'package.json')));

function programOf(packageFile: string): string {
  const { bin } = JSON.parse(readFileSync(packageFile, 'utf8')) as { bin: { conclave: string } };
  return bin.conclave;
}

/** The command of the shipped CLI; `CONCLAVE_COMMAND` (words separated by spaces) overrides it. */
export function conclaveCommand(): readonly string[] {
  const given = process.env['CONCLAVE_COMMAND'];
  if (given !== undefined) return given.split(' ');
  if (!existsSync(conclaveProgram)) {
    throw new Error(`${conclaveProgram} is missing: run npm run build`);
  }
  return [process.execPath, conclaveProgram];
}

const portAttempts = 5;

/** The server could not start because somebody listens on one of its ports. */
class PortTaken extends Error {}

const saysPortTaken = (log: string): boolean => /EADDRINUSE|address already in use/.test(log);

async function onFreePorts<T>(attempts: number, start: () => Promise<T>): Promise<T> {
  try {
    return await start();
  } catch (error) {
    if (attempts === 1 || !(error instanceof PortTaken)) throw error;
    return onFreePorts(attempts - 1, start);
  }
}

/** One member that can be killed and started again on the same data and the same port. */
export class TestServer {
  readonly system: SystemName;
  readonly dataDirectory: string;
  /** host:port for clients. */
  readonly endpoint: string;
  readonly url: string;
  readonly #peerPort: number;
  readonly #logPath: string;
  readonly #options: ServerOptions;
  #process: Launched | undefined;

  private constructor(
    system: SystemName,
    ports: { readonly client: number; readonly peer: number },
    options: ServerOptions,
  ) {
    this.system = system;
    this.dataDirectory = options.dataDirectory ?? join(temporaryDirectory(system), 'data');
    this.endpoint = `127.0.0.1:${ports.client}`;
    this.url = `http://${this.endpoint}`;
    this.#peerPort = ports.peer;
    this.#logPath = options.logPath ?? `${this.dataDirectory}.log`;
    this.#options = options;
  }

  /** On other ports if somebody takes the chosen ones first; not where the caller has chosen them. */
  static async start(system: SystemName, options: ServerOptions = {}): Promise<TestServer> {
    return onFreePorts(options.place === undefined ? portAttempts : 1, async () => {
      const server = await TestServer.prepare(system, options);
      server.launch();
      await server.ready();
      return server;
    });
  }

  /** Not launched yet. */
  static async prepare(system: SystemName, options: ServerOptions = {}): Promise<TestServer> {
    const ports = options.place?.ports ?? { client: await freePort(), peer: await freePort() };
    return new TestServer(system, ports, options);
  }

  get process(): Launched {
    if (this.#process === undefined) throw new Error('the server was not launched');
    return this.#process;
  }

  /** Starts the process without waiting for it to serve. */
  launch(): void {
    const command = this.system === 'etcd' ? ['etcd'] : [...conclaveCommand(), 'serve'];
    const [program = '', ...rest] = [...command, ...this.#flags()];
    this.#process = new Launched(program, rest, {
      logPath: this.#logPath,
      ...(this.#options.environment === undefined
        ? {}
        : { environment: this.#options.environment }),
    });
  }

  /** Starts a tracer on the running server: the command with `-p` and the process id behind it. */
  attach(command: readonly string[]): Launched {
    const [program = '', ...rest] = command;
    return new Launched(program, [...rest, '-p', `${this.process.pid}`], {
      logPath: `${this.#logPath}.tracer`,
    });
  }

  /**
   * Resolves when a linearizable read is answered; rejects when the process ends before that. So the
   * limit is for one that hangs, and long enough for several that start at once on a busy machine.
   */
  async ready(timeoutMs = 60_000): Promise<void> {
    const ended = this.process.exited.then((exit) => {
      throw new Error(
        `${this.system} ended with ${JSON.stringify(exit)} before it served:\n${this.process.logTail()}`,
      );
    });
    ended.catch(() => undefined);
    const client = connectWire(this.endpoint);
    try {
      await Promise.race([
        ended,
        waitFor(
          `${this.system} at ${this.endpoint}`,
          () => within(client.kv.range({ key: Buffer.from('ready') }), 1_000, 'a read'),
          { timeoutMs },
        ),
      ]);
    } catch (error) {
      await this.process.kill('SIGKILL');
      const log = this.process.logTail();
      const message = `${this.system} does not serve:\n${log}`;
      throw saysPortTaken(log)
        ? new PortTaken(message, { cause: error })
        : new Error(message, { cause: error });
    } finally {
      client.close();
    }
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.process.kill(signal);
  }

  #flags(): string[] {
    const peerUrl = `http://127.0.0.1:${this.#peerPort}`;
    const { place } = this.#options;
    const common = [
      ...['--name', place?.name ?? 'm0', '--data-dir', this.dataDirectory],
      ...['--listen-client-urls', this.url, '--advertise-client-urls', this.url],
      ...(this.#options.flags ?? []),
    ];
    const peers = [
      ...['--listen-peer-urls', peerUrl, '--initial-advertise-peer-urls', peerUrl],
      ...['--initial-cluster', place?.cluster ?? `m0=${peerUrl}`],
    ];
    if (this.system === 'etcd') {
      return [...common, ...peers, '--log-level', 'error', '--logger', 'zap'];
    }
    return place === undefined ? common : [...common, ...peers];
  }
}

export type ClusterOptions = {
  /** Whether data may be lost with the machine: writes then need not wait for a disk. @default false */
  readonly inMemory?: boolean;
};

/** One member or several, each a process of its own with a directory of its own. */
export class TestCluster {
  readonly servers: readonly TestServer[];

  private constructor(servers: readonly TestServer[]) {
    this.servers = servers;
  }

  static async start(
    system: SystemName,
    size: number,
    { inMemory = false }: ClusterOptions = {},
  ): Promise<TestCluster> {
    const newDirectory = inMemory ? memoryDirectory : temporaryDirectory;
    const dataDirectory = () => join(newDirectory(system), 'data');
    if (size === 1) {
      return new TestCluster([await TestServer.start(system, { dataDirectory: dataDirectory() })]);
    }
    return onFreePorts(portAttempts, () => TestCluster.#startSeveral(system, size, dataDirectory));
  }

  static async #startSeveral(
    system: SystemName,
    size: number,
    dataDirectory: () => string,
  ): Promise<TestCluster> {
    const places: Omit<Place, 'cluster'>[] = [];
    for (let number = 0; number < size; number += 1) {
      places.push({
        name: `m${number}`,
        ports: { client: await freePort(), peer: await freePort() },
      });
    }
    const initialCluster = places
      .map(({ name, ports }) => `${name}=http://127.0.0.1:${ports.peer}`)
      .join(',');
    const servers = await Promise.all(
      places.map((place) =>
        TestServer.prepare(system, {
          place: { ...place, cluster: initialCluster },
          dataDirectory: dataDirectory(),
        }),
      ),
    );
    const cluster = new TestCluster(servers);
    for (const server of servers) server.launch();
    try {
      await Promise.all(servers.map((server) => server.ready()));
    } catch (error) {
      await cluster.discard();
      throw error;
    }
    return cluster;
  }

  /** Of all members, with commas between. */
  get endpoints(): string {
    return this.servers.map((server) => server.endpoint).join(',');
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await Promise.all(this.servers.map((server) => server.stop(signal)));
  }
  /** Ends it for good: nothing of it stays. */
  async discard(): Promise<void> {
    await this.stop('SIGKILL');
    for (const { dataDirectory } of this.servers) removeDirectory(dirname(dataDirectory));
  }
}
