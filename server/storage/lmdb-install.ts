/** Getting a received state ready to take the place of the present one. */
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { assert } from '../assert.ts';
import { isNoSpace, NoSpaceError, otherContents } from './errors.ts';
import { freeBytesOf, RESERVE_BYTES } from './lmdb-limits.ts';
import { LmdbStore } from './lmdb-store.ts';
import type { StateDirectory } from './state-directory.ts';
import type { ReceivedSnapshot } from './transfer.ts';

/**
 * Opens the received state in a place of its own and proposes it, so that `directory.commit()` is all
 * that is left to do. Whatever goes wrong, the present state is untouched and the received one is gone.
 */
export async function prepareInstall(
  directory: StateDirectory,
  snapshot: ReceivedSnapshot,
): Promise<LmdbStore> {
  const { content, index, term } = snapshot;
  assert(content.kind === 'file', 'a state on disk is installed from a file');
  let staged: string | undefined;
  let store: LmdbStore | undefined;
  try {
    staged = await directory.stage(content.path);
    store = LmdbStore.open(staged);
    const applied = store.applied();
    if (applied.index !== index || applied.term !== term) throw otherContents(snapshot, applied);
    await directory.propose({ index, term });
    return store;
  } catch (error) {
    await store?.close();
    if (staged !== undefined) await rm(staged, { recursive: true, force: true });
    await snapshot.discard();
    if (!isNoSpace(error)) throw error;
    throw new NoSpaceError(content.path, await freeBytesOf(dirname(content.path)), RESERVE_BYTES);
  }
}
