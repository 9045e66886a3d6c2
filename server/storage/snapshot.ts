/**
 * Copies of the state for clients (Maintenance.Snapshot).
 *
 * A snapshot is an LMDB file. It is copied first and streamed from the copy, so that a slow client
 * neither pins pages nor waits for writers; followed on the wire, and in saved files, by the SHA-256
 * of everything before.
 */
import { createReadStream } from 'node:fs';
import { mkdir, mkdtemp, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { StateCopy } from '../ports.ts';
import { SNAPSHOTS } from './data-directory.ts';
import type { CopyableState } from './lmdb.ts';
import { DATA_FILE } from './lmdb-store.ts';

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
