/** The store of the tour: three members, each a process of its own on a durable directory. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { endpointOf, LocalCluster, type LocalMember } from '../../recipes/cli/dev/local-cluster.ts';
import { type ClusterApi, connect } from '../../recipes/index.ts';

const MEMBERS = ['a', 'b', 'c'] as const;
const DEFAULT_PORT = 2379;
const STATUS_TIMEOUT_MS = 1_000;

export type TourStore = {
  /** Of all members, with commas between. */
  readonly endpoints: string;
  readonly directory: string;
  /** Rejects when a member ends although nobody stopped it. */
  readonly failed: Promise<never>;
  /** Kills the member that leads the others with SIGKILL, and resolves with its name. */
  killLeader(): Promise<string>;
  /** Starts it again, with what its disk holds. */
  revive(name: string): Promise<void>;
  stop(): Promise<void>;
};

/** Takes the default port if it is free, so that etcdctl finds the store without a flag. */
export async function startStore(): Promise<TourStore> {
  const base = resolve('.conclave');
  await mkdir(base, { recursive: true });
  const directory = await mkdtemp(join(base, 'tour-'));
  const defaultPort = (await isFree(DEFAULT_PORT)) ? [DEFAULT_PORT] : [];
  const ports = [...defaultPort, ...(await freePorts(2 * MEMBERS.length))];
  const members = MEMBERS.map((name, index) => ({
    name,
    clientPort: ports[index] ?? 0,
    peerPort: ports[index + MEMBERS.length] ?? 0,
  }));
  let fail: (error: Error) => void = () => undefined;
  const failed = new Promise<never>((_, reject) => {
    fail = reject;
  });
  failed.catch(() => undefined);
  const cluster = await LocalCluster.start({
    members,
    directory,
    onLost: (name, how) => fail(new Error(`member ${name} ended (${how}) during the tour`)),
  });
  const client = await connect(cluster.endpoints);
  return {
    endpoints: cluster.endpoints,
    directory,
    failed,
    async killLeader() {
      const leader = await findLeader(client.cluster, members);
      await cluster.kill(leader.name);
      return leader.name;
    },
    revive: (name) => cluster.start(name),
    async stop() {
      await client.close();
      await cluster.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** The member that says of itself that it leads. */
async function findLeader(
  cluster: ClusterApi,
  members: readonly LocalMember[],
): Promise<LocalMember> {
  for (;;) {
    for (const member of members) {
      const options = { endpoint: endpointOf(member), timeout: STATUS_TIMEOUT_MS };
      const status = await cluster.status(options).catch(() => undefined);
      if (status !== undefined && status.leader === status.memberId) return member;
    }
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((answer) => {
    const probe = createServer()
      .once('error', () => answer(false))
      .listen(port, '127.0.0.1', () => probe.close(() => answer(true)));
  });
}

/** Held all at once, so that no two are the same. */
async function freePorts(count: number): Promise<number[]> {
  const probes = await Promise.all(
    Array.from({ length: count }, async () => {
      const probe = createServer();
      await new Promise<void>((listening, failing) => {
        probe.once('error', failing).listen(0, '127.0.0.1', listening);
      });
      return probe;
    }),
  );
  return Promise.all(
    probes.map(async (probe) => {
      const address = probe.address();
      await new Promise((closed) => probe.close(closed));
      return typeof address === 'object' && address !== null ? address.port : 0;
    }),
  );
}
