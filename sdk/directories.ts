/** Making directories, and finding one for sockets that no other user can interfere with. */
import { createHash } from 'node:crypto';
import { lstat, mkdir, readlink, stat, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** The longest path of a socket that every system accepts, its final zero byte included. */
const longestSocketPath = 100;

/**
 * Makes the directory and those above it, for this user only. Not `mkdir` with `recursive`: where a
 * file system has no such name to give (`/proc`), Node 20 tries for ever.
 */
export const makeDirectory = async (path: string): Promise<void> => {
  const above = dirname(path);
  if (above !== path && (await stat(above).catch(() => undefined)) === undefined) {
    await makeDirectory(above);
  }
  await unless('EEXIST', mkdir(path, { mode: 0o700 }));
};

/**
 * The path of a socket in this directory. Where that path is too long for the system, it leads
 * through a link, in a directory that only this user can write to: whoever could put another link
 * there would be sent our calls. The socket itself is in `directory` all the same, so that processes
 * whose links are in different places still meet.
 */
export const socketPath = async (directory: string, name: string): Promise<string> => {
  const path = join(directory, name);
  if (fits(path)) return path;
  const link = createHash('sha256').update(directory).digest('hex').slice(0, 16);
  const place = await privateDirectory((candidate) => fits(join(candidate, link, name)));
  const shortened = join(place, link);
  await unless('EEXIST', symlink(directory, shortened, 'dir'));
  if ((await readlink(shortened)) !== directory) {
    throw new Error(`'${shortened}' must be a link to '${directory}': remove it`);
  }
  return join(shortened, name);
};

const fits = (path: string): boolean => Buffer.byteLength(path) < longestSocketPath;

/** `$XDG_RUNTIME_DIR` if it is this user's (after `su` it is not), else a directory in the temporary one. */
const privateDirectory = async (isShortEnough: (path: string) => boolean): Promise<string> => {
  const runtime = process.env['XDG_RUNTIME_DIR'];
  if (runtime && isShortEnough(runtime) && (await isPrivate(runtime).catch(() => false))) {
    return runtime;
  }
  const path = join(tmpdir(), `conclave-${process.getuid?.() ?? 'user'}`);
  if (!isShortEnough(path)) {
    throw new Error(`its path is too long for a socket, and so is '${path}': choose a shorter one`);
  }
  await unless('EEXIST', mkdir(path, { mode: 0o700 }));
  if (await isPrivate(path)) return path;
  throw new Error(
    `its path is too long for a socket, and '${path}', where a link to it would be put, is not a ` +
      'directory that only this user can use: remove that, or choose a shorter path',
  );
};

const isPrivate = async (path: string): Promise<boolean> => {
  // Not `stat`: a link there could be pointed elsewhere by its owner at any time.
  const found = await lstat(path);
  if (process.getuid === undefined) return found.isDirectory();
  return found.isDirectory() && found.uid === process.getuid() && (found.mode & 0o077) === 0;
};

const unless = async (code: string, done: Promise<void>): Promise<void> => {
  try {
    await done;
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === code)) throw error;
  }
};
