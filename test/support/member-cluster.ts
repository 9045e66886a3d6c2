/** Members of one cluster in this process, on free ports of the loopback interface. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { type MemberOptions, type RunningMember, startMember } from '../../server/index.ts';
import { freePort } from './process.ts';
import { waitFor } from './wait.ts';
import { connectWire, type WireClient } from './wire-client.ts';

export type ClusterOptions = {
  /** @default a b c */
  readonly names?: readonly string[];
  /** With data directories, so that members can be started again. @default in memory */
  readonly durable?: boolean;
  readonly member?: MemberOptions;
};

/** Faster than the defaults, and slow enough for a machine that does other things as well. */
const pace = { heartbeatIntervalMs: 50, electionTimeoutMs: 500 };

type Place = { readonly name: string; readonly peerUrls: readonly string[] };

export class MemberCluster implements AsyncDisposable {
  readonly #options: ClusterOptions;
  readonly #root: string;
  readonly places = new Map<string, Place>();
  readonly #running = new Map<string, { member: RunningMember; client: WireClient }>();

  private constructor(options: ClusterOptions, root: string) {
    this.#options = options;
    this.#root = root;
  }

  /** Starts nobody yet. */
  static async prepare(options: ClusterOptions = {}): Promise<MemberCluster> {
    const cluster = new MemberCluster(options, await mkdtemp(join(tmpdir(), 'cluster-')));
    for (const name of options.names ?? ['a', 'b', 'c']) await cluster.addPlace(name);
    return cluster;
  }

  /** All members run and know who leads. */
  static async start(options: ClusterOptions = {}): Promise<MemberCluster> {
    const cluster = await MemberCluster.prepare(options);
    await Promise.all(cluster.names.map((name) => cluster.launch(name)));
    await cluster.leader();
    return cluster;
  }

  get names(): readonly string[] {
    return [...this.places.keys()];
  }

  get running(): readonly string[] {
    return [...this.#running.keys()];
  }

  async addPlace(name: string): Promise<Place> {
    const place = { name, peerUrls: [`http://127.0.0.1:${await freePort()}`] };
    this.places.set(name, place);
    return place;
  }

  directory(name: string): string {
    return join(this.#root, name);
  }

  async launch(name: string, given: MemberOptions = {}): Promise<RunningMember> {
    const peerUrls = this.places.get(name)?.peerUrls ?? [];
    const member = await startMember({
      ...pace,
      logger: pino({ level: 'silent' }),
      name,
      ...(this.#options.durable === true ? { directory: this.directory(name) } : {}),
      initialCluster: [...this.places.values()],
      listenPeerUrls: peerUrls,
      peerUrls,
      ...this.#options.member,
      ...given,
    });
    this.#running.set(name, { member, client: connectWire(member.endpoints[0] ?? '') });
    return member;
  }

  /** Adds a learner to the cluster and starts it. Returns its id. */
  async join(name: string): Promise<bigint> {
    const { peerUrls } = await this.addPlace(name);
    const { cluster } = await this.client(await this.leader());
    const added = await cluster.memberAdd({ peerURLs: [...peerUrls], isLearner: true });
    await this.launch(name, { initialClusterState: 'existing' });
    return added.member?.ID ?? 0n;
  }

  async stop(name: string): Promise<void> {
    const running = this.#running.get(name);
    this.#running.delete(name);
    running?.client.close();
    await running?.member.close();
  }

  member(name: string): RunningMember {
    const running = this.#running.get(name);
    if (running === undefined) throw new Error(`${name} does not run`);
    return running.member;
  }

  client(name: string): WireClient {
    const running = this.#running.get(name);
    if (running === undefined) throw new Error(`${name} does not run`);
    return running.client;
  }

  /** The name of the leader, once all that run agree on it. */
  async leader(): Promise<string> {
    return waitFor('a leader', async () => {
      const seen = await Promise.all(
        this.running.map(async (name) => (await this.client(name).maintenance.status({})).leader),
      );
      const [leader] = seen;
      if (leader === undefined || leader === 0n || seen.some((id) => id !== leader))
        return undefined;
      return this.running.find((name) => this.member(name).memberId === leader);
    });
  }

  async followers(): Promise<readonly string[]> {
    const leader = await this.leader();
    return this.running.filter((name) => name !== leader);
  }

  /** Resolves with the checksum once all that run have applied the same entries and agree on it. */
  async agreement(): Promise<number> {
    const hashes = await waitFor('all members to apply the same', async () => {
      const answers = await Promise.all(
        this.running.map((name) => this.client(name).maintenance.hashKV({})),
      );
      const revisions = new Set(answers.map(({ hashRevision }) => hashRevision));
      return revisions.size === 1 ? answers.map(({ hash }) => hash) : undefined;
    });
    const [hash = 0] = hashes;
    if (hashes.some((other) => other !== hash)) throw new Error(`members differ: ${hashes.join()}`);
    return hash;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.running.map((name) => this.stop(name)));
    await rm(this.#root, { recursive: true, force: true });
  }
}
