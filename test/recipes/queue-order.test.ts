/** Priorities, groups, limits and batches: which jobs are offered when, and how many at a time. */
import { describe, expect, test } from 'vitest';
import { queueKeys } from '../../recipes/names.ts';
import { Queue } from '../../recipes/queue/queue.ts';
import { type ConsumerOptions, QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import type { QueueLimits } from '../../recipes/queue/queue-limits.ts';
import { Worker } from '../../recipes/queue/worker.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('the order of a queue', () => {
  const world = useWorld();
  const queueOf = (actor: Actor, name: string, limits?: QueueLimits) =>
    new Queue<string>(actor.context, name, limits === undefined ? {} : { limits });
  const consumerOf = (actor: Actor, name: string, options: ConsumerOptions<string> = {}) =>
    new QueueConsumer<string>(actor.context, name, options);
  const drain = async (consumer: QueueConsumer<string>) => {
    const seen: string[] = [];
    for (;;) {
      const claim = await consumer.claim();
      if (!claim) return seen;
      seen.push(claim.data);
      await claim.ack();
    }
  };
  const leftovers = async (name: string) => {
    const { root, push, worker, limits, gate } = queueKeys(name);
    const { kvs } = await world.operator().kv.list({ prefix: root });
    return kvs
      .map(({ key }) => key)
      .filter((key) => ![push, worker, limits, gate].some((prefix) => key.startsWith(prefix)));
  };

  test('higher priorities are offered first, equal ones in order', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    for (const [data, priority] of [
      ['a', 0],
      ['low', -100],
      ['b', 0],
      ['high', 1],
      ['highest', 100],
      ['higher', 2],
      ['lower', -1],
      ['high too', 1],
    ] as const) {
      await queue.push(data, { priority });
    }
    expect((await queue.peek(2)).map(({ data }) => data)).toEqual(['highest', 'higher']);
    const consumer = consumerOf(actor, name);
    const first = await consumer.claim();
    expect([first?.data, first?.priority]).toEqual(['highest', 100]);
    // What comes back keeps its priority.
    await first?.nack();
    expect(await drain(consumerOf(actor, name))).toEqual([
      'highest',
      'higher',
      'high',
      'high too',
      'a',
      'b',
      'lower',
      'low',
    ]);
    expect(await leftovers(name)).toEqual([]);
  });

  test('a group runs one job at a time, in order, also when one comes back', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    for (const data of ['1', '2', '3']) await queue.push(data, { group: 'a/b' });
    expect(await queue.stats()).toMatchObject({ ready: 1, lined: 2 });
    const consumer = consumerOf(actor, name);
    const first = await consumer.claim();
    expect([first?.data, first?.group]).toEqual(['1', 'a/b']);
    expect(await consumer.claim()).toBeNull();
    await first?.nack();
    const again = await consumer.claim();
    expect(again?.data).toBe('1');
    await again?.nack({ delay: '1h' });
    // Its turn is kept while it waits.
    expect(await consumer.claim()).toBeNull();
    expect(await queue.stats()).toMatchObject({ delayed: 1, lined: 2 });
    expect(await queue.cancel(first?.id ?? '')).toBe('removed');
    expect(await drain(consumer)).toEqual(['2', '3']);
    expect(await leftovers(name)).toEqual([]);
  });

  test('groups take turns, however many jobs one of them has', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.pushMany(['a1', 'a2', 'a3', 'a4', 'a5'].map((data) => ({ data, group: 'a' })));
    await queue.pushMany(['b1', 'b2'].map((data) => ({ data, group: 'b' })));
    await queue.push('c1', { group: 'c' });
    await queue.push('none');
    const order: string[] = [];
    for (;;) {
      // Each looks anew: no old listing hides where a job stands that got its turn just now.
      await using consumer = consumerOf(actor, name);
      const claim = await consumer.claim();
      if (!claim) break;
      order.push(claim.data);
      await claim.ack();
    }
    expect(order).toEqual(['a1', 'b1', 'c1', 'none', 'a2', 'b2', 'a3', 'a4', 'a5']);
    expect(await leftovers(name)).toEqual([]);
  });

  test('a dead letter gives up its turn; its replay lines up again', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    for (const data of ['1', '2', '3']) await queue.push(data, { group: 'g' });
    const consumer = consumerOf(actor, name);
    await (await consumer.claim())?.dead('why not');
    const second = await consumer.claim();
    expect(second?.data).toBe('2');
    await queue.dead.replay(() => true);
    expect(await queue.stats()).toMatchObject({ ready: 0, lined: 2, active: 1 });
    await second?.ack();
    expect(await drain(consumer)).toEqual(['1', '3']);
    expect(await leftovers(name)).toEqual([]);
  });

  test('a group may run as many as the limits say, also after they change', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name, { groupConcurrency: 2 });
    for (const data of ['1', '2', '3', '4', '5']) await queue.push(data, { group: 'g' });
    const consumer = consumerOf(actor, name);
    const running = [await consumer.claim(), await consumer.claim()];
    expect(running.map((claim) => claim?.data)).toEqual(['1', '2']);
    expect(await consumer.claim()).toBeNull();
    await queue.setLimits({ groupConcurrency: 4 });
    await consumer.sweep();
    running.push(await consumer.claim(), await consumer.claim());
    expect(running.map((claim) => claim?.data)).toEqual(['1', '2', '3', '4']);
    expect(await consumer.claim()).toBeNull();
    await queue.setLimits({ groupConcurrency: 1 });
    for (const claim of running.splice(0, 3)) await claim?.ack();
    const last = await consumer.claim();
    expect(last?.data ?? 'none').toBe('5');
    await last?.ack();
    for (const claim of running) await claim?.ack();
    expect(await leftovers(name)).toEqual([]);
  });

  test('a turn that nobody passed on is passed on by a sweep', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(a, name);
    for (const data of ['1', '2']) await queue.push(data, { group: 'g' });
    const claim = await consumerOf(a, name).claim();
    let acked = false;
    a.faults.plan = ({ write }) => {
      const fate = acked ? 'refuse' : 'pass';
      if (write) acked = true;
      return fate;
    };
    const settled = claim?.ack(undefined, { timeout: 200 });
    await settled;
    const consumer = consumerOf(b, name);
    // The turn is free, and yet whoever comes now lines up behind the others.
    await queueOf(b, name).push('3', { group: 'g' });
    expect(await consumer.claim()).toBeNull();
    await consumer.sweep();
    expect(await drain(consumer)).toEqual(['2', '3']);
  });

  test('a lost answer at every step of a group keeps its order and loses nothing', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = consumerOf(actor, name);
    for (let nth = 1; nth <= 10; nth++) {
      let seen = 0;
      actor.faults.plan = ({ write }) => {
        seen += write ? 1 : 0;
        return write && seen === nth ? 'lose-answer' : 'pass';
      };
      for (const data of ['1', '2', '3']) await queue.push(data, { group: 'g' });
      const order: string[] = [];
      for (let turn = 0; order.length < 3 && turn < 10; turn++) {
        const claim = await consumer.claim();
        if (claim === null) await consumer.sweep();
        else {
          order.push(claim.data);
          await claim.ack();
        }
      }
      expect(order, `answer ${nth} lost`).toEqual(['1', '2', '3']);
      actor.faults.heal();
      await consumer.sweep();
      expect(await leftovers(name), `answer ${nth} lost`).toEqual([]);
    }
  });

  test('no more jobs run than the queue’s concurrency, over all workers', async () => {
    const actors = await Promise.all([world.actor(), world.actor(), world.actor()]);
    const name = world.name();
    let inside = 0;
    let most = 0;
    let done = 0;
    for (const actor of actors) {
      const worker = new Worker<string, void>(
        actor.context,
        name,
        async () => {
          inside += 1;
          most = Math.max(most, inside);
          await settle(10);
          inside -= 1;
        },
        { concurrency: 4, limits: { concurrency: 3 }, sweepEvery: '1h' },
      );
      worker.events$.subscribe(({ type }) => {
        if (type === 'done') done += 1;
      });
    }
    const queue = queueOf(actors[0], name);
    await queue.pushMany(Array.from({ length: 30 }, (_, index) => ({ data: String(index) })));
    await eventually('all done', () => done === 30);
    expect(most).toBe(3);
    const { kvs } = await world.operator().kv.list({ prefix: queueKeys(name).slot });
    expect(kvs).toEqual([]);
  });

  test('slots of a worker that died are free again; a claim waits until then', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(a, name, { concurrency: 1 });
    await queue.push('1');
    await queue.push('2');
    expect((await consumerOf(a, name).claim())?.data).toBe('1');
    const consumer = consumerOf(b, name);
    expect(await consumer.claim()).toBeNull();
    await a.killLease();
    await consumer.sweep();
    expect(await drain(consumerOf(b, name))).toEqual(['1', '2']);
    expect(await leftovers(name)).toEqual([]);
  });

  test('jobs are claimed no faster than the rate, over all consumers, after a burst', async () => {
    const clock = new ManualClock();
    const [a, b] = [
      await world.actor({ clock, ttl: '1h' }),
      await world.actor({ clock, ttl: '1h' }),
    ];
    const name = world.name();
    const limits = { rate: { limit: 2, per: '1s', burst: 3 } };
    const queue = queueOf(a, name, limits);
    await queue.pushMany(Array.from({ length: 10 }, (_, index) => ({ data: String(index) })));
    const [one, two] = [consumerOf(a, name, { limits }), consumerOf(b, name)];
    expect(await one.claimMany(2)).toHaveLength(2);
    // The other one keeps to limits that it has not named, and hears of what was claimed.
    expect(await two.claimMany(5)).toHaveLength(1);
    expect(await two.claim()).toBeNull();
    expect(two.pausedMs).toBe(500);
    expect(await one.claim()).toBeNull();
    clock.freeze(499);
    expect(await two.claim()).toBeNull();
    clock.freeze(1);
    expect((await two.claim())?.data).toBe('3');
    expect(await one.claim()).toBeNull();
    clock.freeze(60_000);
    expect(await consumerOf(a, name).claimMany(9)).toHaveLength(3);
    expect(await queue.limits()).toEqual({ rate: { limit: 2, per: 1_000, burst: 3 } });
  });

  test('a worker goes on as soon as the rate lets it', async () => {
    const actor = await world.actor();
    const name = world.name();
    const starts: number[] = [];
    const limits = { rate: { limit: 20, per: '1s', burst: 1 } };
    const queue = queueOf(actor, name, limits);
    await queue.pushMany(Array.from({ length: 5 }, (_, index) => ({ data: String(index) })));
    const worker = new Worker<string, void>(
      actor.context,
      name,
      () => void starts.push(Date.now()),
      { concurrency: 3, sweepEvery: '1h' },
    );
    await eventually('all done', () => starts.length === 5);
    expect((starts[4] ?? 0) - (starts[0] ?? 0)).toBeGreaterThanOrEqual(4 * 50 - 20);
    await worker.close();
  });

  test('limits that disagree with the stored ones are refused; who names none keeps to them', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await queueOf(a, name, { concurrency: 1 }).push('1');
    const other = queueOf(b, name, { concurrency: 2 });
    await expect(other.push('2')).rejects.toMatchObject({ code: 'MISMATCH' });
    const consumer = consumerOf(b, name, { limits: { groupConcurrency: 1 } });
    await expect(consumer.claim()).rejects.toMatchObject({ code: 'MISMATCH' });
    await queueOf(b, name).push('2');
    expect(await other.limits()).toEqual({ concurrency: 1 });
    await other.setLimits({ concurrency: 2 });
    await other.push('3');
    expect(() => queueOf(a, name, { concurrency: 0 })).toThrow(/'limits.concurrency'/);
  });

  test('a bounded queue never holds more, fails or waits, and forgets dead letters', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const limits = { capacity: 3 };
    const [one, two] = [queueOf(a, name, limits), queueOf(b, name, limits)];
    const pushed = await Promise.allSettled(
      Array.from({ length: 10 }, (_, index) =>
        (index % 2 === 0 ? one : two).push(String(index), { whenFull: 'fail' }),
      ),
    );
    expect(pushed.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    for (const outcome of pushed) {
      if (outcome.status === 'rejected') {
        expect(outcome.reason).toMatchObject({ code: 'FULL', retryable: true });
      }
    }
    const waiting = [one.push('x'), two.push('y')];
    await expect(one.push('z', { timeout: 50 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    const consumer = consumerOf(a, name);
    await (await consumer.claim())?.ack();
    await Promise.race(waiting);
    expect((await one.stats()).ready).toBe(3);
    await (await consumer.claim())?.dead('makes room');
    await Promise.all(waiting);
    expect(await one.stats()).toMatchObject({ ready: 3, dead: 1 });
    const many = Array.from({ length: 4 }, () => ({ data: 'many' }));
    await expect(one.pushMany(many)).rejects.toThrow(/capacity/);
  });

  test('a lost answer of a push to a bounded queue counts once', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name, { capacity: 2 });
    await queue.push('0');
    actor.faults.next('lose-answer');
    await queue.push('1', { whenFull: 'fail' });
    expect((await queue.stats()).ready).toBe(2);
    await expect(queue.push('2', { whenFull: 'fail' })).rejects.toMatchObject({ code: 'FULL' });
  });

  test('pushes to a bounded queue go on after every other answer was lost', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name, { capacity: 20 });
    let writes = 0;
    actor.faults.plan = ({ write }) => (write && ++writes % 2 === 0 ? 'lose-answer' : 'pass');
    const names = Array.from({ length: 12 }, (_, index) => String(index));
    for (const data of names) await queue.push(data, { timeout: '5s' });
    actor.faults.heal();
    expect(await drain(consumerOf(actor, name))).toEqual(names);
  });

  test('a batch is pushed in one exchange, all or none, and claimed in one', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = consumerOf(actor, name);
    await queue.push('0', { key: 'taken' });
    actor.faults.take();
    actor.faults.next('lose-answer');
    const jobs = Array.from({ length: 60 }, (_, index) => ({ data: String(index + 1) }));
    const pushed = await queue.pushMany([
      ...jobs,
      { data: 'k1', key: 'k' },
      { data: 'k2', key: 'k' },
      { data: 'again', key: 'taken' },
    ]);
    expect(pushed.map(({ duplicate }) => duplicate)).toEqual([
      ...jobs.map(() => false),
      false,
      true,
      true,
    ]);
    expect(pushed[61]?.id).toBe(pushed[60]?.id);
    actor.faults.heal();
    actor.faults.take();
    const first = await consumer.claimMany(32);
    expect(actor.faults.take().map(({ kind }) => kind)).toEqual(['put', 'list', 'txn']);
    expect(first.map(({ data }) => data)).toEqual(
      Array.from({ length: 32 }, (_, index) => String(index)),
    );
    actor.faults.next('lose-answer');
    const second = await consumer.claimMany(32);
    expect(second.map(({ data }) => data)).toEqual([
      ...Array.from({ length: 29 }, (_, index) => String(index + 32)),
      'k1',
    ]);
    for (const claim of [...first, ...second]) await claim.ack();
    expect(await consumer.claimMany(5)).toEqual([]);
    expect(await leftovers(name)).toEqual([]);
    await expect(queue.pushMany(new Array(101).fill({ data: 'x' }))).rejects.toThrow(/'jobs'/);
    await expect(consumer.claimMany(33)).rejects.toThrow(/'count'/);
  });

  test('bad input is refused by name', async () => {
    const actor = await world.actor();
    const queue = queueOf(actor, world.name());
    await expect(queue.push('x', { priority: 101 })).rejects.toThrow(/'priority'/);
    await expect(queue.push('x', { group: '' })).rejects.toThrow(/'group'/);
    await expect(queue.push('x', { attemptTimeout: 0 })).rejects.toThrow(/'attemptTimeout'/);
    await expect(queue.push('x', { replace: true })).rejects.toThrow(/'replace'/);
    await expect(queue.push('x', { whenFull: 'no' as 'fail' })).rejects.toThrow(/'whenFull'/);
  });
});
