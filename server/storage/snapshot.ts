/**
 * Copies of the state for clients (Maintenance.Snapshot), and their way back into a data directory.
 *
 * A snapshot is an LMDB file. It is copied first and streamed from the copy, so that a slow client
 * neither pins pages nor waits for writers; followed on the wire, and in saved files, by the SHA-256
 * of everything before.
 */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, mkdir, mkdtemp, open, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { StateCopy } from '../ports.ts';
import { prepareDirectory, SNAPSHOTS, STATE, WAL } from './data-directory.ts';
import { lockDirectory } from './directory-lock.ts';
import { nodeDisk } from './disk.ts';
import { CorruptionError, DataDirectoryError } from './errors.ts';
import { type Identity, readIdentity, writeIdentity } from './identity.ts';
import { type CopyableState, openLmdbState } from './lmdb.ts';
import { DATA_FILE } from './lmdb-store.ts';
import { openWal } from './wal.ts';

const HASH_BYTES = 32;
/** The term of the entry that a restored log begins after: every member restored agrees on it. */
const RESTORED_TERM = 1;

/** What interrupted snapshots have left. */
export async function removeLeftovers(dataDirectory: string): Promise<void> {
  await rm(join(dataDirectory, SNAPSHOTS), { recursive: true, force: true });
}

/** Copies the state within its data directory and streams the copy, which is removed at the end. */
export async function takeSnapshot(
  dataDirectory: string,
  state: CopyableState,
): Promise<StateCopy> {
  const parent = join(dataDirectory, SNAPSHOTS);
  await mkdir(parent, { recursive: true, mode: 0o700 });
  const directory = await mkdtemp(join(parent, 'copy-'));
  try {
    await state.copyTo(directory);
    const file = join(directory, DATA_FILE);
    const { size } = await stat(file);
    return { sizeBytes: size, chunks: readAndRemove(file, directory) };
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

async function* readAndRemove(file: string, directory: string): AsyncGenerator<Uint8Array> {
  try {
    for await (const chunk of createReadStream(file)) yield chunk;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Makes a data directory out of a saved snapshot: the state as it was, and an empty log behind it.
 *
 * @throws {DataDirectoryError} when the directory already belongs to a member
 * @throws {CorruptionError} when the file is not a whole snapshot
 */
export async function restoreSnapshot(
  file: string,
  dataDirectory: string,
  identity: Identity,
): Promise<{ readonly appliedIndex: number }> {
  const path = resolve(dataDirectory);
  await prepareDirectory(path);
  const lock = await lockDirectory(path);
  try {
    if ((await readIdentity(path)) !== undefined) {
      throw new DataDirectoryError(
        'not-empty',
        path,
        `${path} already holds the data of a member. Restore into an empty directory.`,
      );
    }
    await mkdir(join(path, STATE), { recursive: true, mode: 0o700 });
    await copyPayload(file, join(path, STATE, DATA_FILE));
    await nodeDisk.syncDirectory(join(path, STATE));
    let damage: Error | undefined;
    const state = await openLmdbState({
      path: join(path, STATE),
      onFailure: (error) => {
        damage = error;
      },
    });
    const { appliedIndex } = state;
    await state.close();
    if (damage !== undefined) throw damage;
    const { log } = await openWal({
      path: join(path, WAL),
      identity: { clusterId: identity.clusterId, memberId: identity.memberId },
      start: { index: appliedIndex, term: RESTORED_TERM },
    });
    await log.close();
    await writeIdentity(path, identity);
    return { appliedIndex };
  } finally {
    await lock.release();
  }
}

/** Copies all but the hash at the end, and removes the copy again if the hash is wrong. */
async function copyPayload(from: string, to: string): Promise<void> {
  const { size } = await stat(from);
  const payloadBytes = size - HASH_BYTES;
  const source = await open(from);
  const target = await open(to, 'wx', 0o600);
  try {
    const hash = createHash('sha256');
    if (payloadBytes > 0) {
      for await (const chunk of source.createReadStream({
        end: payloadBytes - 1,
        autoClose: false,
      })) {
        hash.update(chunk);
        await target.writeFile(chunk);
      }
    }
    await target.sync();
    if (payloadBytes <= 0 || !hash.digest().equals(await readHash(source, payloadBytes))) {
      await rm(to);
      throw new CorruptionError(
        from,
        undefined,
        'the file is not a whole snapshot: its hash is wrong',
      );
    }
  } finally {
    await Promise.all([source.close(), target.close()]);
  }
}

async function readHash(file: FileHandle, position: number): Promise<Buffer> {
  const { buffer } = await file.read(Buffer.alloc(HASH_BYTES), 0, HASH_BYTES, position);
  return buffer;
}
