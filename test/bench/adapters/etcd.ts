/** The npm package etcd3, used as its documentation shows. */
import { Etcd3, type Lease } from 'etcd3';
import type { BenchClient, BenchQueue } from './client.ts';
import { etcdQueue } from './etcd-queue.ts';

const lockTtlSeconds = 30;
const leaseTtlSeconds = 600;
/** etcd3 opens a stream for each renewal; etcd serves no faster with more of them at a time. */
const renewalsAtOnce = 128;

export async function connectEtcd(endpoints: string): Promise<BenchClient> {
  const hosts = endpoints.split(',').map((endpoint) => `http://${endpoint}`);
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
    // Its lock does not wait, its election does, and in turn: faster than to poll for the lock.
    waitForLock: async (name) => {
      const campaign = client.election(name, lockTtlSeconds).campaign('');
      await campaign.wait();
      return () => campaign.resign();
    },
    watch: async (key, onValue) => {
      const watcher = await client.watch().key(key).create();
      watcher.on('put', (kv) => onValue(kv.value.toString()));
      return () => watcher.cancel();
    },
    announce: (key, value) => client.put(key).value(value).exec(),
    grantLeases: async (count) => {
      const leases: Lease[] = [];
      // A lease asks to be granted as soon as it is made.
      await eachAtOnce(Array.from({ length: count }).keys(), renewalsAtOnce, async () => {
        const lease = client.lease(leaseTtlSeconds);
        leases.push(lease);
        await lease.grant();
        // Stops its own renewals, which would run beside those that are measured.
        lease.release();
      });
      return () => eachAtOnce(leases.values(), renewalsAtOnce, (lease) => lease.keepaliveOnce());
    },
    campaign: async (name, value) => {
      const campaign = client.election(name, lockTtlSeconds).campaign(value);
      await campaign.wait();
      return () => campaign.resign();
    },
    observe: async (name, onLeader) => {
      const observer = await client.election(name, lockTtlSeconds).observe();
      observer.on('change', (value) => {
        if (value !== undefined) onLeader(value);
      });
      return () => observer.cancel();
    },
    queue: async (name): Promise<BenchQueue> => etcdQueue(client, name),
    close: async () => client.close(),
  };
}

async function eachAtOnce<T>(
  items: Iterator<T, undefined>,
  atOnce: number,
  work: (item: T) => Promise<unknown>,
): Promise<void> {
  const caller = async (): Promise<void> => {
    for (let next = items.next(); !next.done; next = items.next()) await work(next.value);
  };
  await Promise.all(Array.from({ length: atOnce }, caller));
}
