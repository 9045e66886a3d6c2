/** Parents and children, what happens in a queue, and jobs looked at from outside. */
import { describe, expect, test } from 'vitest';
import { queueKeys } from '../../recipes/names.ts';
import { constant } from '../../recipes/queue/backoff.ts';
import type { ChildResult } from '../../recipes/queue/child-results.ts';
import type { JobView } from '../../recipes/queue/job-view.ts';
import { Queue } from '../../recipes/queue/queue.ts';
import { QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import type { QueueEvent, QueueGap } from '../../recipes/queue/queue-events.ts';
import { Worker } from '../../recipes/queue/worker.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, useWorld } from './world.ts';

describe.skipIf(storeMissing)('flows and events of queues', () => {
  const world = useWorld();
  const queueOf = (actor: Actor, name: string) => new Queue<string>(actor.context, name);
  const consumerOf = (actor: Actor, name: string) => new QueueConsumer<string>(actor.context, name);
  const leftovers = async (name: string) => {
    const { root, push, worker } = queueKeys(name);
    const { kvs } = await world.operator().kv.list({ prefix: root });
    return kvs
      .map(({ key }) => key)
      .filter((key) => !key.startsWith(push) && !key.startsWith(worker));
  };

  test('a parent waits for its children, in their queues, and reads their results', async () => {
    const actor = await world.actor();
    const [name, other] = [world.name(), world.name()];
    const queue = queueOf(actor, name);
    const seen: string[] = [];
    let results: readonly ChildResult[] = [];
    for (const where of [name, other]) {
      new Worker<string, string>(
        actor.context,
        where,
        async ({ data }, { children }) => {
          seen.push(data);
          if (data === 'root') results = await children();
          return `${data}!`;
        },
        { concurrency: 4 },
      );
    }
    const ids = await queue.pushFlow({
      data: 'root',
      children: [
        { data: 'a', children: [{ data: 'a1' }, { data: 'a2', queue: other }] },
        { data: 'b', group: 'g' },
        { data: 'c', group: 'g', queue: other },
      ],
    });
    await eventually('the root', () => seen.length === 6);
    expect(seen.at(-1)).toBe('root');
    expect(seen.indexOf('a')).toBeGreaterThan(Math.max(seen.indexOf('a1'), seen.indexOf('a2')));
    await queue.finished(ids.id).catch(() => undefined);
    expect(results).toEqual(
      ids.children.map(({ id }, index) => ({ id, status: 'done', result: `${'abc'[index]}!` })),
    );
    await eventually('the end', async () => (await leftovers(name)).length === 0);
    expect(await leftovers(other)).toEqual([]);
  });

  test.each([
    ['fail', 'dead'],
    ['continue', 'ready'],
    ['wait', 'blocked'],
  ] as const)('a child that fails: %s makes the parent %s', async (onChildFailure, becomes) => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const flow = { data: 'parent', onChildFailure, children: [{ data: 'bad' }, { data: 'good' }] };
    const ids = await queue.pushFlow({
      data: 'root',
      onChildFailure: 'continue',
      children: [flow],
    });
    const consumer = consumerOf(actor, name);
    expect(await queue.stats()).toMatchObject({ ready: 2, blocked: 2 });
    await (await consumer.claim())?.dead('broken');
    // One child is left to wait for, unless its failure has decided.
    expect((await queue.stats()).blocked).toBe(becomes === 'dead' ? 0 : 2);
    await (await consumer.claim())?.ack();
    const stats = await queue.stats();
    if (becomes === 'dead') {
      // The grandparent goes on without it.
      expect(stats).toMatchObject({ dead: 2, ready: 1, blocked: 0 });
      const last = await consumer.claim();
      expect(last?.data).toBe('root');
      expect(await last?.children()).toMatchObject([
        { id: ids.children[0]?.id, status: 'dead', reason: expect.stringContaining('is dead') },
      ]);
      return;
    }
    if (becomes === 'blocked') {
      expect(stats).toMatchObject({ dead: 1, ready: 0, blocked: 2 });
      await queue.dead.replay(() => true);
      await (await consumer.claim())?.ack();
    }
    const parent = await consumer.claim();
    expect(parent?.data).toBe('parent');
    expect((await parent?.children())?.map(({ status }) => status)).toEqual([
      becomes === 'ready' ? 'dead' : 'done',
      'done',
    ]);
  });

  test.each([
    ['cancelled', 'cancelled'],
    ['discarded by its worker', 'dead'],
    ['discarded as a dead letter', 'dead'],
  ] as const)('nobody waits for a child that is %s', async (how, status) => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const ids = await queue.pushFlow({
      data: 'parent',
      onChildFailure: 'wait',
      children: [{ data: 'bad' }, { data: 'good' }],
    });
    const bad = ids.children[0]?.id ?? '';
    const consumer = consumerOf(actor, name);
    if (how === 'cancelled') await queue.cancel(bad);
    else {
      const claim = await consumer.claim();
      if (how === 'discarded by its worker') await claim?.discard();
      else {
        await claim?.dead('broken');
        expect((await queue.stats()).blocked).toBe(1);
        expect(await queue.dead.discard(bad)).toBe(1);
      }
    }
    expect(await queue.dead.list()).toMatchObject([
      { id: ids.id, reason: `its child ${bad} is ${status}` },
    ]);
    expect(await queue.stats()).toMatchObject({ blocked: 0, ready: 1, dead: 1 });
  });

  test('children that finish at the same time let their parent go once', async () => {
    const actors = await Promise.all([world.actor(), world.actor(), world.actor()]);
    const name = world.name();
    const [first] = actors;
    const queue = queueOf(first, name);
    for (let round = 0; round < 5; round++) {
      await queue.pushFlow({
        data: 'root',
        children: ['1', '2', '3'].map((data) => ({ data })),
      });
      const claims = await Promise.all(
        actors.map(async (actor) => (await consumerOf(actor, name).claimMany(1))[0]),
      );
      const rest = await consumerOf(first, name).claimMany(3);
      await Promise.all([...claims, ...rest].map((claim) => claim?.ack()));
      const consumer = consumerOf(first, name);
      const root = await consumer.claim();
      expect(root?.data).toBe('root');
      await root?.ack();
      expect(await consumer.claim()).toBeNull();
      expect(await leftovers(name)).toEqual([]);
    }
  });

  test('a parent that nobody let go is let go by a sweep', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const queue = queueOf(a, name);
    await queue.pushFlow({ data: 'root', children: [{ data: 'child' }] });
    const claim = await consumerOf(a, name).claim();
    let acked = false;
    a.faults.plan = ({ write }) => {
      const fate = acked ? 'refuse' : 'pass';
      if (write) acked = true;
      return fate;
    };
    await claim?.ack(undefined, { timeout: 200 });
    const consumer = consumerOf(b, name);
    expect(await consumer.claim()).toBeNull();
    await consumer.sweep();
    expect((await consumer.claim())?.data).toBe('root');
  });

  test('a cancelled child counts as failed; a cancelled parent leaves its children alone', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const failing = await queue.pushFlow({ data: 'root', children: [{ data: 'child' }] });
    expect(await queue.cancel(failing.children[0]?.id ?? '')).toBe('removed');
    expect(await queue.dead.list()).toMatchObject([
      { data: 'root', reason: expect.stringContaining('is cancelled') },
    ]);
    await queue.dead.discard(() => true);
    const ids = await queue.pushFlow({ data: 'root', children: [{ data: 'child' }] });
    expect(await queue.cancel(ids.id)).toBe('removed');
    const child = await consumerOf(actor, name).claim();
    expect(child?.data).toBe('child');
    await child?.ack();
    expect(await leftovers(name)).toEqual([]);
    await expect(
      queue.pushFlow({ data: 'x', delay: '1s', children: [{ data: 'y' }] }),
    ).rejects.toThrow(/'delay'/);
  });

  test('events tell each move once, from any revision on', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const { revision } = await world.operator().kv.put('mark', '');
    const live: (QueueEvent | QueueGap)[] = [];
    const subscription = queue.events$.subscribe((event) => live.push(event));
    const consumer = consumerOf(actor, name);
    const { id } = await queue.push('x', { group: 'g' });
    const behind = await queue.push('y', { group: 'g', delay: 1 });
    const first = await consumer.claim();
    await first?.extend({ percent: 50 });
    await first?.nack({ error: 'no disk' });
    await (await consumer.claim())?.dead('hopeless');
    await queue.dead.replay(id);
    await eventually('the due one', async () => (await consumer.sweep()).due === 1);
    const second = await consumer.claim();
    await queue.cancel(id);
    await second?.nack();
    await queue.cancel(behind.id);
    const expected = [
      [id, 'pushed', { place: 'ready' }],
      [behind.id, 'pushed', { place: 'at' }],
      [id, 'claimed', { attempt: 1 }],
      [id, 'extended', { progress: { percent: 50 } }],
      [id, 'returned', { place: 'ready', error: 'no disk' }],
      [id, 'claimed', { attempt: 2 }],
      [id, 'dead', { reason: 'hopeless' }],
      [id, 'replayed', { place: 'ready' }],
      [behind.id, 'moved', { place: 'line' }],
      [id, 'claimed', { attempt: 1 }],
      [id, 'stopping', {}],
      [id, 'finished', { hasResult: false, wasStopped: true }],
      [behind.id, 'moved', { place: 'ready' }],
      [behind.id, 'removed', {}],
    ].map(([about, type, rest]) =>
      expect.objectContaining({ id: about, type, ...(rest as object) }),
    );
    const replayed: (QueueEvent | QueueGap)[] = [];
    for await (const event of queue.events({ from: revision })) {
      replayed.push(event);
      if (replayed.length === expected.length) break;
    }
    expect(replayed).toEqual(expected);
    await eventually('the last one', () => live.at(-1)?.type === 'removed');
    const tail = live.length;
    expect(replayed.slice(-tail)).toEqual(live);
    subscription.unsubscribe();
    await world.operator().kv.compact((await world.operator().kv.put('mark', '')).revision);
    for await (const event of queue.events({ from: revision })) {
      expect(event.type).toBe('gap');
      break;
    }
  });

  test('a job can be followed to its end, and waited for', async () => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const { id } = await queue.push('x');
    const views: JobView<unknown>[] = [];
    const ended = new Promise<void>((resolve) => {
      queue.job$(id).subscribe({ next: (view) => views.push(view), complete: resolve });
    });
    const result = queue.finished<string>(id);
    await eventually('the first look', () => views.length === 1);
    new Worker<string, string>(
      actor.context,
      name,
      async ({ data }, { progress }) => {
        await progress(0.5);
        await eventually('the progress', () =>
          views.some((view) => view.state === 'active' && view.progress === 0.5),
        );
        if (data === 'bad') throw new Error('bad');
        return `${data}!`;
      },
      { keepResults: '1m', maxAttempts: 1, backoff: constant(0) },
    );
    expect(await result).toBe('x!');
    await ended;
    expect(views[0]).toEqual({ state: 'waiting' });
    expect(views.at(-1)).toEqual({ state: 'finished', result: 'x!' });
    expect(await queue.finished(id)).toBe('x!');
    const bad = await queue.push('bad');
    await expect(queue.finished(bad.id)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    await expect(queue.finished('nobody')).rejects.toMatchObject({ code: 'NOT_FOUND' });
    const waiting = await queue.push('later', { delay: '1h' });
    const signal = AbortSignal.timeout(30);
    await expect(queue.finished(waiting.id, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
