/** A member's log and state: in its data directory, or in memory for tests. */
import { createHash } from 'node:crypto';
import type { MemberOptions } from './embed.ts';
import { Fault } from './faults.ts';
import type { Log, Recovered, State, StateCopy } from './ports.ts';
import { openDataDirectory } from './storage/data-directory.ts';
import type { Identity } from './storage/identity.ts';
import { MemoryLog, MemoryState } from './storage/memory.ts';
import { removeLeftovers, takeSnapshot } from './storage/snapshot.ts';

export type Stores = {
  readonly identity: Identity;
  readonly log: Log;
  /** What the log held, handed over once. */
  takeRecovered(): Recovered;
  readonly state: State;
  snapshot(): Promise<StateCopy>;
  close(): Promise<void>;
};

export async function openStores(
  options: MemberOptions,
  onFailure: (error: Error) => void,
): Promise<Stores> {
  const identity = identityOf(options.name ?? 'default', options.clusterToken ?? 'etcd-cluster');
  const path = options.directory;
  if (path === undefined) {
    const log = new MemoryLog();
    const state = new MemoryState();
    return {
      identity,
      log,
      takeRecovered: () => log.recovered(),
      state,
      snapshot: () => Promise.reject(new Fault('not-capable')),
      close: () => state.close(),
    };
  }
  const directory = await openDataDirectory({ path, identity, onFailure });
  await removeLeftovers(path);
  const { log, state } = directory;
  return {
    identity,
    log,
    takeRecovered: () => directory.takeRecovered(),
    state,
    snapshot: () => takeSnapshot(path, state),
    close: () => directory.close(),
  };
}

/**
 * Members that are started with the same token and names find the same ids without talking to each
 * other. Addresses are left out: a member that moves stays who it is.
 */
export function identityOf(name: string, token: string): Identity {
  const id = (...parts: string[]): bigint =>
    createHash('sha256').update(JSON.stringify(parts)).digest().readBigUInt64BE() || 1n;
  return { name, clusterId: id('cluster', token, name), memberId: id('member', token, name) };
}
