/**
 * A store for tests of the SDK and the recipes: conclave or a real etcd, of one member or of three.
 *
 * CONCLAVE_TEST_STORE=conclave|etcd     without etcd its tests are skipped, but fail where CI is set
 * CONCLAVE_TEST_MEMBERS=1|3             three are processes of their own; so is a single etcd
 */
import { afterAll, beforeAll } from 'vitest';
import { startMember } from '../../server/index.ts';
import { commandExists } from './process.ts';
import { TestCluster } from './servers.ts';

export type StoreSystem = 'conclave' | 'etcd';
export type StoreMembers = 1 | 3;

export type TestStore = {
  readonly system: StoreSystem;
  /** host:port of one member. */
  readonly endpoint: string;
  /** host:port of each member. */
  readonly endpoints: readonly string[];
  stop(): Promise<void>;
};

const chosen = process.env['CONCLAVE_TEST_STORE'] ?? 'conclave';
if (chosen !== 'conclave' && chosen !== 'etcd') {
  throw new Error(`CONCLAVE_TEST_STORE must be conclave or etcd, not '${chosen}'`);
}

export const storeSystem: StoreSystem = chosen;

const size = process.env['CONCLAVE_TEST_MEMBERS'] ?? '1';
if (size !== '1' && size !== '3') {
  throw new Error(`CONCLAVE_TEST_MEMBERS must be 1 or 3, not '${size}'`);
}

export const storeMembers: StoreMembers = size === '3' ? 3 : 1;

/** Why tests against the store cannot run here; undefined when they can. */
export const storeMissing: string | undefined =
  storeSystem === 'etcd' && !commandExists('etcd')
    ? 'etcd is not installed: install it (Debian: etcd-server) or unset CONCLAVE_TEST_STORE'
    : undefined;

if (storeMissing !== undefined) {
  if (process.env['CI'] !== undefined) throw new Error(storeMissing);
  process.stderr.write(`skipped: ${storeMissing}\n`);
}

export const startStore = async (): Promise<TestStore> => {
  if (storeSystem === 'conclave' && storeMembers === 1) return startMemberHere();
  const cluster = await TestCluster.start(storeSystem, storeMembers);
  const endpoints = cluster.servers.map((server) => server.endpoint);
  return {
    system: storeSystem,
    endpoint: first(endpoints),
    endpoints,
    stop: () => cluster.stop('SIGKILL'),
  };
};

/** A member in this process, which is the fastest. */
const startMemberHere = async (): Promise<TestStore> => {
  const member = await startMember({ listenClientUrls: ['http://127.0.0.1:0'] });
  const { endpoints } = member;
  return {
    system: 'conclave',
    endpoint: first(endpoints),
    endpoints,
    stop: () => member.close(),
  };
};

function first(endpoints: readonly string[]): string {
  const [endpoint] = endpoints;
  if (endpoint === undefined) throw new Error('the member listens nowhere');
  return endpoint;
}

/** One store for the tests of a file or `describe` block, started before them and stopped after. */
export const useStore = (): { readonly store: () => TestStore } => {
  let store: TestStore | undefined;
  beforeAll(async () => {
    if (storeMissing === undefined) store = await startStore();
  });
  afterAll(() => store?.stop());
  return {
    store: () => {
      if (store === undefined) throw new Error(storeMissing ?? 'the store has not started');
      return store;
    },
  };
};
