import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ratePrefix } from '../../recipes/names.ts';
import { judge } from '../../recipes/rate/gcra.ts';
import { RateLimiter, type RateOptions } from '../../recipes/rate/rate-limiter.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

/** Ten a second, three at once. */
const tenASecond: RateOptions = { rate: 10, per: '1s', burst: 3 };

describe.skipIf(storeMissing)('rate limiter', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string, options = tenASecond) =>
    new RateLimiter(actor.context, name, options);
  const waiting = (name: string, wanted: number) =>
    eventually(`${wanted} waiters of ${name}`, async () => {
      const prefix = `${ratePrefix(name)}line/`;
      return (await world.operator().kv.count({ prefix })) === BigInt(wanted);
    });
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  /** Lets what is ready run and time pass, by turns, until the condition holds. */
  const passing = (clock: ManualClock, what: string, condition: () => boolean) =>
    eventually(what, async () => {
      await settle(3);
      if (condition()) return true;
      clock.advance(10);
      return false;
    });

  test('a burst, then the rate; one exchange for each answer', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '600s' });
    const limiter = of(actor, world.name());
    expect(await limiter.tryTake(2)).toBe(true);
    expect(await limiter.tryTake()).toBe(true);
    expect(kinds(actor)).toEqual(['txn', 'txn']);
    expect(await limiter.tryTake()).toBe(false);
    expect(kinds(actor)).toEqual(['get']);
    clock.advance(99);
    expect(await limiter.tryTake()).toBe(false);
    clock.advance(1);
    expect(await limiter.tryTake()).toBe(true);
    expect(await limiter.tryTake()).toBe(false);
    clock.advance(10_000);
    expect(await limiter.inspect()).toMatchObject({ available: 3, waiters: [] });
    expect(await limiter.tryTake(3)).toBe(true);
    expect(await limiter.tryTake()).toBe(false);
  });

  test('clients share one limit, whoever else took in between', async () => {
    const clock = new ManualClock();
    const [a, b] = [
      await world.actor({ clock, ttl: '600s' }),
      await world.actor({ clock, ttl: '600s' }),
    ];
    const name = world.name();
    const [ours, theirs] = [of(a, name), of(b, name)];
    const taken: boolean[] = [];
    for (let turn = 0; turn < 3; turn++) {
      taken.push(await ours.tryTake(), await theirs.tryTake());
    }
    expect(taken.filter(Boolean)).toHaveLength(3);
    clock.advance(1_000);
    const burst = await Promise.all(
      Array.from({ length: 10 }, (_, index) => (index % 2 ? ours : theirs).tryTake()),
    );
    expect(burst.filter(Boolean)).toHaveLength(3);
  });

  test('waiters take in the order they came, at the rate, and nobody passes them', async () => {
    const clock = new ManualClock();
    const [a, b] = [
      await world.actor({ clock, ttl: '600s' }),
      await world.actor({ clock, ttl: '600s' }),
    ];
    const name = world.name();
    expect(await of(a, name).tryTake(3)).toBe(true);
    const order: number[] = [];
    const times: number[] = [];
    const start = clock.wallMs();
    const takes: Promise<void>[] = [];
    for (let index = 0; index < 4; index++) {
      const take = of(index % 2 ? a : b, name).take();
      takes.push(
        take.then(() => {
          order.push(index);
          times.push(clock.wallMs() - start);
        }),
      );
      await waiting(name, index + 1);
    }
    clock.freeze(100);
    // There is room for one, but it is the waiter's.
    expect(await of(b, name).tryTake()).toBe(false);
    await passing(clock, 'all takes', () => order.length === 4);
    expect(order).toEqual([0, 1, 2, 3]);
    for (const [index, at] of times.entries()) expect(at).toBeGreaterThanOrEqual(100 * (index + 1));
    await Promise.all(takes);
    await waiting(name, 0);
  });

  test('the exchanges of a waiter do not grow with those who wait or how long', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '600s' });
    const name = world.name();
    const limiter = of(actor, name);
    await limiter.take(3);
    actor.faults.take();
    const waiters = 20;
    let done = 0;
    const takes = Array.from({ length: waiters }, () =>
      limiter.take().then(() => {
        done += 1;
      }),
    );
    await waiting(name, waiters);
    await passing(clock, 'all takes', () => done === waiters);
    await Promise.all(takes);
    expect(kinds(actor).filter((kind) => kind !== 'watch').length).toBeLessThanOrEqual(7 * waiters);
  });

  test('a wait that is given up takes nothing and leaves the line', async () => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '600s' });
    const name = world.name();
    const limiter = of(actor, name);
    await limiter.take(3);
    const abort = new AbortController();
    const first = limiter.take(1, { signal: abort.signal });
    await waiting(name, 1);
    const second = limiter.take(1, { timeout: '50ms' });
    second.catch(() => undefined);
    await waiting(name, 2);
    abort.abort('no');
    await expect(first).rejects.toMatchObject({ code: 'ABORTED', cause: 'no' });
    clock.advance(50);
    await expect(second).rejects.toMatchObject({ code: 'NOT_ACQUIRED' });
    await waiting(name, 0);
    clock.advance(250);
    expect(await limiter.tryTake(3)).toBe(true);
    await expect(limiter.take(1, { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
    });
  });

  test('an answer that was lost is charged once; a copy that comes late is not', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor({ ttl: '600s' }), await world.actor({ clock, ttl: '600s' })];
    const name = world.name();
    const slow = { rate: 1, per: '1h', burst: 4 };
    for (const fate of ['lose-answer', 'linger'] as const) {
      a.faults.next(fate);
      expect(await of(a, name, slow).tryTake()).toBe(true);
      await a.faults.deliver();
    }
    expect((await of(a, name, slow).inspect()).available).toBe(2);
    expect(b.session.state).toBe('live');
  });

  test('a waiter learns of the loss of its key and of its session', async () => {
    const clock = new ManualClock();
    const [a, b] = [
      await world.actor({ clock, ttl: '600s' }),
      await world.actor({ clock, ttl: '600s' }),
    ];
    const name = world.name();
    await of(a, name).take(3);
    const robbed = of(a, name).take();
    robbed.catch(() => undefined);
    await waiting(name, 1);
    const closed = of(b, name).take();
    closed.catch(() => undefined);
    await waiting(name, 2);
    await b.session.close();
    await expect(closed).rejects.toMatchObject({ code: 'CLOSED' });
    const prefix = `${ratePrefix(name)}line/`;
    await world.operator().kv.delete({ prefix });
    clock.advance(400);
    await expect(robbed).rejects.toMatchObject({ code: 'LOCK_LOST' });
    await waiting(name, 0);
  });

  test('a clock that is ahead gives out no more than its lead allows', async () => {
    const [clock, fast] = [new ManualClock(), new ManualClock()];
    fast.freeze(200);
    const a = await world.actor({ clock, ttl: '600s' });
    const b = await world.actor({ clock: fast, ttl: '600s' });
    const name = world.name();
    expect(await of(a, name).tryTake(3)).toBe(true);
    // Two intervals ahead: two permits more, once.
    const ahead = [await of(b, name).tryTake(), await of(b, name).tryTake()];
    expect([...ahead, await of(b, name).tryTake()]).toEqual([true, true, false]);
    clock.advance(200);
    expect(await of(a, name).tryTake()).toBe(false);
    clock.advance(100);
    expect(await of(a, name).tryTake()).toBe(true);
  });

  test('rates that disagree are reported until one is put in force', async () => {
    const actor = await world.actor();
    const name = world.name();
    await of(actor, name).take();
    const other = of(actor, name, { rate: 5, burst: 3 });
    await expect(other.tryTake()).rejects.toMatchObject({ code: 'MISMATCH' });
    await expect(other.take()).rejects.toMatchObject({ code: 'MISMATCH' });
    actor.faults.next('lose-answer');
    await other.configure();
    expect(await other.tryTake()).toBe(true);
    await expect(of(actor, name).tryTake()).rejects.toMatchObject({ code: 'MISMATCH' });
  });

  test('bad rates and permits are refused by name', async () => {
    const actor = await world.actor();
    for (const [options, field] of [
      [{ rate: 0 }, /'rate'/],
      [{ rate: Number.NaN }, /'rate'/],
      [{ rate: 1, per: 0 }, /'per'/],
      [{ rate: 1, burst: 1.5 }, /'burst'/],
    ] as const) {
      expect(() => of(actor, world.name(), options)).toThrow(field);
    }
    for (const permits of [0, 4, 1.5]) {
      await expect(of(actor, world.name()).tryTake(permits)).rejects.toThrow(/'permits'/);
      await expect(of(actor, world.name()).take(permits)).rejects.toThrow(/'permits'/);
    }
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () => new RateLimiter(actor.context, 'x', options as never);
    expect(make(undefined)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make({ rate: 1, brust: 2 })).toThrow(expect.objectContaining(refused("'burst'")));
    const limiter = of(actor, world.name());
    for (const [options, words] of [
      [{ tmieout: 10 }, "'timeout'"],
      [{ signal: {} }, "'signal'"],
      [null, "'options'"],
    ] as const) {
      await expect(limiter.take(1, options as never)).rejects.toMatchObject(refused(words));
    }
    expect((await limiter.inspect()).available).toBeNull();
  });
});

test('in no window more is given out than the burst and what the rate adds', () => {
  const steps = fc.array(fc.tuple(fc.nat(400), fc.integer({ min: 1, max: 3 })), { maxLength: 60 });
  fc.assert(
    fc.property(steps, (times) => {
      const rate = { rate: 10, perMs: 1_000, burst: 3 };
      let [now, tat] = [0, 0];
      const taken: { at: number; permits: number }[] = [];
      for (const [rest, permits] of times) {
        now += rest;
        const verdict = judge(rate, tat, now, permits);
        if (verdict.allowed) {
          tat = verdict.tatMs;
          taken.push({ at: now, permits });
        } else {
          // As soon as it says, and not a millisecond before.
          expect(judge(rate, tat, verdict.atMs, permits).allowed).toBe(true);
          expect(judge(rate, tat, verdict.atMs - 1, permits).allowed).toBe(false);
        }
      }
      for (const [index, first] of taken.entries()) {
        let sum = 0;
        for (const each of taken.slice(index)) {
          sum += each.permits;
          expect(sum).toBeLessThanOrEqual(3 + (each.at - first.at) / 100 + 1e-9);
        }
      }
    }),
  );
});
