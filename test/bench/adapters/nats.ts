/** The npm package nats: JetStream's key-value buckets and work queues, on files. */
import { AckPolicy, connect, RetentionPolicy, StorageType, StringCodec } from 'nats';
import { waitFor } from '../../support/wait.ts';
import type { BenchClient } from './client.ts';

const bucket = 'bench';
const unacknowledgedMax = 4_096;
/** Jobs that are fetched before they are asked for, for each that is handled at a time. */
const fetchedPerConsumer = 8;

export async function connectNats(endpoints: string): Promise<BenchClient> {
  const connection = await connect({ servers: endpoints.split(',') });
  const stream = connection.jetstream();
  const codec = StringCodec();
  // JetStream starts a moment after its server listens.
  const values = await waitFor('JetStream', () =>
    stream.views.kv(bucket, { storage: StorageType.File }),
  );
  return {
    put: (key, value) => values.put(nameOf(key), codec.encode(value)),
    queue: async (name) => {
      const streamName = nameOf(name).replaceAll('.', '-');
      const subject = `${streamName}.jobs`;
      const manager = await connection.jetstreamManager();
      await manager.streams.add({
        name: streamName,
        subjects: [subject],
        retention: RetentionPolicy.Workqueue,
        storage: StorageType.File,
      });
      await manager.consumers.add(streamName, {
        durable_name: 'worker',
        ack_policy: AckPolicy.Explicit,
        max_ack_pending: unacknowledgedMax,
      });
      return {
        push: (value) => stream.publish(subject, codec.encode(value)),
        consume: async (concurrency, handle) => {
          const consumer = await stream.consumers.get(streamName, 'worker');
          const messages = await consumer.consume({
            max_messages: concurrency * fetchedPerConsumer,
          });
          const consuming = (async () => {
            for await (const message of messages) {
              handle(codec.decode(message.data));
              message.ack();
            }
          })();
          return async () => {
            await messages.close();
            await consuming;
          };
        },
        close: async () => undefined,
      };
    },
    close: () => connection.close(),
  };
}

/** Its keys have dots between their parts. */
const nameOf = (key: string): string => key.replace(/\/+$/, '').replaceAll('/', '.');
