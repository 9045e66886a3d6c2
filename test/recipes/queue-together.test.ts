/** What queues do in one exchange for many callers, and that each keeps its own outcome. */
import { describe, expect, test } from 'vitest';
import { queueKeys } from '../../recipes/names.ts';
import { readJobState } from '../../recipes/queue/job-record.ts';
import { Queue, type QueueOptions } from '../../recipes/queue/queue.ts';
import { QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import { Worker, type WorkerOptions } from '../../recipes/queue/worker.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { compare } from '../../sdk/txn.ts';
import type { Call } from '../support/faulty-kv.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, useWorld } from './world.ts';

describe.skipIf(storeMissing)('queues, many callers at a time', () => {
  const world = useWorld();
  const numbers = (count: number) => Array.from({ length: count }, (_, index) => index);
  /** A queue whose next push needs no read before. */
  const warmQueue = async (actor: Actor, name: string, options: QueueOptions<number> = {}) => {
    const queue = new Queue<number>(actor.context, name, options);
    await queue.push(-1);
    actor.faults.take();
    return queue;
  };
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  /** What is ready, in the order in which it is offered. */
  const offered = async (name: string): Promise<number[]> => {
    const { kv } = world.operator();
    const { kvs } = await kv.list({ prefix: queueKeys(name).ready });
    return kvs.map((entry) => Number(readJobState(entry).data));
  };
  const workerOf = (
    actor: Actor,
    name: string,
    handler: (data: number) => Promise<void> | void,
    options: WorkerOptions<number> = {},
  ) => {
    const worker = new Worker<number, void>(
      actor.context,
      name,
      ({ data }) => handler(data),
      options,
    );
    const troubles: unknown[] = [];
    let done = 0;
    worker.events$.subscribe((event) => {
      if (event.type === 'done') done += 1;
      else if (event.type !== 'claimed') troubles.push(event);
    });
    return { worker, troubles, done: () => done };
  };

  test('pushes of one turn share an exchange and keep the order of the calls', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    const [other, delayed] = [new Queue<number>(actor.context, name), 600_000];
    const pushed = await Promise.all([
      ...numbers(20).map((number) => (number % 2 ? queue : other).push(number)),
      queue.push(99, { delay: delayed }),
    ]);
    expect(kinds(actor)).toEqual(['txn']);
    expect(new Set(pushed.map(({ id }) => id)).size).toBe(21);
    expect(await offered(name)).toEqual([-1, ...numbers(20)]);
    expect(await queue.stats()).toMatchObject({ ready: 21, delayed: 1 });
  });

  test('pushes with a wish of their own go alone', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    const { signal } = new AbortController();
    await Promise.all([
      queue.push(0),
      queue.push(1, { key: 'k' }),
      queue.push(2, { group: 'g' }),
      queue.push(3, { signal }),
      queue.push(4, { timeout: '5s' }),
      queue.push(5),
    ]);
    expect(kinds(actor)).toEqual(['txn', 'txn', 'txn', 'txn', 'txn']);
    expect(await queue.stats()).toMatchObject({ ready: 7 });
  });

  test('pushes that share a lost answer are applied once', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    actor.faults.next('lose-answer', ({ write }) => write, 2);
    await Promise.all(numbers(10).map((number) => queue.push(number)));
    expect(await offered(name)).toEqual([-1, ...numbers(10)]);
  });

  test('what the store refuses for one of them fails for that one only', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    const mentions = ({ parts }: Call, payload: string) =>
      parts?.success.some(
        (put) => put.kind === 'put' && `${put.value}`.includes(`"data":"${payload}"`),
      ) === true;
    actor.faults.before = (call) => {
      if (mentions(call, '7')) throw new ConclaveError('TOO_LARGE', 'not this one');
    };
    const outcomes = await Promise.allSettled(numbers(10).map((number) => queue.push(number)));
    expect(outcomes.flatMap(({ status }, index) => (status === 'rejected' ? [index] : []))).toEqual(
      [7],
    );
    expect(await offered(name)).toEqual([-1, ...numbers(10).filter((number) => number !== 7)]);
  });

  test('pushes that learn together that the queue is bounded each find room, or none', async () => {
    const [actor, other] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = await warmQueue(actor, name);
    await queue.pushMany(numbers(4).map((data) => ({ data })));
    await new Queue<number>(other.context, name).setLimits({ capacity: 8 });
    const outcomes = await Promise.allSettled(
      numbers(6).map((number) => queue.push(number, { whenFull: 'fail' })),
    );
    const refused = outcomes.filter(({ status }) => status === 'rejected');
    for (const outcome of refused) expect(outcome).toMatchObject({ reason: { code: 'FULL' } });
    expect(refused).toHaveLength(3);
    expect(await queue.stats()).toMatchObject({ ready: 8 });
  });

  test('a worker settles its jobs and takes the next in one exchange', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    await queue.pushMany(numbers(63).map((data) => ({ data })));
    actor.faults.take();
    const { worker, done, troubles } = workerOf(actor, name, () => undefined, { concurrency: 16 });
    await eventually('all', () => done() === 64);
    // Four claims of 16; the last acknowledgements go alone.
    const writes = actor.faults.take().filter(({ kind, write }) => kind === 'txn' && write);
    expect(writes).toHaveLength(5);
    expect(troubles).toEqual([]);
    await worker.close();
    expect(await queue.stats()).toMatchObject({ ready: 0, active: 0 });
  });

  test('while the settling of a job is not answered, its slot handles the next one, and no more', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    await queue.pushMany(numbers(4).map((data) => ({ data })));
    let firstAnswered: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      firstAnswered = resolve;
    });
    const { claim } = queueKeys(name);
    let lost = 0;
    actor.faults.before = async ({ parts }) => {
      const [first] = parts?.success ?? [];
      // Alone, after the first try was lost.
      if (first?.kind === 'delete' && `${first.range}`.startsWith(claim)) await held;
      if (first?.kind !== 'txn' || handled.length !== 1 || lost > 0) return;
      lost += 1;
      throw new ConclaveError('OUTCOME_UNKNOWN', 'lost by the test');
    };
    const handled: number[] = [];
    const { worker, done, troubles } = workerOf(actor, name, (data) => void handled.push(data));
    await eventually('the second job', () => handled.length === 2);
    await actor.client.kv.get('x');
    await actor.client.kv.get('x');
    expect([handled.length, done()]).toEqual([2, 0]);
    firstAnswered();
    await eventually('all', () => done() === 5);
    expect(handled).toEqual([-1, 0, 1, 2, 3]);
    expect(troubles).toEqual([]);
    await worker.close();
  });

  test('a lost answer of what settles and takes loses no job and does none twice', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    await queue.pushMany(numbers(40).map((data) => ({ data })));
    let calls = 0;
    actor.faults.plan = ({ write }) => (write && calls++ % 2 === 1 ? 'lose-answer' : 'pass');
    const handled: number[] = [];
    const options = { concurrency: 8 };
    const { worker, done } = workerOf(actor, name, (data) => void handled.push(data), options);
    await eventually('all', () => done() === 41);
    actor.faults.heal();
    expect([...handled].sort((a, b) => a - b)).toEqual([-1, ...numbers(40)]);
    await worker.close();
    expect(await queue.stats()).toMatchObject({ ready: 0, active: 0 });
  });

  test('an acknowledgement that shares its exchange is refused alone when its claim is lost', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    await queue.pushMany(numbers(2).map((data) => ({ data })));
    const consumer = new QueueConsumer<number>(actor.context, name);
    const claims = await consumer.claimMany(3);
    const { claim } = queueKeys(name);
    await world.operator().kv.delete(claim + claims[1]?.id);
    const outcomes = await Promise.allSettled(claims.map((one) => one.ack()));
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect(outcomes[1]).toMatchObject({ reason: { code: 'CLAIM_LOST' } });
  });

  test('what a watch has told of needs no listing, also beyond the jobs of one', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      go = resolve;
    });
    const { worker, done } = workerOf(actor, name, () => gate);
    await eventually('the first job', async () => (await queue.stats()).active === 1);
    await Promise.all(numbers(100).map((number) => queue.push(number)));
    await eventually('the watch', async () => (await queue.stats()).ready === 100);
    actor.faults.take();
    go();
    await eventually('all', () => done() === 101);
    expect(actor.faults.take().filter(({ kind }) => kind === 'list')).toEqual([]);
    await worker.close();
  });

  test('claims and pushes of one transaction are fenced each by its own entry', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = await warmQueue(actor, name);
    await queue.pushMany(numbers(3).map((data) => ({ data })));
    const consumer = new QueueConsumer<number>(actor.context, name);
    const { ready } = queueKeys(name);
    let taken: string | undefined;
    actor.faults.before = async ({ parts }) => {
      if (taken !== undefined || parts?.compares[0]?.target !== 'createRevision') return;
      const { kv } = world.operator();
      const { kvs } = await kv.list({ prefix: ready }, { limit: 2 });
      taken = kvs[1]?.key ?? '';
      await kv
        .txn()
        .if(compare.createRevision(taken, '>', 0n))
        .then({ kind: 'delete', range: taken, options: {} })
        .commit();
    };
    const claims = await consumer.claimMany(4);
    expect(claims.map(({ data }) => data)).toEqual([-1, 1, 2]);
  });
});
