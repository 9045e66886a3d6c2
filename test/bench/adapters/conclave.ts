/** conclave's own package, as a program would import it. */
import { compare, connect, op } from '../../../recipes/index.ts';
import type { BenchClient } from './client.ts';

const leaseTtl = '10m';

export async function connectConclave(endpoints: string): Promise<BenchClient> {
  const conclave = await connect(endpoints);
  const { kv, leases } = conclave;
  const session = await conclave.session();
  const decoder = new TextDecoder();
  const acquire = async (name: string) => {
    const handle = await session.mutex(name).acquire();
    return () => handle.release();
  };
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
    lock: acquire,
    waitForLock: acquire,
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
    announce: (key, value) => kv.put(key, value),
    grantLeases: async (count) => {
      const granted = await Promise.all(
        Array.from({ length: count }, () => leases.grant(leaseTtl, { timeout: '1m' })),
      );
      return async () => {
        const renewed = await Promise.all(
          granted.map(({ id }) => leases.keepAlive(id, { timeout: '1m' })),
        );
        if (renewed.some(({ ttlMs }) => ttlMs === 0)) throw new Error('a lease was gone');
      };
    },
    campaign: async (name, value) => {
      const leadership = await session.election<string>(name).campaign({ value });
      return () => leadership.resign();
    },
    observe: async (name, onLeader) => {
      const { leader$ } = session.election<string>(name);
      const { promise, resolve, reject } = deferred();
      const subscription = leader$.subscribe({
        next: (leader) => {
          resolve();
          if (leader !== null) onLeader(leader.value);
        },
        error: reject,
      });
      await promise;
      return async () => subscription.unsubscribe();
    },
    queue: async (name) => {
      const queue = session.queue<string>(name);
      return {
        push: (value) => queue.push(value),
        consume: async (concurrency, handle) => {
          const worker = session.worker<string>(name, ({ data }) => handle(data), { concurrency });
          return () => worker.close();
        },
        close: async () => undefined,
      };
    },
    close: () => conclave.close(),
  };
}

function deferred(): {
  promise: Promise<void>;
  resolve: () => void;
  reject: (error: unknown) => void;
} {
  let resolve: () => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<void>((onDone, onFailed) => {
    resolve = onDone;
    reject = onFailed;
  });
  return { promise, resolve, reject };
}
