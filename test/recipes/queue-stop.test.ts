/** Jobs that are cancelled, replaced, or out of time. */
import { describe, expect, test } from 'vitest';
import { queueKeys } from '../../recipes/names.ts';
import { constant } from '../../recipes/queue/backoff.ts';
import { type Handler, JobStoppedError, type WorkerEvent } from '../../recipes/queue/job.ts';
import { Queue } from '../../recipes/queue/queue.ts';
import { QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import { Worker, type WorkerOptions } from '../../recipes/queue/worker.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('stopping jobs', () => {
  const world = useWorld();
  const queueOf = (actor: Actor, name: string) => new Queue<string>(actor.context, name);
  const workerOf = <R>(
    actor: Actor,
    name: string,
    handler: Handler<string, R>,
    options: WorkerOptions<string> = {},
  ) => {
    const worker = new Worker<string, R>(actor.context, name, handler, options);
    const events: WorkerEvent<string, R>[] = [];
    worker.events$.subscribe((event) => events.push(event));
    const count = (type: WorkerEvent['type']) =>
      events.filter((event) => event.type === type).length;
    const happened = (type: WorkerEvent['type'], times = 1) =>
      eventually(`${times} of ${type}`, () => count(type) >= times);
    return { worker, events, happened, count };
  };
  const forever = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  const leftovers = async (name: string) => {
    const { root, push, worker } = queueKeys(name);
    const { kvs } = await world.operator().kv.list({ prefix: root });
    return kvs
      .map(({ key }) => key)
      .filter((key) => !key.startsWith(push) && !key.startsWith(worker));
  };

  test('a job that waits is cancelled wherever it stands, key and all', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const pushed = [
      await queue.push('ready', { key: 'k' }),
      await queue.push('urgent', { priority: 5 }),
      await queue.push('later', { delay: '1h' }),
      await queue.push('first', { group: 'g' }),
      await queue.push('second', { group: 'g' }),
    ];
    for (const { id } of pushed.toReversed()) {
      actor.faults.next('lose-answer');
      expect(await queue.cancel(id)).toBe('removed');
    }
    expect(await leftovers(name)).toEqual([]);
    expect(await queue.cancel(pushed[0]?.id ?? '')).toBe('not-found');
    expect((await queue.push('again', { key: 'k' })).duplicate).toBe(false);
  });

  test('a running job is told by its signal, and dropped when it has ended', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const { id } = await queue.push('x', { key: 'k' });
    const reasons: unknown[] = [];
    const { events, happened, count } = workerOf(actor, name, async (_job, { signal }) => {
      await forever(signal).catch((error: unknown) => reasons.push(error));
      throw new Error('stopped half way');
    });
    await happened('claimed');
    expect(await queue.cancel(id, { reason: 'not needed' })).toBe('stopping');
    await happened('cancelled');
    expect(reasons).toEqual([expect.any(JobStoppedError)]);
    expect(reasons[0]).toMatchObject({ code: 'ABORTED', why: 'cancelled' });
    expect(events.at(-1)).toEqual({
      type: 'cancelled',
      id,
      why: 'cancelled',
      reason: 'not needed',
    });
    expect(count('retry')).toBe(0);
    expect(await leftovers(name)).toEqual([]);
  });

  test('a handler that ends well although it was cancelled has done the job', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const { id } = await queue.push('x');
    const { happened } = workerOf(actor, name, async (_job, { signal }) => {
      await forever(signal).catch(() => undefined);
    });
    await happened('claimed');
    await queue.cancel(id);
    await happened('done');
    expect(await leftovers(name)).toEqual([]);
  });

  test('an order that reaches no watch is found when the claim is extended or settled', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = new QueueConsumer<string>(actor.context, name);
    for (const find of ['extend', 'nack', 'giveBack'] as const) {
      const { id } = await queue.push('x');
      const claim = await consumer.claim();
      expect(await queue.cancel(id)).toBe('stopping');
      expect(claim?.signal.aborted).toBe(false);
      await claim?.[find]();
      expect(claim?.signal.reason).toBeInstanceOf(JobStoppedError);
      if (find === 'extend') await claim?.nack();
      expect(await leftovers(name), find).toEqual([]);
    }
  });

  test('a cancelled job whose worker dies is dropped by a sweep, not run again', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(b, name);
    const { id } = await queue.push('x', { key: 'k' });
    await new QueueConsumer<string>(a.context, name).claim();
    await queue.cancel(id);
    await a.killLease();
    const consumer = new QueueConsumer<string>(b.context, name);
    expect((await consumer.sweep()).returned).toEqual([]);
    expect(await consumer.claim()).toBeNull();
    expect(await leftovers(name)).toEqual([]);
  });

  test('a waiting job with the same key is replaced, in its group’s order', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const first = await queue.push('1', { key: 'k', group: 'g' });
    await queue.push('other', { group: 'g' });
    actor.faults.next('lose-answer');
    const second = await queue.push('2', { key: 'k', group: 'g', replace: true });
    expect(second).toMatchObject({ duplicate: false, replaced: first.id });
    const later = await queue.push('3', { key: 'later', delay: '1h' });
    const now = await queue.push('4', { key: 'later', replace: true });
    expect(now.replaced).toBe(later.id);
    const consumer = new QueueConsumer<string>(actor.context, name);
    const seen: string[] = [];
    for (let claim = await consumer.claim(); claim; claim = await consumer.claim()) {
      seen.push(claim.data);
      await claim.ack();
    }
    expect(seen.sort()).toEqual(['2', '4', 'other']);
    expect(await leftovers(name)).toEqual([]);
  });

  test('a running job with the same key is aborted, and then the new one runs', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const first = await queue.push('1', { key: 'k' });
    const log: string[] = [];
    const { happened, events } = workerOf(
      actor,
      name,
      async ({ data }, { signal }) => {
        log.push(`start ${data}`);
        if (data === '1') {
          await forever(signal).catch(() => undefined);
          await settle();
          log.push('end 1');
          throw new Error('stopped');
        }
      },
      { concurrency: 2 },
    );
    await happened('claimed');
    const second = await queue.push('2', { key: 'k', replace: true });
    expect(second).toMatchObject({ duplicate: false, replaced: first.id });
    await happened('done');
    expect(log).toEqual(['start 1', 'end 1', 'start 2']);
    expect(events).toContainEqual(
      expect.objectContaining({ type: 'cancelled', id: first.id, why: 'replaced' }),
    );
    expect(await leftovers(name)).toEqual([]);
  });

  test('of several that replace a running one only the last runs; it can be cancelled', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push('1', { key: 'k' });
    const consumer = new QueueConsumer<string>(actor.context, name);
    const running = await consumer.claim();
    const second = await queue.push('2', { key: 'k', replace: true });
    const third = await queue.push('3', { key: 'k', replace: true });
    expect(third.replaced).toBe(second.id);
    expect(await queue.push('4', { key: 'k' })).toEqual({ id: third.id, duplicate: true });
    expect(await queue.cancel(third.id)).toBe('removed');
    const last = await queue.push('5', { key: 'k', replace: true });
    expect(last.duplicate).toBe(false);
    await running?.ack();
    const claims = [await consumer.claim(), await consumer.claim()];
    expect(claims.map((claim) => claim?.data)).toEqual(['5', undefined]);
    await claims[0]?.ack();
    expect(await leftovers(name)).toEqual([]);
  });

  test('an attempt that takes too long has failed; its signal says why', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push('slow', { attemptTimeout: 20, maxAttempts: 2 });
    const reasons: unknown[] = [];
    const { happened } = workerOf(
      actor,
      name,
      (_job, { signal }) =>
        forever(signal).catch((error: unknown) => {
          reasons.push(error);
          throw error;
        }),
      { backoff: constant(1) },
    );
    await happened('dead');
    expect(reasons).toHaveLength(2);
    expect(reasons[0]).toMatchObject({ code: 'TIMEOUT', why: 'timeout' });
    expect(await queue.dead.list()).toMatchObject([
      { reason: expect.stringContaining('took longer than 20 ms') },
    ]);
  });

  test('a handler that is deaf to its signal is left behind after a visibility period', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push('deaf');
    const deaf = workerOf(actor, name, () => new Promise<never>(() => undefined), {
      attemptTimeout: 10,
      // A busy machine must not lose the claim meanwhile.
      visibility: 600,
      maxAttempts: 1,
    });
    await deaf.happened('dead');
    const { id } = await queue.push('deaf too', { attemptTimeout: '1h' });
    await deaf.happened('claimed', 2);
    await queue.cancel(id);
    await deaf.happened('cancelled');
  });
});
