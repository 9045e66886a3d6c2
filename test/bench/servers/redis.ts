/** Redis that flushes its log before it answers. It has no consensus: one member only. */
import { launchMembers, missingCommand, placeMembers, versionPrinted } from './processes.ts';
import type { Server } from './server.ts';

export const redisServer: Server = {
  name: 'redis',
  title: 'Redis',
  durability: 'on disk (`appendfsync always`) before the answer; no consensus',
  missing: () => missingCommand('redis-server', 'redis-server'),
  version: () => versionPrinted('redis-server', '--version'),
  start: async ({ members: count }) => {
    if (count !== 1) throw new Error('Redis has no consensus: it is measured with one member');
    const members = await placeMembers('redis', count);
    return await launchMembers(members, ({ directory, clientPort }) => ({
      program: 'redis-server',
      commandArguments: [
        ...['--bind', '127.0.0.1', '--port', `${clientPort}`, '--dir', directory],
        ...['--appendonly', 'yes', '--appendfsync', 'always', '--save', ''],
        // What BullMQ asks for: a key that is evicted is a job that is lost.
        ...['--maxmemory-policy', 'noeviction'],
      ],
    }));
  },
};
