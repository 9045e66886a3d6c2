/** A member's log and state: in its data directory, or in memory for tests. */
import { createHash } from 'node:crypto';
import type { MemberOptions } from './embed.ts';
import { Fault } from './faults.ts';
import type { Log, Recovered, State } from './ports.ts';
import type { SnapshotSource } from './rpc/member.ts';
import { openDataDirectory } from './storage/data-directory.ts';
import type { Identity } from './storage/identity.ts';
import { MemoryLog, MemoryState } from './storage/memory.ts';

export type Stores = {
  readonly identity: Identity;
  readonly log: Log;
  readonly recovered: Recovered;
  readonly state: State;
  snapshot(): Promise<SnapshotSource>;
  close(): Promise<void>;
};

export async function openStores(
  options: MemberOptions,
  onFailure: (error: Error) => void,
): Promise<Stores> {
  const identity = identityOf(options.name ?? 'default', options.clusterToken ?? 'etcd-cluster');
  if (options.directory === undefined) {
    const log = new MemoryLog();
    const state = new MemoryState();
    return {
      identity,
      log,
      recovered: log.recovered(),
      state,
      snapshot: () => Promise.reject(new Fault('not-capable')),
      close: () => state.close(),
    };
  }
  const directory = await openDataDirectory({ path: options.directory, identity, onFailure });
  const { log, recovered, state } = directory;
  return {
    identity,
    log,
    recovered,
    state,
    snapshot: () => Promise.reject(new Fault('not-capable')),
    close: () => directory.close(),
  };
}

/**
 * Members that are started with the same token and names find the same ids without talking to each
 * other. Addresses are left out: a member that moves stays who it is.
 */
function identityOf(name: string, token: string): Identity {
  const id = (...parts: string[]): bigint =>
    createHash('sha256').update(JSON.stringify(parts)).digest().readBigUInt64BE() || 1n;
  return { name, clusterId: id('cluster', token, name), memberId: id('member', token, name) };
}
