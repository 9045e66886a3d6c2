/** Instances that check themselves, retire with grace, and survive what happens to their entry. */
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, createServer, type Server } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import type { Background } from '../../recipes/common/context.ts';
import { httpCheck, runCheck, tcpCheck } from '../../recipes/discovery/checks.ts';
import type { Health } from '../../recipes/discovery/health.ts';
import { InFlight } from '../../recipes/discovery/in-flight.ts';
import type { Instance } from '../../recipes/discovery/instance.ts';
import { monitor } from '../../recipes/discovery/monitor.ts';
import type { RegisterOptions } from '../../recipes/discovery/register-options.ts';
import type { Registration, RegistrationState } from '../../recipes/discovery/registration.ts';
import { Discovery } from '../../recipes/discovery/registry.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import { servicePrefix } from '../../recipes/names.ts';
import { systemClock } from '../../sdk/clock.ts';
import { connectOver } from '../../sdk/connect.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('a registration', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string) => new Discovery<undefined>(actor.context, name);
  const entries = async (name: string) => {
    const { kvs } = await world.operator().kv.list({ prefix: servicePrefix(name) });
    return kvs;
  };
  const listed = async (actor: Actor, name: string): Promise<Instance<undefined> | undefined> =>
    (await of(actor, name).list())[0];
  const register = (
    actor: Actor,
    name: string,
    options: Partial<RegisterOptions<undefined>> = {},
  ) => of(actor, name).register({ id: 'a', address: 'x:1', ...options });
  const is = (registration: Registration<undefined>, state: RegistrationState) =>
    eventually(state, () => registration.state === state);

  describe('that is checked', () => {
    /** A check whose next results a test decides, and that says when it has run. */
    const checked = (first: boolean) => {
      const clock = new ManualClock();
      let result = first;
      let runs = 0;
      const check = () => {
        runs += 1;
        if (!result) throw new Error('no disk');
      };
      const turn = async (passes: boolean, times = 1) => {
        for (let nth = 0; nth < times; nth++) {
          result = passes;
          const before = runs;
          // A check may still be on its way to the pause after it.
          await eventually('the next check', async () => {
            clock.advance(1_100);
            await settle(2);
            return runs > before;
          });
          await settle();
        }
      };
      const health = { check, interval: '1s', rise: 2, fall: 3 } as const;
      return { clock, health, turn, runs: () => runs };
    };

    test('is listed with what its first check finds, in one exchange', async () => {
      for (const passes of [true, false]) {
        const { clock, health, runs } = checked(passes);
        const actor = await world.actor({ clock });
        const name = world.name();
        const registration = await register(actor, name, { health });
        expect(actor.faults.take().filter(({ write }) => write)).toHaveLength(1);
        expect(runs()).toBe(1);
        expect(registration.status).toBe(passes ? 'up' : 'unhealthy');
        expect(await listed(actor, name)).toMatchObject(
          passes ? { status: 'up', reason: undefined } : { status: 'unhealthy', reason: 'no disk' },
        );
      }
    });

    test('says so when its checks fail in a row, and when they pass again', async () => {
      const { clock, health, turn } = checked(true);
      const actor = await world.actor({ clock });
      const name = world.name();
      await register(actor, name, { health });
      const status = (wanted: string) =>
        eventually(wanted, async () => (await listed(actor, name))?.status === wanted);
      const [before] = await entries(name);
      await turn(false, 2);
      await turn(true);
      await turn(false, 2);
      expect(await listed(actor, name)).toMatchObject({ status: 'up' });
      await turn(false);
      await status('unhealthy');
      const unhealthy = await listed(actor, name);
      expect(unhealthy?.reason).toBe('no disk');
      expect(unhealthy?.statusSince.getTime()).toBeGreaterThan(
        unhealthy?.registeredAt.getTime() ?? 0,
      );
      await turn(true, 2);
      await status('up');
      // Changed in place, each time.
      expect((await entries(name))[0]?.createRevision).toBe(before?.createRevision);
    });

    test('draining goes before unhealthy', async () => {
      const { clock, health, turn } = checked(false);
      const actor = await world.actor({ clock });
      const name = world.name();
      const registration = await register(actor, name, { health });
      await registration.set('draining');
      expect(await listed(actor, name)).toMatchObject({ status: 'draining' });
      await turn(true, 2);
      expect(registration.status).toBe('draining');
      await registration.set('up');
      expect(await listed(actor, name)).toMatchObject({ status: 'up' });
    });

    test('leaves the list when it is unhealthy for long, and returns with its health', async () => {
      const { clock, health, turn } = checked(true);
      const actor = await world.actor({ clock, ttl: '10m' });
      const name = world.name();
      const registration = await register(actor, name, {
        health: { ...health, withdrawAfter: '20s' },
      });
      const states: RegistrationState[] = [];
      registration.state$.subscribe((state) => states.push(state));
      await turn(false, 3);
      await eventually(
        'unhealthy',
        async () => (await listed(actor, name))?.status === 'unhealthy',
      );
      // It recovers before the time is over: the time counts anew.
      clock.advance(15_000);
      await turn(true, 2);
      await turn(false, 3);
      clock.advance(15_000);
      await settle();
      expect(registration.state).toBe('registered');
      clock.advance(5_000);
      await is(registration, 'withdrawn');
      await eventually('nobody', async () => (await entries(name)).length === 0);
      // What is changed in the meantime comes with the return.
      await registration.update({ weight: 7 });
      expect(await entries(name)).toEqual([]);
      await turn(true, 2);
      await is(registration, 'registered');
      expect(await listed(actor, name)).toMatchObject({ status: 'up', weight: 7 });
      expect(states).toEqual(['registered', 'withdrawn', 'registering', 'registered']);
      await registration.deregister();
      expect(await entries(name)).toEqual([]);
    });

    test('stays off the list when it is deregistered while it is withdrawn', async () => {
      const { clock, health, turn, runs } = checked(false);
      const actor = await world.actor({ clock, ttl: '10m' });
      const name = world.name();
      const options = { health: { ...health, withdrawAfter: '5s' } };
      const registration = await register(actor, name, options);
      await turn(false);
      clock.advance(5_000);
      await is(registration, 'withdrawn');
      await registration.deregister();
      const before = runs();
      clock.advance(60_000);
      await settle();
      expect(runs()).toBe(before);
      expect(await entries(name)).toEqual([]);
      await expect(registration.update({ weight: 2 })).rejects.toMatchObject({ code: 'CLOSED' });
    });

    test('returns in its own name, and takes nothing from who registered its id meanwhile', async () => {
      const { clock, health, turn } = checked(true);
      const lost: string[] = [];
      const actor = await world.actor({
        clock,
        ttl: '10m',
        metrics: { ...noMetrics, lost: ({ recipe, reason }) => lost.push(`${recipe} ${reason}`) },
      });
      const name = world.name();
      const registration = await register(actor, name, {
        health: { ...health, withdrawAfter: '5s' },
      });
      const withdraw = async () => {
        await turn(false, 3);
        clock.advance(5_000);
        await is(registration, 'withdrawn');
        await eventually('nobody', async () => (await entries(name)).length === 0);
      };
      const own = (await entries(name))[0];
      await withdraw();
      // Its own entry is still there, as when nobody could remove it.
      await world.operator().kv.put(`${servicePrefix(name)}a`, own?.value ?? '');
      await turn(true, 2);
      await is(registration, 'registered');
      expect((await entries(name))[0]?.lease).not.toBe(0n);
      await withdraw();
      const later = await register(await world.actor(), name, { address: 'new:1' });
      await turn(true, 2);
      await is(registration, 'replaced');
      await expect(registration.update({ weight: 2 })).rejects.toMatchObject({ code: 'MISMATCH' });
      await registration.deregister();
      expect(await listed(actor, name)).toMatchObject({ id: 'a', address: 'new:1' });
      expect([later.state, lost]).toEqual(['registered', ['registry MISMATCH']]);
    });

    test('an update under way when it is withdrawn comes with the return', async () => {
      const { clock, health, turn } = checked(true);
      const actor = await world.actor({ clock, ttl: '10m' });
      const name = world.name();
      const registration = await register(actor, name, {
        health: { ...health, withdrawAfter: '5s' },
      });
      await turn(false, 3);
      await eventually('it is ill', async () => (await listed(actor, name))?.status !== 'up');
      actor.faults.plan = ({ write }) => (write ? 'refuse' : 'pass');
      const updating = registration.update({ weight: 7 });
      updating.catch(() => undefined);
      clock.advance(5_000);
      await is(registration, 'withdrawn');
      await updating;
      actor.faults.heal();
      await turn(true, 2);
      await is(registration, 'registered');
      expect(await listed(actor, name)).toMatchObject({ status: 'up', weight: 7 });
    });

    test('checks that are deaf to their signal do not add up', async () => {
      const pace = { clock: new ManualClock(), random: () => 0 };
      const abort = new AbortController();
      const told: Health[] = [];
      const ends: (() => void)[] = [];
      const check = () => new Promise<void>((resolve) => ends.push(resolve));
      const rules = { intervalMs: 1_000, timeoutMs: 100, rise: 1, fall: 1 };
      const rounds = async (times: number) => {
        for (let nth = 0; nth < times; nth++) {
          pace.clock.advance(1_000);
          await settle(2);
        }
      };
      const ended = monitor(pace, check, rules, abort.signal, (health) => told.push(health));
      await rounds(40);
      expect(ends).toHaveLength(3);
      expect(told).toMatchObject([{ healthy: false, reason: 'no answer in 100 ms' }]);
      ends[0]?.();
      await eventually('another', async () => {
        await rounds(1);
        return ends.length === 4;
      });
      ends[3]?.();
      await settle();
      expect(told.at(-1)).toMatchObject({ healthy: true });
      abort.abort();
      await ended;
    });

    test('a check that never ends has failed when its time is over', async () => {
      const clock = new ManualClock();
      const actor = await world.actor({ clock });
      const name = world.name();
      let signal: AbortSignal | undefined;
      const check = (own: AbortSignal) => {
        signal = own;
        return new Promise(() => undefined);
      };
      const registering = register(actor, name, { health: { check, timeout: '3s' } });
      await eventually('the check', () => signal !== undefined);
      clock.advance(2_999);
      await settle();
      expect(signal?.aborted).toBe(false);
      // Time enough for a session and a write, if any were made before the check has ended.
      for (let nth = 0; nth < 10; nth++) await world.operator().kv.put('filler', `${nth}`);
      expect(await entries(name)).toEqual([]);
      clock.advance(1);
      await registering;
      expect(signal?.aborted).toBe(true);
      expect(await listed(actor, name)).toMatchObject({
        status: 'unhealthy',
        reason: 'no answer in 3000 ms',
      });
    });
  });

  describe('that retires', () => {
    const rules = { grace: '30s', quiet: '1s' } as const;

    test('drains, waits until its work has ended for a while, and leaves', async () => {
      const clock = new ManualClock();
      const actor = await world.actor({ clock, ttl: '10m' });
      const name = world.name();
      const registration = await register(actor, name);
      const work = registration.begin();
      let finish: () => void = () => undefined;
      const tracked = registration.track(() => new Promise<void>((resolve) => (finish = resolve)));
      const retired = registration.retire(rules);
      await eventually('the drain', async () => (await listed(actor, name))?.status === 'draining');
      expect(registration.inFlight).toBe(2);
      clock.advance(5_000);
      await settle();
      expect(registration.state).toBe('registered');
      work[Symbol.dispose]();
      work[Symbol.dispose]();
      finish();
      await tracked;
      expect(registration.inFlight).toBe(0);
      // Work that a client sent before it heard of the drain.
      clock.advance(900);
      const late = registration.begin();
      clock.advance(900);
      late[Symbol.dispose]();
      await settle();
      expect(registration.state).toBe('registered');
      clock.advance(1_000);
      expect(await retired).toEqual({ inFlight: 0 });
      expect(await entries(name)).toEqual([]);
      expect(registration.state).toBe('closed');
      expect(await registration.retire()).toEqual({ inFlight: 0 });
    });

    test('leaves when the grace is over, or the caller has no more patience', async () => {
      for (const how of ['grace', 'signal']) {
        const clock = new ManualClock();
        const actor = await world.actor({ clock, ttl: '10m' });
        const name = world.name();
        const registration = await register(actor, name);
        const abort = new AbortController();
        registration.begin();
        const retired = registration.retire({ ...rules, signal: abort.signal });
        await eventually('drain', async () => (await listed(actor, name))?.status === 'draining');
        if (how === 'grace') clock.advance(30_000);
        else abort.abort();
        expect(await retired).toEqual({ inFlight: 1 });
        expect(await entries(name)).toEqual([]);
      }
    });

    test('takes no longer when the store cannot be told', async () => {
      const clock = new ManualClock();
      const actor = await world.actor({ clock, ttl: '10m' });
      const registration = await register(actor, world.name());
      actor.faults.plan = ({ write }) => (write ? 'refuse' : 'pass');
      const retired = registration.retire(rules);
      await settle();
      clock.advance(1_000);
      expect(await retired).toEqual({ inFlight: 0 });
      actor.faults.heal();
    });

    test('work that fails is counted down as well', async () => {
      const actor = await world.actor();
      const registration = await register(actor, world.name());
      const failing = registration.track(() => Promise.reject(new Error('oops')));
      await expect(failing).rejects.toThrow('oops');
      expect(registration.inFlight).toBe(0);
    });
  });

  describe('under faults', () => {
    test('freeze the process past TTL: it is back, with the latest data', async () => {
      const clock = new ManualClock();
      const lost: string[] = [];
      const actor = await world.actor({
        clock,
        ttl: '5s',
        metrics: { ...noMetrics, lost: ({ recipe, reason }) => lost.push(`${recipe} ${reason}`) },
      });
      const name = world.name();
      const registration = await register(actor, name);
      const lease = (await entries(name))[0]?.lease ?? 0n;
      // A debugger stops everything; meanwhile the lease runs out.
      clock.freeze(60_000);
      await world.operator().leases.revoke(lease);
      const updated = registration.update({ weight: 3 });
      await eventually('its return', async () => {
        clock.advance(250);
        return (await entries(name)).length === 1 && registration.state === 'registered';
      });
      await updated;
      expect(await listed(actor, name)).toMatchObject({ weight: 3 });
      expect((await entries(name))[0]?.lease).not.toBe(lease);
      expect(lost).toHaveLength(1);
      expect(lost[0]).toMatch(/^registry (SESSION_LOST|NOT_FOUND)$/);
    });

    test('kill the session before the first write, and at each write after', async () => {
      const name = world.name();
      for (let nth = 1; nth <= 2; nth++) {
        const actor = await world.actor({ ttl: '2s' });
        let seen = 0;
        actor.faults.before = async ({ write, parts }) => {
          seen += write ? 1 : 0;
          if (!write || seen !== nth) return;
          const [put] = parts?.success ?? [];
          if (put?.kind === 'put') await world.operator().leases.revoke(put.options.lease ?? 0n);
        };
        const registration = await register(actor, name, { id: `${nth}` });
        await registration.update({ weight: 2 });
        await registration.update({ weight: 3 });
        await eventually('the entry', async () => (await listed(actor, name))?.weight === 3);
        await registration.deregister();
        expect(await entries(name)).toEqual([]);
      }
    });

    test('close the session at each step of registering: it ends, and leaves nothing', async () => {
      for (const step of ['check', 'write', 'answer']) {
        const actor = await world.actor();
        const name = world.name();
        let reached = false;
        const stop = () => {
          reached = true;
          return new Promise<void>((resolve) => setTimeout(resolve, 20));
        };
        actor.faults.before = ({ write }) => (step === 'write' && write ? stop() : undefined);
        actor.faults.after = ({ write }) => (step === 'answer' && write ? stop() : undefined);
        const check = () => (step === 'check' ? stop() : undefined);
        const registering = register(actor, name, { health: { check } });
        registering.catch(() => undefined);
        await eventually(step, () => reached);
        await actor.close();
        await expect(registering).rejects.toMatchObject({ code: 'CLOSED' });
        expect(await entries(name)).toEqual([]);
      }
    });

    test('re-grant a lease id: an entry that went with the lease is written again', async () => {
      const actor = await world.actor();
      const name = world.name();
      const registration = await register(actor, name);
      const { leases } = world.operator();
      const lease = (await entries(name))[0]?.lease ?? 0n;
      await leases.revoke(lease);
      await leases.grant('30s', { id: lease });
      await eventually('its return', async () => (await entries(name)).length === 1);
      await is(registration, 'registered');
      await registration.deregister();
      expect(await entries(name)).toEqual([]);
    });

    test('restore an old snapshot: the slow read finds that the entry is missing', async () => {
      await using store = await startRewindableStore();
      const clock = new ManualClock();
      const client = await connectOver(
        { connectionClock: systemClock },
        { endpoints: store.endpoint, clock },
      );
      const session = await client.session({ ttl: '10m' });
      const context = { session, metrics: noMetrics, background: new Set<Background>() };
      const service = new Discovery<undefined>(context, 'restored');
      for (let nth = 0; nth < 5; nth++) await store.before.kv.put('filler', `${nth}`);
      const registration = await service.register({ id: 'a', address: 'x:1' });
      const pool = service.pool();
      await pool.ready();
      const prefix = servicePrefix('restored');
      const [entry] = (await store.before.kv.list({ prefix })).kvs;
      // The snapshot is from after the lease was granted and before the entry was written.
      await store.after.leases.grant('10m', { id: entry?.lease ?? 0n });
      store.rewind();
      await eventually('the entry in the old snapshot', async () => {
        clock.advance(1_000);
        return (await store.after.kv.list({ prefix })).kvs.length === 1;
      });
      expect((await store.after.kv.list({ prefix })).kvs[0]?.lease).toBe(entry?.lease);
      await eventually('the pool to see it', () => {
        clock.advance(1_000);
        return pool.snapshot[0]?.modRevision !== entry?.modRevision && pool.snapshot.length === 1;
      });
      await registration.deregister();
      expect((await store.after.kv.list({ prefix })).kvs).toEqual([]);
      await pool.close();
      await session.close();
      await client.close();
    });

    test('compact under every watch: the loss is still found', async () => {
      const actor = await world.actor();
      const name = world.name();
      const registration = await register(actor, name);
      await world.operator().kv.delete({ prefix: servicePrefix(name) });
      const { revision } = await world.operator().kv.put('filler', 'x');
      await world.operator().kv.compact(revision);
      await eventually('its return', async () => (await entries(name)).length === 1);
      await is(registration, 'registered');
    });

    test('what the store refuses for good ends a registration, and spoils no later update', async () => {
      const actor = await world.actor();
      const name = world.name();
      const huge = 'x'.repeat(3_000_000);
      const service = new Discovery<string>(actor.context, name);
      await expect(service.register({ address: 'x:1', meta: huge })).rejects.toMatchObject({
        code: 'TOO_LARGE',
      });
      expect(await entries(name)).toEqual([]);
      expect(actor.context.background.size).toBe(0);
      const registration = await service.register({ address: 'x:1', meta: 'small' });
      await expect(registration.update({ meta: huge })).rejects.toMatchObject({
        code: 'TOO_LARGE',
      });
      await registration.update({ weight: 2 });
      expect(await service.list()).toMatchObject([{ meta: 'small', weight: 2 }]);
    });

    test('of changes that were made together only the one that is refused is dropped', async () => {
      const actor = await world.actor();
      const service = new Discovery<string>(actor.context, world.name());
      const registration = await service.register({ address: 'x:1', meta: 'small' });
      const results = await Promise.allSettled([
        registration.update({ weight: 2 }),
        registration.update({ meta: 'x'.repeat(3_000_000) }),
        registration.update({ address: 'y:1' }),
      ]);
      expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
      expect(results[1]).toMatchObject({ reason: { code: 'TOO_LARGE' } });
      const now = { meta: 'small', weight: 2, address: 'y:1' };
      expect(await service.list()).toMatchObject([now]);
      await registration.update({ weight: 3 });
      expect(await service.list()).toMatchObject([{ ...now, weight: 3 }]);
    });

    test('a drain that the store refuses has not happened', async () => {
      const actor = await world.actor();
      const name = world.name();
      const registration = await register(actor, name);
      actor.faults.before = ({ write }) => {
        if (write) throw new ConclaveError('PERMISSION_DENIED', 'not any more');
      };
      await expect(registration.drain()).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
      expect(registration.status).toBe('up');
      actor.faults.heal();
      await registration.update({ weight: 2 });
      expect(await listed(actor, name)).toMatchObject({ status: 'up', weight: 2 });
    });

    test('two tasks, one session: each has an entry and a lease of its own', async () => {
      const actor = await world.actor();
      const name = world.name();
      const [one] = await Promise.all([
        register(actor, name, { id: '1' }),
        register(actor, name, { id: '2' }),
      ]);
      const leases = (await entries(name)).map(({ lease }) => lease);
      expect(new Set(leases).size).toBe(2);
      await one?.deregister();
      expect(await listed(actor, name)).toMatchObject({ id: '2' });
    });
  });

  test('exchanges: one to register, one for each change, one to deregister', async () => {
    const actor = await world.actor();
    const name = world.name();
    const count = () => actor.faults.take().filter(({ kind }) => kind !== 'watch').length;
    actor.faults.take();
    const registration = await register(actor, name, { health: { check: () => true } });
    expect(count()).toBe(1);
    await registration.update({ weight: 2 });
    expect(count()).toBe(1);
    await registration.drain();
    expect(count()).toBe(1);
    await registration.deregister();
    expect(count()).toBe(1);
    expect(await of(actor, name).list()).toEqual([]);
    expect(count()).toBe(1);
  });

  test('metrics tell of the wait and of how long it was there', async () => {
    const told: string[] = [];
    const actor = await world.actor({
      metrics: {
        ...noMetrics,
        waited: ({ recipe, outcome }) => told.push(`waited ${recipe} ${outcome}`),
        held: ({ recipe }) => told.push(`held ${recipe}`),
      },
    });
    const registration = await register(actor, world.name());
    await registration.deregister();
    expect(told).toEqual(['waited registry acquired', 'held registry']);
  });

  test('bad input is refused by name', async () => {
    const actor = await world.actor();
    const name = world.name();
    const refused = (options: object, field: RegExp) =>
      expect(register(actor, name, options)).rejects.toThrow(field);
    await refused({ zone: '' }, /'zone'/);
    await refused({ zone: 'eu//1' }, /'zone'/);
    await refused({ health: { check: 'http://x' } }, /'health.check'/);
    await refused({ health: { check: () => true, fall: 0 } }, /'health.fall'/);
    await refused({ health: { check: () => true, withdrawAfter: 0 } }, /'health.withdrawAfter'/);
    await refused({ id: 'x'.repeat(201) }, /'id'/);
    const registration = await register(actor, name);
    await expect(registration.update({ address: '' })).rejects.toThrow(/'address'/);
    await expect(registration.update({ weight: Number.NaN })).rejects.toThrow(/'weight'/);
    await expect(registration.retire({ grace: -1 })).rejects.toThrow(/'grace'/);
    expect(registration.state).toBe('registered');
  });
});

describe('checks', () => {
  const servers: Server[] = [];
  afterEach(() => {
    for (const server of servers.splice(0)) server.close();
  });
  const listen = async (server: Server): Promise<number> => {
    servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
    return (server.address() as AddressInfo).port;
  };
  const pace = { clock: new ManualClock(), random: () => 0 };
  const result = (check: Parameters<typeof runCheck>[1]) =>
    runCheck(pace, check, 1_000, new AbortController().signal);

  test('a function passes unless it throws or returns false', async () => {
    expect(await result(() => undefined)).toEqual({ passed: true });
    expect(await result(async () => 'fine')).toEqual({ passed: true });
    expect(await result(() => false)).toEqual({ passed: false, reason: 'the check says so' });
    expect(await result(() => Promise.reject('no'))).toEqual({ passed: false, reason: 'no' });
    const long = await result(() => {
      throw new Error('x'.repeat(500));
    });
    expect(long).toEqual({ passed: false, reason: 'x'.repeat(200) });
  });

  test('http: by the status', async () => {
    const port = await listen(
      createHttpServer((request, response) => {
        response.statusCode = Number(request.url?.slice(1));
        response.end('body');
      }),
    );
    const url = (status: number) => `http://127.0.0.1:${port}/${status}`;
    expect(await result(httpCheck(url(204)))).toEqual({ passed: true });
    expect(await result(httpCheck(url(503)))).toEqual({
      passed: false,
      reason: `${url(503)} answers 503`,
    });
    expect(await result(httpCheck(url(302)))).toMatchObject({ passed: false });
    const accept = (status: number) => status === 429;
    expect(await result(httpCheck(url(429), { accept, method: 'HEAD' }))).toEqual({ passed: true });
    expect(() => httpCheck('ftp://x')).toThrow(/'url'/);
    expect(() => httpCheck('nonsense')).toThrow(/'url'/);
  });

  test('tcp: by whether somebody listens', async () => {
    const server = createServer((socket) => socket.destroy());
    const port = await listen(server);
    expect(await result(tcpCheck(`127.0.0.1:${port}`))).toEqual({ passed: true });
    await new Promise((resolve) => server.close(resolve));
    expect(await result(tcpCheck(`127.0.0.1:${port}`))).toMatchObject({
      passed: false,
      reason: expect.stringContaining('ECONNREFUSED'),
    });
    for (const address of ['host', 'host:', 'host:0', 'host:70000', '::1:80']) {
      expect(() => tcpCheck(address)).toThrow(/'address'/);
    }
    expect(tcpCheck('[::1]:80')).toBeTypeOf('function');
  });

  test('tcp: with a signal that has aborted it connects to nobody, and no error is left unheard', async () => {
    const server = createServer((socket) => socket.destroy());
    const port = await listen(server);
    await new Promise((resolve) => server.close(resolve));
    const check = tcpCheck(`127.0.0.1:${port}`);
    await expect(check(AbortSignal.abort(new Error('over')))).rejects.toThrow('over');
  });
});

test('rest is only when there is no work for a while', async () => {
  const clock = new ManualClock();
  const work = new InFlight();
  let rests = false;
  const end = work.begin();
  void work
    .untilQuiet({ clock, random: () => 0 }, 100, new AbortController().signal)
    .then(() => (rests = true));
  clock.advance(1_000);
  await settle();
  expect(rests).toBe(false);
  end();
  end();
  expect(work.count).toBe(0);
  await settle();
  clock.advance(99);
  await settle();
  expect(rests).toBe(false);
  clock.advance(1);
  await settle();
  expect(rests).toBe(true);
});
