/**
 * A cluster on this machine: `conclave serve` once per member, each a process of its own that can
 * really be killed and started again.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export type LocalMember = {
  readonly name: string;
  readonly clientPort: number;
  readonly peerPort: number;
};

export type LocalClusterOptions = {
  readonly members: readonly LocalMember[];
  /** Holds one data directory for each member. */
  readonly directory: string;
  /** Options of Node for the members. @default those of this process */
  readonly nodeOptions?: readonly string[];
  /** Told of every line that a member writes once it is ready. */
  readonly onLine?: (name: string, line: string) => void;
  /** Told when a member ends although nobody asked it to. */
  readonly onLost?: (name: string, how: string) => void;
};

/** The sentence with which `serve` says that it listens. */
const READY = 'ready to serve clients';

/** Lines of a member that did not start which are shown. */
const LAST_LINES = 20;

const program = fileURLToPath(
  new URL(`../main${import.meta.url.endsWith('.ts') ? '.ts' : '.js'}`, import.meta.url),
);

export class LocalCluster {
  readonly members: readonly LocalMember[];
  readonly #options: LocalClusterOptions;
  readonly #running = new Map<string, ChildProcess>();
  readonly #ending = new Set<ChildProcess>();

  private constructor(options: LocalClusterOptions) {
    this.members = options.members;
    this.#options = options;
  }

  /**
   * Resolves when all members listen.
   *
   * @throws Error with what the member said, when one does not start
   */
  static async start(options: LocalClusterOptions): Promise<LocalCluster> {
    const cluster = new LocalCluster(options);
    // Whatever ends this process, an exception included, takes the members with it.
    process.once('exit', cluster.#killAll);
    try {
      await Promise.all(options.members.map(({ name }) => cluster.start(name)));
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** As `connect` and `--endpoints` take them. */
  get endpoints(): string {
    return this.members.map((member) => endpointOf(member)).join(',');
  }

  isRunning(name: string): boolean {
    return this.#running.has(name);
  }

  /** Starts a member that does not run; resolves when it listens. */
  start(name: string): Promise<void> {
    const member = this.members.find((one) => one.name === name);
    if (member === undefined) throw new Error(`there is no member '${name}'`);
    if (this.#running.has(name)) return Promise.resolve();
    const child = spawn(
      process.execPath,
      [
        ...(this.#options.nodeOptions ?? process.execArgv),
        program,
        'serve',
        ...this.#flags(member),
      ],
      // A group of its own: Ctrl-C in the terminal is for whoever runs the cluster to pass on.
      { stdio: ['ignore', 'ignore', 'pipe'], detached: true },
    );
    this.#running.set(name, child);
    return this.#ready(name, child);
  }

  /** Without any warning, as a machine that loses power. Resolves when it is gone. */
  kill(name: string): Promise<void> {
    return this.#end(name, 'SIGKILL');
  }

  /** Asks all members to finish and leave. */
  async stop(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((name) => this.#end(name, 'SIGTERM')));
    process.removeListener('exit', this.#killAll);
  }

  #flags(member: LocalMember): string[] {
    const client = `http://${endpointOf(member)}`;
    const peer = peerUrlOf(member);
    const cluster = this.members.map((each) => `${each.name}=${peerUrlOf(each)}`).join(',');
    return [
      ['--name', member.name],
      ['--data-dir', join(this.#options.directory, member.name)],
      ['--listen-client-urls', client],
      ['--advertise-client-urls', client],
      ['--listen-peer-urls', peer],
      ['--initial-advertise-peer-urls', peer],
      ['--initial-cluster', cluster],
      ['--log-level', 'warn'],
    ].flat();
  }

  #ready(name: string, child: ChildProcess): Promise<void> {
    return new Promise((done, fail) => {
      let isReady = false;
      let said: string[] = [];
      const lines = createInterface({ input: child.stderr ?? process.stdin });
      lines.on('line', (line) => {
        if (isReady) this.#options.onLine?.(name, line);
        else if (line.includes(READY)) {
          isReady = true;
          said = [];
          done();
        } else said = [...said, line].slice(-LAST_LINES);
      });
      child.once('error', fail);
      child.once('exit', (code, signal) => {
        this.#running.delete(name);
        const how = signal === null ? `exit code ${code}` : signal;
        if (!isReady) fail(new Error(`member ${name} did not start (${how})\n${said.join('\n')}`));
        else if (!this.#ending.delete(child)) this.#options.onLost?.(name, how);
      });
    });
  }

  async #end(name: string, signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#running.get(name);
    if (child === undefined) return;
    this.#ending.add(child);
    const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill(signal);
    await gone;
  }

  readonly #killAll = (): void => {
    for (const child of this.#running.values()) child.kill('SIGKILL');
  };
}

export const endpointOf = ({ clientPort }: LocalMember): string => `127.0.0.1:${clientPort}`;

const peerUrlOf = ({ peerPort }: LocalMember): string => `http://127.0.0.1:${peerPort}`;
