/** What the recipes report, and how that reaches the instruments of a meter. */
import { describe, expect, test } from 'vitest';
import { noMetrics, type RecipeMetrics } from '../../recipes/metrics.ts';
import { type Meter, openTelemetry } from '../../recipes/open-telemetry.ts';
import type { Claim } from '../../recipes/queue/claim.ts';
import { RecipeSession } from '../../recipes/session.ts';
import { deliver } from '../../recipes/topic/delivery.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { eventually, useWorld } from './world.ts';

type Measurement = readonly [instrument: string, value: number, attributes: object];

/** A meter that writes down what is measured, and what for. */
class Notebook implements Meter {
  readonly instruments: { readonly name: string; readonly unit: string }[] = [];
  readonly measurements: Measurement[] = [];
  readonly #gauges: (readonly [name: string, callback: ObserveCallback])[] = [];

  createHistogram(name: string, { unit }: { readonly unit: string }) {
    this.instruments.push({ name, unit });
    return {
      record: (value: number, attributes: object) => {
        this.measurements.push([name, value, attributes]);
      },
    };
  }

  createCounter(name: string, { unit }: { readonly unit: string }) {
    this.instruments.push({ name, unit });
    return {
      add: (value: number, attributes: object) => {
        this.measurements.push([name, value, attributes]);
      },
    };
  }

  createObservableGauge(name: string, { unit }: { readonly unit: string }) {
    this.instruments.push({ name, unit });
    return {
      addCallback: (callback: ObserveCallback) => {
        this.#gauges.push([name, callback]);
      },
    };
  }

  /** What the gauges show now. */
  read(): readonly Measurement[] {
    const observed: Measurement[] = [];
    for (const [name, callback] of this.#gauges) {
      callback({ observe: (value, attributes) => observed.push([name, value, attributes]) });
    }
    return observed;
  }
}

type ObserveCallback = Parameters<ReturnType<Meter['createObservableGauge']>['addCallback']>[0];

const bare = {
  createHistogram: () => ({ record: () => undefined }),
  createCounter: () => ({ add: () => undefined }),
  createObservableGauge: () => ({ addCallback: () => undefined }),
};

describe('a meter of OpenTelemetry', () => {
  test('gets seconds and counts, with the names and units of its conventions', () => {
    const meter = new Notebook();
    const metrics = openTelemetry(meter);
    const mutex = { recipe: 'mutex', name: 'orders' } as const;
    metrics.waited({ ...mutex, ms: 1_500, outcome: 'acquired' });
    metrics.waited({ ...mutex, ms: 20, outcome: 'NOT_ACQUIRED' });
    metrics.held({ ...mutex, ms: 250 });
    metrics.contended({ ...mutex, kind: 'refused' });
    metrics.lost({ recipe: 'session', name: '', reason: 'SESSION_LOST' });
    const named = { 'conclave.recipe': 'mutex', 'conclave.name': 'orders' };
    expect(meter.instruments).toEqual([
      { name: 'conclave.recipe.wait.duration', unit: 's' },
      { name: 'conclave.recipe.hold.duration', unit: 's' },
      { name: 'conclave.recipe.contentions', unit: '{contention}' },
      { name: 'conclave.recipe.losses', unit: '{loss}' },
      { name: 'conclave.recipe.waiting', unit: '{wait}' },
      { name: 'conclave.recipe.held', unit: '{hold}' },
    ]);
    expect(meter.measurements).toEqual([
      ['conclave.recipe.wait.duration', 1.5, named],
      ['conclave.recipe.wait.duration', 0.02, { ...named, 'error.type': 'NOT_ACQUIRED' }],
      ['conclave.recipe.hold.duration', 0.25, named],
      ['conclave.recipe.contentions', 1, { ...named, 'conclave.contention.kind': 'refused' }],
      ['conclave.recipe.losses', 1, { 'conclave.recipe': 'session', 'error.type': 'SESSION_LOST' }],
    ]);
  });

  test('is told at each reading how many wait and are held, and of none once', () => {
    const meter = new Notebook();
    const metrics = openTelemetry(meter, { nameOf: (name) => name.replace(/\d+/, ':id') });
    const mutex = (id: number) => ({ recipe: 'mutex', name: `orders/${id}` }) as const;
    const attributes = { 'conclave.recipe': 'mutex', 'conclave.name': 'orders/:id' };
    expect(meter.read()).toEqual([]);
    for (const id of [1, 2, 3]) metrics.counted?.({ ...mutex(id), kind: 'held', change: 1 });
    metrics.counted?.({ ...mutex(4), kind: 'waiting', change: 1 });
    metrics.counted?.({ recipe: 'session', name: '', kind: 'held', change: 1 });
    metrics.counted?.({ ...mutex(2), kind: 'held', change: -1 });
    const session = ['conclave.recipe.held', 1, { 'conclave.recipe': 'session' }];
    expect(meter.read()).toEqual([
      ['conclave.recipe.waiting', 1, attributes],
      ['conclave.recipe.held', 2, attributes],
      session,
    ]);
    metrics.counted?.({ ...mutex(4), kind: 'waiting', change: -1 });
    for (const id of [1, 3]) metrics.counted?.({ ...mutex(id), kind: 'held', change: -1 });
    expect(meter.read()).toEqual([
      ['conclave.recipe.waiting', 0, attributes],
      ['conclave.recipe.held', 0, attributes],
      session,
    ]);
    expect(meter.read()).toEqual([session]);
  });

  test.each<[string, readonly unknown[], string]>([
    ['no meter', [], "undefined as 'meter.createHistogram'"],
    ['a meter without gauges', [{ ...bare, createObservableGauge: 1 }], "'meter.createObs"],
    ['a misspelt option', [bare, { nameof: () => 'x' }], "did you mean 'nameOf'"],
    ['a name for a function', [bare, { nameOf: 'x' }], '"x" as \'nameOf\''],
  ])('has to be one: %s', (_what, given, message) => {
    const call = openTelemetry as unknown as (...given: readonly unknown[]) => unknown;
    expect(() => call(...given)).toThrow(
      expect.objectContaining({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining(message),
      }),
    );
  });

  test('gets names only as they are mapped', () => {
    const meter = new Notebook();
    const metrics = openTelemetry(meter, {
      nameOf: (name, recipe) => (recipe === 'mutex' ? name.replace(/\d+/, ':id') : undefined),
    });
    metrics.held({ recipe: 'mutex', name: 'orders/42', ms: 0 });
    metrics.held({ recipe: 'queue', name: 'mail', ms: 0 });
    expect(meter.measurements.map(([, , attributes]) => attributes)).toEqual([
      { 'conclave.recipe': 'mutex', 'conclave.name': 'orders/:id' },
      { 'conclave.recipe': 'queue' },
    ]);
  });
});

/** How many of each there are, by recipe. */
const counting = () => {
  const counts: Record<string, number> = {};
  const metrics: RecipeMetrics = {
    ...noMetrics,
    counted: ({ recipe, kind, change }) => {
      const key = `${recipe} ${kind}`;
      counts[key] = (counts[key] ?? 0) + change;
      if (counts[key] === 0) delete counts[key];
    },
  };
  return { counts, metrics };
};

describe.skipIf(storeMissing)('contention is reported', () => {
  const world = useWorld();
  /** A session that writes down how it got into others' way, and one that holds what it wants. */
  const open = async (clock?: ManualClock) => {
    const contended: string[] = [];
    const ended: string[] = [];
    const waited: string[] = [];
    const { counts, metrics: counter } = counting();
    const metrics: RecipeMetrics = {
      ...counter,
      waited: ({ recipe, outcome }) => waited.push(`${recipe} ${outcome}`),
      contended: ({ recipe, name, kind }) => contended.push(`${recipe} ${name} ${kind}`),
      held: ({ recipe, ms }) => ended.push(`held ${recipe} ${ms >= 0}`),
      lost: ({ recipe, reason }) => ended.push(`lost ${recipe} ${reason}`),
    };
    const [one, two] = [await world.actor(clock ? { clock } : {}), await world.actor()];
    const session = new RecipeSession(one.session, metrics);
    const other = new RecipeSession(two.session, noMetrics);
    return { actor: one, session, other, contended, ended, waited, counts };
  };

  test('by waits, once each however long, and not by what is free', async () => {
    const { session, other, contended } = await open();
    const name = world.name();
    await (await session.mutex(name).acquire()).release();
    await (await session.semaphore(name, { limit: 1 }).acquire()).release();
    expect(contended).toEqual([]);
    const [held, before] = [await other.mutex(name).acquire(), await other.rw(name).write()];
    const middle = other.mutex(name).acquire();
    const line = () => other.mutex(name).inspect();
    await eventually('a waiter', async () => (await line()).waiters.length === 1);
    const waits = [session.mutex(name).acquire(), session.rw(name).read()];
    await eventually('both to wait', () => contended.length === 2);
    // It looks again when the one before it goes, and waits on.
    await held.release();
    await (await middle).release();
    await before.release();
    for (const wait of waits) await (await wait).release();
    expect(contended.sort()).toEqual([`mutex ${name} wait`, `rw ${name} wait`]);
  });

  test('by an upgrade that waits for readers, which is a wait of its own', async () => {
    const { session, other, contended, waited, counts } = await open();
    const name = world.name();
    await using lock = await session.rw(name).upgradable();
    await lock.upgrade();
    expect(contended).toEqual([]);
    await lock.downgrade('upgradable');
    const reader = await other.rw(name).read();
    await expect(lock.upgrade({ timeout: 20 })).rejects.toMatchObject({ code: 'NOT_ACQUIRED' });
    const refused = contended.length;
    const upgrading = lock.upgrade();
    await eventually('the wait', () => contended.length > refused);
    expect(counts).toEqual({ 'rw waiting': 1, 'rw held': 1, 'session held': 1 });
    await reader.release();
    await upgrading;
    expect(new Set(contended)).toEqual(new Set([`rw ${name} wait`]));
    expect(contended.length).toBe(refused + 1);
    const outcomes = ['acquired', 'acquired', 'NOT_ACQUIRED', 'acquired'];
    expect(waited).toEqual(outcomes.map((outcome) => `rw ${outcome}`));
    expect(counts).toEqual({ 'rw held': 1, 'session held': 1 });
  });

  test('by attempts that are refused', async () => {
    const { session, other, contended } = await open();
    const name = world.name();
    await using _lock = await other.mutex(name).acquire();
    const limit = { rate: 1, per: '1h' } as const;
    await other.rateLimit(name, limit).take();
    expect(await session.mutex(name).tryAcquire()).toBeNull();
    expect(await session.multi([name, `${name}/b`]).tryAcquire()).toBeNull();
    expect(await session.rateLimit(name, limit).tryTake()).toBe(false);
    expect(contended).toEqual([
      `mutex ${name} refused`,
      `multi ${name} refused`,
      `rate-limit ${name} conflict`,
      `rate-limit ${name} refused`,
    ]);
  });

  test('by compare-and-sets that came late', async () => {
    const { session, other, contended } = await open();
    const name = world.name();
    const counter = session.counter(name);
    await counter.add();
    await other.counter(name).add();
    await counter.add();
    await session.value<number>(name).update(async (value = 0) => {
      if (value === 0) await other.value<number>(name).set(1);
      return value + 1;
    });
    expect(contended).toEqual([`counter ${name} conflict`, `value ${name} conflict`]);
  });

  test('by jobs that somebody else claimed', async () => {
    const { session, other, contended } = await open();
    const name = world.name();
    const queue = other.queue<number>(name);
    for (const job of [1, 2, 3]) await queue.push(job);
    const [ours, theirs] = [session.consumer<number>(name), other.consumer<number>(name)];
    // Both have listed the line.
    const claims = [await ours.claim(), await theirs.claim(), await theirs.claim()];
    expect(await ours.claim()).toBeNull();
    expect(contended).toContain(`queue ${name} conflict`);
    for (const claim of claims) await claim?.ack();
  });

  test('a session reports how long it lived, and whether it was lost', async () => {
    const clock = new ManualClock();
    const { actor, session, ended } = await open(clock);
    clock.freeze(30_000);
    expect(session.state).toBe('lost');
    expect(ended).toEqual(['lost session SESSION_LOST', 'held session true']);
    const closed = await open();
    await closed.session.close();
    expect(closed.ended).toEqual(['held session true']);
    await actor.close();
  });
});

describe.skipIf(storeMissing)('what waits and is held is counted', () => {
  const world = useWorld();
  test('up to its end, whatever that is', async () => {
    const { counts, metrics } = counting();
    const [actor, other] = [await world.actor(), await world.actor()];
    const name = world.name();
    const session = new RecipeSession(actor.session, metrics);
    const beside = new RecipeSession(other.session, noMetrics);
    const calm = { 'session held': 1 };
    expect(counts).toEqual(calm);
    const lock = await session.mutex(name).acquire();
    const permit = await session.semaphore(name, { limit: 1 }).acquire();
    expect(counts).toEqual({ ...calm, 'mutex held': 1, 'semaphore held': 1 });
    await permit.release();
    const timed = session.mutex(name).acquire({ timeout: '20ms' });
    expect(counts).toEqual({ ...calm, 'mutex held': 1, 'mutex waiting': 1 });
    await expect(timed).rejects.toMatchObject({ code: 'NOT_ACQUIRED' });
    expect(counts).toEqual({ ...calm, 'mutex held': 1 });
    await lock.release();
    await lock.release();
    expect(
      await session
        .mutex(name)
        .tryAcquire()
        .then((held) => held?.release()),
    ).toBe(undefined);
    const leader = await beside.election<string>(name).campaign({ value: 'a' });
    const stop = new AbortController();
    const standing = session.election<string>(name).campaign({ value: 'b', signal: stop.signal });
    const barrier = session.doubleBarrier(name, { parties: 2 }).enter({ timeout: '20ms' });
    expect(counts).toEqual({ ...calm, 'election waiting': 1, 'double-barrier waiting': 1 });
    await expect(barrier).rejects.toMatchObject({ code: 'NOT_ACQUIRED' });
    stop.abort();
    await expect(standing).rejects.toMatchObject({ code: 'ABORTED' });
    await leader.resign();
    expect(counts).toEqual(calm);
    await session.close();
    expect(counts).toEqual({});
  });

  test('claims, picks, registrations and members as well; nothing is left of a lost session', async () => {
    const { counts, metrics } = counting();
    const actor = await world.actor({ ttl: '2s' });
    const name = world.name();
    const session = new RecipeSession(actor.session, metrics);
    await session.queue<number>(name).pushMany([{ data: 1 }, { data: 2 }]);
    const [claim] = await session.consumer<number>(name).claimMany(2);
    expect(counts).toEqual({ 'session held': 1, 'queue held': 2 });
    await claim?.ack();
    const service = session.discovery<undefined>(name);
    await service.register({ address: 'a:1' });
    const pool = service.pool();
    const picked = await pool.acquire();
    const member = await session.group<string>(name).join({ data: 'x' });
    expect(counts).toEqual({
      'session held': 1,
      'queue held': 1,
      'registry held': 1,
      'pool held': 1,
      'group held': 1,
    });
    picked.done();
    picked.done();
    await member.leave();
    await session.mutex(name).acquire();
    await actor.killLease();
    await eventually('the loss', () => actor.session.state === 'lost');
    await eventually('the end of its holds', () => counts['mutex held'] === undefined);
    expect(counts['session held']).toBe(undefined);
    expect(counts['queue held']).toBe(undefined);
    await session.close();
    expect(counts).toEqual({});
  });

  test('a message that cannot be read is held by nobody', async () => {
    const { counts, metrics } = counting();
    const { context } = await world.actor();
    const claim = {
      get data(): never {
        throw new ConclaveError('CODEC', 'unreadable');
      },
      signal: new AbortController().signal,
    } as Claim<never>;
    const measured = { ...context, metrics };
    expect(() => deliver(measured, 'orders', claim, () => undefined)).toThrow('unreadable');
    expect(counts).toEqual({});
  });
});
