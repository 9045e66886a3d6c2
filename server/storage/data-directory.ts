/**
 * A member's data directory:
 *
 * ```
 * identity.json   format, name, cluster, member; written last, so it stands for a complete directory
 * wal/            the replicated log
 * state/          the state machine, in LMDB
 * ```
 *
 * Opening it either gives everything, consistent and exclusively owned, or says in one sentence why
 * not and what to do. It never turns a damaged or foreign directory into a fresh one: that would be
 * a member that has forgotten its vote.
 */
import { constants, type Stats } from 'node:fs';
import { access, chmod, mkdir, readdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { assert } from '../assert.ts';
import { idToHex } from '../ids.ts';
import type { Log, Recovered } from '../ports.ts';
import { type DirectoryLock, lockDirectory } from './directory-lock.ts';
import { DataDirectoryError } from './errors.ts';
import { type Identity, readIdentity, writeIdentity } from './identity.ts';
import { type CopyableState, openLmdbState } from './lmdb.ts';
import { openWal } from './wal.ts';

export type DataDirectoryOptions = {
  readonly path: string;
  /** Who the directory must belong to, or, when it is empty, will. */
  readonly identity: Identity;
  /** See `LmdbStateOptions.onFailure`: the process must end at once. */
  readonly onFailure: (error: Error) => void;
  /** @default limits.walSegmentBytes */
  readonly walSegmentBytes?: number;
};

export interface DataDirectory {
  readonly identity: Identity;
  readonly log: Log;
  readonly state: CopyableState;
  /** What the log held, handed over once: kept here it would stay in memory for good. */
  takeRecovered(): Recovered;
  /** Flushes and gives up ownership. Rejects, and keeps ownership, after a failed write. */
  close(): Promise<void>;
}

export const WAL = 'wal';
export const STATE = 'state';
/** Copies on their way to clients; what a crash leaves here is removed at the next start. */
export const SNAPSHOTS = 'snapshots';
/** A state on its way from a snapshot to its place. */
export const RESTORING = 'restoring';
/** What an interrupted creation may have left, and what a fresh file system brings along. */
const HARMLESS = new Set([
  WAL,
  STATE,
  SNAPSHOTS,
  RESTORING,
  'lock',
  'identity.json.tmp',
  'lost+found',
]);

/** Throws `DataDirectoryError` (`DataDirectoryInUse` for a second opener) or `CorruptionError`. */
export async function openDataDirectory(options: DataDirectoryOptions): Promise<DataDirectory> {
  const path = resolve(options.path);
  await prepareDirectory(path);
  const lock = await lockDirectory(path);
  try {
    return await openOwned(path, options, lock);
  } catch (error) {
    await lock.release();
    throw await explain(path, error);
  }
}

async function openOwned(
  path: string,
  options: DataDirectoryOptions,
  lock: DirectoryLock,
): Promise<DataDirectory> {
  const { identity, onFailure, walSegmentBytes } = options;
  const existing = await readIdentity(path);
  if (existing !== undefined) checkIdentity(path, existing, identity);
  for (const part of [WAL, STATE]) await mkdir(join(path, part), { recursive: true, mode: 0o700 });

  const { log, recovered } = await openWal({
    path: join(path, WAL),
    identity: { clusterId: identity.clusterId, memberId: identity.memberId },
    create: existing === undefined,
    ...(walSegmentBytes === undefined ? {} : { segmentBytes: walSegmentBytes }),
  });
  let state: CopyableState | undefined;
  try {
    if (existing === undefined) checkNothingPromised(path, recovered);
    state = await openLmdbState({ path: join(path, STATE), onFailure });
    checkAgreement(path, recovered, state.appliedIndex);
    if (existing?.name !== identity.name) await writeIdentity(path, identity);
  } catch (error) {
    await state?.close();
    await log.close();
    throw error;
  }
  return new OpenDataDirectory(identity, log, recovered, state, lock);
}

class OpenDataDirectory implements DataDirectory {
  readonly identity: Identity;
  readonly log: Log;
  readonly state: CopyableState;
  #recovered: Recovered | undefined;
  readonly #lock: DirectoryLock;
  #closing: Promise<void> | undefined;

  constructor(
    identity: Identity,
    log: Log,
    recovered: Recovered,
    state: CopyableState,
    lock: DirectoryLock,
  ) {
    this.identity = identity;
    this.log = log;
    this.#recovered = recovered;
    this.state = state;
    this.#lock = lock;
  }

  takeRecovered(): Recovered {
    const recovered = this.#recovered;
    assert(recovered !== undefined, 'what the log held is taken once');
    this.#recovered = undefined;
    return recovered;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.state.close();
    await this.log.close();
    await this.#lock.release();
  }
}

/** Makes the directory if need be. Throws `DataDirectoryError` when it cannot be used. */
export async function prepareDirectory(path: string): Promise<void> {
  let found: Stats | undefined;
  try {
    await makeDirectory(path);
    found = await stat(path);
  } catch (error) {
    throw await explain(path, error);
  }
  if (!found.isDirectory()) throw notADirectory(path);
  try {
    await access(path, constants.R_OK | constants.W_OK | constants.X_OK);
  } catch (error) {
    throw await explain(path, error);
  }
  // Whose directory it is comes first: nothing of a foreign one is touched.
  await refuseEtcd(path);
  if ((await readIdentity(path)) === undefined) await checkUnused(path);
  await securePermissions(path, found);
}

/**
 * Makes the directory and those above it. Not `mkdir` with `recursive`: where a file system has no
 * such name to give (`/proc`), Node 20 tries for ever.
 */
async function makeDirectory(path: string): Promise<void> {
  const above = dirname(path);
  if (above !== path && (await stat(above).catch(() => undefined)) === undefined) {
    await makeDirectory(above);
  }
  try {
    await mkdir(path, { mode: 0o700 });
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
  }
}

const notADirectory = (path: string): DataDirectoryError =>
  new DataDirectoryError(
    'not-a-directory',
    path,
    `${path} is not a directory. Choose a directory as the data directory.`,
  );

const reasons = {
  EROFS: 'its file system is read-only',
  EACCES: 'permission is denied',
  EPERM: 'permission is denied',
  ENOENT: 'it does not exist and cannot be made',
} as const;

async function explain(path: string, error: unknown): Promise<unknown> {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'EEXIST' || code === 'ENOTDIR') return notADirectory(path);
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS' || code === 'ENOENT') {
    const reason = reasons[code];
    return new DataDirectoryError(
      'not-writable',
      path,
      `Cannot write to the data directory ${path}: ${reason}. Give it to the user that runs this process, or choose another.`,
      error,
    );
  }
  return error;
}

async function refuseEtcd(path: string): Promise<void> {
  for (const part of ['wal', 'snap']) {
    const place = join(path, 'member', part);
    const found = await stat(place).catch(() => undefined);
    if (found === undefined) continue;
    throw new DataDirectoryError(
      'etcd-data',
      path,
      `${path} is the data directory of an etcd server. Choose another directory; to move etcd's data here, restore it from a snapshot.`,
    );
  }
}

/** Others may not read keys and values; and where others could write, what is there proves nothing. */
async function securePermissions(path: string, found: Stats): Promise<void> {
  if (process.platform === 'win32') return;
  const mode = found.mode & 0o777;
  if ((mode & 0o022) !== 0) {
    throw new DataDirectoryError(
      'unsafe-permissions',
      path,
      `Other users can write to the data directory ${path} (mode ${mode.toString(8)}). Check its contents, then run: chmod 700 ${path}`,
    );
  }
  if ((mode & 0o077) === 0) return;
  try {
    await chmod(path, 0o700);
  } catch {
    throw new DataDirectoryError(
      'unsafe-permissions',
      path,
      `Other users can read the data directory ${path} (mode ${mode.toString(8)}), and it belongs to somebody else. Have its owner run: chmod 700 ${path}`,
    );
  }
}

/** Without an identity there must be nothing of anybody's. */
async function checkUnused(path: string): Promise<void> {
  const foreign = (await readdir(path)).find((name) => !HARMLESS.has(name));
  if (foreign === undefined) return;
  throw new DataDirectoryError(
    'not-empty',
    path,
    `${path} contains ${foreign} and is not a data directory of conclave. Choose an empty directory.`,
  );
}

/** An interrupted creation leaves an empty log. One with contents has lost its identity file. */
function checkNothingPromised(path: string, recovered: Recovered): void {
  const { hardState, start, entries } = recovered;
  if (hardState.term === 0 && start.index === 0 && entries.length === 0) return;
  throw new DataDirectoryError(
    'incomplete',
    path,
    `The data directory ${path} holds a log and its identity.json is missing. Restore the whole directory from a copy.`,
  );
}

function checkIdentity(path: string, existing: Identity, wanted: Identity): void {
  if (existing.clusterId === wanted.clusterId && existing.memberId === wanted.memberId) return;
  const name = ({ clusterId, memberId }: Identity) =>
    `member ${idToHex(memberId)} of cluster ${idToHex(clusterId)}`;
  throw new DataDirectoryError(
    'other-identity',
    path,
    `The data directory ${path} belongs to ${name(existing)}, not to ${name(wanted)}. Use the directory of this member, or an empty one for a new member.`,
  );
}

/**
 * The log replays what the state lacks, so it must reach back to what the state has; and the state
 * may not know of entries that the log does not have: such a log has lost acknowledged ones.
 */
function checkAgreement(path: string, recovered: Recovered, appliedIndex: number): void {
  const first = recovered.start.index + 1;
  const last = recovered.start.index + recovered.entries.length;
  if (appliedIndex + 1 < first) {
    throw new DataDirectoryError(
      'mismatch',
      path,
      `In ${path} the state was written up to entry ${appliedIndex} and the log begins at ${first}: entries in between are missing. Restore the whole directory from one copy, or in a cluster replace this member.`,
    );
  }
  if (appliedIndex > last) {
    throw new DataDirectoryError(
      'mismatch',
      path,
      `In ${path} the state was written up to entry ${appliedIndex} and the log ends at ${last}: the log has lost entries. Restore the whole directory from one copy, or in a cluster replace this member.`,
    );
  }
}
