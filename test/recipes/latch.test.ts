import { describe, expect, test } from 'vitest';
import { Latch, type LatchState } from '../../recipes/barriers/latch.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import { latchPrefix } from '../../recipes/names.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { actorOf, crowd, watches } from './barrier-tools.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { type Actor, compactTo, deafContext, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('latch', () => {
  const world = useWorld();
  const of = (actor: Pick<Actor, 'context'>, name: string, count = 2, recheck?: number) =>
    new Latch(actor.context, name, { count, ...(recheck === undefined ? {} : { recheck }) });
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const outcome = (wait: Promise<unknown>) => Promise.race([wait, Promise.resolve('waiting')]);
  const compact = async () => {
    const { kv } = world.operator();
    const { revision } = await kv.put('filler', 'x');
    await compactTo(kv, revision);
  };
  const waits = (actor: Actor, watches = 1) =>
    eventually(
      'the watch',
      () => actor.faults.calls.filter(({ kind }) => kind === 'watch').length >= watches,
    );

  test('exchanges: arrive 1, wait 1 when it is open, else 2', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const waiting = of(b, name).wait();
    await waits(b);
    expect(await of(a, name).arrive('one')).toEqual({ first: true, arrived: 1, open: false });
    expect(await of(a, name).arrive('two')).toEqual({ first: true, arrived: 2, open: true });
    expect(kinds(a)).toEqual(['txn', 'txn']);
    await waiting;
    expect(kinds(b)).toEqual(['txn', 'watch']);
    await of(b, name).wait();
    expect(kinds(b)).toEqual(['txn']);
  });

  test('an id counts once, whoever repeats it', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    expect(await of(a, name).arrive('node/1')).toMatchObject({ first: true });
    expect(await of(a, name).arrive('node/1')).toEqual({ first: false, arrived: 1, open: false });
    expect(await of(b, name).arrive('node/1')).toMatchObject({ first: false, arrived: 1 });
    expect(await of(b, name).inspect()).toMatchObject({ missing: 1, open: false });
  });

  test('an arrival stands after its session has ended', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await of(a, name).arrive('a');
    await a.session.close();
    await of(b, name).arrive('b');
    await of(b, name).wait({ timeout: '5s' });
  });

  test('many at once: each counts, and exactly one sees it open', async () => {
    const a = await world.actor();
    const name = world.name();
    const count = 40;
    const latch = of(a, name, count);
    const arrivals = await Promise.all(
      Array.from({ length: count }, (_, index) => latch.arrive(`${index}`)),
    );
    const numbers = arrivals.map(({ arrived }) => arrived).sort((x, y) => x - y);
    expect(numbers).toEqual(Array.from({ length: count }, (_, index) => index + 1));
    expect(arrivals.filter(({ open }) => open)).toHaveLength(1);
    await latch.wait({ timeout: '5s' });
  });

  test('drop the reply of every write: it counts once, and the caller knows that it was first', async () => {
    const a = await world.actor();
    const name = world.name();
    for (const id of ['x', 'y', 'z']) {
      a.faults.next('lose-answer');
      expect(await of(a, name, 3).arrive(id)).toMatchObject({ first: true });
      a.faults.heal();
    }
    expect(await of(a, name, 3).inspect()).toMatchObject({ open: true, missing: 0 });
  });

  test('a late arrival does not count in the round after a reset', async () => {
    const a = await world.actor();
    const name = world.name();
    a.faults.next('linger');
    await of(a, name).arrive('x');
    expect(await of(a, name).reset()).toBe(2);
    await a.faults.deliver();
    expect(await of(a, name).inspect()).toMatchObject({ arrived: [], round: 2 });
  });

  test('reset closes it and begins anew; those that wait go on waiting', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const latch = of(a, name);
    await latch.arrive('x');
    const waiting = of(b, name).wait();
    await waits(b);
    await latch.reset();
    await settle();
    expect(await outcome(waiting)).toBe('waiting');
    await latch.arrive('x');
    await latch.arrive('y');
    await waiting;
    await latch.reset();
    expect(await latch.inspect()).toMatchObject({ open: false, round: 3, missing: 2 });
    // An object that has not heard of it needs one exchange more.
    kinds(a);
    expect(await of(a, name).arrive('x')).toMatchObject({ first: true, arrived: 1 });
    expect(kinds(a)).toEqual(['txn', 'txn']);
  });

  test('a latch that was open and reset before a waiter could see it lets the waiter go', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const waiting = new Latch(deafContext(b), name, { count: 1, recheck: 80 }).wait();
    await eventually('its look', () => b.faults.calls.length === 1);
    const latch = of(a, name, 1);
    await latch.arrive('x');
    await latch.reset();
    await waiting;
  });

  test('a reset whose answer is lost happens once', async () => {
    const a = await world.actor();
    const name = world.name();
    a.faults.next('lose-answer');
    expect(await of(a, name).reset()).toBe(2);
    expect(await of(a, name).inspect()).toMatchObject({ round: 2 });
  });

  test('counts that differ are a MISMATCH, for arrivals and for waits', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const early = of(b, name, 3).wait();
    early.catch(() => undefined);
    await waits(b);
    await of(a, name, 2).arrive('x');
    const mismatch = { code: 'MISMATCH' };
    await expect(of(b, name, 3).arrive('y')).rejects.toMatchObject(mismatch);
    await expect(of(b, name, 3).wait()).rejects.toMatchObject(mismatch);
    expect(await of(b, name, 2).inspect()).toMatchObject({ missing: 1 });
    await of(a, name, 2).arrive('y');
    // It could not know when it began to wait.
    await expect(early).rejects.toMatchObject(mismatch);
    // After a reset another count may be used.
    await of(a, name).reset();
    await of(a, name, 1).arrive('x');
    await of(b, name, 1).wait();
  });

  test('a timeout and a signal end a wait; an arrival that is given up says what is known', async () => {
    const a = await world.actor();
    const name = world.name();
    await expect(of(a, name).wait({ timeout: 30 })).rejects.toMatchObject({ code: 'NOT_ACQUIRED' });
    const abort = new AbortController();
    const waiting = of(a, name).wait({ signal: abort.signal });
    abort.abort('enough');
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' });
    const given = new AbortController();
    a.faults.next('lose-answer');
    a.faults.after = () => given.abort();
    await expect(of(a, name).arrive('x', { signal: given.signal })).rejects.toMatchObject({
      code: 'ABORTED',
      outcome: 'unknown',
    });
  });

  test('kill the session at every step of a wait: it ends at once', async () => {
    const name = world.name();
    for (const step of ['look', 'while waiting'] as const) {
      const b = await world.actor();
      if (step === 'look') b.faults.after = () => b.session.close();
      const waiting = of(b, name).wait();
      waiting.catch(() => undefined);
      if (step === 'while waiting') {
        await waits(b);
        await b.session.close();
      }
      await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' });
      await expect(of(b, name).arrive('x')).rejects.toMatchObject({ code: 'CLOSED' });
    }
  });

  test('freeze the process past its TTL: an opening that it sees too late is not told', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor({ clock, ttl: '10s' }), await world.actor()];
    const name = world.name();
    const waiting = of(a, name, 1).wait();
    waiting.catch(() => undefined);
    await waits(a);
    clock.freeze(20_000);
    await of(b, name, 1).arrive('x');
    await expect(waiting).rejects.toMatchObject({ code: 'SESSION_LOST' });
  });

  test('delete own key by hand: the arrival is gone from the list, but counted', async () => {
    const a = await world.actor();
    const name = world.name();
    const latch = of(a, name);
    await latch.arrive('x');
    const { kvs } = await world.operator().kv.list({ prefix: latchPrefix(name) });
    const own = kvs.find(({ key }) => key.endsWith('id/x'));
    await world.operator().kv.delete(own?.key ?? '');
    expect(await latch.inspect()).toMatchObject({ arrived: [] });
    expect(await latch.arrive('y')).toMatchObject({ arrived: 2, open: true });
  });

  test('compact under every watch: nobody is let through early, and nobody waits for ever', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    b.faults.after = async () => {
      b.faults.heal();
      await of(a, name).arrive('x');
      await compact();
    };
    const waiting = of(b, name).wait();
    await waits(b);
    await compact();
    await settle();
    expect(await outcome(waiting)).toBe('waiting');
    await of(a, name).arrive('y');
    await compact();
    await waiting;
  });

  test('an opening between the look and the watch, compacted away, is not missed', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    b.faults.after = async () => {
      b.faults.heal();
      await of(a, name, 1).arrive('x');
      await compact();
    };
    await of(b, name, 1).wait({ timeout: '8s' });
  });

  test('the slow look finds what no watch reported', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const waiting = new Latch(deafContext(b), name, { count: 1, recheck: 60 }).wait();
    await eventually('its look', () => b.faults.calls.length === 1);
    await of(a, name, 1).arrive('x');
    await waiting;
  });

  test('restore an old snapshot: a waiter of a later round waits for the one that is back', async () => {
    await using store = await startRewindableStore();
    const name = world.name();
    const { actor, rewind, close } = await actorOf(store);
    const latch = of(actor, name, 1, 60);
    await latch.arrive('x');
    await latch.reset();
    const waiting = latch.wait();
    await watches(actor, 1);
    await rewind();
    await settle();
    expect(await outcome(waiting)).toBe('waiting');
    // In the snapshot nobody has arrived yet, and it is the first round.
    await latch.arrive('x');
    await waiting;
    await close();
  });

  test('1,000 waiters: each looks once, watches once, and is woken once', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const all = Array.from({ length: crowd }, () => of(b, name, 2, 3_600_000).wait());
    await eventually('all watches', () => b.faults.calls.length === 2 * crowd);
    await of(a, name).arrive('x');
    await of(a, name).arrive('y');
    await Promise.all(all);
    expect(b.faults.calls).toHaveLength(2 * crowd);
  }, 60_000);

  test('two tasks of one session: the same id counts once', async () => {
    const a = await world.actor();
    const latch = of(a, world.name());
    const both = await Promise.all([latch.arrive('x'), latch.arrive('x')]);
    expect(both.map(({ first }) => first).sort()).toEqual([false, true]);
    expect(await latch.inspect()).toMatchObject({ missing: 1 });
  });

  test('inspect and state$ show who has arrived, since when, and how many are missing', async () => {
    const a = await world.actor({ meta: { host: 'a' } });
    const name = world.name();
    const latch = of(a, name);
    const seen: LatchState[] = [];
    const subscription = latch.state$.subscribe((state) => seen.push(state));
    await eventually('the first state', () => seen.length > 0);
    const before = Date.now();
    await latch.arrive('node/1', { meta: { step: '1' } });
    const state = await latch.inspect();
    expect(state).toMatchObject({ open: false, count: 2, missing: 1, round: 1 });
    expect(state.arrived).toMatchObject([
      { id: 'node/1', session: a.session.id, meta: { host: 'a', step: '1' } },
    ]);
    expect(state.arrived[0]?.since.getTime()).toBeGreaterThanOrEqual(before);
    await latch.arrive('node/2');
    await latch.arrive('one too many');
    await eventually('all of it', () => seen.at(-1)?.arrived.length === 3);
    subscription.unsubscribe();
    expect(seen.at(-1)).toMatchObject({ open: true, missing: 0 });
    expect(seen[0]).toMatchObject({ open: false, missing: 2 });
  });

  test('waits are measured', async () => {
    const measured: unknown[] = [];
    const clock = new ManualClock();
    const a = await world.actor({
      clock,
      ttl: '60s',
      metrics: {
        waited: ({ recipe, outcome: end }) => measured.push(['waited', recipe, end]),
        held: () => measured.push('held'),
        contended: ({ recipe, kind }) => measured.push(['contended', recipe, kind]),
        lost: () => measured.push('lost'),
      },
    });
    const latch = of(a, world.name(), 1);
    const late = latch.wait({ timeout: '1s' });
    late.catch(() => undefined);
    await eventually('its watch', () => a.faults.calls.length >= 2);
    clock.advance(1_000);
    await expect(late).rejects.toThrow();
    await latch.arrive('x');
    await latch.wait();
    expect(measured).toEqual([
      ['contended', 'latch', 'wait'],
      ['waited', 'latch', 'NOT_ACQUIRED'],
      ['waited', 'latch', 'acquired'],
    ]);
  });

  test('wrong use is refused by name', async () => {
    const a = await world.actor();
    for (const count of [0, -1, 1.5, 1_000_001, Number.NaN]) {
      expect(() => of(a, 'x', count)).toThrow(/'count'/);
    }
    expect(() => of(a, '')).toThrow(/'name'/);
    expect(() => of(a, 'x', 1, 0)).toThrow(/'recheck'/);
    const name = world.name();
    await expect(of(a, name).arrive('')).rejects.toThrow(/'id'/);
    await expect(of(a, name).arrive('x'.repeat(201))).rejects.toThrow(/'id'/);
    await expect(of(a, name).wait({ timeout: -1 })).rejects.toThrow(/'timeout'/);
    const signal = AbortSignal.abort('no');
    await expect(of(a, name).arrive('x', { signal })).rejects.toMatchObject({ code: 'ABORTED' });
    await world.operator().kv.put(`${latchPrefix(name)}gate`, '{');
    await expect(of(a, name).arrive('x')).rejects.toMatchObject({ code: 'CODEC' });
  });

  test('arrivals that find their id taken, or the round over, are measured', async () => {
    const measured: unknown[] = [];
    const a = await world.actor({
      metrics: { ...noMetrics, contended: ({ recipe, kind }) => measured.push([recipe, kind]) },
    });
    const b = await world.actor();
    const name = world.name();
    const latch = of(a, name, 3);
    await latch.arrive('1');
    expect(measured).toEqual([]);
    expect((await latch.arrive('1')).first).toBe(false);
    expect(measured).toEqual([['latch', 'refused']]);
    await of(b, name, 3).reset();
    expect((await latch.arrive('1')).first).toBe(true);
    expect(measured).toEqual([
      ['latch', 'refused'],
      ['latch', 'conflict'],
    ]);
  });

  test('an arrival whose answer was lost before a reset does not count in the new round', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.next('lose-answer');
    a.faults.after = async () => {
      a.faults.after = () => undefined;
      await of(b, name, 1).reset();
    };
    const arrival = of(a, name, 1).arrive('node-1');
    await expect(arrival).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN', outcome: 'unknown' });
    expect(await of(b, name, 1).inspect()).toMatchObject({ arrived: [], open: false });
  });

  test('a gate that this version cannot read is not reset', async () => {
    const actor = await world.actor();
    const name = world.name();
    await world.operator().kv.put(`${latchPrefix(name)}gate`, '{"v":2}');
    await expect(of(actor, name, 1).reset()).rejects.toMatchObject({ code: 'CODEC' });
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () => new Latch(actor.context, 'x', options as never);
    expect(make(undefined)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make({ count: 1, rechekc: 1 })).toThrow(expect.objectContaining(refused("'recheck'")));
    const latch = of(actor, world.name(), 1);
    for (const [options, words] of [
      [{ singal: undefined }, "'signal'"],
      [{ signal: {} }, "'signal'"],
      [null, "'options'"],
    ] as const) {
      await expect(latch.arrive('1', options as never)).rejects.toMatchObject(refused(words));
      await expect(latch.wait(options as never)).rejects.toMatchObject(refused(words));
    }
    expect((await latch.inspect()).arrived).toEqual([]);
  });
});
