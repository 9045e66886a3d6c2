import { take as first, firstValueFrom, toArray } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { connect } from '../../recipes/connect.ts';
import { topicPrefix } from '../../recipes/names.ts';
import type { SubscribeOptions } from '../../recipes/topic/subscribe-options.ts';
import { Topic } from '../../recipes/topic/topic.ts';
import { type Clock, systemClock } from '../../sdk/clock.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { compare, op } from '../../sdk/txn.ts';
import { storeMissing } from '../support/store.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { topicOf as of, publish, Reader, type Seen, seen, take } from './topic-tools.ts';
import { type Actor, compactTo, deafContext, eventually, useWorld } from './world.ts';

describe.skipIf(storeMissing)('topic', () => {
  const world = useWorld();
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const all = async (topic: Topic<number>, count: number, options: SubscribeOptions = {}) =>
    (await take(topic.subscribe({ from: 'earliest', ...options }), count)).map(seen);
  const messageKeys = async (name: string) => {
    const prefix = `${topicPrefix(name)}message/`;
    const { kvs } = await world.operator().kv.list({ prefix }, { keysOnly: true, order: 'create' });
    return kvs.map(({ key }) => key);
  };
  const compactNow = async () => {
    const { revision } = await world.operator().kv.put('compaction', '');
    await compactTo(world.operator().kv, revision);
  };

  test('what is published together has one revision and is delivered together', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [ours, theirs] = [of(a, name), of(b, name)];
    const live = all(theirs, 3, { from: await theirs.cursor() });
    const one = await publish(ours, 1);
    const two = await publish(ours, 2, 3, 4);
    const three = await publish(theirs, 5);
    expect(two.revision > one.revision && three.revision > two.revision).toBe(true);
    expect(await live).toEqual([[1], [2, 3, 4], [5]]);
    expect(await all(theirs, 3)).toEqual([[1], [2, 3, 4], [5]]);
    expect(await all(theirs, 1, { from: one.revision })).toEqual([[2, 3, 4]]);
    expect(await all(theirs, 1, { from: two.revision })).toEqual([[5]]);
  });

  test('a message has its key, headers, data and time; another codec reads them', async () => {
    const actor = await world.actor();
    const codec = {
      encode: (text: string) => `<${text}>`,
      decode: (data: Uint8Array) => `${data}`,
    };
    const topic = new Topic<string>(actor.context, world.name(), {
      codec: { ...codec, decode: (data) => Buffer.from(data).toString().slice(1, -1) },
    });
    const headers = { trace: 'abc\n', 'content-type': 'text/plain' };
    const { revision } = await topic.publish({ data: 'two\nlines', key: 'user/1', headers });
    const [event] = await take(topic.subscribe({ from: 'earliest' }), 1);
    if (event?.type !== 'messages') throw new Error('a message should come');
    const [message] = event.messages;
    expect(message).toMatchObject({ data: 'two\nlines', key: 'user/1', headers, revision });
    expect(Math.abs((message?.publishedAt.getTime() ?? 0) - Date.now())).toBeLessThan(5_000);
  });

  test('a publication is one exchange, and leaves no more than its last record behind', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    await publish(topic, 1);
    await publish(topic, 2, 3);
    await publish(topic, 4);
    expect(kinds(actor)).toEqual(['txn', 'txn', 'txn']);
    const records = { prefix: `${topicPrefix(topic.name)}op/` };
    expect(await world.operator().kv.count(records)).toBe(1n);
  });

  test('exchanges: from now on a watch; from a cursor a look and a watch; from the keys one more', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const { revision } = await publish(topic, 1);
    kinds(actor);
    const live = new Reader(topic.subscribe());
    const [event] = [live.next()];
    await eventually('the watch', () => actor.faults.calls.length > 0);
    await world.operator().kv.put('other', '');
    expect(kinds(actor)).toEqual(['watch']);
    const fromCursor = new Reader(topic.subscribe({ from: revision }));
    const [second] = [fromCursor.next()];
    await eventually('the other watch', () => actor.faults.calls.length > 1);
    expect(kinds(actor)).toEqual(['get', 'watch']);
    await publish(topic, 2);
    expect(seen(await second)).toEqual([2]);
    await live.leave();
    await event.catch(() => undefined);
    await fromCursor.leave();
    kinds(actor);
    expect(await all(topic, 2)).toEqual([[1], [2]]);
    expect(kinds(actor)).toEqual(['txn', 'txn']);
  });

  test('subscribe$ tells the same; leaving ends the watch', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    await publish(topic, 1);
    await publish(topic, 2);
    const events$ = topic.subscribe$({ from: 'earliest' });
    expect((await firstValueFrom(events$.pipe(first(2), toArray()))).map(seen)).toEqual([[1], [2]]);
  });

  test('a time is the first message published then or later', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    await publish(topic, 1);
    const later = new Date(Date.now() + 1);
    await eventually('another millisecond', () => Date.now() > later.getTime());
    await publish(topic, 2);
    expect(await all(topic, 1, { from: later })).toEqual([[2]]);
    expect(await all(topic, 1, { from: new Date(0) })).toEqual([[1]]);
    actor.faults.take();
    const fresh = all(topic, 1, { from: new Date(Date.now() + 60_000) });
    await eventually('the watch', () => actor.faults.calls.some(({ kind }) => kind === 'watch'));
    const publishing = publish(topic, 3);
    expect(await fresh).toEqual([[3]]);
    await publishing;
  });

  test('publishIn commits a state and its message together, once', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const state = world.name('state');
    const { kv } = actor.client;
    const order = (from: bigint, value: string) =>
      kv
        .txn()
        .if(compare.modRevision(state, '==', from))
        .then(op.put(state, value));
    const txn = topic.publishIn(topic.publishIn(order(0n, 'ordered'), { data: 1 }), { data: 2 });
    const done = await txn.commit();
    expect(done.succeeded).toBe(true);
    expect((await txn.commit()).succeeded).toBe(false);
    expect((await topic.publishIn(order(0n, 'again'), { data: 3 }).commit()).succeeded).toBe(false);
    for (const none of [undefined, null, { data: 3 }, 5] as never[]) {
      const named = { code: 'INVALID_ARGUMENT', message: expect.stringContaining("'txn'") };
      expect(() => topic.publishIn(none, { data: 3 })).toThrow(expect.objectContaining(named));
    }
    const paid = await topic.publishIn(order(done.revision, 'paid'), { data: 4 }).commit();
    expect(paid.succeeded).toBe(true);
    expect(await all(topic, 2)).toEqual([[1, 2], [4]]);
    expect((await kv.get(state))?.modRevision).toBe(paid.revision);
    // The message's key is new, whatever became of the condition on the state.
    await kv.delete(state);
    expect((await txn.commit()).succeeded).toBe(false);
  });

  test('drop the reply of every write: published once, with its revision', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name(), { retention: { messages: 10 } });
    actor.faults.plan = ({ write }) =>
      write && actor.faults.calls.length % 2 ? 'lose-answer' : 'pass';
    const one = await publish(topic, 1);
    const two = await publish(topic, 2);
    actor.faults.heal();
    expect([one.duplicate, two.duplicate]).toEqual([false, false]);
    const events = await take(topic.subscribe({ from: 'earliest' }), 2);
    expect(events.map(seen)).toEqual([[1], [2]]);
    expect(events.map((event) => event.type === 'messages' && event.revision)).toEqual([
      one.revision,
      two.revision,
    ]);
  });

  test('a publication whose reply is lost counts once, although its message is removed by then', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.next('lose-answer');
    a.faults.after = async ({ write }) => {
      if (!write) return;
      a.faults.heal();
      await publish(of(b, name), 2);
      await of(b, name, { retention: { messages: 1 } }).trim();
    };
    await publish(of(a, name), 1);
    expect(await messageKeys(name)).toHaveLength(1);
    expect(await all(of(b, name), 1)).toEqual([[2]]);
  });

  test('a publication that arrives late, after its repetition, has no effect', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name(), { retention: { messages: 1 } });
    await publish(topic, 0);
    actor.faults.next('linger');
    await publish(topic, 1);
    for (const value of [2, 3]) await publish(topic, value);
    await topic.trim();
    await actor.faults.deliver();
    expect(await messageKeys(topic.name)).toHaveLength(1);
    expect(await all(topic, 1)).toEqual([[3]]);
  });

  test('an id counts once, whoever publishes under it, and tells the first revision', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.next('lose-answer', ({ kind }) => kind === 'txn');
    const one = await of(a, name).publish({ data: 1 }, { id: 'order/1' });
    const again = await of(b, name).publish({ data: 2 }, { id: 'order/1' });
    const other = await of(b, name).publish({ data: 3 }, { id: 'order/2' });
    expect(one.duplicate).toBe(false);
    expect(again).toEqual({ revision: one.revision, duplicate: true });
    expect(other.duplicate).toBe(false);
    expect(await all(of(a, name), 2)).toEqual([[1], [3]]);
  });

  test('compact under every watch: messages are keys, and none is missing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [ours, theirs] = [of(a, name), of(b, name)];
    const { revision } = await publish(ours, 0);
    for (let value = 1; value <= 5; value++) await publish(ours, value, -value);
    // Holds one message: the watch is paused while the others are published and compacted.
    const slow = new Reader(theirs.subscribe({ from: revision, buffer: 1, recheck: '1h' }));
    const found = [seen(await slow.next())];
    for (let value = 6; value <= 9; value++) await publish(ours, value);
    await compactNow();
    while (found.length < 9) found.push(seen(await slow.next()));
    const expected: Seen[] = [[1, -1], [2, -2], [3, -3], [4, -4], [5, -5], [6], [7], [8], [9]];
    expect(found).toEqual(expected);
    await slow.leave();
    expect(await all(theirs, 9, { from: revision })).toEqual(expected);
    expect(await all(theirs, 10)).toEqual([[0], ...expected]);
  });

  test('restart a watch mid-replay: no revision comes twice, and none is left out', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const watch = actor.client.kv.watch.bind(actor.client.kv);
    let starts = 0;
    Object.assign(actor.client.kv, {
      watch: (range: object, options: object) => {
        starts += 1;
        const real = watch(range as never, options);
        const cancel = () => real.cancel();
        return { created: real.created, cancel, [Symbol.asyncIterator]: () => breaking(real) };
      },
    });
    async function* breaking<T>(notices: AsyncIterable<T>): AsyncGenerator<T> {
      let left = 3;
      for await (const notice of notices) {
        yield notice;
        left -= 1;
        if (left === 0) throw new ConclaveError('UNREACHABLE', 'broken by the test');
      }
    }
    const cursor = await topic.cursor();
    for (let value = 0; value < 10; value++) await publish(topic, value, value);
    const expected = Array.from({ length: 10 }, (_, value) => [value, value]);
    expect(await all(topic, 10, { from: cursor })).toEqual(expected);
    expect(starts).toBeGreaterThan(2);
  });

  test('a watch that keeps silent is found out by a slow look', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const deaf = new Topic<number>(deafContext(a), name);
    const cursor = await deaf.cursor();
    await publish(of(b, name), 1);
    const reader = new Reader(deaf.subscribe({ from: cursor, recheck: 20 }));
    const coming = reader.next();
    // History is there, and the watch does not tell it; without history the keys do.
    await compactNow();
    expect(seen(await coming)).toEqual([1]);
    await reader.leave();
  });

  test('restore an old snapshot: a gap says so, and the subscription goes on from there', async () => {
    await using store = await startRewindableStore();
    for (let value = 0; value < 20; value++) await store.before.kv.put('other', `${value}`);
    await using conclave = await connect(store.endpoint);
    const session = await conclave.session();
    const topic = session.topic<number>('restored');
    // It looks at once when the connection breaks.
    const reader = new Reader(topic.subscribe({ recheck: '1h' }));
    const coming = reader.next();
    await eventually('a subscription', async () => {
      await publish(topic, 1);
      return (await Promise.race([coming, undefined])) !== undefined;
    });
    store.rewind();
    let event = await reader.next();
    while (event.type === 'messages') event = await reader.next();
    expect(event).toMatchObject({ type: 'gap', reason: 'restored', from: 1n });
    const { revision } = await store.after.kv.put('other', '');
    expect(event.to < revision).toBe(true);
    await using later = await connect(store.endpoint);
    const following = reader.next();
    await eventually('a message after it', async () => {
      await publish((await later.session()).topic<number>('restored'), 2);
      return (await Promise.race([following, undefined])) !== undefined;
    });
    expect(seen(await following)).toEqual([2]);
    await reader.leave();
    const beyond = new Reader(topic.subscribe({ from: 1_000_000n }));
    expect(await beyond.next()).toMatchObject({ type: 'gap', reason: 'restored' });
    await beyond.leave();
  });

  test('a subscription reads no further ahead than its buffer', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const cursor = await of(a, name).cursor();
    const reader = new Reader(of(b, name).subscribe({ from: cursor, buffer: 2 }));
    await publish(of(a, name), 0);
    expect(seen(await reader.next())).toEqual([0]);
    for (let value = 1; value <= 20; value++) await publish(of(a, name), value);
    const found: Seen[] = [];
    while (found.length < 20) found.push(seen(await reader.next()));
    expect(found).toEqual(Array.from({ length: 20 }, (_, value) => [value + 1]));
    await reader.leave();
  });

  test('ends by its signal, by leaving, and when the session is closed', async () => {
    const conclave = await connect(world.endpoint());
    const session = await conclave.session();
    const topic = session.topic<number>(world.name());
    const stop = new AbortController();
    const stopped = new Reader(topic.subscribe({ signal: stop.signal }));
    const ending = stopped.ended();
    stop.abort();
    expect(await ending).toBe(true);
    const closing = new Reader(topic.subscribe()).ended();
    const durable = new Reader(topic.subscribe({ durable: 'd' })).ended();
    const member = new Reader(topic.subscribe({ group: 'g' })).ended();
    await session.close();
    await session.close();
    expect(await Promise.all([closing, durable, member])).toEqual([true, true, true]);
    await expect(topic.publish({ data: 1 })).rejects.toMatchObject({ code: 'CLOSED' });
    await conclave.close();
  });

  test('outlives a lost session: publishers and subscribers go on in another', async () => {
    const actor = await world.actor({ ttl: '2s' });
    const topic = of(actor, world.name());
    const reader = new Reader(topic.subscribe({ from: await topic.cursor() }));
    await publish(topic, 1);
    expect(seen(await reader.next())).toEqual([1]);
    await actor.killLease();
    await expect(publish(topic, 2)).rejects.toMatchObject({ code: 'SESSION_LOST' });
    await eventually('the loss', () => actor.session.state === 'lost');
    await publish(topic, 3);
    expect(seen(await reader.next())).toEqual([3]);
    await reader.leave();
  });

  test('two tasks, one session: topics of one name share what they need, and nothing else', async () => {
    const actor = await world.actor();
    const name = world.name();
    const cursor = await of(actor, name).cursor();
    const readers = [1, 2].map(() => all(of(actor, name), 20, { from: cursor }));
    await Promise.all(Array.from({ length: 20 }, (_, value) => publish(of(actor, name), value)));
    const [one, other] = await Promise.all(readers);
    expect(one).toEqual(other);
    expect(one?.flat().sort((x, y) => Number(x) - Number(y))).toEqual(
      Array.from({ length: 20 }, (_, value) => value),
    );
  });

  test('delete own key by hand: a message removed by hand before it was read is a gap', async () => {
    const actor = await world.actor();
    const name = world.name();
    const topic = of(actor, name);
    const one = await publish(topic, 1, 2);
    await publish(topic, 3);
    const [key = ''] = await messageKeys(name);
    // Between the index and the values.
    actor.faults.before = async ({ parts }) => {
      if ((parts?.success.length ?? 0) < 3) return;
      actor.faults.heal();
      await world.operator().kv.delete(key);
    };
    expect(await all(topic, 3)).toEqual([`removed ${one.revision}-${one.revision}`, [2], [3]]);
    // What is written again by hand is not published again; foreign keys are no messages.
    const reader = new Reader(topic.subscribe({ from: await topic.cursor() }));
    const coming = reader.next();
    const [, other = ''] = await messageKeys(name);
    await world.operator().kv.put(other, '{}\n9');
    await world.operator().kv.put(`${topicPrefix(name)}message/foreign`, '{}\n9');
    await publish(topic, 4);
    expect(seen(await coming)).toEqual([4]);
    await reader.leave();
  });

  test('an option that does not exist is named, with what may have been meant', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const make = (options: object) => () => of(actor, 'x', options);
    expect(make({ codecs: 1 })).toThrow(/no option 'codecs': did you mean 'codec'/);
    expect(make({ retention: { mesages: 1 } })).toThrow(
      /'retention.mesages': did you mean 'retention.messages'/,
    );
    const read = (options: object) => () => topic.subscribe(options);
    expect(read({ gruop: 'g' })).toThrow(/'gruop': did you mean 'group'/);
    expect(() => topic.subscribe$({ durabel: 'd' } as object)).toThrow(/did you mean 'durable'/);
    expect(read({ ackDeadline: '1s' })).toThrow(/'ackDeadline': it must be used with 'group'/);
    expect(read({ durable: 'd', maxPending: 64 })).toThrow(/'maxPending'/);
    const sent = (message: object, options: object = {}) =>
      topic.publish(message as never, options);
    await expect(sent({ data: 1 }, { ids: 'a' })).rejects.toThrow(/'ids': did you mean 'id'/);
    await expect(sent({ data: 1, hedaers: {} })).rejects.toThrow(/did you mean 'message.headers'/);
    const limits = { timeuot: 1 } as object;
    await expect(topic.setRetention({ mesages: 1 } as object)).rejects.toThrow(
      /'retention.mesages'/,
    );
    await expect(topic.setRetention({}, limits)).rejects.toThrow(/'timeuot'/);
    await expect(topic.cursor(limits)).rejects.toThrow(/'timeuot'/);
    await expect(topic.info(limits)).rejects.toThrow(/'timeuot'/);
    await expect(topic.trim(limits)).rejects.toThrow(/'timeuot'/);
    await expect(topic.forget('group', 'g', limits)).rejects.toThrow(/'timeuot'/);
    expect(await topic.info()).toMatchObject({ messages: 0, retention: {} });
  });

  test('what is missing or of another type is named', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const invalid = (field: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`'${field}'`),
    });
    const publish = (...given: unknown[]) => topic.publish(...(given as [never]));
    await expect(publish()).rejects.toMatchObject(invalid('message'));
    await expect(publish(null)).rejects.toMatchObject(invalid('message'));
    await expect(publish({ data: 1 }, null)).rejects.toMatchObject(invalid('options'));
    const signal = 5;
    await expect(publish({ data: 1 }, { signal })).rejects.toMatchObject(invalid('signal'));
    expect(() => topic.subscribe({ signal: signal as never })).toThrow(/'signal'/);
    await expect(publish({ data: 1, headers: null })).rejects.toMatchObject(
      invalid('message.headers'),
    );
    await expect(topic.publishAll(undefined as never)).rejects.toMatchObject(invalid('messages'));
    expect(() => topic.subscribe(null as never)).toThrow(/'options'/);
    expect(() => of(actor, 'x', null as never)).toThrow(/'options'/);
    expect(() => of(actor, 'x', { codec: {} as never })).toThrow(/'codec'/);
    expect(() => of(actor, 'x', { retention: null as never })).toThrow(/'retention'/);
  });

  test('a message that was received may be published again as it is', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    await topic.publish({ data: 7, key: 'k' });
    const [event] = await take(topic.subscribe({ from: 'earliest' }), 1);
    const [message] = event?.type === 'messages' ? event.messages : [];
    if (message === undefined) throw new Error('there was no message');
    await topic.publish(message);
    expect(await all(topic, 2)).toEqual([[7], [7]]);
  });

  test('a publication ends with its timeout, and tells what became of it', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    actor.faults.plan = ({ write }) => (write ? 'refuse' : 'pass');
    const refused = topic.publish({ data: 1 }, { timeout: '20ms' });
    await expect(refused).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'not-applied' });
    actor.faults.plan = ({ write }) => (write ? 'lose-answer' : 'pass');
    const lost = topic.publish({ data: 2 }, { timeout: '20ms' });
    await expect(lost).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'unknown' });
    actor.faults.heal();
    await expect(topic.publish({ data: 3 }, { timeout: -1 })).rejects.toThrow(/'timeout'/);
    await topic.publish({ data: 4 }, { timeout: '10s' });
  });

  test.each<[string, (topic: Topic<number>, limit: { timeout: number }) => Promise<unknown>]>([
    ['info', (topic, limit) => topic.info(limit)],
    ['cursor', (topic, limit) => topic.cursor(limit)],
    ['forget', (topic, limit) => topic.forget('durable', 'd', limit)],
    ['setRetention', (topic, limit) => topic.setRetention({ messages: 1 }, limit)],
  ])('%s ends with its timeout, however often calls time out within', async (_what, call) => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    actor.faults.before = () => {
      throw new ConclaveError('TIMEOUT', 'no answer in time', { outcome: 'unknown' });
    };
    const late = { code: 'TIMEOUT', message: expect.stringContaining('longer than 50 ms') };
    await expect(call(topic, { timeout: 50 })).rejects.toMatchObject(late);
  });

  test('a publication with an id outlives the lease of ids, unless it may have taken effect', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const message = { data: 1 };
    const endLeases = async () => {
      const prefix = `${topicPrefix(topic.name)}op/id/`;
      const { kvs } = await world.operator().kv.list({ prefix });
      for (const lease of new Set(kvs.map((kv) => kv.lease))) {
        await world.operator().leases.revoke(lease);
      }
    };
    await topic.publish(message, { id: 'a' });
    await endLeases();
    expect(await topic.publish(message, { id: 'b' })).toMatchObject({ duplicate: false });
    expect(await topic.publish(message, { id: 'b' })).toMatchObject({ duplicate: true });
    actor.faults.next('lose-answer');
    actor.faults.after = async ({ write }) => {
      if (write) await endLeases();
    };
    const lost = { code: 'SESSION_LOST', outcome: 'unknown' };
    await expect(topic.publish(message, { id: 'c' })).rejects.toMatchObject(lost);
    expect((await topic.info()).messages).toBe(3);
  });

  test('a clock that jumps ahead and back misdates only what is published between', async () => {
    const trueMs = 1_700_000_000_000;
    let wallMs = trueMs;
    const clock: Clock = Object.create(systemClock, { wallMs: { value: () => wallMs } });
    const actor = await world.actor({ clock });
    const topic = of(actor, world.name());
    const jump = (ms: number) => {
      wallMs = trueMs + ms;
    };
    jump(3_600_000);
    await publish(topic, 1);
    const txn = topic.publishIn(actor.client.kv.txn(), { data: 2 });
    jump(0);
    await publish(topic, 3);
    // One publication keeps its order all the same.
    expect((await topic.publishIn(txn, { data: 4 }).commit()).succeeded).toBe(true);
    const events = await take(topic.subscribe({ from: 'earliest' }), 3);
    expect(events.map(seen)).toEqual([[1], [3], [2, 4]]);
    const second = events[1];
    if (second?.type !== 'messages') throw new Error('there should be messages');
    expect(second.messages[0]?.publishedAt.getTime()).toBe(trueMs);
  });

  test('refuses what it cannot use', async () => {
    const actor = await world.actor();
    const topic = of(actor, world.name());
    const invalid = { code: 'INVALID_ARGUMENT' };
    expect(() => of(actor, '')).toThrow(/'name'/);
    expect(() => of(actor, 'x'.repeat(201))).toThrow(/'name'/);
    expect(() => of(actor, 'x', { trimEvery: 1 })).toThrow(/'trimEvery'/);
    expect(() => of(actor, 'x', { retention: { messages: 0 } })).toThrow(/'retention.messages'/);
    expect(() => of(actor, 'x', { retention: { age: 5 } })).toThrow(/'retention.age'/);
    expect(() => of(actor, 'x', { retention: { acked: 'no' as 'keep' } })).toThrow(/acked/);
    expect(() => topic.subscribe({ from: -1n })).toThrow(/'from'/);
    expect(() => topic.subscribe({ from: new Date(Number.NaN) })).toThrow(/'from'/);
    expect(() => topic.subscribe({ buffer: 0 })).toThrow(/'buffer'/);
    expect(() => topic.subscribe({ durable: '' })).toThrow(/'durable'/);
    expect(() => topic.subscribe({ group: 'x'.repeat(201) })).toThrow(/'group'/);
    expect(() => topic.subscribe({ group: 'g', durable: 'd' } as never)).toThrow(/'group'/);
    expect(() => topic.subscribe({ group: 'g', maxPending: 63 })).toThrow(/'maxPending'/);
    expect(() => topic.subscribe({ group: 'g', maxInFlight: 0 })).toThrow(/'maxInFlight'/);
    expect(() => topic.subscribe({ group: 'g', ackDeadline: 1 })).toThrow(/'ackDeadline'/);
    await expect(topic.publishAll([])).rejects.toMatchObject(invalid);
    await expect(publish(topic, ...Array(65).fill(1))).rejects.toMatchObject(invalid);
    await expect(topic.publish({ data: 1, key: '' })).rejects.toThrow(/'key'/);
    await expect(topic.publish({ data: 1 }, { id: '' })).rejects.toThrow(/'id'/);
    const headers = { a: 1 } as never;
    await expect(topic.publish({ data: 1, headers })).rejects.toThrow(/'headers.a'/);
    const signal = AbortSignal.abort('enough');
    await expect(topic.publish({ data: 1 }, { signal })).rejects.toMatchObject({ code: 'ABORTED' });
    const large = new Topic<string>(actor.context, topic.name);
    const data = 'x'.repeat(2 ** 20);
    await expect(large.publish({ data })).rejects.toMatchObject({ code: 'TOO_LARGE' });
    const half = { data: 'x'.repeat(2 ** 19) };
    await expect(large.publishAll([half, half])).rejects.toMatchObject({ code: 'TOO_LARGE' });
    await large.publish(half);
    await world.operator().kv.put((await messageKeys(topic.name))[0] ?? '', '{}\n{');
    const [event] = await take(topic.subscribe({ from: 'earliest' }), 1);
    expect(() => event && seen(event)).toThrow(expect.objectContaining({ code: 'CODEC' }));
  });
});
