import { describe, expect, test } from 'vitest';
import type { Instance } from '../../recipes/discovery/instance.ts';
import type { Pool, PoolEvent } from '../../recipes/discovery/pool.ts';
import type { Registration } from '../../recipes/discovery/registration.ts';
import { Discovery } from '../../recipes/discovery/registry.ts';
import {
  leastLoaded,
  powerOfTwoChoices,
  random,
  roundRobin,
  type Strategy,
  weighted,
} from '../../recipes/discovery/strategies.ts';
import { servicePrefix } from '../../recipes/names.ts';
import { bytes, type Codec } from '../../sdk/codec.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import type { Call } from '../support/faulty-kv.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

type Meta = { readonly version: number };

describe.skipIf(storeMissing)('registry', () => {
  const world = useWorld();
  const serviceOf = (actor: Actor, name: string) => new Discovery<Meta>(actor.context, name);
  const entries = async (name: string) => {
    const { kvs } = await world.operator().kv.list({ prefix: servicePrefix(name) });
    return kvs;
  };
  const leaseOf = async (name: string) => (await entries(name))[0]?.lease ?? 0n;
  const meta = { version: 1 };
  const back = (registration: Registration<Meta>) =>
    eventually('the entry to be back', () => registration.state === 'registered');

  test('names options that do not exist, and what is of another type', async () => {
    const actor = await world.actor();
    const name = world.name();
    const service = serviceOf(actor, name);
    const invalid = (field: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`'${field}'`),
    });
    const register = (options?: unknown) => service.register(options as never);
    const least = { address: 'host:1', meta };
    await expect(register()).rejects.toMatchObject(invalid('options'));
    await expect(register(null)).rejects.toMatchObject(invalid('options'));
    await expect(register({})).rejects.toMatchObject(invalid('address'));
    await expect(register({ ...least, wieght: 2 })).rejects.toThrow(/did you mean 'weight'/);
    await expect(register({ ...least, health: null })).rejects.toMatchObject(invalid('health'));
    const health = { check: () => true, intreval: 1 };
    await expect(register({ ...least, health })).rejects.toThrow(/mean 'health.interval'/);
    expect(await entries(name)).toEqual([]);
    const registration = await register(least);
    const change = { wieght: 2 } as object;
    await expect(registration.update(change)).rejects.toThrow(/did you mean 'change.weight'/);
    await expect(registration.update(null as never)).rejects.toMatchObject(invalid('change'));
    await expect(registration.set('down' as never)).rejects.toMatchObject(invalid('status'));
    await expect(registration.retire({ garce: 1 } as object)).rejects.toThrow(/mean 'grace'/);
    expect(registration.status).toBe('up');
    const pool = (options: unknown) => () => service.pool(options as never);
    expect(pool({ startegy: 1 })).toThrow(/did you mean 'strategy'/);
    expect(pool({ strategy: 'rr' })).toThrow(/"rr" as 'strategy': it must be a strategy such as/);
    expect(pool(null)).toThrow(/'options'/);
    expect(pool({ eject: { consecutiveFailures: 3 } })).toThrow(/'eject'.*made by outliers\(\)/);
    expect(pool({ damping: null })).toThrow(/'damping'.*made by flapDamping\(\)/);
    expect(pool({ panic: { treshold: 1 } })).toThrow(/did you mean 'panic.threshold'/);
    expect(pool({ locality: { zoen: 'eu' } })).toThrow(/did you mean 'locality.zone'/);
    expect(pool({ probe: { check: () => true, rize: 1 } })).toThrow(/mean 'probe.rise'/);
    expect(pool({ probe: {} })).toThrow(/'probe.check'/);
    await using ready = service.pool();
    expect(() => ready.pick({ expect: [] } as object)).toThrow(/did you mean 'except'/);
    await expect(ready.acquire({ timeuot: 1 } as object)).rejects.toThrow(/'timeuot'/);
    await expect(ready.using(1 as never)).rejects.toMatchObject(invalid('work'));
  });

  test('registering ends with its timeout: nothing is registered', async () => {
    const actor = await world.actor();
    const name = world.name();
    const service = serviceOf(actor, name);
    actor.faults.plan = ({ write }) => (write ? 'refuse' : 'pass');
    const late = service.register({ address: 'host:1', meta, timeout: '20ms' });
    await expect(late).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'not-applied' });
    actor.faults.heal();
    expect(await entries(name)).toEqual([]);
    const registration = await service.register({ address: 'host:1', meta, timeout: '10s' });
    expect(registration.state).toBe('registered');
  });

  test('a codec writes and reads metadata; what it cannot read is told at the look', async () => {
    const actor = await world.actor();
    const name = world.name();
    const version: Codec<Meta> = {
      encode: ({ version: number }) => `v${number}`,
      decode: (data) => {
        const number = Number(/^v(\d+)$/.exec(`${data}`)?.[1]);
        if (Number.isNaN(number)) throw new Error('no version');
        return { version: number };
      },
    };
    const service = new Discovery<Meta>(actor.context, name, { codec: version });
    const registration = await service.register({ id: 'a', address: 'a:1', meta });
    const [entry] = await entries(name);
    expect(JSON.parse(`${entry?.value}`)).toMatchObject({ metaText: 'v1' });
    expect(await service.list()).toMatchObject([{ id: 'a', meta }]);
    await using pool = service.pool();
    await pool.ready();
    await registration.update({ meta: { version: 2 } });
    await eventually('the update', () => pool.snapshot[0]?.meta.version === 2);
    await expect(registration.update({ meta: null as never })).rejects.toMatchObject({
      code: 'CODEC',
    });
    const [seenWithout] = await serviceOf(actor, name).list();
    expect(seenWithout?.address).toBe('a:1');
    expect(() => seenWithout?.meta).toThrow(/could not decode/);

    const binary = new Discovery<Uint8Array>(actor.context, `${name}/b`, { codec: bytes() });
    await binary.register({ address: 'b:1', meta: Uint8Array.of(0xff, 0) });
    const [found] = await binary.list();
    expect([...(found?.meta ?? [])]).toEqual([0xff, 0]);
    expect(() => new Discovery(actor.context, name, { codec: {} as never })).toThrow(/'codec'/);
    expect(() => new Discovery(actor.context, name, { kodec: 1 } as object)).toThrow(/'kodec'/);
    const cyclic: { version: number; self?: unknown } = { version: 1 };
    cyclic.self = cyclic;
    await expect(
      serviceOf(actor, name).register({ address: 'c:1', meta: cyclic }),
    ).rejects.toMatchObject({ code: 'CODEC' });
  });

  test('registering takes one exchange on an open session; the entry lives by its lease', async () => {
    const actor = await world.actor();
    const name = world.name();
    const registration = await serviceOf(actor, name).register({
      id: 'i/1',
      address: 'host:1',
      meta,
      weight: 2,
    });
    const writes = actor.faults.take().filter(({ write }) => write);
    expect(writes).toHaveLength(1);
    expect(await serviceOf(actor, name).list()).toMatchObject([
      { id: 'i/1', address: 'host:1', meta, weight: 2, status: 'up' },
    ]);
    await world.operator().leases.revoke(await leaseOf(name));
    await eventually('the loss', () => registration.state !== 'registered');
  });

  test('an entry that lost its lease is written again, with the latest data', async () => {
    const actor = await world.actor({ ttl: '2s' });
    const name = world.name();
    const registration = await serviceOf(actor, name).register({ id: 'a', address: 'x:1', meta });
    await registration.update({ meta: { version: 2 } });
    await world.operator().leases.revoke(await leaseOf(name));
    await eventually('the entry to be gone', () => registration.state === 'registering');
    const updated = registration.update({ meta: { version: 3 } });
    await back(registration);
    await updated;
    expect(await serviceOf(actor, name).list()).toMatchObject([{ meta: { version: 3 } }]);
    // Not by the lease that was revoked.
    expect(await world.operator().leases.timeToLive(await leaseOf(name))).not.toBeNull();
  });

  test('an entry whose lease the store forgot is back long before a renewal is due', async () => {
    // The next renewal, which would tell as well, comes after 40 s.
    const actor = await world.actor({ ttl: '120s' });
    const name = world.name();
    const registration = await serviceOf(actor, name).register({ id: 'a', address: 'x:1', meta });
    const lost = await leaseOf(name);
    await world.operator().leases.revoke(lost);
    await eventually('another lease', async () => ![0n, lost].includes(await leaseOf(name)));
    await back(registration);
    expect(actor.session.state).toBe('live');
    await registration.deregister();
    expect(await entries(name)).toEqual([]);
  });

  test('an entry removed by hand is written again', async () => {
    const actor = await world.actor();
    const name = world.name();
    const registration = await serviceOf(actor, name).register({ id: 'a', address: 'x:1', meta });
    await world.operator().kv.delete({ prefix: servicePrefix(name) });
    await eventually('the loss', () => registration.state === 'registering');
    await back(registration);
    expect(await entries(name)).toHaveLength(1);
  });

  test('an update happens in place: nobody sees the entry missing', async () => {
    const actor = await world.actor();
    const name = world.name();
    const registration = await serviceOf(actor, name).register({ id: 'a', address: 'x:1', meta });
    const [before] = await entries(name);
    const deletes: unknown[] = [];
    const watch = world.operator().kv.watch({ prefix: servicePrefix(name) }, { puts: false });
    watch.notices$.subscribe((notice) => deletes.push(notice));
    await watch.created;
    for (let version = 2; version < 6; version++) await registration.update({ meta: { version } });
    await registration.drain();
    const [after] = await entries(name);
    expect(after?.createRevision).toBe(before?.createRevision);
    expect(await serviceOf(actor, name).list()).toMatchObject([
      { meta: { version: 5 }, status: 'draining' },
    ]);
    await registration.resume();
    expect(await serviceOf(actor, name).list()).toMatchObject([{ status: 'up' }]);
    expect(deletes).toEqual([]);
    await watch.cancel();
  });

  test('deregistering wins over writing again, however late that arrives', async () => {
    const actor = await world.actor();
    const name = world.name();
    const registration = await serviceOf(actor, name).register({ id: 'a', address: 'x:1', meta });
    // The write that finds no entry and makes a new one.
    const anew = (call: Call) => call.write && call.parts?.compares[0]?.operand === 0n;
    actor.faults.next('linger', anew);
    await world.operator().kv.delete({ prefix: servicePrefix(name) });
    await eventually('its repetition', () => actor.faults.calls.filter(anew).length === 3);
    await back(registration);
    await registration.deregister();
    await actor.faults.deliver();
    await settle();
    expect(await entries(name)).toEqual([]);
    expect(registration.state).toBe('closed');
  });

  test('deregistering is idempotent, and an update after it is refused', async () => {
    const actor = await world.actor();
    const name = world.name();
    const registration = await serviceOf(actor, name).register({ id: 'a', address: 'x:1', meta });
    await Promise.all([registration.deregister(), registration.deregister()]);
    await registration.deregister();
    await registration[Symbol.asyncDispose]();
    expect(await entries(name)).toEqual([]);
    await expect(registration.update({ weight: 2 })).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('a lost answer at every write of a registration is survived', async () => {
    const name = world.name();
    for (let nth = 1; nth <= 4; nth++) {
      const actor = await world.actor();
      let seen = 0;
      actor.faults.plan = ({ write }) => {
        seen += write ? 1 : 0;
        return write && seen === nth ? 'lose-answer' : 'pass';
      };
      const registration = await serviceOf(actor, name).register({ id: 'a', address: 'x', meta });
      await registration.update({ weight: 5 });
      expect(await serviceOf(actor, name).list()).toMatchObject([{ weight: 5 }]);
      expect(registration.state).toBe('registered');
      await registration.deregister();
      expect(await entries(name)).toEqual([]);
    }
  });

  test('a registration that is given up leaves nothing', async () => {
    const actor = await world.actor();
    const name = world.name();
    actor.faults.plan = ({ write }) => (write ? 'lose-answer' : 'pass');
    const abort = new AbortController();
    const registering = serviceOf(actor, name).register({
      id: 'a',
      address: 'x:1',
      meta,
      signal: abort.signal,
    });
    registering.catch(() => undefined);
    await eventually('an attempt', () => actor.faults.calls.length > 0);
    abort.abort();
    await expect(registering).rejects.toMatchObject({ code: 'ABORTED' });
    await eventually('nothing', async () => (await entries(name)).length === 0);
  });

  test('a later registration of the same id replaces the earlier one, which ends', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const earlier = await serviceOf(a, name).register({ id: 'same', address: 'old:1', meta });
    const later = await serviceOf(b, name).register({ id: 'same', address: 'new:1', meta });
    await eventually('the end of the earlier', () => earlier.state === 'replaced');
    await expect(earlier.update({ weight: 3 })).rejects.toMatchObject({ code: 'MISMATCH' });
    await earlier.deregister();
    expect(await serviceOf(b, name).list()).toMatchObject([{ address: 'new:1' }]);
    expect(later.state).toBe('registered');
  });

  test('closing the session deregisters', async () => {
    const actor = await world.actor();
    const name = world.name();
    await serviceOf(actor, name).register({ id: 'a', address: 'x:1', meta });
    await actor.close();
    expect(await entries(name)).toEqual([]);
  });

  test('a pool follows instances as they join, change and leave', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using pool = serviceOf(b, name).pool();
    const events: PoolEvent<Meta>[] = [];
    pool.events$.subscribe((event) => events.push(event));
    await pool.ready();
    expect(pool.snapshot).toEqual([]);
    const one = await serviceOf(a, name).register({ id: '1', address: 'x:1', meta });
    const two = await serviceOf(a, name).register({ id: '2', address: 'x:2', meta });
    await one.update({ meta: { version: 9 } });
    await two.deregister();
    await eventually('all of it', () => events.some(({ type }) => type === 'left'));
    const told = events.flatMap((event) =>
      'instance' in event ? [[event.type, event.instance.id]] : [],
    );
    expect(told).toEqual([
      ['joined', '1'],
      ['joined', '2'],
      ['updated', '1'],
      ['left', '2'],
    ]);
    expect(pool.snapshot).toMatchObject([{ id: '1', meta: { version: 9 } }]);
    expect(pool.stale).toBe(false);
  });

  test('while the store cannot be reached a pool keeps what it knows and says it is stale', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await serviceOf(a, name).register({ id: '1', address: 'x:1', meta });
    await using pool = serviceOf(b, name).pool({ recheck: 40 });
    const sizes: number[] = [];
    pool.instances$.subscribe((instances) => sizes.push(instances.length));
    await pool.ready();
    b.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    await eventually('staleness', () => pool.stale);
    expect(pool.snapshot).toHaveLength(1);
    expect(pool.pick()?.instance.id).toBe('1');
    await serviceOf(a, name).register({ id: '2', address: 'x:2', meta });
    b.faults.heal();
    await eventually('the news', () => !pool.stale && pool.snapshot.length === 2);
    // Never empty in between.
    expect(sizes).toEqual([1, 2]);
  });

  test('a pool that has not reached the store yet emits nothing, not nobody', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await serviceOf(a, name).register({ id: '1', address: 'x:1', meta });
    b.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    await using pool = serviceOf(b, name).pool({ recheck: 40 });
    const sizes: number[] = [];
    pool.instances$.subscribe((instances) => sizes.push(instances.length));
    const abort = new AbortController();
    const ready = pool.ready(abort.signal);
    await settle();
    abort.abort();
    await expect(ready).rejects.toMatchObject({ code: 'ABORTED' });
    expect([sizes, pool.stale]).toEqual([[], true]);
    b.faults.heal();
    await pool.ready();
    expect(sizes).toEqual([1]);
  });

  test('the slow re-read finds what no watch reported', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using pool = serviceOf(b, name).pool({ recheck: 40 });
    await pool.ready();
    const { revision } = await world.operator().kv.put('filler', 'x');
    await serviceOf(a, name).register({ id: '1', address: 'x:1', meta });
    await world.operator().kv.compact(revision);
    await eventually('the instance', () => pool.snapshot.length === 1);
    const reads = () => b.faults.calls.filter(({ kind }) => kind === 'list').length;
    const before = reads();
    await eventually('more reads', () => reads() > before + 1);
  });

  test('a first answer that takes longer than the slow re-read does not end re-reading', async () => {
    const actor = await world.actor();
    let slow = true;
    actor.faults.before = ({ kind }) =>
      kind === 'list' && slow ? new Promise((resolve) => setTimeout(resolve, 60)) : undefined;
    await using pool = serviceOf(actor, world.name()).pool({ recheck: 10 });
    await pool.ready();
    slow = false;
    const reads = () => actor.faults.calls.filter(({ kind }) => kind === 'list').length;
    const before = reads();
    await eventually('more reads', () => reads() > before + 2);
  });

  test('what the store refused is read anew as soon as it is asked for', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await serviceOf(a, name).register({ id: '1', address: 'x:1', meta });
    let refused = 0;
    b.faults.before = ({ kind }) => {
      if (kind !== 'list') return;
      refused += 1;
      throw new ConclaveError('PERMISSION_DENIED', 'not yet');
    };
    await using pool = serviceOf(b, name).pool({ recheck: '1h' });
    await eventually('the refusal', () => refused === 1);
    await settle();
    b.faults.heal();
    pool.refresh();
    await pool.ready();
    expect(pool.stale).toBe(false);
  });

  test('asking for a fresh reading does not cut short the one under way', async () => {
    const actor = await world.actor();
    await using pool = serviceOf(actor, world.name()).pool({ recheck: '1h' });
    await pool.ready();
    let lists = 0;
    let answer: () => void = () => undefined;
    const held = new Promise<void>((resolve) => {
      answer = resolve;
    });
    actor.faults.before = ({ kind }) => {
      if (kind !== 'list') return undefined;
      lists += 1;
      return held;
    };
    pool.refresh();
    await eventually('the reading', () => lists === 1);
    pool.refresh();
    await settle();
    answer();
    await settle();
    expect(lists).toBe(1);
  });

  test('draining instances are shown but not picked', async () => {
    const actor = await world.actor();
    const name = world.name();
    const one = await serviceOf(actor, name).register({ id: '1', address: 'x:1', meta });
    await using pool = serviceOf(actor, name).pool();
    await pool.ready();
    expect(pool.pick()?.instance.id).toBe('1');
    await one.drain();
    await eventually('the news', () => pool.snapshot[0]?.status === 'draining');
    expect(pool.pick()).toBeNull();
  });

  test('picks in flight are counted until they are released, once', async () => {
    const actor = await world.actor();
    const name = world.name();
    for (const id of ['1', '2']) await serviceOf(actor, name).register({ id, address: id, meta });
    await using pool: Pool<Meta> = serviceOf(actor, name).pool({ strategy: leastLoaded() });
    await pool.ready();
    const first = pool.pick();
    const second = pool.pick();
    expect(new Set([first?.instance.id, second?.instance.id]).size).toBe(2);
    first?.release();
    first?.release();
    first?.[Symbol.dispose]();
    expect(pool.pick()?.instance.id).toBe(first?.instance.id);
  });

  test('bad input is refused by name', async () => {
    const actor = await world.actor();
    const service = serviceOf(actor, world.name());
    await expect(service.register({ address: '', meta })).rejects.toThrow(/'address'/);
    await expect(service.register({ address: 'x', meta, weight: -1 })).rejects.toThrow(/'weight'/);
    await expect(service.register({ address: 'x', meta, id: '' })).rejects.toThrow(/'id'/);
    expect(() => serviceOf(actor, '')).toThrow(/'service'/);
    expect(() => service.pool({ recheck: 0 })).toThrow(/'recheck'/);
  });
});

const instances = (...weights: number[]): Instance<null>[] =>
  weights.map((weight, index) => ({
    id: String(index),
    address: 'x',
    meta: null,
    weight,
    zone: undefined,
    status: 'up',
    reason: undefined,
    registeredAt: new Date(0),
    statusSince: new Date(0),
    createRevision: 1n,
    modRevision: 1n,
  }));

/** How often each of the instances is chosen in many picks, none of which is ever released. */
const shares = (strategy: Strategy, candidates: Instance<null>[], picks: number): number[] => {
  let seed = 1;
  // A small generator, so that the test is the same each time (Park and Miller, 1988).
  const dice = () => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed / 2_147_483_647;
  };
  const counts = new Map<string, number>();
  for (let pick = 0; pick < picks; pick++) {
    const { id } = strategy(candidates, { inFlight: (of) => counts.get(of) ?? 0, random: dice });
    counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return candidates.map(({ id }) => counts.get(id) ?? 0);
};

test('round robin takes turns', () => {
  expect(shares(roundRobin(), instances(1, 1, 1), 9)).toEqual([3, 3, 3]);
});

test('least loaded evens out in proportion to weight and leaves weightless ones alone', () => {
  expect(shares(leastLoaded(), instances(1, 1, 2, 0), 400)).toEqual([100, 100, 200, 0]);
});

test('power of two choices stays nearly even', () => {
  const [least = 0, most = 0] = [...shares(powerOfTwoChoices(), instances(1, 1, 1, 1, 1), 1_000)]
    .sort((a, b) => a - b)
    .filter((_, index) => index === 0 || index === 4);
  expect(most - least).toBeLessThanOrEqual(6);
  expect(shares(powerOfTwoChoices(), instances(1), 3)).toEqual([3]);
});

test('weighted and random choose in proportion and at random', () => {
  const [one = 0, three = 0, none] = shares(weighted(), instances(1, 3, 0), 4_000);
  expect(Math.abs(three / one - 3)).toBeLessThan(0.5);
  expect(none).toBe(0);
  for (const share of shares(random(), instances(1, 9, 0), 3_000)) {
    expect(Math.abs(share - 1_000)).toBeLessThan(150);
  }
  expect(shares(weighted(), instances(0, 0), 10).reduce((a, b) => a + b)).toBe(10);
});
