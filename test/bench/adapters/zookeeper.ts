/** The npm package node-zookeeper-client, with ZooKeeper's standard recipes. It has no linearizable read. */
import { once } from 'node:events';
import zookeeper from 'node-zookeeper-client';
import { waitFor, within } from '../../support/wait.ts';
import type { BenchClient, Release } from './client.ts';

const sessionTimeoutMs = 10_000;
const connectTimeoutMs = 20_000;
const anyVersion = -1;
const { PERSISTENT, EPHEMERAL_SEQUENTIAL } = zookeeper.CreateMode;
const { NODE_EXISTS, NO_NODE, BAD_VERSION } = zookeeper.Exception;

type Failure = Error | zookeeper.Exception | null;

export async function connectZookeeper(endpoints: string): Promise<BenchClient> {
  const client = zookeeper.createClient(endpoints, { sessionTimeout: sessionTimeoutMs });
  const connected = once(client, 'connected');
  client.connect();
  await within(connected, connectTimeoutMs, 'the connection to ZooKeeper');
  const parents = new Set<string>();
  /** Of the nodes this client wrote last, so that a swap needs no read. */
  const versions = new Map<string, number>();

  const makeParent = async (path: string): Promise<void> => {
    const parent = path.slice(0, path.lastIndexOf('/'));
    if (parent === '' || parents.has(parent)) return;
    await call<string>((done) => client.mkdirp(parent, done)).catch(unless(NODE_EXISTS));
    parents.add(parent);
  };
  const put = async (key: string, value: string): Promise<void> => {
    const path = pathOf(key);
    await makeParent(path);
    try {
      await call<string>((done) => client.create(path, Buffer.from(value), PERSISTENT, done));
    } catch (error) {
      if (codeOf(error) !== NODE_EXISTS) throw error;
      const stat = await call<zookeeper.Stat>((done) =>
        client.setData(path, Buffer.from(value), anyVersion, done),
      );
      versions.set(path, stat.version);
    }
  };

  /** Ephemeral and sequential nodes; each waits for the one before it. */
  const standInLine = async (name: string, value: string): Promise<Release> => {
    const folder = pathOf(name);
    await makeParent(`${folder}/`);
    const own = await call<string>((done) =>
      client.create(`${folder}/n-`, Buffer.from(value), EPHEMERAL_SEQUENTIAL, done),
    );
    const ownName = own.slice(folder.length + 1);
    for (;;) {
      const children = await call<string[]>((done) => client.getChildren(folder, done));
      const before = children.sort()[children.indexOf(ownName) - 1];
      if (before === undefined)
        return () => call<unknown>((done) => client.remove(own, anyVersion, done));
      await gone(`${folder}/${before}`);
    }
  };
  const gone = async (path: string): Promise<void> => {
    await new Promise<void>((resolve, reject) => {
      client.exists(
        path,
        () => resolve(),
        (error, stat: zookeeper.Stat | null) => {
          if (error) reject(error);
          else if (stat === null) resolve();
        },
      );
    });
  };

  // An ensemble may still be electing when it accepts connections.
  await waitFor('ZooKeeper to write', () => put('ready', '').then(() => true as const), {
    timeoutMs: connectTimeoutMs,
  });
  return {
    put,
    swap: async (key, _expected, next) => {
      const path = pathOf(key);
      // A node that was created and not written since has version 0.
      const version = versions.get(path) ?? 0;
      try {
        const stat = await call<zookeeper.Stat>((done) =>
          client.setData(path, Buffer.from(next), version, done),
        );
        versions.set(path, stat.version);
        return true;
      } catch (error) {
        if (codeOf(error) === BAD_VERSION) return false;
        throw error;
      }
    },
    lock: (name) => standInLine(name, ''),
    waitForLock: (name) => standInLine(name, ''),
    campaign: standInLine,
    observe: async (name, onLeader) => {
      const folder = pathOf(name);
      await makeParent(`${folder}/`);
      let stopped = false;
      let last: string | undefined;
      const look = async (): Promise<void> => {
        if (stopped) return;
        const children = await call<string[]>((done) =>
          // A leader that resigned before it was read is followed by the next look.
          client.getChildren(folder, () => void look().catch(unless(NO_NODE)), done),
        );
        const [first] = children.sort();
        if (first === undefined || first === last) return;
        const value = await call<Buffer>((done) => client.getData(`${folder}/${first}`, done));
        last = first;
        onLeader(value.toString());
      };
      await look();
      return async () => {
        stopped = true;
      };
    },
    close: async () => client.close(),
  };
}

const pathOf = (key: string): string => `/${key.replace(/\/+$/, '')}`;

async function call<T>(
  start: (done: (error: Failure, result?: unknown) => void) => void,
): Promise<T> {
  return await new Promise<T>((resolve, reject) => {
    start((error, result) => (error ? reject(error) : resolve(result as T)));
  });
}

const codeOf = (error: unknown): number | undefined => (error as { code?: number }).code;

const unless =
  (code: number) =>
  (error: unknown): void => {
    if (codeOf(error) !== code) throw error;
  };
