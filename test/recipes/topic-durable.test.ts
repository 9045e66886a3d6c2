import { describe, expect, test } from 'vitest';
import { connect } from '../../recipes/connect.ts';
import { topicPrefix } from '../../recipes/names.ts';
import type { Topic } from '../../recipes/topic/topic.ts';
import type { DurableEvent } from '../../recipes/topic/topic-events.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { topicOf as of, publish, Reader, seen } from './topic-tools.ts';
import { type Actor, eventually, useWorld } from './world.ts';

describe.skipIf(storeMissing)('topic, durable subscriptions', () => {
  const world = useWorld();
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const durable = (topic: Topic<number>) =>
    new Reader<DurableEvent<number>>(topic.subscribe({ durable: 'd', from: 'earliest' }));
  const activeKeys = async (name: string) => {
    const prefix = `${topicPrefix(name)}active/durable/d/`;
    const { kvs } = await world.operator().kv.list({ prefix }, { order: 'create' });
    return kvs.map(({ key }) => key);
  };
  const subscriptions = async (topic: Topic<number>) => (await topic.info()).subscriptions;
  const anyLoss = { code: expect.stringMatching(/^(CLAIM_LOST|SESSION_LOST)$/) };

  test('goes on behind what was acknowledged; the rest is delivered again', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    for (let value = 1; value <= 4; value++) await publish(of(a, name), value);
    const one = durable(of(a, name));
    expect(seen(await one.next())).toEqual([1]);
    const second = await one.next();
    expect(seen(await one.next())).toEqual([3]);
    await second.ack();
    expect(await subscriptions(of(b, name))).toMatchObject([
      { kind: 'durable', name: 'd', lag: 2, consumers: [{ session: a.session.id }] },
    ]);
    await one.leave();
    expect(second.signal.aborted).toBe(false);
    const other = durable(of(b, name));
    const third = await other.next();
    expect(seen(third)).toEqual([3]);
    await third.ack();
    await (await other.next()).ack();
    await other.leave();
    expect(await subscriptions(of(b, name))).toMatchObject([{ lag: 0, consumers: [] }]);
  });

  test("a subscription that is new begins 'new' unless told otherwise, and keeps its position", async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    await publish(topic, 1);
    const reader = new Reader(topic.subscribe({ durable: 'd' }));
    const coming = reader.next();
    await eventually('the subscription', async () => (await subscriptions(topic)).length === 1);
    await publish(topic, 2);
    expect(seen(await coming)).toEqual([2]);
    await reader.leave();
    const again = new Reader(topic.subscribe({ durable: 'd', from: 'earliest' }));
    expect(seen(await again.next())).toEqual([2]);
    await again.leave();
    await topic.forget('durable', 'd');
    expect(await subscriptions(topic)).toEqual([]);
    const anew = new Reader(topic.subscribe({ durable: 'd', from: 'earliest' }));
    expect(seen(await anew.next())).toEqual([1]);
    await anew.leave();
  });

  test('exchanges: a place in line and the position, then as from a revision', async () => {
    // Its clock stands still: it does not come to watch its own place.
    const actor = await world.actor({ clock: new ManualClock(), ttl: '1h' });
    const topic = of(actor, world.name());
    const { revision } = await publish(topic, 1);
    kinds(actor);
    const reader = new Reader(topic.subscribe({ durable: 'd', from: revision }));
    const coming = reader.next();
    const watches = () => actor.faults.calls.filter(({ kind }) => kind === 'watch').length;
    await eventually('the watch', () => watches() > 0);
    const [join, position, ...others] = kinds(actor);
    expect([join, position, others.includes('get')]).toEqual(['txn', 'txn', true]);
    expect(others.filter((kind) => kind === 'txn' || kind === 'list')).toEqual([]);
    await publish(topic, 2);
    expect(seen(await coming)).toEqual([2]);
    await reader.leave();
  });

  test('an acknowledgement is one exchange, covers what is before it, and shares with those that wait', async () => {
    // Its clock stands still: nothing is looked at again by itself.
    const actor = await world.actor({ clock: new ManualClock(), ttl: '1h' });
    const topic = of(actor, world.name());
    for (let value = 1; value <= 6; value++) await publish(topic, value);
    const reader = durable(topic);
    const events = [];
    while (events.length < 6) events.push(await reader.next());
    kinds(actor);
    await events[0]?.ack();
    expect(kinds(actor)).toEqual(['txn']);
    await Promise.all(events.slice(1).map((event) => event.ack()));
    expect(kinds(actor)).toEqual(['txn', 'txn']);
    await events[2]?.ack();
    await events[5]?.ack();
    expect(kinds(actor)).toEqual([]);
    await expect(events[5]?.ack({ signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    expect(await subscriptions(topic)).toMatchObject([{ lag: 0 }]);
    await reader.leave();
  });

  test('one consumer is active; the next takes over, and the former can move nothing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    for (let value = 1; value <= 3; value++) await publish(of(a, name), value);
    const former = durable(of(a, name));
    const [first, second] = [await former.next(), await former.next()];
    await first.ack();
    const standby = durable(of(b, name));
    const coming = standby.next();
    await eventually('both in line', async () => (await activeKeys(name)).length === 2);
    await a.killLease();
    const again = await coming;
    expect(seen(again)).toEqual([2]);
    await expect(second.ack()).rejects.toMatchObject(anyLoss);
    await eventually('the loss is told', () => second.signal.aborted);
    expect(second.signal.reason).toMatchObject(anyLoss);
    const third = await standby.next();
    await third.ack();
    await expect(second.ack()).rejects.toMatchObject(anyLoss);
    expect(await subscriptions(of(b, name))).toMatchObject([{ lag: 0 }]);
    await former.leave();
    await standby.leave();
    await expect(third.ack()).resolves.toBeUndefined();
  });

  test('drop the reply of every write: an acknowledgement whose reply is lost has moved the position once', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    await publish(topic, 1);
    await publish(topic, 2);
    const calls = new Set<unknown>();
    actor.faults.plan = ({ write }) => {
      if (!write) return 'pass';
      const isFirst = calls.size % 2 === 0;
      calls.add(calls.size);
      return isFirst ? 'lose-answer' : 'pass';
    };
    const reader = durable(topic);
    await (await reader.next()).ack();
    const second = await reader.next();
    await second.ack();
    expect(await subscriptions(topic)).toMatchObject([{ lag: 0 }]);
    await reader.leave();
    actor.faults.heal();
    await eventually('nobody in line', async () => (await activeKeys(topic.name)).length === 0);
  });

  test('an acknowledgement that arrives late, after its consumer was replaced, has no effect', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    for (let value = 1; value <= 3; value++) await publish(of(a, name), value);
    const former = durable(of(a, name));
    await former.next();
    const second = await former.next();
    a.faults.take();
    a.faults.plan = ({ write }) => (write ? 'linger' : 'pass');
    const acking = second.ack();
    acking.catch(() => undefined);
    await eventually('it is sent', () => a.faults.calls.some(({ write }) => write));
    await a.killLease();
    await expect(acking).rejects.toMatchObject({ ...anyLoss, outcome: 'unknown' });
    expect(a.faults.calls.some(({ write }) => write)).toBe(true);
    const next = durable(of(b, name));
    const first = await next.next();
    expect(seen(first)).toEqual([1]);
    // It was on its way when its sender gave up: nothing that the sender does can stop it.
    const late = a.faults.calls.find(
      ({ write, parts }) => write && parts?.success.length === 1,
    )?.parts;
    const { kv } = world.operator();
    const copy = kv.txn().if(...(late?.compares ?? []));
    expect(await copy.then(...(late?.success ?? [])).commit()).toMatchObject({ succeeded: false });
    a.faults.heal();
    expect(await subscriptions(of(b, name))).toMatchObject([{ lag: 3 }]);
    await first.ack();
    expect(await subscriptions(of(b, name))).toMatchObject([{ lag: 2 }]);
    await former.leave();
    await next.leave();
  });

  test('delete own key by hand: the consumer is told, lines up again, and goes on', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    await publish(topic, 1);
    const reader = durable(topic);
    const event = await reader.next();
    const [key = ''] = await activeKeys(topic.name);
    await world.operator().kv.delete(key);
    await expect(event.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    const again = await reader.next();
    expect(seen(again)).toEqual([1]);
    await again.ack();
    // The position itself: what it says is read, never made up.
    await world.operator().kv.delete(`${topicPrefix(topic.name)}position/durable/d`);
    await publish(topic, 2);
    const second = await reader.next();
    await expect(second.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    await reader.leave();
  });

  test.each([
    { from: 'earliest', again: [1, 2, 3] },
    { from: 'new', again: [2, 3] },
  ] as const)('a running consumer begins a forgotten subscription anew, $from', async (each) => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const reader = new Reader(topic.subscribe({ durable: 'd', from: each.from }));
    const first = reader.next();
    await eventually('the subscription', async () => (await subscriptions(topic)).length === 1);
    await publish(topic, 1);
    await (await first).ack();
    await topic.forget('durable', 'd');
    for (const number of [2, 3]) await publish(topic, number);
    const second = await reader.next();
    await expect(second.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    expect(second.signal.aborted).toBe(true);
    await expect(second.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    for (const number of each.again) {
      const event = await reader.next();
      expect(seen(event)).toEqual([number]);
      await event.ack();
    }
    expect(await subscriptions(topic)).toMatchObject([{ lag: 0 }]);
    await reader.leave();
  });

  test('a start that the store has not come to is told as a gap; it goes on from there', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const { revision } = await publish(topic, 1);
    const far = { durable: 'd', from: revision + 1_000_000n } as const;
    const reader = new Reader<DurableEvent<number>>(topic.subscribe(far));
    const gap = await reader.next();
    expect(gap).toMatchObject({ type: 'gap', from: 1n, reason: 'restored' });
    expect(gap.type === 'gap' && gap.to >= revision && gap.to < far.from).toBe(true);
    await gap.ack();
    await publish(topic, 2);
    expect(seen(await reader.next())).toEqual([2]);
    await reader.leave();
    const again = new Reader<DurableEvent<number>>(topic.subscribe(far));
    expect(seen(await again.next())).toEqual([2]);
    await again.leave();
  });

  test('re-grant a lease id: revives nothing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await publish(of(a, name), 1);
    const former = durable(of(a, name));
    const event = await former.next();
    await a.killLease();
    await world.operator().leases.grant('60s', { id: a.session.lease });
    await expect(event.ack()).rejects.toMatchObject(anyLoss);
    const next = durable(of(b, name));
    expect(seen(await next.next())).toEqual([1]);
    await next.leave();
    await former.leave();
    await world.operator().leases.revoke(a.session.lease);
  });

  test('freeze the process past its TTL: it knows before any timer fires', async () => {
    const clock = new ManualClock();
    const frozen = await world.actor({ clock, ttl: '8s' });
    const topic = of(frozen, world.name());
    await publish(topic, 1);
    const reader = durable(topic);
    const event = await reader.next();
    clock.freeze(9_000);
    await expect(event.ack()).rejects.toMatchObject({ code: 'SESSION_LOST' });
    await eventually('the loss is told', () => event.signal.aborted);
    await reader.leave();
  });

  test('kill the session at every step of a wait: no place in line is left behind', async () => {
    const name = world.name();
    const holder = await world.actor();
    await publish(of(holder, name), 1);
    for (let step = 0; step < 3; step++) {
      const actor = await world.actor({ ttl: '2s' });
      let calls = 0;
      const holding = durable(of(holder, name));
      await holding.next();
      actor.faults.after = async () => {
        calls += 1;
        if (calls === step + 1) await actor.killLease();
      };
      const waiting = durable(of(actor, name));
      const coming = waiting.next();
      await eventually(`step ${step}`, () => calls > step || actor.faults.calls.length > step);
      actor.faults.heal();
      await holding.leave();
      expect(seen(await coming)).toEqual([1]);
      await waiting.leave();
      await eventually('nobody in line', async () => (await activeKeys(name)).length === 0);
    }
  });

  test('what retention removed before it was read is a gap, which can be acknowledged', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name(), { retention: { messages: 2 } });
    const one = await publish(topic, 1);
    const first = durable(topic);
    await (await first.next()).ack();
    await first.leave();
    const lost = await publish(topic, 2, 3);
    await publish(topic, 4);
    await publish(topic, 5);
    expect(await topic.trim()).toEqual({ removed: 3 });
    await world.operator().kv.compact((await publish(topic, 6)).revision);
    const reader = durable(topic);
    const gap = await reader.next();
    expect(gap).toMatchObject({
      type: 'gap',
      reason: 'removed',
      from: one.revision + 1n,
      to: lost.revision,
    });
    await gap.ack();
    await reader.leave();
    const again = durable(topic);
    expect(seen(await again.next())).toEqual([4]);
    await again.leave();
  });

  test('restore an old snapshot: the position goes back with the messages', async () => {
    await using store = await startRewindableStore();
    await using after = await connect(store.endpoint);
    const position = `${topicPrefix('r')}position/durable/d`;
    for (let value = 0; value < 20; value++) await store.before.kv.put('other', `${value}`);
    const topic = (await after.session({ ttl: '2s' })).topic<number>('r');
    await publish(topic, 1);
    const reader = new Reader<DurableEvent<number>>(
      topic.subscribe({ durable: 'd', from: 'earliest', recheck: 30 }),
    );
    await (await reader.next()).ack();
    const held = await publish(topic, 2);
    // The snapshot: a message that comes after its position.
    await store.after.kv.put(position, JSON.stringify({ v: 1, at: '1' }));
    const { kvs } = await store.before.kv.list({ prefix: `${topicPrefix('r')}message/` });
    await store.after.kv.put(kvs[0]?.key ?? '', kvs[0]?.value ?? '');
    expect(seen(await reader.next())).toEqual([2]);
    store.rewind();
    const again = await reader.next();
    expect(seen(again)).toEqual([1]);
    expect(again.type === 'messages' && again.revision < held.revision).toBe(true);
    await reader.leave();
  });
});
