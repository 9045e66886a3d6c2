/** Jobs whose payload travels with them, and how they come by a record when they need one. */
import { describe, expect, test } from 'vitest';
import { queueKeys } from '../../recipes/names.ts';
import { Queue } from '../../recipes/queue/queue.ts';
import { QueueConsumer } from '../../recipes/queue/queue-consumer.ts';
import type { QueueEvent } from '../../recipes/queue/queue-events.ts';
import { bytes, type Codec } from '../../sdk/codec.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, useWorld } from './world.ts';

const kinds = ['job', 'ready', 'at', 'claim', 'dead'] as const;

describe.skipIf(storeMissing)('light jobs', () => {
  const world = useWorld();
  const queueOf = (actor: Actor, name: string) => new Queue<string>(actor.context, name);
  const consumerOf = (actor: Actor, name: string) =>
    new QueueConsumer<string>(actor.context, name, { maxAttempts: 2 });
  /** How many keys of the queue are of which kind, of those that are about jobs. */
  const places = async (name: string): Promise<string> => {
    const keys = queueKeys(name);
    const { kvs } = await world.operator().kv.list({ prefix: keys.root }, { keysOnly: true });
    return kvs
      .flatMap(({ key }) => kinds.filter((kind) => key.startsWith(keys[kind])))
      .sort()
      .join(' ');
  };
  const eventsSince = async (queue: Queue<string>, from: bigint, count: number) => {
    const events: QueueEvent[] = [];
    for await (const event of queue.events({ from })) {
      if (event.type === 'gap') throw new Error('a gap');
      events.push(event);
      if (events.length === count) break;
    }
    return events.map((event) => ('place' in event ? `${event.type} ${event.place}` : event.type));
  };

  test('a small text costs one key wherever it is', async () => {
    const actor = await world.actor();
    const name = world.name();
    const [queue, consumer] = [queueOf(actor, name), consumerOf(actor, name)];
    const { revision } = await world.operator().kv.list('nothing');
    const texts = ['', 'a "quoted" text', 'änderung 🦊', 'x'.repeat(1_000)];
    const { id } = await queue.push(texts[0] ?? '');
    await queue.pushMany(texts.slice(1).map((data) => ({ data })));
    expect(await places(name)).toBe('ready ready ready ready');
    expect((await queue.peek(4)).map(({ data }) => data)).toEqual(texts);
    const [claim, ...others] = await consumer.claimMany(4);
    expect(await places(name)).toBe('claim claim claim claim');
    expect([claim, ...others].map((each) => each?.data)).toEqual(texts);
    await claim?.extend('half');
    await claim?.nack();
    expect(await places(name)).toBe('claim claim claim ready');
    const again = await consumer.claim();
    expect([again?.id, again?.data, again?.attempt]).toEqual([id, '', 2]);
    for (const each of [again, ...others]) await each?.ack();
    expect(await places(name)).toBe('');
    const told = await eventsSince(queue, revision + 1n, 15);
    expect(told).toEqual([
      ...Array.from({ length: 4 }, () => 'pushed ready'),
      ...Array.from({ length: 4 }, () => 'claimed'),
      'extended',
      'returned ready',
      'claimed',
      ...Array.from({ length: 4 }, () => 'finished'),
    ]);
  });

  test('what goes where its id does not lead gets a record, and keeps its payload', async () => {
    const actor = await world.actor();
    const name = world.name();
    const [queue, consumer] = [queueOf(actor, name), consumerOf(actor, name)];
    const { revision } = await world.operator().kv.list('nothing');
    const { id } = await queue.push('kept');
    await (await consumer.claim())?.nack({ delay: '10ms' });
    expect(await places(name)).toBe('at job');
    while ((await consumer.sweep()).due === 0);
    expect(await places(name)).toBe('job ready');
    expect((await queue.peek())[0]?.data).toBe('kept');
    const claim = await consumer.claim();
    expect(claim?.data).toBe('kept');
    await claim?.dead('hopeless');
    expect(await places(name)).toBe('dead job');
    await queue.push('second');
    await (await consumer.claim())?.dead('hopeless');
    expect(await places(name)).toBe('dead dead job job');
    expect((await queue.dead.list()).map(({ data }) => data)).toEqual(['kept', 'second']);
    expect(await queue.dead.discard(({ data }) => data === 'second')).toBe(1);
    expect(await queue.dead.replay(id)).toBe(1);
    const replayed = await consumer.claim();
    expect(replayed?.data).toBe('kept');
    await replayed?.ack();
    expect(await places(name)).toBe('');
    expect(await eventsSince(queue, revision + 1n, 12)).toEqual([
      'pushed ready',
      'claimed',
      'returned at',
      'moved ready',
      'claimed',
      'dead',
      'pushed ready',
      'claimed',
      'dead',
      'removed',
      'replayed ready',
      'claimed',
    ]);
  });

  test.each([
    ['large', 'x'.repeat(2_000), {}],
    ['delayed', 'x', { delay: '1h' }],
    ['with a key', 'x', { key: 'k' }],
    ['of a group', 'x', { group: 'g' }],
    ['with a priority', 'x', { priority: 1 }],
  ] as const)('one that is %s has a record from the start', async (_, data, options) => {
    const actor = await world.actor();
    const name = world.name();
    const queue = queueOf(actor, name);
    const { id } = await queue.push(data, options);
    expect(await places(name)).toMatch(/^at job$|^job ready$/);
    if ('delay' in options) {
      expect(await queue.cancel(id)).toBe('removed');
    } else {
      expect((await queue.peek())[0]?.data).toBe(data);
      const claim = await consumerOf(actor, name).claim();
      expect(claim?.data).toBe(data);
      await claim?.ack();
    }
    expect(await places(name)).toBe('');
  });

  test('what is no text has a record, too', async () => {
    const actor = await world.actor();
    const name = world.name();
    const codec: Codec<Uint8Array> = bytes();
    const queue = new Queue<Uint8Array>(actor.context, name, { codec });
    await queue.push(Uint8Array.of(0xff, 0x00, 0xc3));
    await queue.push(Buffer.from('a text'));
    expect(await places(name)).toBe('job ready ready');
    const consumer = new QueueConsumer<Uint8Array>(actor.context, name, { codec });
    const claims = await consumer.claimMany(2);
    expect(claims.map(({ data }) => Buffer.from(data).toString('latin1'))).toEqual([
      '\xff\x00\xc3',
      'a text',
    ]);
    for (const claim of claims) await claim.ack();
    expect(await places(name)).toBe('');
  });

  test('a lost answer of an acknowledgement is told from a job that was given back', async () => {
    const actor = await world.actor();
    const name = world.name();
    const [queue, consumer] = [queueOf(actor, name), consumerOf(actor, name)];
    await queue.push('done');
    const done = await consumer.claim();
    actor.faults.next('lose-answer', ({ write }) => write, 1);
    await done?.ack();
    expect(await places(name)).toBe('');
    await queue.push('back');
    for (const delay of ['0ms', '1h'] as const) {
      const claim = await consumer.claim();
      actor.faults.next('lose-answer', ({ write }) => write, 1);
      const patience = new AbortController();
      actor.faults.after = ({ write }) => (write ? patience.abort() : undefined);
      await expect(claim?.nack({ delay, signal: patience.signal })).rejects.toThrow();
      await expect(claim?.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    }
    expect(await places(name)).toBe('at job');
  });

  test('one that waits or runs can be cancelled, and is seen by its id', async () => {
    const actor = await world.actor();
    const name = world.name();
    const [queue, consumer] = [queueOf(actor, name), consumerOf(actor, name)];
    const { revision } = await world.operator().kv.list('nothing');
    const ids = [(await queue.push('runs')).id, (await queue.push('waits')).id];
    const claim = await consumer.claim();
    const views = ids.map((id) => {
      const states: string[] = [];
      const over = new Promise<void>((complete) => {
        queue.job$(id).subscribe({ next: ({ state }) => states.push(state), complete });
      });
      return { states, over };
    });
    await expect.poll(() => views.map(({ states }) => states.length)).toEqual([1, 1]);
    expect(await queue.cancel(ids[1] ?? '')).toBe('removed');
    expect(await queue.cancel(ids[0] ?? '')).toBe('stopping');
    await claim?.nack();
    expect(await places(name)).toBe('');
    for (const { over } of views) await over;
    expect(views.map(({ states }) => states)).toEqual([
      ['active', 'finished'],
      ['waiting', 'finished'],
    ]);
    expect(await queue.cancel(ids[1] ?? '')).toBe('not-found');
    expect(await eventsSince(queue, revision + 1n, 6)).toEqual([
      'pushed ready',
      'pushed ready',
      'claimed',
      'removed',
      'stopping',
      'finished',
    ]);
  });

  test('what somebody wrote by hand as a value is read as the text of it', async () => {
    const actor = await world.actor();
    const name = world.name();
    const { id } = await queueOf(actor, name).push('one');
    const { kv } = world.operator();
    const entry = { v: 1, attempts: 0, pushedMs: 1, data: { to: 'you' } };
    await kv.put(queueKeys(name).ready + id, JSON.stringify(entry));
    const claim = await consumerOf(actor, name).claim();
    expect(claim?.data).toEqual({ to: 'you' });
    await claim?.dead('seen');
    expect((await queueOf(actor, name).dead.list())[0]?.data).toEqual({ to: 'you' });
  });

  test('those from before there was a bound take room, until they are done', async () => {
    // Nothing but what is heard ends the wait.
    const actor = await world.actor({ clock: new ManualClock(), ttl: '1h' });
    const name = world.name();
    const [queue, consumer] = [queueOf(actor, name), consumerOf(actor, name)];
    await queue.push('one');
    await queue.push('two');
    const claim = await consumer.claim();
    await queue.setLimits({ capacity: 2 });
    await expect(queue.push('three', { whenFull: 'fail' })).rejects.toMatchObject({ code: 'FULL' });
    const waiting = queue.push('three');
    await expect.poll(() => actor.faults.take().some(({ kind }) => kind === 'watch')).toBe(true);
    await claim?.ack();
    await waiting;
    expect(await places(name)).toBe('job ready ready');
  });
});
