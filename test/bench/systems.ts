/** The combinations of a server and a client that are measured. */
import type { BenchClient } from './adapters/client.ts';
import { conclaveServer } from './servers/conclave.ts';
import { etcdServer } from './servers/etcd.ts';
import { natsServer } from './servers/nats.ts';
import { redisServer } from './servers/redis.ts';
import type { Server } from './servers/server.ts';
import { zookeeperServer } from './servers/zookeeper.ts';

export type BenchSystem = {
  readonly name: string;
  readonly title: string;
  readonly server: Server;
  /** The npm packages of its client, for the list of versions. */
  readonly packages: readonly string[];
  readonly connect: (endpoints: string) => Promise<BenchClient>;
};

/** Clients are loaded by the process that needs them, so that none carries the other's weight. */
const conclave = async (endpoints: string): Promise<BenchClient> =>
  await (await import('./adapters/conclave.ts')).connectConclave(endpoints);
const etcd = async (endpoints: string): Promise<BenchClient> =>
  await (await import('./adapters/etcd.ts')).connectEtcd(endpoints);
const zookeeper = async (endpoints: string): Promise<BenchClient> =>
  await (await import('./adapters/zookeeper.ts')).connectZookeeper(endpoints);
const redis = async (endpoints: string): Promise<BenchClient> =>
  await (await import('./adapters/redis.ts')).connectRedis(endpoints);
const nats = async (endpoints: string): Promise<BenchClient> =>
  await (await import('./adapters/nats.ts')).connectNats(endpoints);

const system = (
  server: Server,
  connect: BenchSystem['connect'],
  ...packages: readonly string[]
): BenchSystem => ({ name: server.name, title: server.title, server, connect, packages });

export const ownSystem: BenchSystem = system(conclaveServer, conclave);

export const peers: readonly BenchSystem[] = [
  system(etcdServer, etcd, 'etcd3'),
  system(zookeeperServer, zookeeper, 'node-zookeeper-client'),
  system(redisServer, redis, 'ioredis', 'redlock', 'bullmq'),
  system(natsServer, nats, 'nats'),
];

/** What the client alone and the server alone contribute: measured when they are asked for by name. */
export const mixtures: readonly BenchSystem[] = [
  { ...system(etcdServer, conclave), name: 'etcd+sdk', title: 'etcd + conclave client' },
  { ...system(conclaveServer, etcd, 'etcd3'), name: 'conclave+etcd3', title: 'conclave + etcd3' },
];

export const benchSystems: readonly BenchSystem[] = [ownSystem, ...peers, ...mixtures];

export function benchSystem(name: string): BenchSystem {
  const found = benchSystems.find((one) => one.name === name);
  if (found !== undefined) return found;
  const known = benchSystems.map((one) => one.name).join(', ');
  throw new Error(`--systems: unknown system ${name}; known are ${known}`);
}
