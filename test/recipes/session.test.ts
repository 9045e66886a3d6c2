/** Sessions as the recipes live by them: coming back, keeping others out for a while, being lost. */
import { firstValueFrom } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { SessionKeeper } from '../../recipes/common/session-keeper.ts';
import { Mutex } from '../../recipes/locks/mutex.ts';
import { lockPrefix } from '../../recipes/names.ts';
import { RecipeSession } from '../../recipes/session.ts';
import type { SessionOptions } from '../../sdk/session.ts';
import { ManualClock } from '../support/manual-clock.ts';
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

  test('a lost session fails every waiter at once', async () => {
    const names = { mutex: world.name(), rw: world.name(), permits: world.name() };
    const [many, leader, rate] = [world.name(), world.name(), world.name()];
    const clock = new ManualClock();
    const actor = await world.actor({ clock, ttl: '20s' });
    const other = await world.actor();
    const [waiter, holder] = [actor, other].map(
      ({ context }) => new RecipeSession(context.session, context.metrics),
    ) as [RecipeSession, RecipeSession];
    const limit = { rate: 1, per: '1h' } as const;
    await holder.mutex(names.mutex).acquire();
    await holder.mutex(many).acquire();
    await holder.rw(names.rw).write();
    await holder.semaphore(names.permits, { limit: 1 }).acquire();
    await holder.rateLimit(rate, limit).take();
    const leading = holder.election<string>(leader).campaign({ value: 'other' });
    await leading;
    const waits = [
      waiter.mutex(names.mutex).acquire(),
      waiter.mutex(names.mutex).acquire(),
      waiter.multi([many, world.name()]).acquire(),
      waiter.rw(names.rw).read(),
      waiter.rw(names.rw).write(),
      waiter.semaphore(names.permits, { limit: 1 }).acquire(),
      waiter.rateLimit(rate, limit).take(),
      waiter.election<string>(leader).campaign({ value: 'this' }),
    ];
    const codes: unknown[] = [];
    for (const wait of waits) {
      wait.catch((error: { code: string }) => codes.push(error.code));
    }
    await lineLength(names.mutex, 3);
    await eventually('all to wait', async () => {
      const { kvs } = await world.operator().kv.list({ prefix: 'conclave/' });
      return kvs.filter(({ lease }) => lease === actor.session.lease).length >= waits.length;
    });
    clock.freeze(20_000);
    expect(waiter.state).toBe('lost');
    // No exchange and no timer lies between the loss and its news.
    await new Promise(setImmediate);
    expect(codes).toEqual(waits.map(() => 'SESSION_LOST'));
  });
});
