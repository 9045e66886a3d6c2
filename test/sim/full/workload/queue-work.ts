/** What clients do with the queues `work` and `parts`: push, work, cancel, replay, keep a schedule. */
import type { Claim } from '../../../../recipes/queue/claim.ts';
import type { FlowIds } from '../../../../recipes/queue/flow.ts';
import type { QueueConsumer } from '../../../../recipes/queue/queue-consumer.ts';
import type { QueueLimits } from '../../../../recipes/queue/queue-limits.ts';
import type { RecipeSession } from '../../../../recipes/session.ts';
import { isItem, type QueueRecord } from './queue-record.ts';
import { ignoreRefusal } from './sessions.ts';
import type { ClientContext } from './workload.ts';

export const queueNames = ['work', 'parts'] as const;
export const slotMs = 2_000;

/** As pushers of a schedule name a slot. */
export const slotPayload = (atMs: number): string => `slot ${atMs}`;

const policies = ['fail', 'continue', 'wait'] as const;

export type Part = {
  readonly client: ClientContext;
  readonly session: RecipeSession;
  readonly record: QueueRecord;
  readonly limits: QueueLimits;
};

export async function push(part: Part): Promise<void> {
  const { client, session } = part;
  const keepsSchedule = client.choose.below(4) === 0;
  if (keepsSchedule) {
    await session.cron<string>('tick', {
      pattern: `*/${slotMs / 1_000} * * * * *`,
      queue: 'work',
      missed: 'run-all',
      data: ({ at }) => slotPayload(at.getTime()),
    });
  }
  while (!client.isEnding() && session.state !== 'lost') {
    await pushOne(part).catch(ignoreRefusal);
    await client.pause(client.knobs.meanPauseMs);
  }
}

async function pushOne({ client, session, record, limits }: Part): Promise<void> {
  const { choose, knobs } = client;
  const queue = session.queue<string>('work', { limits });
  const group = () => ['g1', 'g2', undefined][choose.below(3)];
  const job = (data: string) => ({
    data,
    priority: choose.below(4) === 0 ? choose.below(3) - 1 : 0,
    ...(choose.below(4) === 0 ? { delay: choose.exponential(knobs.meanPauseMs) } : {}),
  });
  const maybeGroup = (name: string | undefined) => (name === undefined ? {} : { group: name });
  const flow = (next: () => string) => ({
    data: next(),
    ...maybeGroup(group()),
    onChildFailure: policies[choose.below(3)] ?? 'fail',
    children: [
      { data: next(), queue: queueNames[choose.below(2)] ?? 'parts' },
      { data: next(), ...maybeGroup(group()) },
    ],
  });
  switch (choose.below(8)) {
    case 0: {
      const name = group();
      const jobs = Array.from({ length: 3 }, () => ({
        ...job(record.nextItem()),
        ...maybeGroup(name),
      }));
      const items = jobs.map(({ data }) => data);
      await record.during(client, 'push', items, () => queue.pushMany(jobs));
      return;
    }
    case 1: {
      const { data, ...options } = job(record.nextExtra());
      const key = `key ${choose.below(2)}`;
      const replace = choose.below(2) === 0;
      const { id } = await queue.push(data, { ...options, ...maybeGroup(group()), key, replace });
      record.extras.push(id);
      return;
    }
    case 2: {
      const items: string[] = [];
      const root = flow(() => {
        const item = record.nextItem();
        items.push(item);
        return item;
      });
      await record.during(client, 'push', items, () => queue.pushFlow(root));
      return;
    }
    case 3: {
      const ids = await queue.pushFlow(flow(() => record.nextExtra()));
      const all = ({ id, children }: FlowIds): readonly string[] => [id, ...children.flatMap(all)];
      record.extras.push(...all(ids));
      return;
    }
    case 4: {
      const id = record.extras[choose.below(record.extras.length + 1)];
      if (id === undefined) return;
      await session.queue(queueNames[choose.below(2)] ?? 'work').cancel(id);
      return;
    }
    case 5: {
      const { dead } = session.queue<string>(queueNames[choose.below(2)] ?? 'work');
      if (choose.below(2) === 0) await dead.replay(() => true);
      else await dead.discard(({ data }) => !isItem(data));
      return;
    }
    default: {
      const { data, ...options } = job(record.nextItem());
      await record.during(client, 'push', [data], () =>
        queue.push(data, { ...options, ...maybeGroup(group()) }),
      );
    }
  }
}

const consumerOptions = { visibility: 20_000, maxAttempts: 1_000 };

/** One job at a time, by hand. @param until whether to stop */
export async function consume(part: Part, until: () => Promise<boolean>): Promise<void> {
  const { client, session, limits } = part;
  const consumers = queueNames.map((name) =>
    session.consumer<string>(name, {
      ...consumerOptions,
      ...(name === 'work' ? { limits } : {}),
    }),
  );
  try {
    while (!(await until())) {
      for (const consumer of consumers) await consumeOne(part, consumer).catch(ignoreRefusal);
      await client.pause(client.knobs.meanPauseMs);
    }
  } finally {
    for (const consumer of consumers) await consumer.close();
  }
}

async function consumeOne(part: Part, consumer: QueueConsumer<string>): Promise<void> {
  const { client, record } = part;
  const { choose, knobs } = client;
  await consumer.sweep();
  const invoked = client.now();
  const claims = await consumer.claimMany(1 + choose.below(2));
  for (const claim of claims) {
    record.claimed(client, claim.data, invoked);
    await client.pause(knobs.meanPauseMs);
    await settle(part, claim).catch(ignoreRefusal);
  }
}

async function settle({ client, record }: Part, claim: Claim<string>): Promise<void> {
  const { choose, knobs } = client;
  const how = client.isEnding() ? 0 : choose.below(10);
  if (how === 9) await claim.nack({ delay: choose.exponential(knobs.meanPauseMs) });
  else if (how === 8) await claim.nack({ error: 'so' });
  else if (how === 7) await claim.dead('hopeless');
  else await record.during(client, 'complete', [claim.data], () => claim.ack());
}

/** Workers of both queues. @param until whether to stop */
export async function work(part: Part, until: () => Promise<boolean>): Promise<void> {
  const { client, session, record, limits } = part;
  const { choose, knobs, pause } = client;
  const workers = queueNames.map((name) => {
    const completing = new Map<string, ReturnType<QueueRecord['begin']>>();
    const worker = session.worker<string, string>(
      name,
      async ({ id, data }) => {
        // When it was claimed only the worker knows.
        record.claimed(client, data, 0);
        if (isItem(data)) {
          completing.set(id, record.begin(client, { kind: 'complete', item: data }));
        }
        await pause(knobs.meanPauseMs);
        if (!client.isEnding() && choose.below(6) === 0) throw new Error('not this time');
        return data;
      },
      {
        ...consumerOptions,
        concurrency: 2,
        keepResults: '2s',
        // The slow sweep would hide a watch that missed something.
        sweepEvery: choose.below(2) === 0 ? '10m' : '2s',
        ...(name === 'work' ? { limits } : {}),
      },
    );
    worker.events$.subscribe((event) => {
      if (event.type === 'done') completing.get(event.id)?.({ kind: 'ok', answer: true });
    });
    return worker;
  });
  while (!(await until())) await pause(5 * knobs.meanPauseMs);
  for (const worker of workers) await worker.close();
}
