/** etcd with its defaults, and what it shares with conclave: the flags. */
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { type SystemName, TestCluster, TestServer } from '../../support/servers.ts';
import { missingCommand, versionPrinted } from './processes.ts';
import type { Cluster, Server, StartOptions } from './server.ts';

export const etcdServer: Server = {
  name: 'etcd',
  title: 'etcd',
  durability: 'on disk on a majority of the members (fdatasync) before the answer',
  missing: () => missingCommand('etcd', 'etcd-server'),
  version: () => versionPrinted('etcd', '--version'),
  start: (options) => startTestCluster('etcd', options),
};

export async function startTestCluster(
  system: SystemName,
  { members, environment }: StartOptions,
): Promise<Cluster> {
  const servers =
    members === 1
      ? [await TestServer.start(system, environment && { environment })]
      : (await TestCluster.start(system, members)).servers;
  return {
    endpoints: servers.map((server) => server.endpoint).join(','),
    pids: servers.map((server) => server.process.pid),
    stop: async () => {
      await Promise.all(servers.map((server) => server.stop('SIGKILL')));
      for (const { dataDirectory } of servers)
        rmSync(dirname(dataDirectory), { recursive: true, force: true });
    },
  };
}
