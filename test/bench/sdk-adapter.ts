/** conclave's own SDK and recipes. */

import { Mutex } from '../../recipes/locks/mutex.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import { connect } from '../../sdk/connect.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { BenchClient } from './rows.ts';

export async function connectSdk(endpoint: string): Promise<BenchClient> {
  const client = await connect(endpoint);
  const { kv } = client;
  const session = await client.session();
  const context = { session, metrics: noMetrics, background: new Set<never>() };
  const decoder = new TextDecoder();
  return {
    put: (key, value) => kv.put(key, value),
    get: (key) => kv.getString(key),
    swap: async (key, expected, next) =>
      (
        await kv
          .txn()
          .if(compare.value(key, '==', expected))
          .then(op.put(key, next))
          .commit()
      ).succeeded,
    lock: async (name) => {
      const handle = await new Mutex(context, name).acquire();
      return () => handle.release();
    },
    watch: async (key, onValue) => {
      const watch = kv.watch(key);
      const consuming = (async () => {
        for await (const notice of watch)
          if (notice.type === 'events')
            for (const event of notice.events) onValue(decoder.decode(event.kv.value));
      })();
      await watch.created;
      return async () => {
        await watch.cancel();
        await consuming;
      };
    },
    close: async () => {
      await session.close();
      await client.close();
    },
  };
}
