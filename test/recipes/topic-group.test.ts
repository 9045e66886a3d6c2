import { describe, expect, test } from 'vitest';
import { queueKeys, topicPrefix } from '../../recipes/names.ts';
import type { GroupOptions } from '../../recipes/topic/subscribe-options.ts';
import { Topic } from '../../recipes/topic/topic.ts';
import type { GroupEvent } from '../../recipes/topic/topic-events.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import type { Call } from '../support/faulty-kv.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { faultyEverywhere, topicOf as of, publish, Reader, seenGap } from './topic-tools.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('topic, groups', () => {
  const world = useWorld();
  const options: GroupOptions = { group: 'g', from: 'earliest', ackDeadline: '20s' };
  const join = (topic: Topic<number>, more: Partial<GroupOptions> = {}) =>
    new Reader<GroupEvent<number>>(topic.subscribe({ ...options, ...more }));
  const numberOf = (event: GroupEvent<number>) =>
    event.type === 'message' ? event.message.data : Number.NaN;
  const everywhere = (actor: Actor, name: string) =>
    new Topic<number>(faultyEverywhere(actor), name);
  const info = async (topic: Topic<number>) => {
    const [group] = (await topic.info()).subscriptions;
    if (group?.kind !== 'group') throw new Error('there should be a group');
    return group;
  };
  /** Handles everything until it is stopped; what it acknowledged, in order. */
  function work(topic: Topic<number>, more: Partial<GroupOptions> = {}) {
    const stop = new AbortController();
    const handled: number[] = [];
    const run = async () => {
      for await (const event of topic.subscribe({ ...options, ...more, signal: stop.signal })) {
        handled.push(numberOf(event));
        await event.ack().catch(() => undefined);
      }
    };
    const running = run();
    const end = async () => {
      stop.abort();
      await running;
    };
    return { handled, end };
  }
  const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);
  const sorted = (numbers: readonly number[]) => [...numbers].sort((x, y) => x - y);

  test('the messages are divided among the members, each to one', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const topic = of(a, name);
    const members = [work(topic, { maxInFlight: 4 }), work(of(b, name), { maxInFlight: 4 })];
    for (let from = 0; from < 40; from += 10) {
      await publish(topic, ...upTo(40).slice(from, from + 10));
    }
    const handled = () => members.flatMap((member) => member.handled);
    await eventually('all are handled', () => handled().length >= 40);
    await eventually('all are settled', async () => (await info(topic)).pending === 0);
    for (const member of members) await member.end();
    expect(sorted(handled())).toEqual(upTo(40));
    expect(await info(topic)).toMatchObject({ name: 'g', lag: 0, inFlight: 0, parked: 0 });
  });

  test('two groups and two tasks of one session: each group gets all, its members share', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const members = [work(topic), work(topic), work(topic, { group: 'other' })];
    await publish(topic, ...upTo(20));
    const count = () => members.reduce((sum, { handled }) => sum + handled.length, 0);
    await eventually('all are handled', () => count() >= 40);
    for (const member of members) await member.end();
    const [one, two, other] = members.map(({ handled }) => handled);
    expect(sorted([...(one ?? []), ...(two ?? [])])).toEqual(upTo(20));
    expect(sorted(other ?? [])).toEqual(upTo(20));
  });

  test('a message of a member that died is delivered again; its stale acknowledgement fails', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await publish(of(a, name), 1);
    const former = join(of(a, name));
    const event = await former.next();
    expect([event.attempt, event.maxDeliveries]).toEqual([1, 5]);
    const next = join(of(b, name));
    const coming = next.next();
    await a.killLease();
    const again = await coming;
    expect([numberOf(again), again.attempt]).toEqual([1, 2]);
    expect(again.token > event.token).toBe(true);
    const lost = { code: expect.stringMatching(/^(CLAIM_LOST|SESSION_LOST)$/) };
    await expect(event.ack()).rejects.toMatchObject(lost);
    await again.ack();
    await expect(again.ack()).rejects.toMatchObject({ code: 'RELEASED' });
    await expect(again.extend()).rejects.toMatchObject({ code: 'RELEASED' });
    await former.leave();
    await next.leave();
  });

  test('a message of a member that is slow is delivered again, unless it extends its deadline', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor(), await world.actor({ clock, ttl: '1h' })];
    const name = world.name();
    await publish(of(a, name), 1);
    const slow = join(of(a, name));
    const event = await slow.next();
    const other = join(of(b, name));
    const coming = other.next();
    let isTaken = false;
    void coming.then(() => {
      isTaken = true;
    });
    // Longer than the deadline by the clock of who sweeps.
    for (let times = 0; times < 8; times++) {
      await event.extend();
      clock.advance(5_000);
      await settle();
    }
    expect(isTaken).toBe(false);
    const claims = `${topicPrefix(name)}${queueKeys('g').claim}`;
    const claim = async () =>
      (await world.operator().kv.list({ prefix: claims })).kvs[0]?.createRevision;
    const before = await claim();
    // No longer than that: the claim of who takes it over would be over as well by the same clock.
    await eventually('the deadline', async () => {
      if ((await claim()) !== before) return true;
      clock.advance(5_000);
      return false;
    });
    const again = await coming;
    expect([numberOf(again), again.attempt]).toEqual([1, 2]);
    await expect(event.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    expect(event.signal.aborted).toBe(true);
    await again.ack();
    await other.leave();
    await slow.leave();
  });

  test('messages of a key are handled in order, whoever dies or gives one back', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const topic = of(a, name);
    const messages = upTo(12).map((data) => ({ data, key: data % 2 === 0 ? 'even' : 'odd' }));
    await topic.publishAll(messages.slice(0, 8));
    for (const message of messages.slice(8)) await topic.publish(message);
    const first = join(topic, { maxInFlight: 10 });
    const [one, two] = [await first.next(), await first.next()];
    expect(sorted([one, two].map(numberOf))).toEqual([0, 1]);
    // The next of a key does not come before this one is settled.
    const third = first.next();
    await one.nack({ delay: 20 });
    expect(numberOf(await third)).toBe(numberOf(one));
    const other = join(of(b, name), { maxInFlight: 10 });
    const coming = other.next();
    await a.killLease();
    const order: number[] = [];
    for (let event = await coming; ; event = await other.next()) {
      order.push(numberOf(event));
      await event.ack();
      if (order.length === 12) break;
    }
    expect(order.filter((value) => value % 2 === 0)).toEqual([0, 2, 4, 6, 8, 10]);
    expect(order.filter((value) => value % 2 === 1)).toEqual([1, 3, 5, 7, 9, 11]);
    await first.leave();
    await other.leave();
  });

  test('a feeder that dies is replaced: everything is handed over once, in order of the key', async () => {
    const name = world.name();
    const publisher = of(await world.actor(), name);
    const one = { key: 'k' };
    const survivor = await world.actor();
    for (let round = 0; round < 3; round++) {
      const actor = await world.actor({ ttl: '2s' });
      const topic = everywhere(actor, name);
      // The feeder's first hand-over takes effect and it never learns; then it dies.
      actor.faults.after = async ({ parts }) => {
        const feeds = parts?.success.some(
          (operation) => operation.kind === 'put' && `${operation.key}`.startsWith('position/'),
        );
        if (!feeds) return;
        actor.faults.plan = () => 'lose-answer';
        await actor.killLease();
      };
      const feeder = work(topic, { maxInFlight: 1 });
      await eventually('a feeder', async () => (await publisher.info()).subscriptions.length === 1);
      for (let value = 0; value < 5; value++) {
        await publisher.publish({ data: round * 5 + value, ...one });
      }
      await eventually('the end of the feeder', () => actor.session.state === 'lost');
      await feeder.end();
      actor.faults.heal();
    }
    const last = work(of(survivor, name));
    await eventually('everything is settled', async () => {
      const { pending, lag } = await info(publisher);
      return pending === 0 && lag === 0;
    });
    await last.end();
    // What an earlier member acknowledged is not seen here, but the order of the rest is.
    expect(last.handled).toEqual(sorted([...new Set(last.handled)]));
    expect(last.handled.at(-1)).toBe(14);
  });

  test('a member outlives a lease that is gone before its session knows', async () => {
    const actor = await world.actor();
    const topic = everywhere(actor, world.name());
    let refusals = 0;
    actor.faults.before = ({ kind }) => {
      if (kind !== 'put' || refusals === 2) return;
      refusals += 1;
      throw new ConclaveError('LEASE_NOT_FOUND', 'the lease is gone');
    };
    await publish(topic, 1);
    const reader = join(topic);
    expect(numberOf(await reader.next())).toBe(1);
    expect(refusals).toBe(2);
    await reader.leave();
  });

  test('what another feeder handed over meanwhile stands before what comes later', async () => {
    // Its clock stands still: what it heard of the store never becomes too old to be used.
    const clock = new ManualClock();
    const [a, b] = [await world.actor({ clock, ttl: '1h' }), await world.actor()];
    const name = world.name();
    const topics = [of(a, name), of(b, name), of(a, name)];
    const publisher = of(await world.actor(), name);
    for (const [index, topic] of topics.entries()) {
      await publisher.publish({ data: index, key: 'k' });
      const reader = join(topic);
      const event = await reader.next();
      expect(numberOf(event)).toBe(0);
      await eventually(
        'it is handed over',
        async () => (await info(publisher)).pending === index + 1,
      );
      await event.nack();
      await reader.leave();
    }
    const last = work(publisher);
    await eventually('all are handled', () => last.handled.length === 3);
    await last.end();
    expect(last.handled).toEqual([0, 1, 2]);
  });

  test('a feeder whose position another moved on drops what it has read ahead', async () => {
    const actor = await world.actor();
    const name = world.name();
    const topic = everywhere(actor, name);
    const member = work(topic);
    await publish(topic, 1);
    await eventually('the first', () => member.handled.length === 1);
    const position = `${topicPrefix(name)}position/group/g`;
    const isPush = ({ parts }: Call) =>
      parts?.success.some((each) => each.kind === 'put' && `${each.key}` === 'position/group/g');
    actor.faults.after = async (call) => {
      if (!isPush(call)) return;
      actor.faults.heal();
      // Another feeder hands a message over before this one has read its position again.
      const { revision } = await publish(topic, 3);
      await world.operator().kv.put(position, JSON.stringify({ v: 1, at: `${revision}` }));
    };
    await publish(topic, 2);
    await eventually('the second', () => member.handled.length >= 2);
    await publish(topic, 4);
    await eventually('the last', () => member.handled.includes(4));
    await member.end();
    expect(member.handled).toEqual([1, 2, 4]);
  });

  test("a group that is forgotten under its members goes on, also when it begins 'new'", async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const member = work(topic, { from: 'new' });
    const isThere = async () => (await topic.info()).subscriptions.length === 1;
    await eventually('the group', isThere);
    await publish(topic, 1);
    await eventually('the first', async () => {
      return member.handled.length === 1 && (await info(topic)).pending === 0;
    });
    await topic.forget('group', 'g');
    for (const number of [2, 3]) await publish(topic, number);
    await eventually('the last', () => member.handled.includes(3));
    await member.end();
    expect(member.handled).toEqual([1, 2, 3]);
  });

  test('a start that the store has not come to is a gap for one member; the group goes on', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const { revision } = await publish(topic, 1);
    const reader = join(topic, { from: revision + 1_000_000n });
    const gap = await reader.next();
    expect(gap).toMatchObject({ type: 'gap', from: 1n, reason: 'restored' });
    await gap.ack();
    await publish(topic, 2);
    expect(numberOf(await reader.next())).toBe(2);
    await reader.leave();
  });

  test('drop the reply of every write: each message is acknowledged once', async () => {
    const actor = await world.actor();
    const topic = everywhere(actor, world.name());
    let writes = 0;
    actor.faults.plan = ({ write }) => {
      if (!write) return 'pass';
      writes += 1;
      return writes % 2 === 0 ? 'lose-answer' : 'pass';
    };
    const member = work(topic, { maxInFlight: 3 });
    for (const value of upTo(10)) await publish(topic, value);
    await eventually('all are handled', () => member.handled.length >= 10);
    await eventually('all are settled', async () => (await info(topic)).pending === 0);
    await member.end();
    expect(sorted(member.handled)).toEqual(upTo(10));
    expect(writes).toBeGreaterThan(30);
  });

  test('too many deliveries park a message; it can be looked at, replayed and dropped', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    await topic.publish({ data: 1, key: 'k', headers: { a: 'b' } });
    await topic.publish({ data: 2, key: 'k' });
    const reader = join(topic, { maxDeliveries: 2 });
    await (await reader.next()).nack({ error: 'first' });
    const last = await reader.next();
    expect(last.attempt).toBe(2);
    await last.park('does not fit', { timeout: '5s' });
    const second = await reader.next();
    expect(numberOf(second)).toBe(2);
    await second.ack();
    expect(await info(topic)).toMatchObject({ pending: 0, parked: 1 });
    const parked = topic.parked('g');
    const [letter] = await parked.list();
    expect(letter).toMatchObject({ attempts: 2, reason: 'does not fit' });
    expect(letter?.data).toMatchObject({
      type: 'message',
      message: { data: 1, key: 'k', headers: { a: 'b' } },
    });
    expect(await parked.replay(() => true)).toBe(1);
    const again = await reader.next();
    expect([numberOf(again), again.attempt]).toEqual([1, 1]);
    await again.park('still not');
    expect(await parked.discard(letter?.id ?? '')).toBe(1);
    expect(await info(topic)).toMatchObject({ pending: 0, parked: 0 });
    await reader.leave();
  });

  test('a message that kills its members is parked by whoever sweeps', async () => {
    const name = world.name();
    const publisher = of(await world.actor(), name);
    await publish(publisher, 13);
    const survivor = await world.actor();
    for (let death = 0; death < 2; death++) {
      const actor = await world.actor();
      const reader = join(of(actor, name), { maxDeliveries: 2 });
      const event = await reader.next();
      expect(event.attempt).toBe(death + 1);
      await actor.killLease();
      const next = join(of(survivor, name), { maxDeliveries: 2, group: 'other' });
      await next.leave();
      await reader.leave();
    }
    const last = work(of(survivor, name), { maxDeliveries: 2 });
    await eventually('it is parked', async () => {
      const groups = (await publisher.info()).subscriptions;
      return groups.some((each) => each.kind === 'group' && each.parked === 1);
    });
    await last.end();
    expect(last.handled).toEqual([]);
  });

  test('a member has no more deliveries than it asked for until it settles some', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    await publish(topic, ...upTo(5));
    const reader = join(topic, { maxInFlight: 2 });
    const [one, two] = [await reader.next(), await reader.next()];
    const third = reader.next();
    await eventually('two are in flight', async () => (await info(topic)).inFlight === 2);
    expect((await info(topic)).pending).toBe(5);
    await two.ack();
    expect(numberOf(await third)).toBe(2);
    await one.nack();
    expect([0, 3]).toContain(numberOf(await reader.next()));
    await reader.leave();
    // What was not settled by then comes to the next member.
    const next = work(topic);
    await eventually('all are settled', async () => (await info(topic)).pending === 0);
    await next.end();
    expect(sorted(next.handled)).toEqual([0, 2, 3, 4]);
  });

  test('a loop that becomes slow gets no delivery that is lost already, and uses up no attempts', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '1h' });
    const topic = of(actor, world.name());
    await publish(topic, ...upTo(16));
    const handled: number[] = [];
    const slow = { ...options, ackDeadline: '10s', maxInFlight: 16, maxDeliveries: 1 } as const;
    for await (const event of topic.subscribe(slow)) {
      expect(event.signal.aborted).toBe(false);
      // The first are handled at once, so more and more are claimed together.
      if (handled.length >= 7) clock.advance(3_000);
      await event.ack();
      handled.push(numberOf(event));
      if (handled.length === 16) break;
    }
    expect(sorted(handled)).toEqual(upTo(16));
    expect(await info(topic)).toMatchObject({ pending: 0, parked: 0 });
  });

  test('what retention removed before it was handed over is a gap, for one member', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name(), { retention: { messages: 1 } });
    const { revision } = await publish(topic, 0);
    const first = join(topic);
    await (await first.next()).ack();
    await first.leave();
    const lost = await publish(topic, 1);
    await publish(topic, 2);
    expect(await topic.trim()).toEqual({ removed: 2 });
    await world.operator().kv.compact((await publish(topic, 3)).revision);
    const reader = join(topic);
    const gap = await reader.next();
    expect(gap.type === 'gap' && seenGap(gap)).toBe(`removed ${revision + 1n}-${lost.revision}`);
    await gap.ack();
    expect(numberOf(await reader.next())).toBe(2);
    await reader.leave();
  });

  test('what was handed over stays until it is settled, whatever retention removes', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name(), { retention: { messages: 1 } });
    await publish(topic, 1);
    await publish(topic, 2);
    const reader = join(topic);
    const one = await reader.next();
    await eventually('both are handed over', async () => (await info(topic)).pending === 2);
    await publish(topic, 3);
    await topic.trim();
    expect((await topic.info()).messages).toBe(1);
    await one.ack();
    expect(numberOf(await reader.next())).toBe(2);
    await reader.leave();
  });

  test('a group holds no more than maxPending, and its members must agree on it', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const topic = of(a, name);
    for (const from of [0, 40]) await publish(topic, ...upTo(40).map((value) => from + value));
    const reader = join(topic, { maxPending: 64, maxInFlight: 40 });
    const event = await reader.next();
    await eventually('the group is full', async () => (await info(topic)).pending === 40);
    expect((await info(topic)).lag).toBe(40);
    const other = join(of(b, name), { maxPending: 65 });
    await expect(other.next()).rejects.toMatchObject({ code: 'MISMATCH' });
    await event.ack();
    await reader.leave();
    const member = work(topic, { maxPending: 64, maxInFlight: 40 });
    await eventually('all are handled', () => member.handled.length >= 79);
    await member.end();
  });

  test('delete own key by hand: claims and positions that are removed are found out', async () => {
    const actor = await world.actor();
    const name = world.name();
    const topic = of(actor, name);
    await publish(topic, 1);
    const reader = join(topic);
    const event = await reader.next();
    const claims = `${topicPrefix(name)}${queueKeys('g').claim}`;
    await world.operator().kv.delete({ prefix: claims });
    await expect(event.ack()).rejects.toMatchObject({ code: 'CLAIM_LOST' });
    await reader.leave();
    await topic.forget('group', 'g');
    expect((await topic.info()).subscriptions).toEqual([]);
    const left = await world.operator().kv.count({ prefix: topicPrefix(name) });
    expect(left).toBeLessThanOrEqual(4n);
    const anew = join(topic);
    expect(numberOf(await anew.next())).toBe(1);
    await anew.leave();
  });

  test('exchanges: a claim and an acknowledgement a message, a push and a read a hand-over', async () => {
    const actor = await world.actor();
    const topic = everywhere(actor, world.name());
    await publish(topic, ...upTo(3));
    const reader = join(topic);
    await (await reader.next()).ack();
    await eventually('the feeder has read its position', async () => {
      return (await info(topic)).pending === 2;
    });
    actor.faults.take();
    await (await reader.next()).ack();
    const sent = actor.faults.take().filter(({ kind }) => kind !== 'watch');
    expect(sent.map(({ kind }) => kind)).toEqual(['txn', 'txn']);
    const event = await reader.next();
    actor.faults.take();
    await publish(topic, 3);
    await eventually('it is handed over', async () => (await info(topic)).lag === 0);
    const positions = ({ range }: { readonly range?: unknown }) => `${range}`.includes('position/');
    await eventually('the feeder has read its position', () => actor.faults.calls.some(positions));
    const pushes = actor.faults.take().filter(({ kind, write }) => kind === 'txn' && write);
    // The publication and the hand-over.
    expect(pushes).toHaveLength(2);
    await event.ack();
    await reader.leave();
  });

  test('metrics tell of each delivery: how old its message was, how long it took, and its loss', async () => {
    const told: string[] = [];
    const tell = (what: string) => (event: { readonly recipe: string; readonly name: string }) => {
      if (event.recipe === 'topic') told.push(`${what} ${Object.values(event).at(-1)}`);
    };
    const metrics = {
      waited: tell('waited'),
      held: () => tell('held')({ recipe: 'topic', name: 'after some time' }),
      contended: tell('contended'),
      lost: tell('lost'),
    };
    const actor = await world.actor({ metrics, ttl: '2s' });
    const topic = of(actor, world.name());
    await publish(topic, 1, 2);
    const reader = join(topic);
    await (await reader.next()).ack();
    expect(told.filter((line) => line.startsWith('held'))).toEqual(['held after some time']);
    expect(told.filter((line) => line === 'waited acquired').length).toBeGreaterThanOrEqual(1);
    const event = await reader.next();
    await actor.killLease();
    await eventually('the loss', () => event.signal.aborted);
    expect(told).toContain('lost SESSION_LOST');
    await reader.leave();
  });

  test('names options of deliveries that do not exist, and leaves them unsettled', async () => {
    const topic = of(await world.actor(), world.name());
    const reader = join(topic);
    await publish(topic, 1);
    const event = await reader.next();
    const refused = (field: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`'${field}'`),
    });
    await expect(event.ack({ tiemout: 5 } as never)).rejects.toMatchObject(refused('tiemout'));
    await expect(event.nack({ dealy: 5 } as never)).rejects.toMatchObject(refused('dealy'));
    await expect(event.extend({ singal: 5 } as never)).rejects.toMatchObject(refused('singal'));
    await expect(event.park('x', { eror: 5 } as never)).rejects.toMatchObject(refused('eror'));
    expect(await info(topic)).toMatchObject({ inFlight: 1 });
    await event.ack();
    await reader.leave();
  });
});
