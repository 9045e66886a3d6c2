/**
 * A member's data directory:
 *
 * ```
 * identity.json   format, name, cluster, member; written last, so it stands for a complete directory
 * peers.json      which data directories of the other members were seen
 * wal/            the replicated log
 * state/          the state machine, in LMDB
 * snapshots/      copies of the state on their way to clients and to other members
 * incoming/       states on their way here from another member
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
import type { Log, PeerBook, Recovered, StateReader } from '../ports.ts';
import type { Configuration } from '../raft/configuration.ts';
import { agreementOf } from './agreement.ts';
import { type DirectoryLock, lockDirectory } from './directory-lock.ts';
import { type Disk, nodeDisk } from './disk.ts';
import { DataDirectoryError } from './errors.ts';
import {
  drawIncarnation,
  type Identity,
  readIdentity,
  type StoredIdentity,
  writeIdentity,
} from './identity.ts';
import { openInbox } from './inbox.ts';
import { type CopyableState, openLmdbState } from './lmdb.ts';
import { Outbox } from './outbox.ts';
import { openPeerBook } from './peers.ts';
import type { SnapshotInbox, SnapshotOutbox } from './transfer.ts';
import { openWal } from './wal.ts';

export type DataDirectoryOptions = {
  readonly path: string;
  /** Who the directory must belong to, or, when it is empty, will. */
  readonly identity: Identity;
  /** See `LmdbStateOptions.onFailure`: the process must end at once. */
  readonly onFailure: (error: Error) => void;
  /** @default limits.walSegmentBytes */
  readonly walSegmentBytes?: number;
  /** For log and state, but not for LMDB's own files. @default the real one */
  readonly disk?: Disk;
};

export interface DataDirectory {
  readonly identity: StoredIdentity;
  readonly log: Log;
  readonly state: CopyableState;
  readonly peers: PeerBook;
  readonly inbox: SnapshotInbox;
  /** What the log held, handed over once: kept here it would stay in memory for good. */
  takeRecovered(): Recovered;
  /** Closed along with the directory. `configurationOf` reads what Raft has to know from a state. */
  openOutbox(configurationOf: (state: StateReader) => Configuration): SnapshotOutbox;
  /** Flushes and gives up ownership. Rejects, and keeps ownership, after a failed write. */
  close(): Promise<void>;
}

export const WAL = 'wal';
export const STATE = 'state';
/** Copies on their way to clients; what a crash leaves here is removed at the next start. */
export const SNAPSHOTS = 'snapshots';
/** A state on its way from a snapshot to its place. */
export const RESTORING = 'restoring';
/** States that other members send. */
const INCOMING = 'incoming';
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
  const { identity, onFailure, walSegmentBytes, disk = nodeDisk } = options;
  const existing = await readIdentity(path);
  if (existing !== undefined) checkIdentity(path, existing, identity);
  for (const part of [WAL, STATE]) await mkdir(join(path, part), { recursive: true, mode: 0o700 });

  let state: CopyableState | undefined;
  const { log, recovered } = await openWal({
    path: join(path, WAL),
    identity: { clusterId: identity.clusterId, memberId: identity.memberId },
    create: existing === undefined,
    afterReset: async () => state?.confirmInstalled(),
    disk,
    ...(walSegmentBytes === undefined ? {} : { segmentBytes: walSegmentBytes }),
  });
  const stored = { ...identity, incarnation: existing?.incarnation ?? drawIncarnation() };
  try {
    if (existing === undefined) checkNothingPromised(path, recovered);
    state = await openLmdbState({ path: join(path, STATE), onFailure, disk });
    const agreed = await agree(path, log, recovered, state);
    const peers = await openPeerBook(path);
    const inbox = await openInbox({ directory: join(path, INCOMING) });
    if (existing?.name !== stored.name || existing.incarnation !== stored.incarnation) {
      await writeIdentity(path, stored);
    }
    return new OpenDataDirectory(path, stored, { log, state, peers, inbox, lock }, agreed);
  } catch (error) {
    await state?.close();
    await log.close();
    throw error;
  }
}

/** Finishes an installation that a stop interrupted. Returns what the log then holds. */
async function agree(
  path: string,
  log: Log,
  recovered: Recovered,
  state: CopyableState,
): Promise<Recovered> {
  const restart = agreementOf(path, recovered, state.applied, state.installed);
  if (restart === undefined) {
    await state.confirmInstalled();
    return recovered;
  }
  const { position, hardState } = restart;
  await log.reset(position, hardState);
  return { hardState, start: position, entries: [] };
}

type Parts = {
  readonly log: Log;
  readonly state: CopyableState;
  readonly peers: PeerBook;
  readonly inbox: SnapshotInbox;
  readonly lock: DirectoryLock;
};

class OpenDataDirectory implements DataDirectory {
  readonly identity: StoredIdentity;
  readonly log: Log;
  readonly state: CopyableState;
  readonly peers: PeerBook;
  readonly inbox: SnapshotInbox;
  readonly #path: string;
  #outboxes: SnapshotOutbox[] = [];
  #recovered: Recovered | undefined;
  readonly #lock: DirectoryLock;
  #closing: Promise<void> | undefined;

  constructor(path: string, identity: StoredIdentity, parts: Parts, recovered: Recovered) {
    this.#path = path;
    this.identity = identity;
    this.log = parts.log;
    this.state = parts.state;
    this.peers = parts.peers;
    this.inbox = parts.inbox;
    this.#lock = parts.lock;
    this.#recovered = recovered;
  }

  takeRecovered(): Recovered {
    const recovered = this.#recovered;
    assert(recovered !== undefined, 'what the log held is taken once');
    this.#recovered = undefined;
    return recovered;
  }

  openOutbox(configurationOf: (state: StateReader) => Configuration): SnapshotOutbox {
    const directory = join(this.#path, SNAPSHOTS);
    const outbox = new Outbox({ state: this.state, configurationOf, directory });
    this.#outboxes.push(outbox);
    return outbox;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.inbox.close();
    for (const outbox of this.#outboxes) await outbox.close();
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
