/** The combinations of a server and a client that are measured. */
import type { SystemName } from '../support/servers.ts';
import type { BenchClient } from './rows.ts';

export type BenchSystem = {
  readonly name: string;
  readonly server: SystemName;
  readonly connect: (endpoint: string) => Promise<BenchClient>;
};

/** Clients are loaded by the process that needs them, so that none carries the other's weight. */
const sdk = async (endpoint: string): Promise<BenchClient> =>
  await (await import('./sdk-adapter.ts')).connectSdk(endpoint);
const etcd3 = async (endpoint: string): Promise<BenchClient> =>
  await (await import('./etcd3-adapter.ts')).connectEtcd3(endpoint);

export const benchSystems: readonly BenchSystem[] = [
  { name: 'conclave', server: 'conclave', connect: sdk },
  { name: 'etcd', server: 'etcd', connect: etcd3 },
  // What the client alone and the server alone contribute.
  { name: 'etcd+sdk', server: 'etcd', connect: sdk },
  { name: 'conclave+etcd3', server: 'conclave', connect: etcd3 },
];

export function benchSystem(name: string): BenchSystem {
  const found = benchSystems.find((one) => one.name === name);
  if (found !== undefined) return found;
  const known = benchSystems.map((one) => one.name).join(', ');
  throw new Error(`--systems: unknown system ${name}; known are ${known}`);
}
