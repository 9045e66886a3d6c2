import { describe, expect, test } from 'vitest';
import { queueKeys } from '../../recipes/names.ts';
import { Queue } from '../../recipes/queue/queue.ts';
import { type ConsumerOptions, QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('queue', () => {
  const world = useWorld();
  const queueOf = (actor: Actor, name: string) => new Queue<number>(actor.context, name);
  const consumerOf = (actor: Actor, name: string, options: ConsumerOptions<number> = {}) =>
    new QueueConsumer<number>(actor.context, name, options);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  /** Claims and acknowledges until nothing is ready. */
  const drain = async (consumer: QueueConsumer<number>) => {
    const seen: number[] = [];
    for (;;) {
      const claim = await consumer.claim();
      if (!claim) return seen;
      seen.push(claim.data);
      await claim.ack();
    }
  };
  const leftovers = async (name: string) => {
    const { root, push, worker } = queueKeys(name);
    const { kvs } = await world.operator().kv.list({ prefix: root });
    return kvs
      .map(({ key }) => key)
      .filter((key) => !key.startsWith(push) && !key.startsWith(worker));
  };

  test('a warm push is one exchange, a claim two, an ack one', async () => {
    const actor = await world.actor();
    const name = world.name();
    const [queue, consumer] = [queueOf(actor, name), consumerOf(actor, name)];
    await queue.push(1);
    expect(kinds(actor)).toEqual(['list', 'txn']);
    await queue.push(2);
    expect(kinds(actor)).toEqual(['txn']);
    const first = await consumer.claim();
    // The consumer introduces itself once.
    expect(kinds(actor)).toEqual(['put', 'list', 'txn']);
    await first?.ack();
    expect(kinds(actor)).toEqual(['txn']);
    // Jobs that were listed together are claimed in one exchange each.
    await (await consumer.claim())?.ack();
    expect(kinds(actor)).toEqual(['txn', 'txn']);
    expect(await leftovers(name)).toEqual([]);
  });

  test('jobs of one producer are offered in the order of the calls', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const numbers = Array.from({ length: 30 }, (_, index) => index);
    await Promise.all(numbers.slice(0, 20).map((number) => queue.push(number)));
    for (const number of numbers.slice(20)) await queue.push(number);
    expect(await drain(consumerOf(actor, name))).toEqual(numbers);
  });

  test('producers that hear of each other are offered in the order of the store', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [first, second] = [queueOf(a, name), queueOf(b, name)];
    await first.push(1);
    await second.push(2);
    await first.push(3);
    expect(await drain(consumerOf(a, name))).toEqual([1, 2, 3]);
  });

  test('a push whose answer is lost is applied once, even when the job is done already', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(a, name);
    await queue.push(0);
    const consumer = consumerOf(b, name);
    expect(await drain(consumer)).toEqual([0]);
    let lost = false;
    const handled: number[] = [];
    a.faults.plan = ({ write }) => {
      if (!write || lost) return 'pass';
      lost = true;
      return 'lose-answer';
    };
    a.faults.before = async ({ write }) => {
      // Before the repetition is sent, somebody has finished the job.
      if (write && lost) handled.push(...(await drain(consumer)));
    };
    const pushed = await queue.push(1);
    handled.push(...(await drain(consumer)));
    expect(pushed.duplicate).toBe(false);
    expect(handled).toEqual([1]);
  });

  test('queue objects of a session share what pushing costs, and the order', async () => {
    const actor = await world.actor();
    const name = world.name();
    await queueOf(actor, name).push(0);
    actor.faults.take();
    for (const number of [1, 2, 3, 4]) await queueOf(actor, name).push(number);
    expect(kinds(actor)).toEqual(['txn', 'txn', 'txn', 'txn']);
    expect(await world.operator().kv.count({ prefix: queueKeys(name).push })).toBe(1n);
    expect(await drain(consumerOf(actor, name))).toEqual([0, 1, 2, 3, 4]);
  });

  test('a push waits for a store that does not answer, as long as it may', async () => {
    const actor = await world.actor();
    const queue = queueOf(actor, world.name());
    actor.faults.next('refuse', () => true, 3);
    await queue.push(1);
    actor.faults.plan = () => 'refuse';
    await expect(queue.push(2, { timeout: 60 })).rejects.toMatchObject({
      code: 'TIMEOUT',
      outcome: 'not-applied',
    });
  });

  test('a push that arrives late, after its repetition, has no effect', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    actor.faults.next('linger');
    await queue.push(1);
    await actor.faults.deliver();
    expect(await drain(consumerOf(actor, name))).toEqual([1]);
  });

  test('a push that is given up after a lost answer says that its outcome is unknown', async () => {
    const actor = await world.actor();
    const queue = queueOf(actor, world.name());
    const abort = new AbortController();
    actor.faults.next('lose-answer');
    actor.faults.after = ({ write }) => {
      if (write) abort.abort();
    };
    await expect(queue.push(1, { signal: abort.signal })).rejects.toMatchObject({
      outcome: 'unknown',
    });
    actor.faults.heal();
    // The lane it used serves the next push all the same.
    await queue.push(2);
    expect((await queue.stats()).ready).toBe(2);
  });

  test('pushing goes on in a new session when the old one is lost', async () => {
    const actor = await world.actor({ ttl: '2s' });
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push(1);
    await actor.killLease();
    await eventually('the loss', () => actor.session.state === 'lost');
    await queue.push(2);
    const other = await world.actor();
    expect(await drain(consumerOf(other, name))).toEqual([1, 2]);
  });

  test('attempts are counted when claiming: a worker that crashes uses one up', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await queueOf(a, name).push(1);
    const claim = await consumerOf(b, name).claim();
    expect(claim?.attempt).toBe(1);
    await b.killLease();
    const consumer = consumerOf(a, name);
    expect(await consumer.claim()).toBeNull();
    expect(await consumer.sweep()).toMatchObject({ returned: [{ id: claim?.id }] });
    expect((await consumer.claim())?.attempt).toBe(2);
  });

  test('a job that crashes its workers becomes a dead letter', async () => {
    const a = await world.actor();
    const name = world.name();
    const queue = queueOf(a, name);
    await queue.push(7, { maxAttempts: 2, key: 'seven' });
    const sweeper = consumerOf(a, name);
    for (let crash = 0; crash < 2; crash++) {
      const b = await world.actor();
      expect(await consumerOf(b, name).claim()).not.toBeNull();
      await b.killLease();
      await sweeper.sweep();
    }
    expect(await sweeper.claim()).toBeNull();
    expect(await queue.dead.list()).toMatchObject([
      { data: 7, attempts: 2, reason: expect.stringContaining('attempt 2 of 2 failed') },
    ]);
    // Its key is free for another.
    expect((await queue.push(8, { key: 'seven' })).duplicate).toBe(false);
  });

  test('an acknowledgement of a lost claim fails and touches nothing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(a, name);
    await queue.push(1);
    const stale = await consumerOf(a, name).claim();
    await world.operator().kv.delete({ prefix: queueKeys(name).worker });
    const consumer = consumerOf(b, name);
    await consumer.sweep();
    const fresh = await consumer.claim();
    expect(fresh && stale && fresh.token > stale.token).toBe(true);
    const before = await leftovers(name);
    await expect(stale?.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    expect(stale?.signal.reason).toMatchObject({ code: 'CLAIM_LOST' });
    expect(await leftovers(name)).toEqual(before);
    await fresh?.ack();
    expect(await leftovers(name)).toEqual([]);
  });

  test('nothing a worker with a lost claim does changes the job', async () => {
    const name = world.name();
    const a = await world.actor();
    await queueOf(a, name).push(1);
    for (const act of ['nack', 'dead', 'extend', 'giveBack'] as const) {
      const b = await world.actor();
      const stale = await consumerOf(b, name).claim();
      await world.operator().kv.delete({ prefix: queueKeys(name).worker });
      const consumer = consumerOf(a, name, { maxAttempts: 100 });
      await consumer.sweep();
      const fresh = await consumer.claim();
      const before = await world.operator().kv.list({ prefix: queueKeys(name).root });
      const tried = act === 'dead' ? stale?.dead('no') : stale?.[act]();
      await expect(tried, act).rejects.toMatchObject({ code: 'CLAIM_LOST' });
      const after = await world.operator().kv.list({ prefix: queueKeys(name).root });
      expect(after.kvs, act).toEqual(before.kvs);
      await fresh?.giveBack();
    }
  });

  test('the lost answer of an ack is told from a lost claim', async () => {
    const actor = await world.actor();
    const name = world.name();
    await queueOf(actor, name).push(1);
    const claim = await consumerOf(actor, name).claim();
    actor.faults.next('lose-answer');
    await claim?.ack();
    expect(await leftovers(name)).toEqual([]);
  });

  test('an ack that is lost, then overtaken by another worker, is CLAIM_LOST', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await queueOf(a, name).push(1);
    const stale = await consumerOf(a, name).claim();
    const consumer = consumerOf(b, name);
    let first = true;
    a.faults.plan = ({ write }) => {
      if (!write || !first) return 'pass';
      first = false;
      // Never reaches the store, but its sender cannot know.
      return 'linger';
    };
    a.faults.before = async ({ write }) => {
      if (!write) return;
      a.faults.heal();
      await world.operator().kv.delete({ prefix: queueKeys(name).worker });
      await consumer.sweep();
      await (await consumer.claim())?.ack();
    };
    await expect(stale?.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    await a.faults.deliver();
    expect(await leftovers(name)).toEqual([]);
  });

  test('a lost answer at every step of a job leaves it handled once', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = consumerOf(actor, name);
    const handled: number[] = [];
    for (let nth = 1; nth <= 5; nth++) {
      let seen = 0;
      actor.faults.plan = ({ write }) => {
        seen += write ? 1 : 0;
        return write && seen === nth ? 'lose-answer' : 'pass';
      };
      await queue.push(nth, { key: 'only one' });
      const first = await consumer.claim();
      await first?.nack();
      const second = await consumer.claim();
      expect(second?.attempt).toBe(2);
      await second?.ack();
      handled.push(second?.data ?? -1);
      expect(await consumer.claim()).toBeNull();
      expect(await leftovers(name)).toEqual([]);
    }
    expect(handled).toEqual([1, 2, 3, 4, 5]);
  });

  test('a claim that is not extended passes on after the visibility period, by the sweeper’s clock', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor(), await world.actor({ clock, ttl: '1h' })];
    const name = world.name();
    await queueOf(a, name).push(1);
    const claim = await consumerOf(a, name, { visibility: '10s' }).claim();
    const consumer = consumerOf(b, name);
    expect((await consumer.sweep()).returned).toEqual([]);
    clock.freeze(9_000);
    expect((await consumer.sweep()).returned).toEqual([]);
    // An extension starts the period anew.
    await claim?.extend('half way');
    clock.freeze(2_000);
    expect((await consumer.sweep()).returned).toEqual([]);
    clock.freeze(9_999);
    expect((await consumer.sweep()).returned).toEqual([]);
    clock.freeze(1);
    expect((await consumer.sweep()).returned).toMatchObject([{ id: claim?.id }]);
    await expect(claim?.extend()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
  });

  test('a sweep leaves alone what was extended since it looked', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor(), await world.actor({ clock, ttl: '1h' })];
    const name = world.name();
    await queueOf(a, name).push(1);
    const claim = await consumerOf(a, name, { visibility: '10s' }).claim();
    const consumer = consumerOf(b, name);
    await consumer.sweep();
    clock.freeze(10_000);
    b.faults.before = async ({ write }) => {
      if (!write) return;
      b.faults.heal();
      await claim?.extend();
    };
    expect((await consumer.sweep()).returned).toEqual([]);
    await claim?.ack();
  });

  test('a worker that did not extend in time knows it by its own clock', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '1h' });
    const name = world.name();
    await queueOf(actor, name).push(1);
    const claim = await consumerOf(actor, name, { visibility: '10s' }).claim();
    clock.freeze(9_999);
    claim?.assertHeld();
    clock.freeze(1);
    expect(() => claim?.assertHeld()).toThrow(expect.objectContaining({ code: 'CLAIM_LOST' }));
    expect(claim?.signal.aborted).toBe(true);
  });

  test('a delayed job becomes ready when it is due, moved by whoever sweeps', async () => {
    const clock = new ManualClock();
    const [a, b] = [
      await world.actor({ clock, ttl: '1h' }),
      await world.actor({ clock, ttl: '1h' }),
    ];
    const name = world.name();
    const queue = queueOf(a, name);
    await queue.push(1, { delay: '5s' });
    await queue.push(2, { delay: '3s' });
    const [one, two] = [consumerOf(a, name), consumerOf(b, name)];
    expect(await one.sweep()).toMatchObject({ due: 0, nextDueInMs: 3_000 });
    expect(await one.claim()).toBeNull();
    clock.freeze(3_000);
    // Both see it due; one moves it.
    const swept = await Promise.all([one.sweep(), two.sweep()]);
    expect(swept[0].due + swept[1].due).toBe(1);
    expect((await two.claim())?.data).toBe(2);
    expect(await queue.stats()).toMatchObject({ ready: 0, delayed: 1, active: 1 });
    clock.freeze(2_000);
    expect((await one.sweep()).due).toBe(1);
    expect((await one.claim())?.data).toBe(1);
  });

  test('nack puts a job back at once or after a delay, with what went wrong', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push(1);
    const consumer = consumerOf(actor, name);
    await (await consumer.claim())?.nack({ error: 'no disk' });
    expect(await queue.peek()).toMatchObject([{ data: 1, attempts: 1, lastError: 'no disk' }]);
    await (await consumer.claim())?.nack({ delay: '1h' });
    expect(await queue.stats()).toMatchObject({ ready: 0, delayed: 1 });
  });

  test('a job with a key is pushed once while it is unfinished', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const first = await queue.push(1, { key: 'u/1' });
    expect(await queue.push(2, { key: 'u/1' })).toEqual({ id: first.id, duplicate: true });
    expect((await queue.push(3, { key: 'u/2' })).duplicate).toBe(false);
    const consumer = consumerOf(actor, name);
    const claim = await consumer.claim();
    expect(claim?.data).toBe(1);
    expect((await queue.push(4, { key: 'u/1' })).duplicate).toBe(true);
    await claim?.ack();
    expect((await queue.push(5, { key: 'u/1' })).duplicate).toBe(false);
  });

  test('an ack does not free a key that another job holds by now', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push(1, { key: 'k' });
    const claim = await consumerOf(actor, name).claim();
    await world.operator().kv.delete({ prefix: queueKeys(name).dedup });
    const second = await queue.push(2, { key: 'k' });
    await claim?.ack();
    expect(await queue.push(3, { key: 'k' })).toEqual({ id: second.id, duplicate: true });
  });

  test('dead letters can be listed, replayed and discarded', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = consumerOf(actor, name);
    for (let number = 0; number < 5; number++) {
      await queue.push(number);
      await (await consumer.claim())?.dead(`reason ${number}`, { error: 'boom' });
    }
    const letters = await queue.dead.list();
    expect(letters.map(({ data }) => data)).toEqual([0, 1, 2, 3, 4]);
    expect(letters[1]).toMatchObject({ reason: 'reason 1', lastError: 'boom', attempts: 1 });
    const page = await queue.dead.list({ limit: 2, after: letters[1]?.id ?? '' });
    expect(page.map(({ data }) => data)).toEqual([2, 3]);
    expect(await queue.dead.replay(letters[0]?.id ?? '')).toBe(1);
    expect(await queue.dead.replay('no such job')).toBe(0);
    expect(await queue.dead.replay(({ reason }) => reason === 'reason 1')).toBe(1);
    expect(await queue.dead.discard(letters[2]?.id ?? '')).toBe(1);
    expect(await queue.dead.discard(() => true)).toBe(2);
    expect(await queue.stats()).toMatchObject({ ready: 2, dead: 0 });
    const again = await consumer.claim();
    expect([again?.data, again?.attempt]).toEqual([0, 1]);
    await again?.ack();
    await (await consumer.claim())?.ack();
    expect(await leftovers(name)).toEqual([]);
  });

  test('a payload that cannot be read stands in the way of nothing else', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = consumerOf(actor, name);
    const ids: string[] = [];
    for (const number of [1, 2, 3]) {
      ids.push((await queue.push(number)).id);
      await (await consumer.claim())?.dead('why not');
    }
    const [first = '', second = '', third = ''] = ids;
    await world.operator().kv.put(queueKeys(name).job + second, 'not JSON');
    const letters = await queue.dead.list();
    expect(letters.map(({ id }) => id)).toEqual(ids);
    expect(letters[0]?.data).toBe(1);
    expect(() => letters[1]?.data).toThrow(expect.objectContaining({ code: 'CODEC' }));
    expect(await queue.dead.replay(({ id }) => id !== third)).toBe(2);
    const [one, two] = await queue.peek(2);
    expect([one?.id, one?.data, two?.id]).toEqual([first, 1, second]);
    expect(() => two?.data).toThrow(expect.objectContaining({ code: 'CODEC' }));
    expect(await queue.dead.discard(({ data }) => data === 3)).toBe(1);
  });

  test('a replay whose answer is lost happens once', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    await queue.push(1);
    const consumer = consumerOf(actor, name);
    await (await consumer.claim())?.dead('why not');
    actor.faults.next('lose-answer');
    expect(await queue.dead.replay(() => true)).toBe(1);
    expect(await drain(consumer)).toEqual([1]);
  });

  test('peek and stats look without claiming', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    for (const number of [1, 2, 3]) await queue.push(number);
    expect((await queue.peek(2)).map(({ data }) => data)).toEqual([1, 2]);
    expect(await queue.stats()).toMatchObject({
      ready: 3,
      delayed: 0,
      active: 0,
      dead: 0,
      workers: 0,
    });
  });

  test('a consumer whose key was removed introduces itself again', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = consumerOf(actor, name);
    await queue.push(1);
    await (await consumer.claim())?.ack();
    await world.operator().kv.delete({ prefix: queueKeys(name).worker });
    await queue.push(2);
    expect((await consumer.claim())?.data).toBe(2);
    expect((await queue.stats()).workers).toBe(1);
    await consumer.close();
    expect((await queue.stats()).workers).toBe(0);
  });

  test('two consumers never get the same job', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(a, name);
    const numbers = Array.from({ length: 40 }, (_, index) => index);
    await Promise.all(numbers.map((number) => queue.push(number)));
    const consumers = [consumerOf(a, name), consumerOf(b, name)];
    const handled = (await Promise.all(consumers.map((consumer) => drain(consumer)))).flat();
    expect(handled.sort((x, y) => x - y)).toEqual(numbers);
    expect(await leftovers(name)).toEqual([]);
  });

  test('a settled claim refuses to be settled again', async () => {
    const actor = await world.actor();
    const name = world.name();
    await queueOf(actor, name).push(1);
    const claim = await consumerOf(actor, name).claim();
    await claim?.ack();
    await expect(claim?.ack()).rejects.toMatchObject({ code: 'RELEASED' });
    await expect(claim?.nack()).rejects.toMatchObject({ code: 'RELEASED' });
    await settle();
  });

  test('bad input is refused by name', async () => {
    const actor = await world.actor();
    const queue = queueOf(actor, world.name());
    await expect(queue.push(1, { delay: -1 })).rejects.toThrow(/'delay'/);
    await expect(queue.push(1, { maxAttempts: 0 })).rejects.toThrow(/'maxAttempts'/);
    await expect(queue.push(1, { key: '' })).rejects.toThrow(/'key'/);
    await expect(queue.peek(101)).rejects.toThrow(/'limit'/);
    expect(() => consumerOf(actor, 'x', { visibility: 5 })).toThrow(/'visibility'/);
  });
});
