/** ioredis; redlock for locks, BullMQ for queues, pub/sub to tell watchers. */
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import Redlock from 'redlock';
import type { BenchClient } from './client.ts';

const lockTtlMs = 30_000;
const retryDelayMs = 10;

export async function connectRedis(endpoints: string): Promise<BenchClient> {
  const [host = '', port = ''] = endpoints.split(':');
  const connection = { host, port: Number(port), maxRetriesPerRequest: null };
  const redis = new Redis(connection);
  const subscribers = new Set<Redis>();
  const redlock = new Redlock([redis], {
    retryCount: -1,
    retryDelay: retryDelayMs,
    retryJitter: retryDelayMs,
  });
  // A lock that is taken is told as an error, too.
  redlock.on('error', () => undefined);
  const acquire = async (name: string) => {
    const lock = await redlock.acquire([name], lockTtlMs);
    return () => lock.release();
  };
  await redis.ping();
  return {
    put: (key, value) => redis.set(key, value),
    lock: acquire,
    // It polls, and whoever polls first wins: no turns.
    waitForLock: acquire,
    watch: watchBy(redis, subscribers),
    announce: (key, value) => redis.publish(key, value),
    queue: async (name) => {
      // BullMQ puts colons between the parts of its keys, and refuses them in names.
      const queueName = name.replaceAll('/', '-');
      const queue = new Queue(queueName, {
        connection,
        defaultJobOptions: { removeOnComplete: true },
      });
      return {
        push: (value) => queue.add('job', value),
        consume: async (concurrency, handle) => {
          const worker = new Worker(queueName, async ({ data }) => handle(data), {
            connection,
            concurrency,
          });
          await worker.waitUntilReady();
          return () => worker.close();
        },
        close: () => queue.close(),
      };
    },
    close: async () => {
      redis.disconnect();
      for (const subscriber of subscribers) subscriber.disconnect();
    },
  };
}

/** One connection subscribes for all watchers of the client, which is told each message once. */
function watchBy(redis: Redis, subscribers: Set<Redis>): NonNullable<BenchClient['watch']> {
  const listeners = new Map<string, Set<{ readonly tell: (value: string) => void }>>();
  let subscriber: Redis | undefined;
  return async (key, onValue) => {
    if (subscriber === undefined) {
      subscriber = redis.duplicate();
      subscribers.add(subscriber);
      subscriber.on('message', (channel: string, message: string) => {
        for (const { tell } of listeners.get(channel) ?? []) tell(message);
      });
    }
    const ofKey = listeners.get(key) ?? new Set();
    const listener = { tell: onValue };
    ofKey.add(listener);
    listeners.set(key, ofKey);
    await subscriber.subscribe(key);
    return async () => {
      ofKey.delete(listener);
    };
  };
}
