/**
 * A store for tests of the SDK and the recipes: conclave in this process, or a real etcd. Choose with
 * CONCLAVE_TEST_STORE=conclave|etcd. Without etcd its tests are skipped, but fail where CI=true.
 */
import { afterAll, beforeAll } from 'vitest';
import { startMember } from '../../server/index.ts';
import { commandExists } from './process.ts';
import { TestServer } from './servers.ts';

export type TestStore = {
  readonly system: 'conclave' | 'etcd';
  /** host:port */
  readonly endpoint: string;
  stop(): Promise<void>;
};

const chosen = process.env['CONCLAVE_TEST_STORE'] ?? 'conclave';
if (chosen !== 'conclave' && chosen !== 'etcd') {
  throw new Error(`CONCLAVE_TEST_STORE must be conclave or etcd, not '${chosen}'`);
}

export const storeSystem: 'conclave' | 'etcd' = chosen;

/** Why tests against the store cannot run here; undefined when they can. */
export const storeMissing: string | undefined =
  storeSystem === 'etcd' && !commandExists('etcd')
    ? 'etcd is not installed: install it or unset CONCLAVE_TEST_STORE'
    : undefined;

if (storeMissing !== undefined) {
  if (process.env['CI'] === 'true') throw new Error(storeMissing);
  process.stderr.write(`skipped: ${storeMissing}\n`);
}

export const startStore = async (): Promise<TestStore> => {
  if (storeSystem === 'etcd') {
    const server = await TestServer.start('etcd');
    return { system: 'etcd', endpoint: server.endpoint, stop: () => server.stop('SIGKILL') };
  }
  const member = await startMember({ listenClientUrls: ['http://127.0.0.1:0'] });
  const [endpoint] = member.endpoints;
  if (endpoint === undefined) throw new Error('the member listens nowhere');
  return { system: 'conclave', endpoint, stop: () => member.close() };
};

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
