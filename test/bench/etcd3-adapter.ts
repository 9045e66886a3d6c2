/** The npm package etcd3, used as its documentation shows. */
import { Etcd3 } from 'etcd3';
import type { BenchClient } from './rows.ts';

const lockTtlSeconds = 30;

export async function connectEtcd3(endpoint: string): Promise<BenchClient> {
  const hosts = endpoint.split(',').map((host) => `http://${host}`);
  const client = new Etcd3({ hosts });
  await client.get('connected').string();
  return {
    put: (key, value) => client.put(key).value(value).exec(),
    get: (key) => client.get(key).string(),
    swap: async (key, expected, next) =>
      (await client.if(key, 'Value', '==', expected).then(client.put(key).value(next)).commit())
        .succeeded,
    lock: async (name) => {
      const lock = client.lock(name).ttl(lockTtlSeconds);
      await lock.acquire();
      return () => lock.release();
    },
    watch: async (key, onValue) => {
      const watcher = await client.watch().key(key).create();
      watcher.on('put', (kv) => onValue(kv.value.toString()));
      return () => watcher.cancel();
    },
    close: async () => client.close(),
  };
}
