/** A store for tests of the SDK and the recipes, of the system and size that was chosen for the run. */
import { afterAll, beforeAll, inject } from 'vitest';
import { startMember } from '../../server/index.ts';
import { TestCluster } from './servers.ts';
import {
  type StoreMembers,
  type StoreSystem,
  storeMembers,
  storeMissing,
  storeSystem,
} from './store-choice.ts';

export { storeMissing } from './store-choice.ts';

declare module 'vitest' {
  interface ProvidedContext {
    /** Stores that run already, one for each worker; of each, host:port of each member. */
    sharedStores?: readonly (readonly string[])[];
  }
}

export type TestStore = {
  readonly system: StoreSystem;
  /** host:port of one member. */
  readonly endpoint: string;
  /** host:port of each member. */
  readonly endpoints: readonly string[];
  stop(): Promise<void>;
};

/** How a file gets its store: see `useStore` and `useOwnStore`. */
export type StoreUse = () => { readonly store: () => TestStore };

/** @param members other than were chosen for the run */
export const startStore = async (members: StoreMembers = storeMembers): Promise<TestStore> => {
  // The fastest.
  if (storeSystem === 'conclave' && members === 1) return startMemberHere();
  const cluster = await TestCluster.start(storeSystem, members, { inMemory: true });
  const endpoints = cluster.servers.map((server) => server.endpoint);
  return asStore(endpoints, () => cluster.discard());
};

const startMemberHere = async (): Promise<TestStore> => {
  const member = await startMember({ listenClientUrls: ['http://127.0.0.1:0'] });
  return asStore(member.endpoints, () => member.close());
};

function asStore(endpoints: readonly string[], stop: TestStore['stop']): TestStore {
  const [endpoint] = endpoints;
  if (endpoint === undefined) throw new Error('the member listens nowhere');
  return { system: storeSystem, endpoint, endpoints, stop };
}

/** The store that runs for this worker, if the run has any: it outlives the file. */
function sharedStore(): TestStore | undefined {
  const endpoints = inject('sharedStores')?.[Number(process.env['VITEST_POOL_ID']) - 1];
  return endpoints && asStore(endpoints, () => Promise.resolve());
}

/**
 * A store for the tests of a file or `describe` block, which has it for itself while it runs. It may
 * have revisions, compactions and keys of earlier files behind it.
 */
export const useStore: StoreUse = () => useStarted(async () => sharedStore() ?? startStore());

/** A store that is started for this file or `describe` block, and stopped after it. */
export const useOwnStore: StoreUse = () => useStarted(() => startStore());

function useStarted(start: () => Promise<TestStore>): ReturnType<StoreUse> {
  let store: TestStore | undefined;
  beforeAll(async () => {
    if (storeMissing === undefined) store = await start();
  });
  afterAll(() => store?.stop());
  return {
    store: () => {
      if (store === undefined) throw new Error(storeMissing ?? 'the store has not started');
      return store;
    },
  };
}
