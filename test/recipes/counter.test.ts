import { firstValueFrom, take, toArray } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { noMetrics } from '../../recipes/metrics.ts';
import { adderPrefix, counterPrefix } from '../../recipes/names.ts';
import { Adder } from '../../recipes/values/adder.ts';
import type { AdditionOptions } from '../../recipes/values/additions.ts';
import { Counter } from '../../recipes/values/counter.ts';
import { IdAllocator } from '../../recipes/values/id-allocator.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, useWorld } from './world.ts';

describe.skipIf(storeMissing)('counter', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string, options: AdditionOptions = {}) =>
    new Counter(actor.context, name, options);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const records = (name: string) =>
    world.operator().kv.count({ prefix: `${counterPrefix(name)}op/` });

  test('adds and tells the value after; one exchange once the value is known', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const ours = of(a, name);
    expect(await ours.get()).toBe(0n);
    expect(kinds(a)).toEqual(['get']);
    expect(await ours.add()).toBe(1n);
    expect(await ours.add(41n)).toBe(42n);
    expect(kinds(a)).toEqual(['txn', 'txn']);
    const theirs = of(b, name);
    expect(await theirs.add(-2n)).toBe(40n);
    expect(kinds(b)).toEqual(['txn', 'txn']);
    expect(await ours.add()).toBe(41n);
    expect(kinds(a)).toEqual(['txn', 'txn']);
    expect(await theirs.get()).toBe(41n);
  });

  test('whichever answers get lost, each addition counts once', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [ours, theirs] = [of(a, name), of(b, name)];
    a.faults.next('lose-answer');
    expect(await ours.add(5n)).toBe(5n);
    await ours.add(0n);
    // Somebody adds between the lost answer and the repetition: only the op-record tells.
    a.faults.next('lose-answer');
    let added = false;
    a.faults.after = async ({ write }) => {
      if (!write || added) return;
      added = true;
      await theirs.add(100n);
    };
    expect(await ours.add(5n)).toBe(10n);
    expect(await ours.get()).toBe(110n);
  });

  test('named additions share one lease, and who gives up takes nobody along', async () => {
    const actor = await world.actor();
    const name = world.name();
    const stop = new AbortController();
    const given = of(actor, name).add(1n, { opId: 'a', signal: stop.signal });
    const kept = of(actor, name).add(2n, { opId: 'b' });
    await Promise.resolve();
    stop.abort();
    await expect(given).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await kept).toBe(2n);
    const prefix = `${counterPrefix(name)}op/named/`;
    await of(actor, name).add(1n, { opId: 'c' });
    const { kvs } = await world.operator().kv.list({ prefix });
    expect(new Set(kvs.map(({ lease }) => lease)).size).toBe(1);
  });

  test('a copy that arrives late changes nothing', async () => {
    const actor = await world.actor();
    const counter = of(actor, world.name());
    await counter.add(1n);
    actor.faults.next('linger');
    expect(await counter.add(1n)).toBe(2n);
    await counter.add(1n);
    await actor.faults.deliver();
    expect(await counter.get()).toBe(3n);
  });

  test('an opId counts once, in another session too, and tells the same value', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    expect(await of(a, name).add(5n, { opId: 'order/1' })).toBe(5n);
    await of(b, name).add(1n);
    await a.session.close();
    expect(await of(b, name).add(5n, { opId: 'order/1' })).toBe(5n);
    expect(await of(b, name).add(5n, { opId: 'order' })).toBe(11n);
    await expect(of(b, name).add(6n, { opId: 'order/1' })).rejects.toMatchObject({
      code: 'MISMATCH',
    });
    expect(await of(b, name).get()).toBe(11n);
    // Also by whoever knows the value as it is.
    const counter = of(b, name);
    expect(await counter.add(1n)).toBe(12n);
    expect(await counter.add(2n, { opId: 'again' })).toBe(14n);
    expect(await counter.add(2n, { opId: 'again' })).toBe(14n);
    expect(await counter.get()).toBe(14n);
  });

  test('many tasks of two sessions lose nothing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const counters = [of(a, name, { retries: 200 }), of(b, name, { retries: 200 })];
    const after = await Promise.all(
      Array.from({ length: 16 }, (_, index) => counters[index % 2]?.add(1n)),
    );
    expect(new Set(after).size).toBe(16);
    expect(await counters[0]?.get()).toBe(16n);
  });

  test('op-records do not pile up', async () => {
    const actor = await world.actor();
    const name = world.name();
    for (let index = 0; index < 20; index++) await of(actor, name).add();
    expect(await records(name)).toBe(1n);
    await actor.session.close();
    expect(await records(name)).toBe(0n);
    expect(await of(await world.actor(), name).get()).toBe(20n);
  });

  test('gives up after as many conflicts as it may have', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const theirs = of(b, name);
    a.faults.before = async ({ write }) => {
      if (write) await theirs.add();
    };
    await expect(of(a, name, { retries: 3 }).add()).rejects.toMatchObject({
      code: 'CONFLICT',
      retryable: true,
      outcome: 'not-applied',
    });
    expect(kinds(a)).toHaveLength(4);
    expect(await theirs.get()).toBe(4n);
  });

  test('a lost session and an abort end an addition, and say what is known', async () => {
    const actor = await world.actor();
    const name = world.name();
    await expect(of(actor, name).add(1n, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
      outcome: 'not-applied',
    });
    const stop = new AbortController();
    actor.faults.plan = () => 'lose-answer';
    actor.faults.after = () => stop.abort('enough');
    await expect(of(actor, name).add(1n, { signal: stop.signal })).rejects.toMatchObject({
      code: 'ABORTED',
      outcome: 'unknown',
    });
    actor.faults.heal();
    expect(await of(actor, name).get()).toBe(1n);
    await actor.killLease();
    await expect(of(actor, name).add()).rejects.toMatchObject({ code: 'SESSION_LOST' });
  });

  test('value$ begins with the value and follows it', async () => {
    const actor = await world.actor();
    const counter = of(actor, world.name());
    await counter.add(7n);
    const seen = firstValueFrom(counter.value$.pipe(take(2), toArray()));
    await firstValueFrom(counter.value$);
    await counter.add(1n);
    expect((await seen)[1]).toBe(8n);
  });

  test('refuses what it cannot use, and what is no counter', async () => {
    const actor = await world.actor();
    const name = world.name();
    for (const bad of ['', 'x'.repeat(201)]) {
      expect(() => of(actor, bad)).toThrow(/'name'/);
    }
    expect(() => of(actor, name, { retries: -1 })).toThrow(/'retries'/);
    expect(() => of(actor, name, { remember: 0 })).toThrow(/'remember'/);
    await expect(of(actor, name).add(1 as unknown as bigint)).rejects.toThrow(/'delta'/);
    await expect(of(actor, name).add(1n, { opId: '' })).rejects.toThrow(/'opId'/);
    await world.operator().kv.put(`${counterPrefix(name)}sum/0`, 'many');
    await expect(of(actor, name).add()).rejects.toMatchObject({ code: 'CODEC' });
    await expect(of(actor, name).get()).rejects.toMatchObject({ code: 'CODEC' });
  });

  test.each<[string, (actor: Actor, name: string) => unknown, string]>([
    ['a counter', (a, name) => of(a, name, { retires: 1 } as never), "did you mean 'retries'"],
    ['no options', (a, name) => of(a, name, null as never), "null as 'options'"],
    ['an adder', (a, name) => new Adder(a.context, name, { shard: 2 } as never), "mean 'shards'"],
    ['add', (a, name) => of(a, name).add(1n, { opID: 'x' } as never), "did you mean 'opId'"],
    ['a signal', (a, name) => of(a, name).add(1n, { signal: {} } as never), "as 'signal'"],
  ])('refuses misspelt and wrong options: %s', async (_what, call, message) => {
    const actor = await world.actor();
    await expect((async () => call(actor, world.name()))()).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    });
  });

  test('an adder spreads over its shards and sums them up', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const ours = new Adder(a.context, name, { shards: 4 });
    const theirs = new Adder(b.context, name, { shards: 8 });
    await Promise.all(Array.from({ length: 20 }, (_, n) => (n % 2 ? ours : theirs).add(2n)));
    a.faults.next('lose-answer');
    await ours.add(2n);
    await ours.add(3n, { opId: 'x' });
    await theirs.add(3n, { opId: 'x' });
    expect(await ours.sum()).toBe(45n);
    expect(await firstValueFrom(theirs.sum$)).toBe(45n);
    expect(await world.operator().kv.count({ prefix: `${adderPrefix(name)}sum/` })).toBeGreaterThan(
      1n,
    );
    expect(() => new Adder(a.context, name, { shards: 0 })).toThrow(/'shards'/);
  });

  test('reading in a session that is over says why it is over', async () => {
    const clock = new ManualClock();
    const [lost, closed] = [await world.actor({ clock }), await world.actor()];
    const name = world.name();
    const reads = ({ context }: Actor) => [
      new Counter(context, name).get(),
      new Adder(context, name).sum(),
    ];
    await of(lost, name).add(1n);
    // Those under way hear of it as well.
    lost.faults.plan = () => 'refuse';
    const under = reads(lost);
    clock.freeze(60_000);
    expect(lost.session.state).toBe('lost');
    for (const read of under) await expect(read).rejects.toMatchObject({ code: 'SESSION_LOST' });
    for (const read of reads(lost)) {
      await expect(read).rejects.toMatchObject({ code: 'SESSION_LOST' });
    }
    await closed.session.close();
    for (const read of reads(closed)) await expect(read).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('the first addition to a number that is there already is no contention', async () => {
    const conflicts: string[] = [];
    const metrics = {
      ...noMetrics,
      contended: ({ recipe, kind }: { recipe: string; kind: string }) =>
        conflicts.push(`${recipe} ${kind}`),
    };
    const [a, b] = [await world.actor({ metrics }), await world.actor()];
    const name = world.name();
    const [theirs, ids] = [of(b, name), new IdAllocator(b.context, name)];
    const sums = Array.from({ length: 8 }, (_, shard) =>
      world.operator().kv.put(`${adderPrefix(name)}sum/${shard}`, '1'),
    );
    await Promise.all([theirs.add(), ids.next(), ...sums]);
    const ours = of(a, name, { retries: 0 });
    expect(await ours.add()).toBe(2n);
    expect(await new IdAllocator(a.context, name).next()).toBe(101n);
    a.faults.take();
    // The shard that was read is the one that is added to.
    for (let time = 0; time < 4; time++) {
      await new Adder(a.context, name, { shards: 8 }).add();
      expect(kinds(a)).toEqual(['txn', 'txn']);
    }
    expect(conflicts).toEqual([]);
    // Somebody else did come first.
    await theirs.add();
    await expect(ours.add()).rejects.toMatchObject({ code: 'CONFLICT' });
    expect(conflicts).toEqual(['counter conflict']);
  });
});
