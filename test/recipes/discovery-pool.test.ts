/** Pools that hold back what fails, flaps, is far away or does not pass a probe. */
import { describe, expect, test } from 'vitest';
import { connect } from '../../recipes/connect.ts';
import { flapDamping } from '../../recipes/discovery/damping.ts';
import { outliers } from '../../recipes/discovery/outliers.ts';
import type { Pool, PoolEvent } from '../../recipes/discovery/pool.ts';
import type { PoolOptions } from '../../recipes/discovery/pool-options.ts';
import type { RegisterOptions } from '../../recipes/discovery/register-options.ts';
import { Discovery } from '../../recipes/discovery/registry.ts';
import { leastLoaded, roundRobin } from '../../recipes/discovery/strategies.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import { servicePrefix } from '../../recipes/names.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { TcpProxy } from '../support/proxy.ts';
import { storeMissing } from '../support/store.ts';
import { type ActorOptions, deafContext, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('a pool', () => {
  const world = useWorld();

  /** Some instances and a pool of them on a clock of its own, and what the pool tells. */
  const setUp = async (
    options: PoolOptions<undefined>,
    ids: readonly string[] = ['a', 'b', 'c', 'd'],
    actorOptions: ActorOptions = {},
  ) => {
    const clock = new ManualClock();
    const [registrar, actor] = [await world.actor(), await world.actor({ ...actorOptions, clock })];
    const name = world.name();
    const service = new Discovery<undefined>(registrar.context, name);
    const register = (id: string, more: Partial<RegisterOptions<undefined>> = {}) =>
      service.register({ id, address: `${id}:1`, ...more });
    for (const id of ids) await register(id);
    const strategy = roundRobin();
    const pool = new Discovery<undefined>(actor.context, name).pool({ strategy, ...options });
    const told: string[] = [];
    pool.events$.subscribe((event) => told.push(text(event)));
    await pool.ready();
    told.length = 0;
    return { clock, actor, name, register, pool, told };
  };
  const text = (event: PoolEvent<undefined>): string => {
    if (event.type === 'held-back') return `${event.instance.id} ${event.type} by ${event.why.by}`;
    return 'instance' in event ? `${event.instance.id} ${event.type}` : event.type;
  };
  /** Whom so many picks fall on; each is done at once. */
  const picks = (pool: Pool<undefined>, times = 12): string => {
    const seen = new Set<string>();
    for (let nth = 0; nth < times; nth++) {
      const picked = pool.pick();
      if (picked) seen.add(picked.instance.id);
      picked?.done();
    }
    return [...seen].sort().join('');
  };
  /** So many picks of this instance fail. */
  const fail = (pool: Pool<undefined>, id: string, times: number) => {
    const others = pool.snapshot.flatMap((each) => (each.id === id ? [] : each.id));
    for (let nth = 0; nth < times; nth++) pool.pick({ except: others })?.fail(new Error('down'));
  };

  test('an instance whose calls fail is left out for a while, and then used again', async () => {
    const eject = outliers({ consecutiveFailures: 3, baseEjection: '30s' });
    const { clock, pool, told } = await setUp({ eject });
    fail(pool, 'b', 2);
    expect(picks(pool)).toBe('abcd');
    // One that went well in between.
    fail(pool, 'b', 3);
    expect(picks(pool)).toBe('acd');
    expect(told).toEqual(['b held-back by ejection']);
    expect(pool.inspect().find(({ instance }) => instance.id === 'b')).toMatchObject({
      inFlight: 0,
      isSelected: false,
      heldBack: { by: 'ejection', reason: 'consecutive-failures' },
    });
    // At most one of four is ejected at a time.
    fail(pool, 'c', 9);
    expect(picks(pool)).toBe('acd');
    clock.advance(33_000);
    expect(told).toEqual(['b held-back by ejection', 'b returned']);
    expect(picks(pool)).toBe('abcd');
    // Twice as long the next time.
    fail(pool, 'b', 3);
    clock.advance(59_000);
    expect(picks(pool)).toBe('acd');
    clock.advance(7_000);
    expect(picks(pool)).toBe('abcd');
  });

  test('the only instance is never ejected, and in a panic ejected ones are used', async () => {
    const eject = outliers({ consecutiveFailures: 1, maxEjected: 1 });
    const alone = await setUp({ eject }, ['a']);
    fail(alone.pool, 'a', 20);
    expect(picks(alone.pool)).toBe('a');
    const { pool, clock } = await setUp({ eject, panic: { threshold: 0.5 } });
    fail(pool, 'a', 1);
    fail(pool, 'b', 1);
    expect([pool.selection.isPanicking, picks(pool)]).toEqual([false, 'cd']);
    fail(pool, 'c', 1);
    expect([pool.selection.isPanicking, picks(pool)]).toEqual([true, 'abcd']);
    clock.advance(60_000);
    expect([pool.selection.isPanicking, picks(pool)]).toEqual([false, 'abcd']);
  });

  test('an end that says nothing, or says it late, says nothing of the instance', async () => {
    const { pool } = await setUp({ eject: outliers({ consecutiveFailures: 1 }) });
    const picked = pool.pick();
    picked?.release();
    picked?.fail();
    picked?.[Symbol.dispose]();
    expect(picked?.isEnded).toBe(true);
    const others = { except: ['b', 'c', 'd'] };
    const [one, another] = [pool.pick(others), pool.pick(others)];
    one?.release();
    one?.release();
    expect(pool.inspect()[0]).toMatchObject({ instance: { id: 'a' }, inFlight: 1 });
    another?.release();
    expect(picks(pool)).toBe('abcd');
    const other = pool.pick();
    other?.done();
    other?.fail();
    expect(picks(pool)).toBe('abcd');
    pool.pick()?.fail();
    expect(picks(pool)).toHaveLength(3);
  });

  test('using ends its pick: well when the work does, as a failure when it throws', async () => {
    const { pool } = await setUp({ eject: outliers({ consecutiveFailures: 1 }) });
    expect(await pool.using(({ id }) => id, { except: ['b', 'c', 'd'] })).toBe('a');
    const failing = pool.using(() => Promise.reject(new Error('oops')), {
      except: ['a', 'b', 'c'],
    });
    await expect(failing).rejects.toThrow('oops');
    expect(picks(pool)).toBe('abc');
    expect(pool.inspect().every(({ inFlight }) => inFlight === 0)).toBe(true);
  });

  test('an instance that comes and goes is held back until its penalty has decayed', async () => {
    const damping = flapDamping({ halfLife: '60s' });
    const { clock, name, register, pool, told } = await setUp({ damping });
    const ids = () => pool.snapshot.map(({ id }) => id).join('');
    const flap = async () => {
      await world.operator().kv.delete(`${servicePrefix(name)}e`);
      await eventually('it to be gone', () => ids() === 'abcd');
      const registration = await register('e');
      await eventually('it to be back', () => ids() === 'abcde');
      return registration;
    };
    let registration = await register('e');
    await eventually('it', () => ids() === 'abcde');
    for (let nth = 0; nth < 3; nth++) {
      expect(picks(pool)).toBe('abcde');
      // Its process dies, as it were, without taking back what it wrote.
      await registration.deregister();
      registration = await flap();
      clock.advance(1_000);
    }
    expect(pool.inspect().at(-1)).toMatchObject({
      instance: { id: 'e' },
      isSelected: false,
      penalty: expect.closeTo(2.9, 1),
      heldBack: { by: 'damping', forMs: expect.closeTo(117_000, -4) },
    });
    expect(picks(pool)).toBe('abcd');
    expect(told.at(-1)).toBe('e held-back by damping');
    clock.advance(110_000);
    expect(picks(pool)).toBe('abcd');
    clock.advance(10_000);
    expect(told.at(-1)).toBe('e returned');
    expect(picks(pool)).toBe('abcde');
    // Who says that it is leaving does not flap.
    for (let nth = 0; nth < 3; nth++) {
      await registration.drain();
      await eventually('the drain', () => pool.snapshot.at(-1)?.status === 'draining');
      await registration.deregister();
      await eventually('it to be gone', () => ids() === 'abcd');
      registration = await register('e');
      await eventually('it to be back', () => ids() === 'abcde');
    }
    expect(picks(pool)).toBe('abcde');
  });

  test('ids made anew at each start are told by their address, if asked', async () => {
    const options = { damping: flapDamping({ suppressAt: 1, reuseAt: 0.5 }) };
    for (const dampBy of ['id', 'address'] as const) {
      const { register, pool } = await setUp({ ...options, dampBy });
      const first = await register('one', { address: 'same:1' });
      await eventually('it', () => pool.snapshot.length === 5);
      await first.deregister();
      await eventually('it to be gone', () => pool.snapshot.length === 4);
      await register('two', { address: 'same:1' });
      await eventually('the next', () => pool.snapshot.length === 5);
      expect(picks(pool)).toBe(dampBy === 'id' ? 'abcdtwo' : 'abcd');
    }
  });

  test('an instance that turns unhealthy again and again flaps as well', async () => {
    const { register, pool } = await setUp({
      damping: flapDamping({ suppressAt: 1, reuseAt: 0.5 }),
    });
    let healthy = true;
    await register('e', {
      health: { check: () => healthy, interval: '10ms', rise: 1, fall: 1 },
    });
    const status = (wanted: string) =>
      eventually(wanted, () => pool.snapshot.at(-1)?.status === wanted);
    await eventually('it', () => pool.snapshot.length === 5);
    expect(picks(pool)).toBe('abcde');
    healthy = false;
    await status('unhealthy');
    healthy = true;
    await status('up');
    expect(picks(pool)).toBe('abcd');
  });

  test('instances nearby are used first, others when too few of them are well', async () => {
    const locality = 'eu/eu-1';
    const { register, pool } = await setUp({ locality }, []);
    for (const [id, zone] of Object.entries({ a: 'eu/eu-1', b: 'eu/eu-1', c: 'eu/eu-2' })) {
      await register(id, { zone });
    }
    await register('d', { zone: 'us/us-1' });
    await register('e');
    await eventually('all', () => pool.snapshot.length === 5);
    expect(picks(pool, 40)).toBe('ab');
    const near = pool.snapshot.map(({ id }) => id);
    expect(pool.pick({ except: ['a', 'b'] })?.instance.id).toBe('c');
    expect(pool.pick({ except: near })).toBeNull();
    const b = await register('b', {
      zone: 'eu/eu-1',
      health: { check: () => false, interval: '1h' },
    });
    await eventually('it to be ill', () => pool.snapshot[1]?.status === 'unhealthy');
    // Half of them: 1.4 times a half stays, the rest goes to the same region.
    expect(picks(pool, 80)).toBe('ac');
    expect(pool.selection.tiers.map(({ share }) => Math.round(share * 10))).toEqual([7, 3, 0]);
    await b.deregister();
    await eventually('it to be gone', () => pool.snapshot.length === 4);
    expect(picks(pool, 40)).toBe('a');
  });

  test('an instance that does not pass probes from here is left out until it does', async () => {
    const seen: string[] = [];
    const failing = new Set<string>();
    const check = async ({ id }: { readonly id: string }) => {
      seen.push(id);
      if (failing.has(id)) throw new Error('unreachable');
    };
    const probe = { check, interval: '1s', rise: 1, fall: 2 } as const;
    const { clock, pool, told, register } = await setUp({ probe });
    await settle();
    expect(seen.sort().join('')).toBe('abcd');
    const round = async () => {
      clock.advance(1_100);
      await settle();
    };
    failing.add('c');
    await round();
    expect(picks(pool)).toBe('abcd');
    await round();
    expect(picks(pool)).toBe('abd');
    expect(pool.inspect()[2]?.heldBack).toEqual({ by: 'probe', reason: 'unreachable' });
    failing.clear();
    await round();
    expect(picks(pool)).toBe('abcd');
    expect(told).toEqual(['c held-back by probe', 'c returned']);
    // Another address is another thing to check.
    seen.length = 0;
    failing.add('d');
    await register('d', { address: 'elsewhere:1' });
    await eventually('the probe', () => seen.includes('d'));
    await settle();
    expect(picks(pool)).toBe('abc');
    await pool.close();
    seen.length = 0;
    await round();
    expect(seen).toEqual([]);
  });

  test('what somebody else wrote badly is read as not given, and stops nobody', async () => {
    const { name, pool } = await setUp({ locality: 'eu/eu-1' }, ['a']);
    const put = (id: string, record: object) =>
      world.operator().kv.put(servicePrefix(name) + id, JSON.stringify(record));
    const odd = { zone: 5, reason: {}, sinceMs: 'noon', statusMs: 1e300, weight: 'heavy' };
    await put('b', { address: 'b:1', ...odd, metaText: 7 });
    await put('c', { address: 'c:1', metaBase64: [], sinceMs: 1_000 });
    await eventually('both', () => pool.snapshot.length === 3);
    expect(pool.stale).toBe(false);
    expect(pool.snapshot[1]).toMatchObject({ zone: undefined, reason: undefined, weight: 1 });
    expect(pool.snapshot.map(({ meta }) => meta)).toEqual([undefined, undefined, undefined]);
    const times = pool.snapshot.slice(1).map(({ statusSince }) => statusSince.getTime());
    expect(times).toEqual([0, 1_000]);
    expect(picks(pool, 40)).toBe('abc');
  });

  test('of a session that was closed it is closed from the start', async () => {
    const actor = await world.actor();
    const service = new Discovery<undefined>(actor.context, world.name());
    await actor.session.close();
    const pool = service.pool();
    await expect(pool.ready()).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(pool.acquire()).rejects.toMatchObject({ code: 'CLOSED' });
    expect(actor.context.background.size).toBe(0);
  });

  test('an unhealthy instance is shown with its reason, and not picked', async () => {
    const { register, pool } = await setUp({}, ['a']);
    const check = () => {
      throw new Error('no disk');
    };
    await register('b', { health: { check, interval: '1h' } });
    await eventually('it', () => pool.snapshot.length === 2);
    expect(pool.snapshot[1]).toMatchObject({ status: 'unhealthy', reason: 'no disk' });
    expect(picks(pool)).toBe('a');
    const all = await setUp({ panic: { over: 'all', threshold: 1 } }, ['a']);
    await all.register('b', { health: { check, interval: '1h' } });
    await eventually('it', () => all.pool.snapshot.length === 2);
    expect(picks(all.pool)).toBe('ab');
  });

  test('acquire waits for an instance, for no longer than it is told, and until the pool ends', async () => {
    const told: string[] = [];
    const metrics = {
      ...noMetrics,
      waited: ({ recipe, outcome }: { recipe: string; outcome: string }) =>
        told.push(`waited ${recipe} ${outcome}`),
      contended: ({ kind }: { kind: string }) => told.push(`contended ${kind}`),
      held: ({ recipe }: { recipe: string }) => told.push(`held ${recipe}`),
    };
    const { clock, pool, register } = await setUp({ strategy: leastLoaded() }, [], { metrics });
    expect(pool.pick()).toBeNull();
    const late = pool.acquire({ timeout: '3s' });
    late.catch(() => undefined);
    clock.advance(3_000);
    await expect(late).rejects.toMatchObject({ code: 'NOT_ACQUIRED' });
    const abort = new AbortController();
    const aborted = pool.acquire({ signal: abort.signal });
    abort.abort();
    await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' });
    await expect(pool.acquire({ signal: abort.signal })).rejects.toMatchObject({ code: 'ABORTED' });
    const first = pool.acquire({ except: ['x'] });
    await register('x');
    await eventually('x', () => pool.snapshot.length === 1);
    await register('y');
    const picked = await first;
    expect(picked.instance.id).toBe('y');
    picked.done();
    const waiting = pool.acquire({ except: ['x', 'y'] });
    waiting.catch(() => undefined);
    await pool.close();
    await pool.close();
    await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' });
    await expect(pool.acquire()).rejects.toMatchObject({ code: 'CLOSED' });
    expect(pool.pick()).toBeNull();
    expect(clock.timers).toBeLessThan(4);
    expect(told).toEqual([
      'contended refused',
      'contended wait',
      'waited pool NOT_ACQUIRED',
      'contended wait',
      'waited pool ABORTED',
      'contended wait',
      'waited pool acquired',
      'held pool',
      'contended wait',
      'waited pool CLOSED',
      'contended wait',
      'waited pool CLOSED',
      'contended refused',
    ]);
  });

  test('what is emitted is consistent: whoever hears of an instance can pick it', async () => {
    const { register, pool } = await setUp({}, []);
    const seen: string[] = [];
    pool.instances$.subscribe((instances) => {
      seen.push(`${instances.length} ${picks(pool)}`);
    });
    pool.selection$.subscribe(() => seen.push(`selection ${pool.snapshot.length}`));
    pool.events$.subscribe((event) => seen.push(`${text(event)} ${picks(pool)}`));
    seen.length = 0;
    await register('a');
    await eventually('it', () => pool.snapshot.length === 1);
    expect(seen).toEqual(['selection 1', '1 a', 'a joined a']);
  });

  test('compact under every watch, and deaf watches: the slow read brings what is new', async () => {
    const [registrar, actor] = [await world.actor(), await world.actor()];
    const name = world.name();
    const service = new Discovery<undefined>(registrar.context, name);
    await using pool = new Discovery<undefined>(deafContext(actor), name).pool({ recheck: 30 });
    await pool.ready();
    await service.register({ id: 'a', address: 'x:1' });
    const { revision } = await world.operator().kv.put('filler', 'x');
    await world.operator().kv.compact(revision);
    await eventually('the instance', () => pool.snapshot.length === 1);
  });

  test('restart a watch mid-replay: the pool ends up with the latest, and never goes back', async () => {
    const registrar = await world.actor();
    const name = world.name();
    await using proxy = await TcpProxy.to(world.endpoint());
    await using conclave = await connect(proxy.endpoint);
    await using session = await conclave.session();
    await using pool = session.discovery<number>(name).pool();
    const seen: bigint[] = [];
    pool.instances$.subscribe(([instance]) => seen.push(instance?.modRevision ?? 0n));
    await pool.ready();
    const registration = await new Discovery<number>(registrar.context, name).register({
      address: 'x:1',
      meta: 0,
    });
    for (let meta = 1; meta <= 40; meta++) {
      await registration.update({ meta });
      if (meta % 8 === 0) proxy.cut();
    }
    await eventually('the latest', () => pool.snapshot[0]?.meta === 40);
    expect(seen).toEqual([...seen].sort((a, b) => (a < b ? -1 : 1)));
    expect(seen.length).toBeGreaterThan(5);
  });

  test('bad rules are refused by name', async () => {
    const actor = await world.actor();
    const service = new Discovery<undefined>(actor.context, world.name());
    const refused = (options: object, field: RegExp) =>
      expect(() => service.pool(options)).toThrow(field);
    refused({ locality: 'eu//1' }, /'locality'/);
    refused({ panic: { threshold: -1 } }, /'panic.threshold'/);
    refused({ dampBy: 'name' }, /'dampBy'/);
    refused({ probe: { check: 'tcp' } }, /'probe.check'/);
    refused({ probe: { check: () => true, interval: 0 } }, /'probe.interval'/);
    expect(actor.context.background.size).toBe(0);
    await using pool = service.pool();
    await expect(pool.acquire({ timeout: -1 })).rejects.toThrow(/'timeout'/);
    for (const except of [5, 'i-7', null, [5]] as never[]) {
      const named = { code: 'INVALID_ARGUMENT', message: expect.stringContaining("'except'") };
      expect(() => pool.pick({ except })).toThrow(expect.objectContaining(named));
      await expect(pool.acquire({ except })).rejects.toMatchObject(named);
    }
    await expect(pool.ready({ aborted: true } as never)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("'signal'"),
    });
  });
});
