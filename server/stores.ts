/** A member's log and state: in its data directory, or in memory for tests. */
import { Fault } from './faults.ts';
import type { Log, PeerBook, Recovered, State, StateCopy, StateReader } from './ports.ts';
import type { Configuration } from './raft/configuration.ts';
import { openDataDirectory } from './storage/data-directory.ts';
import { drawIncarnation, type Identity, type StoredIdentity } from './storage/identity.ts';
import { MemoryDirectory } from './storage/memory-directory.ts';
import { removeLeftovers, takeSnapshot } from './storage/snapshot.ts';
import type { SnapshotInbox, SnapshotOutbox } from './storage/transfer.ts';

export type Stores = {
  readonly identity: StoredIdentity;
  readonly log: Log;
  /** What the log held, handed over once. */
  takeRecovered(): Recovered;
  readonly state: State;
  readonly peers: PeerBook;
  readonly inbox: SnapshotInbox;
  /** Closed along with the stores. */
  openOutbox(configurationOf: (state: StateReader) => Configuration): SnapshotOutbox;
  snapshot(): Promise<StateCopy>;
  close(): Promise<void>;
};

/** @param path undefined: in memory, and gone at the end */
export async function openStores(
  path: string | undefined,
  identity: Identity,
  onFailure: (error: Error) => void,
): Promise<Stores> {
  return path === undefined ? openMemory(identity) : openDirectory(path, identity, onFailure);
}

function openMemory(identity: Identity): Stores {
  const directory = new MemoryDirectory();
  return {
    identity: { ...identity, incarnation: drawIncarnation() },
    log: directory.log,
    takeRecovered: () => directory.recover(),
    state: directory.state,
    peers: directory.peers,
    inbox: directory.inbox,
    openOutbox: (configurationOf) => directory.openOutbox(configurationOf),
    snapshot: () => Promise.reject(new Fault('not-capable')),
    close: () => directory.state.close(),
  };
}

async function openDirectory(
  path: string,
  identity: Identity,
  onFailure: (error: Error) => void,
): Promise<Stores> {
  const directory = await openDataDirectory({ path, identity, onFailure });
  await removeLeftovers(path);
  const { log, state, peers, inbox } = directory;
  return {
    identity: directory.identity,
    log,
    takeRecovered: () => directory.takeRecovered(),
    state,
    peers,
    inbox,
    openOutbox: (configurationOf) => directory.openOutbox(configurationOf),
    snapshot: () => takeSnapshot(path, state),
    close: () => directory.close(),
  };
}
