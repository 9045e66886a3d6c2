/** Sessions as the recipes live by them: coming back, keeping others out for a while, being lost. */
import { firstValueFrom } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { SessionKeeper } from '../../recipes/common/session-keeper.ts';
import { Mutex } from '../../recipes/locks/mutex.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import { groupPrefix, lockPrefix, servicePrefix } from '../../recipes/names.ts';
import { RecipeSession } from '../../recipes/session.ts';
import { systemClock } from '../../sdk/clock.ts';
import { connectOver } from '../../sdk/connect.ts';
import { parseDuration } from '../../sdk/options.ts';
import type { SessionOptions } from '../../sdk/session.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { TcpProxy } from '../support/proxy.ts';
import { storeMissing } from '../support/store.ts';
import { Actor, eventually, useWorld } from './world.ts';

describe.skipIf(storeMissing)('sessions', () => {
  const world = useWorld();
  const mutexOf = (actor: Actor, name: string) => new Mutex(actor.context, name);
  const members = async (name: string) => {
    const { kvs } = await world.operator().kv.list({ prefix: lockPrefix(name) });
    return kvs;
  };
  const lineLength = (name: string, length: number) =>
    eventually(`${length} members of ${name}`, async () => (await members(name)).length === length);

  /** A holder whose process is gone: nothing of it runs any more, and its lease still stands. */
  const crashed = async (name: string) => {
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '30s' });
    const lock = await mutexOf(actor, name).acquire();
    return { actor, clock, lock };
  };
  /** The process that comes back, on a connection of its own. */
  const returned = async (id: string, options: SessionOptions = {}) => {
    const actor = await world.actor();
    const session = await actor.client.session({ resume: id, ...options });
    const { client, faults } = actor;
    const { metrics } = actor.context;
    return new Actor(client, faults, session, metrics);
  };

  describe('resumed', () => {
    test('takes its lock back, in one exchange and with a higher token', async () => {
      const name = world.name();
      const { actor: gone, lock: before } = await crashed(name);
      const other = await world.actor();
      const waiting = mutexOf(other, name).acquire();
      await lineLength(name, 2);
      const back = await returned(gone.session.id);
      back.faults.take();
      const lock = await mutexOf(back, name).resume(before.sequencer);
      const calls = back.faults.take().map(({ kind }) => kind);
      expect(calls.filter((kind) => kind !== 'watch')).toEqual(['txn']);
      expect(lock.token > before.token).toBe(true);
      expect(lock.key).toBe(before.key);
      lock.assertHeld();
      const guarded = lock.guard(back.client.kv.txn());
      expect((await guarded.commit()).succeeded).toBe(true);
      await lock.release();
      const next = await waiting;
      expect(next.token > lock.token).toBe(true);
      await next.release();
    });

    test('so may a process that had given its session up by its own clock', async () => {
      const name = world.name();
      const clock = new ManualClock();
      const actor = await world.actor({ clock, lockDelay: '30s' });
      const before = await mutexOf(actor, name).acquire();
      clock.freeze(30_000);
      expect(before.isHeld).toBe(false);
      const session = await actor.client.session({
        resume: actor.session.id,
        ...actor.session.terms,
      });
      expect(session).toMatchObject({ ttlMs: 30_000, lease: actor.session.lease });
      const again = new Mutex({ ...actor.context, session }, name);
      await using lock = await again.resume(before.sequencer);
      expect(lock.token > before.token).toBe(true);
      // The handle that was lost stays lost, and its release takes nothing away.
      await before.release();
      expect(() => before.assertHeld()).toThrow(expect.objectContaining({ code: 'SESSION_LOST' }));
      expect(await members(name)).toHaveLength(1);
    });

    test('the former holder, should it still run, loses what was taken over', async () => {
      const name = world.name();
      const former = await world.actor();
      const before = await mutexOf(former, name).acquire();
      await eventually('a watch on the key', () =>
        former.faults.calls.some(({ kind }) => kind === 'watch'),
      );
      const back = await returned(former.session.id);
      const lock = await mutexOf(back, name).resume(before.sequencer);
      await eventually('the loss', () => before.signal.aborted);
      expect(before.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
      await before.release();
      expect(await members(name)).toHaveLength(1);
      expect(lock.isHeld).toBe(true);
      await lock.release();
      expect(await members(name)).toHaveLength(0);
    });

    test('hears of a request to let go that came while nobody was there', async () => {
      const name = world.name();
      const { actor: gone, lock: before } = await crashed(name);
      await mutexOf(await world.actor(), name).requestRevoke({ reason: 'maintenance' });
      const back = await returned(gone.session.id);
      await using lock = await mutexOf(back, name).resume(before.sequencer);
      expect(await firstValueFrom(lock.revocation$)).toMatchObject({ reason: 'maintenance' });
      expect(lock.isHeld).toBe(true);
    });

    test('a lost answer does no harm', async () => {
      const name = world.name();
      const { actor: gone, lock: before } = await crashed(name);
      const back = await returned(gone.session.id);
      back.faults.next('lose-answer');
      await using lock = await mutexOf(back, name).resume(before.sequencer);
      expect(lock.token > before.token).toBe(true);
      lock.assertHeld();
    });

    test('nothing is taken back that is over, or was never held', async () => {
      const name = world.name();
      const { actor: gone, lock: before } = await crashed(name);
      const waiting = mutexOf(gone, name).acquire();
      waiting.catch(() => undefined);
      await lineLength(name, 2);
      const back = await returned(gone.session.id);
      const mutex = mutexOf(back, name);
      const waiter = (await members(name)).find(({ key }) => key !== before.key);
      const place = `${waiter?.key}@${waiter?.createRevision}`;
      await expect(mutex.resume(place)).rejects.toMatchObject({ code: 'LOCK_LOST' });
      await world.operator().kv.delete(before.key);
      await expect(mutex.resume(before.sequencer)).rejects.toMatchObject({ code: 'LOCK_LOST' });
      // Written again by hand: the same key, and another life.
      await world.operator().kv.put(before.key, 'x', { lease: gone.session.lease });
      await expect(mutex.resume(before.sequencer)).rejects.toMatchObject({ code: 'LOCK_LOST' });
    });

    test('nor with the sequencer of another lock, another session or something else', async () => {
      const name = world.name();
      const { lock: before } = await crashed(name);
      const stranger = await world.actor();
      const refused = { code: 'INVALID_ARGUMENT', message: expect.stringContaining("'sequencer'") };
      await expect(mutexOf(stranger, name).resume(before.sequencer)).rejects.toMatchObject(refused);
      await expect(mutexOf(stranger, 'else').resume('a@mod:4')).rejects.toMatchObject(refused);
      await expect(mutexOf(stranger, 'else').resume('')).rejects.toMatchObject(refused);
    });

    test('a reentrant mutex is entered again by the owner that resumed', async () => {
      const name = world.name();
      const { actor: gone, lock: before } = await crashed(name);
      const back = await returned(gone.session.id);
      const mutex = new Mutex(back.context, name, { reentrant: true });
      const owner = {};
      const lock = await mutex.resume(before.sequencer, { owner });
      const again = await mutex.acquire({ owner });
      await lock.release();
      expect(again.isHeld).toBe(true);
      await again.release();
      expect(await members(name)).toHaveLength(0);
    });

    test('what is not taken over goes after a while; what is stays', async () => {
      const [kept, left] = [world.name(), world.name()];
      const { actor: gone, lock: before } = await crashed(kept);
      await mutexOf(gone, left).acquire();
      const { kv } = world.operator();
      await kv.put(`${left}/again`, 'old', { lease: gone.session.lease });
      const other = await world.actor();
      const waiting = mutexOf(other, left).acquire();
      await lineLength(left, 2);
      const clock = new ManualClock();
      const actor = await world.actor({ clock });
      const resume = { resume: gone.session.id, resumeWithin: '5s' };
      const session = await actor.client.session(resume);
      const mutex = new Mutex({ ...actor.context, session }, kept);
      await using lock = await mutex.resume(before.sequencer);
      await actor.client.kv.put(`${left}/again`, 'new', { lease: session.lease });
      clock.advance(4_900);
      expect(await members(left)).toHaveLength(2);
      clock.advance(200);
      await (await waiting).release();
      expect(lock.isHeld).toBe(true);
      expect(await members(kept)).toHaveLength(1);
      expect(await kv.getString(`${left}/again`)).toBe('new');
    });

    test('everything stays where that is asked for', async () => {
      const name = world.name();
      const { actor: gone } = await crashed(name);
      const clock = new ManualClock();
      const actor = await world.actor({ clock });
      const resumeWithin = Number.POSITIVE_INFINITY;
      await using session = await actor.client.session({ resume: gone.session.id, resumeWithin });
      for (let passed = 0; passed < 40_000; passed += 10_000) {
        const { validUntilMs } = session;
        clock.advance(10_000);
        await eventually('a renewal', () => session.validUntilMs > validUntilMs);
      }
      expect(await members(name)).toHaveLength(1);
    });

    test('more keys go than fit in a transaction', async () => {
      const name = world.name();
      const { actor: gone } = await crashed(name);
      const { kv } = world.operator();
      const puts = Array.from({ length: 150 }, (_, index) =>
        kv.put(`${name}/${index}`, '', { lease: gone.session.lease }),
      );
      await Promise.all(puts);
      const actor = await world.actor();
      await using session = await actor.client.session({
        resume: gone.session.id,
        resumeWithin: 1,
      });
      await eventually('no keys', async () => (await kv.count({ prefix: `${name}/` })) === 0n);
      expect(session.state).toBe('live');
    });

    test('a session whose opening is given up keeps its lease and keys', async () => {
      const name = world.name();
      const { actor: gone } = await crashed(name);
      const actor = await world.actor();
      const signal = AbortSignal.abort();
      const resume = gone.session.id;
      await expect(actor.client.session({ resume, signal })).rejects.toMatchObject({
        code: 'ABORTED',
      });
      expect(await members(name)).toHaveLength(1);
    });
  });

  test('with a lock-delay others get in later after a crash, and at once after a release', async () => {
    const name = world.name();
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '2s', lockDelay: '2s' });
    await (await mutexOf(actor, name).acquire()).release();
    const other = await world.actor();
    await (await mutexOf(other, name).acquire({ timeout: '1s' })).release();
    await mutexOf(actor, name).acquire();
    const sinceMs = performance.now();
    // The session gives up by its own deadline; its clock stands still, so it renews nothing.
    const waiting = mutexOf(other, name).acquire({ timeout: '10s' });
    clock.freeze(2_000);
    expect(actor.session.state).toBe('lost');
    await (await waiting).release();
    expect(performance.now() - sinceMs).toBeGreaterThan(3_500);
  });

  test('a part that outlives its session opens another of the same kind', async () => {
    const meta = { host: 'a' };
    const actor = await world.actor({ ttl: '20s', lockDelay: '5s', onSuspend: 'stop', meta });
    const keeper = new SessionKeeper(actor.session, 'separate');
    const session = await keeper.live();
    expect(session.id).not.toBe(actor.session.id);
    expect(session).toMatchObject({ ttlMs: 20_000, onSuspend: 'stop', meta });
    expect(await world.operator().leases.timeToLive(session.lease)).toMatchObject({
      grantedTtlMs: 25_000,
    });
    await keeper.close();
  });

  describe('lost', () => {
    const limit = { rate: 1, per: '1h' } as const;
    const sessionOf = ({ context }: Actor) => new RecipeSession(context.session, context.metrics);
    const namesOfAll = () => ({
      mutex: world.name(),
      multi: [world.name(), world.name()] as const,
      rw: world.name(),
      permits: world.name(),
      rate: world.name(),
      ...{ leader: world.name(), ranked: world.name() },
    });
    type Names = ReturnType<typeof namesOfAll>;

    const holdAll = async (holder: RecipeSession, names: Names) => {
      await holder.mutex(names.mutex).acquire();
      await holder.mutex(names.multi[0]).acquire();
      await holder.rw(names.rw).write();
      await holder.semaphore(names.permits, { limit: 1 }).acquire();
      await holder.rateLimit(names.rate, limit).take();
      await holder.election<string>(names.leader).campaign({ value: 'other' });
      await holder.election<string>(names.ranked, { priority: 2 }).campaign({ value: 'other' });
    };
    const waitForAll = (waiter: RecipeSession, names: Names): Record<string, Promise<unknown>> => ({
      mutex: waiter.mutex(names.mutex).acquire(),
      'mutex again': waiter.mutex(names.mutex).acquire(),
      multi: waiter.multi(names.multi).acquire(),
      'rw, to read': waiter.rw(names.rw).read(),
      'rw, to write': waiter.rw(names.rw).write(),
      semaphore: waiter.semaphore(names.permits, { limit: 1 }).acquire(),
      'rate limit': waiter.rateLimit(names.rate, limit).take(),
      election: waiter.election<string>(names.leader).campaign({ value: 'this' }),
      'election by priority': waiter
        .election<string>(names.ranked, { priority: 1 })
        .campaign({ value: 'this' }),
    });
    /** What each wait was told so far. */
    const codesOf = (waits: Record<string, Promise<unknown>>): Record<string, unknown> => {
      const codes: Record<string, unknown> = {};
      for (const [what, wait] of Object.entries(waits)) {
        codes[what] = 'nothing yet';
        wait.catch((error: { code: string }) => {
          codes[what] = error.code;
        });
      }
      return codes;
    };
    const allLost = (codes: Record<string, unknown>) =>
      Object.fromEntries(Object.keys(codes).map((what) => [what, 'SESSION_LOST']));
    /** Keys that wait: one of each, and two of the multi-lock. */
    const untilInLine = (session: RecipeSession, count: number) =>
      eventually(`${count} places in line`, async () => {
        const { kvs } = await world.operator().kv.list({ prefix: 'conclave/' });
        return kvs.filter(({ lease }) => lease === session.lease).length === count;
      });

    test('every waiter fails at once', async () => {
      const names = namesOfAll();
      const clock = new ManualClock();
      const waiter = sessionOf(await world.actor({ clock, ttl: '20s' }));
      await holdAll(sessionOf(await world.actor()), names);
      const codes = codesOf(waitForAll(waiter, names));
      await untilInLine(waiter, Object.keys(codes).length + 1);
      clock.freeze(20_000);
      expect(waiter.state).toBe('lost');
      // No exchange and no timer lies between the loss and its news.
      await new Promise(setImmediate);
      expect(codes).toEqual(allLost(codes));
    });

    test('so does every waiter that is in the middle of a request', async () => {
      const names = namesOfAll();
      await holdAll(sessionOf(await world.actor()), names);
      const clock = new ManualClock();
      await using proxy = await TcpProxy.to(world.endpoint());
      const options = { endpoints: proxy.endpoint, clock };
      await using client = await connectOver({ connectionClock: systemClock }, options);
      const waiter = new RecipeSession(await client.session({ ttl: '20s' }), noMetrics);
      proxy.holdAnswers();
      const codes = codesOf(waitForAll(waiter, names));
      // The rate limit asks whether there is room before it stands in line.
      await untilInLine(waiter, Object.keys(codes).length);
      clock.freeze(20_000);
      expect(waiter.state).toBe('lost');
      await new Promise(setImmediate);
      expect(codes).toEqual(allLost(codes));
    });
  });

  describe('closed', () => {
    const sessionOf = ({ context }: Actor) => new RecipeSession(context.session, context.metrics);
    const closed = { code: 'CLOSED' };
    const factories: Record<string, (session: RecipeSession, name: string) => unknown> = {
      mutex: (session, name) => session.mutex(name),
      multi: (session, name) => session.multi([name]),
      rw: (session, name) => session.rw(name),
      semaphore: (session, name) => session.semaphore(name, { limit: 1 }),
      rateLimit: (session, name) => session.rateLimit(name, { rate: 1, per: '1s' }),
      line: (session, name) => session.line(name, { rule: 'first', grants: () => true } as never),
      barrier: (session, name) => session.barrier(name),
      doubleBarrier: (session, name) => session.doubleBarrier(name, { parties: 1 }),
      cyclicBarrier: (session, name) => session.cyclicBarrier(name, { parties: 1 }),
      latch: (session, name) => session.latch(name, { count: 1 }),
      counter: (session, name) => session.counter(name),
      adder: (session, name) => session.adder(name),
      ids: (session, name) => session.ids(name),
      value: (session, name) => session.value(name),
      stm: (session) => session.stm(() => Promise.resolve(1)),
      election: (session, name) => session.election(name),
      migrations: (session, name) => session.migrations(name, []),
      queue: (session, name) => session.queue(name),
      worker: (session, name) => session.worker(name, () => undefined),
      batchWorker: (session, name) =>
        session.batchWorker(name, () => Promise.resolve([]) as never, { size: 2 }),
      process$: (session, name) => firstValueFrom(session.process$(name, () => [])),
      cron: (session, name) => session.cron(name, { pattern: '0 0 1 1 *', queue: name } as never),
      consumer: (session, name) => session.consumer(name),
      group: (session, name) => session.group(name),
      cache: (session, name) => session.cache(`${name}/`),
      topic: (session, name) => session.topic(name),
      config: (session, name) => session.config(name),
      discovery: (session, name) => session.discovery(name),
    };

    test('every recipe is refused once its owner has closed it, lost or not', async () => {
      const ofSessions = ['constructor', 'close', 'assertLive', 'reap'];
      const methods = Object.entries(Object.getOwnPropertyDescriptors(RecipeSession.prototype))
        .filter(([name, { value }]) => typeof value === 'function' && !ofSessions.includes(name))
        .map(([name]) => name);
      expect(methods.toSorted()).toEqual(Object.keys(factories).toSorted());
      for (const end of ['closed', 'lost and closed'] as const) {
        const clock = new ManualClock();
        const actor = await world.actor({ clock });
        const session = sessionOf(actor);
        if (end === 'lost and closed') {
          clock.freeze(60_000);
          expect(session.state).toBe('lost');
          // What replaces a lost session still may begin.
          expect(() => session.discovery(world.name())).not.toThrow();
        }
        await session.close();
        for (const [recipe, make] of Object.entries(factories)) {
          const made = (async () => make(session, world.name()))();
          await expect(made, recipe).rejects.toMatchObject(closed);
        }
      }
    });

    test('what was made before refuses or ends as well, and leaves nothing', async () => {
      for (const end of ['closed', 'lost and closed'] as const) {
        const clock = new ManualClock();
        const name = world.name();
        const actor = await world.actor({ clock });
        const session = sessionOf(actor);
        const [service, group] = [session.discovery(name), session.group<string>(name)];
        const [topic, election] = [session.topic(name), session.election(name)];
        if (end === 'lost and closed') clock.freeze(60_000);
        await session.close();
        await expect(service.register({ address: 'a:1' })).rejects.toMatchObject(closed);
        await expect(group.join({ data: 'a' })).rejects.toMatchObject(closed);
        await expect(service.pool().acquire()).rejects.toMatchObject(closed);
        const leading = election.lead(() => undefined, { value: 'a' });
        await expect(leading).rejects.toMatchObject({ code: expect.any(String) });
        for await (const event of topic.subscribe()) expect(event).toBeUndefined();
        const { kv } = world.operator();
        expect(await kv.count({ prefix: servicePrefix(name) })).toBe(0n);
        expect(await kv.count({ prefix: groupPrefix(name) })).toBe(0n);
      }
    });

    test('what waits when it closes is told that it was closed', async () => {
      const name = world.name();
      const session = sessionOf(await world.actor());
      const other = sessionOf(await world.actor());
      const limits = { capacity: 1 };
      await other.queue<number>(name, { limits }).push(1);
      await other.election<string>(name).campaign({ value: 'a' });
      const run = () => new Promise<void>(() => undefined);
      const running = other.migrations(name, [{ id: 'a', run }]);
      running.run().catch(() => undefined);
      const runs = async () => (await running.inspect()).runner !== null;
      await eventually('the step', runs);
      const queue = session.queue<number>(name, { limits });
      const standing = session.election<string>(name);
      const waits = {
        push: queue.push(2),
        'the push after it': queue.push(3),
        lead: standing.lead(() => undefined, { value: 'b' }),
        migrations: session.migrations(name, [{ id: 'a', run }]).run(),
      };
      const ends = Object.entries(waits).map(async ([what, wait]) => {
        await expect(wait, what).rejects.toMatchObject({ ...closed, outcome: 'not-applied' });
      });
      await eventually('both to stand', async () => {
        const { waiting } = await running.inspect();
        return waiting.length === 1 && (await standing.candidates()).length === 2;
      });
      await session.close();
      await Promise.all(ends);
      expect(await other.queue<number>(name).stats()).toMatchObject({ ready: 1 });
    });

    test('what is begun while it closes ends with it', async () => {
      const actor = await world.actor();
      const session = sessionOf(actor);
      const name = world.name();
      const ended: string[] = [];
      const closing = session.close().then(() => ended.push('session'));
      const registering = session.discovery(name).register({ address: 'a:1' });
      registering.catch(() => ended.push('registration'));
      await closing;
      await expect(registering).rejects.toMatchObject(closed);
      expect(ended).toEqual(['registration', 'session']);
      expect(await world.operator().kv.count({ prefix: servicePrefix(name) })).toBe(0n);
    });

    test('a part of it opens no other session, although its own was lost', async () => {
      const actor = await world.actor();
      const keeper = new SessionKeeper(actor.session, 'separate');
      await actor.session.close();
      await expect(keeper.live()).rejects.toMatchObject(closed);
      await keeper.close();
    });
  });

  test('a session that the store has forgotten is given up, but never the shared one', async () => {
    const actor = await world.actor();
    const keeper = new SessionKeeper(actor.session, 'separate');
    const first = await keeper.live();
    keeper.giveUp(first);
    const second = await keeper.live();
    expect([first.state, second.state]).toEqual(['lost', 'live']);
    // News of the one that is over already.
    keeper.giveUp(first);
    expect(await keeper.live()).toBe(second);
    await keeper.close();
    expect(second.state).toBe('lost');
    const sharing = new SessionKeeper(actor.session, 'shared');
    sharing.giveUp(await sharing.live());
    expect(actor.session.state).toBe('live');
    await sharing.close();
  });

  test('meta is a flat record of texts, and stays what it was', async () => {
    const { client } = await world.actor();
    const refused = (field: string, given: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`Cannot use ${given} as '${field}': it must be a`),
    });
    const bad: [unknown, string, string][] = [
      [{ a: 1n }, 'meta.a', '1n'],
      [{ a: { b: 'c' } }, 'meta.a', 'an object'],
      [{ a: undefined }, 'meta.a', 'undefined'],
      ['host', 'meta', '"host"'],
      [['host'], 'meta', 'an object'],
      [new Map([['a', 'b']]), 'meta', 'an object'],
      [null, 'meta', 'null'],
    ];
    for (const [meta, field, given] of bad) {
      const opening = client.session({ meta } as SessionOptions);
      await expect(opening).rejects.toMatchObject(refused(field, given));
    }
    const meta = { host: 'a' };
    const session = await client.session({ meta });
    meta.host = 'b';
    expect(session.meta).toEqual({ host: 'a' });
    const mutex = new RecipeSession(session, noMetrics).mutex(world.name());
    const entering = mutex.acquire({ meta: { a: 1n } } as never);
    await expect(entering).rejects.toMatchObject(refused('meta.a', '1n'));
    await session.close();
  });

  test('a duration that belongs to no option is named as such', () => {
    expect(() => parseDuration('soon')).toThrow(/as 'duration'/);
  });
});
