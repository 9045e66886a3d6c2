/** NATS with JetStream on files. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launchMembers, missingCommand, placeMembers, versionPrinted } from './processes.ts';
import type { Server } from './server.ts';

export const natsServer: Server = {
  name: 'nats',
  title: 'NATS JetStream (no fsync)',
  durability:
    'in the page cache only: JetStream flushes every two minutes, so a power cut loses acknowledged writes',
  missing: () => missingCommand('nats-server', 'nats-server'),
  version: () => versionPrinted('nats-server', '--version'),
  start: async ({ members: count }) => {
    if (count !== 1) throw new Error('NATS is measured with one member');
    const members = await placeMembers('nats', count);
    return await launchMembers(members, ({ directory, clientPort }) => {
      const configuration = join(directory, 'nats.conf');
      writeFileSync(
        configuration,
        `listen: 127.0.0.1:${clientPort}\njetstream { store_dir: "${directory}" }\n`,
      );
      return { program: 'nats-server', commandArguments: ['-c', configuration] };
    });
  },
};
