/**
 * A data directory out of a saved snapshot: the state as it was, and an empty log behind it.
 *
 * Everything happens in a directory aside and takes its place at the end, so that a restore either
 * succeeded or left nothing that looks like data.
 */
import { createHash } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { LogPosition, StateReader, Write } from '../ports.ts';
import { prepareDirectory, RESTORING, STATE, WAL } from './data-directory.ts';
import { lockDirectory } from './directory-lock.ts';
import { nodeDisk } from './disk.ts';
import { CorruptionError, DataDirectoryError } from './errors.ts';
import { drawIncarnation, type Identity, readIdentity, writeIdentity } from './identity.ts';
import { openLmdbState } from './lmdb.ts';
import { DATA_FILE } from './lmdb-store.ts';
import { openWal } from './wal.ts';

export type RestoreSnapshotOptions = {
  readonly file: string;
  readonly directory: string;
  /** Whom the directory will belong to. */
  readonly identity: Identity;
  /**
   * What must be changed in the state before it is used, such as its members. Every member that is
   * restored from the file must make the same changes: their logs begin where the states are equal.
   */
  readonly adapt: (state: StateReader) => readonly Write[];
};

const HASH_BYTES = 32;
/** etcd's snapshots are bbolt files: this number stands behind the header of their first page. */
const BBOLT_MAGIC = 0xed0cdaed;
const BBOLT_MAGIC_OFFSET = 16;

/**
 * @throws {DataDirectoryError} when the directory already belongs to a member or cannot be used
 * @throws {CorruptionError} when the file is not a whole snapshot of this store
 */
export async function restoreSnapshot(
  options: RestoreSnapshotOptions,
): Promise<{ readonly appliedIndex: number }> {
  const path = resolve(options.directory);
  await prepareDirectory(path);
  const lock = await lockDirectory(path);
  const aside = join(path, RESTORING);
  try {
    if ((await readIdentity(path)) !== undefined) {
      throw new DataDirectoryError(
        'not-empty',
        path,
        `${path} already holds the data of a member. Restore into an empty directory.`,
      );
    }
    await rm(aside, { recursive: true, force: true });
    await mkdir(aside, { mode: 0o700 });
    await copyPayload(options.file, join(aside, DATA_FILE));
    const applied = await adaptState(aside, options.adapt);
    await replaceDirectory(aside, join(path, STATE));
    await writeLog(path, options.identity, applied);
    await writeIdentity(path, { ...options.identity, incarnation: drawIncarnation() });
    return { appliedIndex: applied.index };
  } finally {
    await rm(aside, { recursive: true, force: true });
    await lock.release();
  }
}

async function adaptState(
  directory: string,
  adapt: RestoreSnapshotOptions['adapt'],
): Promise<LogPosition> {
  let damage: Error | undefined;
  const state = await openLmdbState({
    path: directory,
    onFailure: (error) => {
      damage = error;
    },
  });
  const { index, term } = state.applied;
  // A log that begins behind an entry has to know its term.
  state.apply(index, adapt(state), index === 0 ? 0 : Math.max(1, term));
  const { applied } = state;
  await state.flush();
  await state.close();
  if (damage !== undefined) throw damage;
  return applied;
}

/** What an interrupted restore left in the place makes way. */
async function replaceDirectory(from: string, to: string): Promise<void> {
  await nodeDisk.syncDirectory(from);
  await rm(to, { recursive: true, force: true });
  await rename(from, to);
}

async function writeLog(path: string, identity: Identity, start: LogPosition): Promise<void> {
  await rm(join(path, WAL), { recursive: true, force: true });
  const { log } = await openWal({
    path: join(path, WAL),
    identity: { clusterId: identity.clusterId, memberId: identity.memberId },
    start,
  });
  await log.close();
}

/** Copies all but the hash at the end. Throws `CorruptionError` when the hash is wrong. */
async function copyPayload(from: string, to: string): Promise<void> {
  const { size } = await stat(from);
  const payloadBytes = size - HASH_BYTES;
  const source = await open(from);
  const target = await open(to, 'wx', 0o600);
  try {
    await refuseBbolt(source, from);
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

/** Throws `CorruptionError` with a sentence of its own for a snapshot of etcd. */
async function refuseBbolt(file: FileHandle, path: string): Promise<void> {
  const { buffer } = await file.read(Buffer.alloc(4), 0, 4, BBOLT_MAGIC_OFFSET);
  if (buffer.readUInt32LE() !== BBOLT_MAGIC) return;
  throw new CorruptionError(path, undefined, 'this is a snapshot of etcd, in a format of its own');
}

async function readHash(file: FileHandle, position: number): Promise<Buffer> {
  const { buffer } = await file.read(Buffer.alloc(HASH_BYTES), 0, HASH_BYTES, position);
  return buffer;
}
