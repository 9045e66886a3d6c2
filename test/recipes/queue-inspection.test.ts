/** What queues and schedules tell of themselves: who has what since when, and their metrics. */
import { lastValueFrom } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { noMetrics, type RecipeMetrics } from '../../recipes/metrics.ts';
import { queueKeys } from '../../recipes/names.ts';
import { Queue, type QueueOptions } from '../../recipes/queue/queue.ts';
import { type ConsumerOptions, QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import { Worker } from '../../recipes/queue/worker.ts';
import { RecipeSession } from '../../recipes/session.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, useWorld } from './world.ts';

describe.skipIf(storeMissing)('inspection of queues', () => {
  const world = useWorld();
  const queueOf = (actor: Actor, name: string, options: QueueOptions<number> = {}) =>
    new Queue<number>(actor.context, name, options);
  const consumerOf = (actor: Actor, name: string, options: ConsumerOptions<number> = {}) =>
    new QueueConsumer<number>(actor.context, name, options);
  /** Metrics that are written down; times only as whether they are there. */
  const notebook = () => {
    const told: string[] = [];
    const metrics: RecipeMetrics = {
      ...noMetrics,
      waited: ({ recipe, ms, outcome }) => told.push(`${recipe} waited ${ms} ${outcome}`),
      held: ({ recipe, ms }) => told.push(`${recipe} held ${ms}`),
      contended: ({ recipe, kind }) => told.push(`${recipe} contended ${kind}`),
      lost: ({ recipe, reason }) => told.push(`${recipe} lost ${reason}`),
    };
    return { told, metrics };
  };

  test('tells who has which job since when, and who is there to take one', async () => {
    const clock = new ManualClock();
    const a = await world.actor({ clock, ttl: '1h', meta: { host: 'one' } });
    const b = await world.actor();
    const name = world.name();
    const queue = queueOf(b, name);
    const first = await queue.push(1, { group: 'g/1', priority: 2 });
    expect([await queue.active(), await queue.workers()]).toEqual([[], []]);
    const consumer = consumerOf(a, name, { visibility: '1m' });
    const since = new Date(clock.wallMs());
    const claim = await consumer.claim();
    await claim?.extend({ done: 0.5 });
    const [worker, ...others] = await queue.workers();
    expect(worker).toMatchObject({ session: a.session.id, since, meta: { host: 'one' } });
    expect(others).toEqual([]);
    expect(await queue.active()).toEqual([
      {
        id: first.id,
        worker: worker?.worker,
        session: a.session.id,
        since,
        attempts: 1,
        maxAttempts: 5,
        visibilityMs: 60_000,
        priority: 2,
        group: 'g/1',
        progress: { done: 0.5 },
      },
    ]);
    await claim?.nack();
    await consumer.claim();
    expect(await queue.active()).toMatchObject([{ id: first.id, attempts: 2 }]);
    // Somebody wrote there by hand.
    await world.operator().kv.put(`${queueKeys(name).worker}me-1`, 'not JSON');
    expect(await queue.workers()).toContainEqual({
      worker: 'me-1',
      session: 'me',
      since: new Date(0),
      meta: {},
    });
  });

  test('claims report how long the job waited, how long it was held, and that it was lost', async () => {
    const clock = new ManualClock();
    const { told, metrics } = notebook();
    const actor = await world.actor({ clock, ttl: '1h', metrics });
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = consumerOf(actor, name, { visibility: '10s' });
    await queue.push(1);
    clock.freeze(300);
    const first = await consumer.claim();
    expect(told.splice(0)).toEqual(['queue waited 300 acquired']);
    clock.freeze(700);
    await first?.nack();
    await first?.ack().catch(() => undefined);
    expect(told.splice(0)).toEqual(['queue held 700']);
    const second = await consumer.claim();
    told.length = 0;
    clock.freeze(10_000);
    expect(() => second?.assertHeld()).toThrow();
    expect(told.splice(0)).toEqual(['queue lost CLAIM_LOST', 'queue held 10000']);
    // What a lost claim still tries does not count again.
    await second?.ack().catch(() => undefined);
    expect(told).toEqual([]);
  });

  test('a claim that passed on is lost when settling it finds that out', async () => {
    const { told, metrics } = notebook();
    const actor = await world.actor({ metrics });
    const name = world.name();
    await queueOf(actor, name).push(1);
    const claim = await consumerOf(actor, name).claim();
    await world.operator().kv.delete(`${queueKeys(name).claim}${claim?.id}`);
    await expect(claim?.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    expect(told.map((line) => line.replace(/ \d+.*/, ''))).toEqual([
      'queue waited',
      'queue lost CLAIM_LOST',
      'queue held',
    ]);
  });

  test('a worker reports each job once', async () => {
    const { told, metrics } = notebook();
    const actor = await world.actor({ metrics });
    const name = world.name();
    const worker = new Worker<number, void>(actor.context, name, () => undefined);
    await queueOf(actor, name).push(1);
    await eventually('the job done', () => told.length >= 2);
    await worker.close();
    expect(told.map((line) => line.replace(/ [\d.]+/, ''))).toEqual([
      'queue waited acquired',
      'queue held',
    ]);
  });

  test('a push reports that it waits for room, and nothing when there is some', async () => {
    const clock = new ManualClock();
    const { told, metrics } = notebook();
    const [a, b] = [await world.actor({ clock, ttl: '1h', metrics }), await world.actor()];
    const name = world.name();
    const limits = { capacity: 1 };
    const queue = queueOf(a, name, { limits });
    const { id } = await queue.push(1);
    await expect(queue.push(2, { whenFull: 'fail' })).rejects.toMatchObject({ code: 'FULL' });
    expect(told).toEqual([]);
    const leave = new AbortController();
    a.faults.take();
    const waiting = queue.push(2);
    const behind = queue.push(3, { signal: leave.signal });
    const given = behind.catch(() => 'left');
    await eventually('a push to wait', () => a.faults.take().some(({ kind }) => kind === 'watch'));
    leave.abort();
    expect(await given).toBe('left');
    clock.freeze(250);
    await queueOf(b, name).cancel(id);
    await waiting;
    expect(told.filter((line) => line.includes('contended'))).toHaveLength(2);
    expect(told.filter((line) => line.includes('waited')).sort()).toEqual([
      'queue waited 0 ABORTED',
      expect.stringMatching(/^queue waited 2\d\d acquired$/),
    ]);
  });

  test('a claim that is left unsettled goes back at once, counted; after the last it is dead', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const consumer = consumerOf(actor, name, { maxAttempts: 2 });
    await queue.push(1);
    const fail = async () => {
      await using claim = await consumer.claim();
      throw new Error(`attempt ${claim?.attempt}`);
    };
    await expect(fail()).rejects.toThrow('attempt 1');
    expect(await queue.stats()).toMatchObject({ ready: 1, active: 0 });
    await expect(fail()).rejects.toThrow('attempt 2');
    expect(await queue.dead.list()).toMatchObject([
      { attempts: 2, reason: expect.stringMatching(/unsettled/) },
    ]);
    await queue.push(2);
    const settled = await consumer.claim();
    await settled?.ack();
    actor.faults.take();
    await settled?.[Symbol.asyncDispose]();
    expect(actor.faults.take()).toEqual([]);
    await queue.push(3);
    const lost = await consumer.claim();
    await world.operator().kv.delete(`${queueKeys(name).claim}${lost?.id}`);
    await lost?.[Symbol.asyncDispose]();
    await lost?.[Symbol.asyncDispose]();
    expect(await queue.stats()).toMatchObject({ ready: 0, active: 0 });
  });

  test('events end with the session when its owner closes it, and not when it is lost', async () => {
    const actor = await world.actor();
    const [session, name] = [new RecipeSession(actor.session, noMetrics), world.name()];
    const { revision } = await world.operator().kv.put(`${name}/before`, '');
    const stream = session.queue<number>(name).events({ from: revision })[Symbol.asyncIterator]();
    const first = stream.next();
    await actor.killLease();
    const other = queueOf(await world.actor(), name);
    await other.push(1);
    expect(await first).toMatchObject({ value: { type: 'pushed' } });
    const [next, subscribed] = [
      stream.next(),
      lastValueFrom(session.queue(name).events$, { defaultValue: 'over' }),
    ];
    await session.close();
    expect(await next).toEqual({ done: true, value: undefined });
    expect(await subscribed).toBe('over');
    // Too late to be ended by anybody.
    expect(await stream.next()).toEqual({ done: true, value: undefined });
  });
});
