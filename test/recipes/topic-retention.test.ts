import { describe, expect, test } from 'vitest';
import { topicPrefix } from '../../recipes/names.ts';
import { parseRetention, type Retention, removableThrough } from '../../recipes/topic/retention.ts';
import type { Topic, TopicOptions } from '../../recipes/topic/topic.ts';
import type { IndexEntry } from '../../recipes/topic/topic-index.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import type { Call } from '../support/faulty-kv.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { topicOf as of, publish, Reader, seen, take } from './topic-tools.ts';
import { type Actor, eventually, useWorld } from './world.ts';

describe('what may be removed', () => {
  const minuteMs = 60_000;
  /** Messages of 10 bytes, one a minute, of these revisions. */
  const entries = (...revisions: number[]): IndexEntry[] =>
    revisions.map((revision, index) => ({
      key: `${index}`,
      id: `${index}`,
      revision: BigInt(revision),
      bytes: 10,
      publishedMs: index * minuteMs,
    }));
  const through = (
    retention: Retention,
    revisions: number[],
    positions: bigint[] = [],
    nowMs = 0,
  ) => removableThrough(entries(...revisions), parseRetention(retention), positions, nowMs);

  test.each<[string, Retention, number[], bigint[], number, bigint]>([
    ['nothing without a rule', {}, [1, 2, 3], [9n], 1e12, 0n],
    ['the oldest beyond a number', { messages: 2 }, [1, 2, 3], [], 0, 1n],
    ['whole revisions', { messages: 3 }, [1, 2, 2, 2, 5], [], 0, 2n],
    ['never the newest revision for a number', { messages: 1 }, [1, 4, 4], [], 0, 1n],
    ['the oldest beyond a size', { bytes: 25 }, [1, 2, 3, 4], [], 0, 2n],
    ['never the newest revision for a size', { bytes: 5 }, [1, 2], [], 0, 1n],
    ['what is too old', { age: '90s' }, [1, 2, 3], [], 3 * minuteMs, 2n],
    ['also the newest when it is too old', { age: '90s' }, [1, 2, 3], [], 9 * minuteMs, 3n],
    ['no revision of which a part is young', { age: '90s' }, [1, 2, 2], [], 3 * minuteMs, 1n],
    ['whatever rule asks for most', { messages: 3, bytes: 10 }, [1, 2, 3, 4], [], 0, 3n],
    ['what all have acknowledged', { acked: 'remove' }, [1, 2, 3], [2n, 9n], 0, 2n],
    ['nothing while nobody subscribes', { acked: 'remove' }, [1, 2, 3], [], 0, 0n],
    ['not what somebody still needs', { messages: 1, unacked: 'keep' }, [1, 2, 3], [1n, 9n], 0, 1n],
    ['unless nobody subscribes', { messages: 1, unacked: 'keep' }, [1, 2, 3], [], 0, 2n],
    ['what somebody still needs, by default', { messages: 1 }, [1, 2, 3], [1n], 0, 2n],
    ['both rules together', { acked: 'remove', messages: 1 }, [1, 2, 3, 4], [1n], 0, 3n],
  ])('%s', (_what, retention, revisions, positions, nowMs, expected) => {
    expect(through(retention, revisions, positions, nowMs)).toBe(expected);
  });
});

describe.skipIf(storeMissing)('topic, retention', () => {
  const world = useWorld();
  const removed = async (topic: Topic<number>) => (await topic.trim()).removed;
  const left = async (topic: Topic<number>) =>
    (await take(topic.subscribe({ from: 'earliest' }), (await topic.info()).messages)).map(seen);
  const writes = (actor: Actor) => actor.faults.take().filter(({ write }) => write).length;
  const some = async (actor: Actor, options: TopicOptions<number>, count = 5) => {
    const topic = of(actor, world.name(), options);
    for (let value = 1; value <= count; value++) await publish(topic, value);
    return topic;
  };

  test('keeps the newest messages, and tells what it holds', async () => {
    const actor = await world.actor();
    const topic = await some(actor, { retention: { messages: 3 } });
    const before = await topic.info();
    expect(before).toMatchObject({ messages: 5, floor: 0n, retention: { messages: 3 } });
    expect(await removed(topic)).toBe(2);
    expect(await removed(topic)).toBe(0);
    const after = await topic.info();
    expect(after).toMatchObject({ messages: 3, lastRevision: before.lastRevision });
    expect(after.floor > (before.firstRevision ?? 0n)).toBe(true);
    expect(after.floor < (after.firstRevision ?? 0n)).toBe(true);
    expect(await left(topic)).toEqual([[3], [4], [5]]);
  });

  test('age goes by the clocks of publisher and remover', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '1h' });
    const topic = of(actor, world.name(), { retention: { age: '1m' } });
    await publish(topic, 1);
    clock.freeze(40_000);
    await publish(topic, 2);
    expect(await removed(topic)).toBe(0);
    clock.freeze(40_000);
    expect(await removed(topic)).toBe(1);
    expect((await topic.info()).messages).toBe(1);
    clock.freeze(40_000);
    expect(await removed(topic)).toBe(1);
    expect((await topic.info()).messages).toBe(0);
  });

  test('a pass without work is one exchange; a removal one more for the keys and one for each 100', async () => {
    // Its clock stands still: nothing is trimmed by itself.
    const actor = await world.actor({ clock: new ManualClock(), ttl: '1h' });
    const topic = of(actor, world.name(), { retention: { messages: 1 } });
    for (let times = 0; times < 4; times++) await publish(topic, ...Array(50).fill(times));
    actor.faults.take();
    expect(await removed(topic)).toBe(150);
    expect(actor.faults.calls).toHaveLength(4);
    expect(writes(actor)).toBe(2);
    await topic.trim();
    expect(actor.faults.take()).toHaveLength(2);
    await topic.trim();
    expect(actor.faults.take()).toHaveLength(1);
  });

  test('what is acknowledged may go at once, and what is not may stay whatever the limits', async () => {
    const actor = await world.actor();
    const topic = await some(actor, {
      retention: { acked: 'remove', messages: 1, unacked: 'keep' },
    });
    const reader = new Reader(topic.subscribe({ durable: 'd', from: 'earliest' }));
    const first = await reader.next();
    expect(await removed(topic)).toBe(0);
    await first.ack();
    expect(await removed(topic)).toBe(1);
    await (await reader.next()).ack();
    await reader.leave();
    expect(await removed(topic)).toBe(1);
    await topic.forget('durable', 'd');
    expect(await removed(topic)).toBe(2);
    expect(await left(topic)).toEqual([[5]]);
  });

  test('a removal is fenced by the floor, the rule, and there being no new subscription', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const topic = await some(a, { retention: { messages: 1, unacked: 'keep' } });
    const other = of(b, topic.name);
    const meanwhile = async (act: () => Promise<unknown>) => {
      a.faults.before = async ({ write }) => {
        if (!write) return;
        a.faults.heal();
        await act();
      };
      const count = await removed(topic);
      a.faults.heal();
      return count;
    };
    const reader = new Reader(other.subscribe({ durable: 'd', from: 'earliest' }));
    expect(await meanwhile(() => reader.next())).toBe(0);
    expect((await topic.info()).messages).toBe(5);
    await reader.leave();
    await topic.forget('durable', 'd');
    expect(await meanwhile(() => other.setRetention({ messages: 9 }))).toBe(0);
    expect((await topic.info()).messages).toBe(5);
    await other.setRetention({ messages: 2 });
    let theirs = 0;
    const ours = await meanwhile(async () => {
      theirs = await removed(other);
    });
    expect([ours, theirs]).toEqual([0, 3]);
    expect((await topic.info()).messages).toBe(2);
  });

  test('drop the reply of every write: the next pass goes on where the floor is', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name(), { retention: { messages: 1 } });
    for (let times = 0; times < 4; times++) await publish(topic, ...Array(50).fill(times));
    actor.faults.plan = ({ write }) => {
      if (!write) return 'pass';
      actor.faults.plan = () => 'pass';
      return 'lose-answer';
    };
    await topic.trim();
    await topic.trim();
    await eventually('the rest is removed', async () => (await topic.trim()).removed === 0);
    const [event] = await take(topic.subscribe({ from: 'earliest' }), 1);
    expect(event && seen(event)).toEqual(Array(50).fill(3));
    const { floor, firstRevision } = await topic.info();
    expect(floor < (firstRevision ?? 0n)).toBe(true);
  });

  test('a late copy of a removal has no effect', async () => {
    const actor = await world.actor();
    const topic = await some(actor, { retention: { messages: 2 } });
    actor.faults.next('linger');
    expect(await removed(topic)).toBe(3);
    const before = (await topic.info()).floor;
    await publish(topic, 6);
    await topic.trim();
    await actor.faults.deliver();
    expect((await topic.info()).floor > before).toBe(true);
    expect(await left(topic)).toEqual([[5], [6]]);
  });

  test('one client trims at a time, by itself; another takes over when it dies', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const options = { retention: { messages: 2 }, trimEvery: 20 };
    const topics = [of(a, name, options), of(b, name, options)] as const;
    await publish(topics[0], 1);
    await publish(topics[1], 2);
    await publish(topics[0], 3);
    await eventually('a trim', async () => (await topics[0].info()).messages === 2);
    const prefix = `${topicPrefix(name)}active/trim/`;
    const inLine = async () => {
      const { kvs } = await world.operator().kv.list({ prefix }, { order: 'create' });
      return kvs.map(({ key }) => key.slice(prefix.length).split('-')[0]);
    };
    await eventually('both in line', async () => (await inLine()).length === 2);
    const [first] = await inLine();
    const [dying, other] = first === a.session.id ? [a, topics[1]] : [b, topics[0]];
    await dying.killLease();
    await publish(other, 4);
    await publish(other, 5);
    await eventually('another trim', async () => (await other.info()).messages === 2);
    expect(await left(other)).toEqual([[4], [5]]);
  });

  test('a trim that the store refuses for good is told once, and tried again with the next', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name(), { retention: { messages: 1 }, trimEvery: 20 });
    const errors: unknown[] = [];
    topic.errors$.subscribe((error) => errors.push(error));
    let refused = 0;
    const isRemoval = ({ parts }: Call) =>
      parts?.success.some((each) => each.kind === 'put' && `${each.key}`.endsWith('/floor'));
    actor.faults.before = (call) => {
      if (!isRemoval(call) || refused === 3) return;
      refused += 1;
      throw new ConclaveError('NO_SPACE', 'the database is full');
    };
    for (const number of [1, 2, 3]) await publish(topic, number);
    await eventually('a trim', async () => (await topic.info()).messages === 1);
    expect(refused).toBe(3);
    expect(errors).toMatchObject([{ code: 'NO_SPACE' }]);
    const prefix = `${topicPrefix(topic.name)}active/trim/`;
    expect(await world.operator().kv.count({ prefix })).toBe(1n);
  });

  test('a topic that is idle costs nothing: who has not used it for a while leaves the line', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '1h' });
    const names = { plain: world.name(), aged: world.name() };
    const plain = of(actor, names.plain);
    const aged = of(actor, names.aged, { retention: { age: '10m' } });
    const inLine = (name: string) =>
      world.operator().kv.count({ prefix: `${topicPrefix(name)}active/trim/` });
    const becomes = (what: string, name: string, count: bigint) =>
      eventually(what, async () => {
        clock.advance(1_000);
        return (await inLine(name)) === count;
      });
    for (const topic of [plain, aged]) await publish(topic, 1);
    for (const name of [names.plain, names.aged]) await becomes('in line', name, 1n);
    const reader = new Reader(plain.subscribe({ from: 'earliest' }));
    await reader.next();
    clock.advance(180_000);
    expect(await inLine(names.plain)).toBe(1n);
    await reader.leave();
    await becomes('idle', names.plain, 0n);
    // The other has a message that time will remove.
    expect(await inLine(names.aged)).toBe(1n);
    clock.advance(600_000);
    await becomes('idle as well', names.aged, 0n);
    expect((await aged.info()).messages).toBe(0);
    await publish(plain, 2);
    await becomes('in line again', names.plain, 1n);
  });

  test('a subscriber that is behind finds every message that is kept, and a gap for the rest', async () => {
    const actor = await world.actor();
    const topic = await some(actor, { retention: { messages: 2 } }, 1);
    const { firstRevision = 0n } = await topic.info();
    for (let value = 2; value <= 6; value++) await publish(topic, value);
    await topic.trim();
    // History still tells what was removed.
    const fromHistory = await take(topic.subscribe({ from: firstRevision }), 5);
    expect(fromHistory.map(seen)).toEqual([[2], [3], [4], [5], [6]]);
    const { revision } = await world.operator().kv.put('compaction', '');
    await world.operator().kv.compact(revision);
    const { floor } = await topic.info();
    const events = await take(topic.subscribe({ from: firstRevision }), 3);
    expect(events.map(seen)).toEqual([`removed ${firstRevision + 1n}-${floor}`, [5], [6]]);
    expect((await take(topic.subscribe({ from: 'earliest' }), 2)).map(seen)).toEqual([[5], [6]]);
  });

  test('what is removed while it is being read is a gap', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const topic = await some(a, { retention: { messages: 2 } }, 4);
    const other = of(b, topic.name);
    b.faults.before = async ({ parts }) => {
      // The values, after the index.
      if ((parts?.success.length ?? 0) < 3) return;
      b.faults.heal();
      await topic.trim();
    };
    const events = await take(other.subscribe({ from: 'earliest' }), 3);
    const { floor } = await topic.info();
    expect(events.map(seen)).toEqual([`removed 1-${floor}`, [3], [4]]);
  });

  test('the rule is stored once: others are told, and setRetention changes it for all', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await publish(of(a, name, { retention: { messages: 5, age: '1h' } }), 1);
    expect((await of(b, name).info()).retention).toEqual({ messages: 5, age: 3_600_000 });
    const other = of(b, name, { retention: { messages: 6 } });
    await expect(publish(other, 2)).rejects.toMatchObject({ code: 'MISMATCH' });
    const reader = new Reader(other.subscribe());
    await expect(reader.next()).rejects.toMatchObject({ code: 'MISMATCH' });
    expect(() => of(b, name, { retention: { messages: 7 } })).toThrow(/retention/);
    await other.setRetention({ messages: 6 });
    await publish(other, 3);
    expect((await of(a, name).info()).retention).toEqual({ messages: 6 });
    await world.operator().kv.put(`${topicPrefix(name)}settings`, '{"messages":-1');
    expect((await of(a, name).info()).retention).toEqual({});
    expect(await of(a, name).trim()).toEqual({ removed: 0 });
  });

  test('who only publishes in transactions of its own has its rule stored, or is told on errors$', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const topic = of(a, name, { retention: { messages: 5 } });
    expect((await topic.publishIn(a.client.kv.txn(), { data: 1 }).commit()).succeeded).toBe(true);
    await eventually('the rule', async () => (await topic.info()).retention.messages === 5);
    const other = of(b, name, { retention: { messages: 6 } });
    const errors: unknown[] = [];
    other.errors$.subscribe((error) => errors.push(error));
    await other.publishIn(b.client.kv.txn(), { data: 2 }).commit();
    await eventually('the mismatch', () => errors.length === 1);
    expect(errors).toMatchObject([{ code: 'MISMATCH' }]);
  });
});
