/**
 * A queue over the npm package etcd3, which has none: jobs are keys in order of age, consumers list the
 * oldest and delete what they take in a transaction, so that each job has one taker. One listing and
 * one watch serve all consumers of the process. A job whose taker dies is lost: there are no claims.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Etcd3 } from 'etcd3';
import type { BenchQueue } from './client.ts';

const listedAtOnce = 128;
/** A look without being told: the watch may have been armed after the last push. */
const lookAgainMs = 200;

export function etcdQueue(client: Etcd3, name: string): BenchQueue {
  const prefix = `queue/${name}/`;
  let pushed = 0;
  return {
    push: (value) => {
      pushed += 1;
      return client
        .put(`${prefix}${String(pushed).padStart(12, '0')}`)
        .value(value)
        .exec();
    },
    consume: async (concurrency, handle) => {
      let stopped = false;
      let wake: () => void = () => undefined;
      const watcher = await client.watch().prefix(prefix).only('put').create();
      watcher.on('put', () => wake());
      let listed: [string, string][] = [];
      let listing: Promise<void> | undefined;
      const list = async (): Promise<void> => {
        const told = new Promise<void>((resolve) => {
          wake = resolve;
        });
        const found = client.getAll().prefix(prefix).sort('Key', 'Ascend').limit(listedAtOnce);
        listed = Object.entries(await found.strings());
        if (listed.length === 0) await Promise.race([told, delay(lookAgainMs)]);
        listing = undefined;
      };
      const consumer = async (): Promise<void> => {
        while (!stopped) {
          const job = listed.shift();
          if (job === undefined) {
            listing ??= list();
            await listing;
            continue;
          }
          const [key, value] = job;
          const taken = client.if(key, 'Version', '>', 0).then(client.delete().key(key)).commit();
          if ((await taken).succeeded) handle(value);
        }
      };
      const consumers = Promise.all(Array.from({ length: concurrency }, consumer));
      consumers.catch(() => undefined);
      return async () => {
        stopped = true;
        wake();
        await consumers;
        await watcher.cancel();
      };
    },
    close: async () => undefined,
  };
}
