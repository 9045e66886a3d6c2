/** ZooKeeper from the Debian package, started without its scripts. */
import { execFileSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launchMembers, type Member, missingCommand, placeMembers } from './processes.ts';
import type { Server } from './server.ts';

const jar = '/usr/share/java/zookeeper.jar';
const heapMb = 2_000;

export const zookeeperServer: Server = {
  name: 'zookeeper',
  title: 'ZooKeeper',
  durability: 'on disk on a majority of the members (fsync) before the answer',
  missing: () =>
    missingCommand('java', 'zookeeper default-jre-headless') ??
    (existsSync(jar) ? undefined : `${jar} is missing (apt-get install zookeeper)`),
  version: () => {
    const facts = execFileSync('dpkg-query', ['-s', 'zookeeper'], { encoding: 'utf8' });
    return /^Version: ([\d.]+)/m.exec(facts)?.[1] ?? 'of unknown version';
  },
  start: async ({ members: count }) => {
    const members = await placeMembers('zookeeper', count);
    for (const member of members) {
      writeFileSync(join(member.directory, 'myid'), `${member.number + 1}`);
      writeFileSync(configurationOf(member), configure(member, members));
    }
    return await launchMembers(members, (member) => ({
      program: 'java',
      commandArguments: [
        ...[`-Xmx${heapMb}m`, '-cp', jar],
        ...['org.apache.zookeeper.server.quorum.QuorumPeerMain', configurationOf(member)],
      ],
    }));
  },
};

const configurationOf = ({ directory }: Member): string => join(directory, 'zoo.cfg');

function configure(member: Member, members: readonly Member[]): string {
  const ensemble = members.map(
    ({ number, peerPort, electionPort }) =>
      `server.${number + 1}=127.0.0.1:${peerPort}:${electionPort}`,
  );
  const lines = [
    `dataDir=${member.directory}`,
    `clientPort=${member.clientPort}`,
    'clientPortAddress=127.0.0.1',
    'tickTime=2000',
    'initLimit=10',
    'syncLimit=5',
    'maxClientCnxns=0',
    'admin.enableServer=false',
    ...(members.length === 1 ? [] : ensemble),
  ];
  return `${lines.join('\n')}\n`;
}
