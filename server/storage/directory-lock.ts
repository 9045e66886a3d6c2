/**
 * Exclusive ownership of a directory, held by the kernel: it ends with the process, however that
 * ends, and no stale file can pretend it.
 *
 * - Linux: a socket in the abstract namespace, named after the directory's device and inode, so that
 *   every path to the directory means the same lock. The namespace belongs to the network namespace:
 *   two containers that mount one directory and share no network do not see each other's lock.
 * - Windows: a named pipe with the same name; the first to create it owns it.
 * - macOS and the BSDs: a file opened with an exclusive advisory lock.
 */
import { constants, promises as fs } from 'node:fs';
import * as net from 'node:net';
import { join } from 'node:path';
import { DataDirectoryInUse } from './errors.ts';

export interface DirectoryLock {
  release(): Promise<void>;
}

const LOCK_FILE = 'lock';
/** Not in `fs.constants`; the same number on macOS and all BSDs. */
const O_EXLOCK = 0x20;

/** Throws `DataDirectoryInUse` at once when another process, or this one, owns the directory. */
export async function lockDirectory(directory: string): Promise<DirectoryLock> {
  if (process.platform === 'linux') return lockBySocket(directory, '\0conclave-');
  if (process.platform === 'win32') return lockBySocket(directory, '\\\\.\\pipe\\conclave-');
  return lockByFile(directory);
}

async function lockBySocket(directory: string, prefix: string): Promise<DirectoryLock> {
  const { dev, ino } = await fs.stat(directory, { bigint: true });
  const server = net.createServer((socket) => socket.destroy());
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => {
      const taken = 'code' in error && (error.code === 'EADDRINUSE' || error.code === 'EACCES');
      reject(taken ? new DataDirectoryInUse(directory) : error);
    });
    // Exclusive: a worker of a cluster must not share the socket of its primary.
    server.listen({ path: `${prefix}${dev}-${ino}`, exclusive: true }, () => resolve());
  });
  server.unref();
  return {
    release: () =>
      new Promise((resolve, reject) => {
        server.close((error) => (error === undefined ? resolve() : reject(error)));
      }),
  };
}

async function lockByFile(directory: string): Promise<DirectoryLock> {
  const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NONBLOCK | O_EXLOCK;
  try {
    const file = await fs.open(join(directory, LOCK_FILE), flags, 0o600);
    return { release: () => file.close() };
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'EAGAIN' || code === 'EWOULDBLOCK') throw new DataDirectoryInUse(directory);
    throw error;
  }
}
