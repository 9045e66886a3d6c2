/** Reentrancy, requests to let go, progress, and sharing names with etcd's own locks. */
import { describe, expect, test } from 'vitest';
import { Mutex } from '../../recipes/locks/mutex.ts';
import type { LockProgress } from '../../recipes/locks/mutex-handle.ts';
import type { Revocation } from '../../recipes/locks/revocation.ts';
import { lockPrefix } from '../../recipes/names.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { commandExists, Launched, temporaryDirectory } from '../support/process.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('mutex', () => {
  const world = useWorld();
  const count = async (prefix: string) => world.operator().kv.count({ prefix });
  const lineLength = (prefix: string, length: number) =>
    eventually(
      `${length} keys under ${prefix}`,
      async () => (await count(prefix)) === BigInt(length),
    );
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);

  describe('reentrant', () => {
    const of = (actor: Actor, name: string) => new Mutex(actor.context, name, { reentrant: true });

    test('the owner enters again for nothing, and the last handle releases', async () => {
      const actor = await world.actor({ clock: new ManualClock() });
      const name = world.name();
      const mutex = of(actor, name);
      const owner = {};
      const first = await mutex.acquire({ owner });
      const second = await mutex.acquire({ owner });
      const third = await mutex.tryAcquire({ owner: second });
      expect(kinds(actor)).toEqual(['txn']);
      expect([second.token, third?.token]).toEqual([first.token, first.token]);
      expect(second.key).toBe(first.key);
      await first.release();
      await first.release();
      expect(() => first.assertHeld()).toThrow(expect.objectContaining({ code: 'RELEASED' }));
      expect(() => first.guard(actor.client.kv.txn())).toThrow(/released/);
      second.assertHeld();
      await third?.release();
      second.assertHeld();
      await lineLength(lockPrefix(name), 1);
      expect(kinds(actor)).toEqual([]);
      await second.release();
      expect(kinds(actor)).toEqual(['txn']);
      await lineLength(lockPrefix(name), 0);
      await using again = await mutex.acquire({ owner });
      expect(again.token > first.token).toBe(true);
    });

    test('other owners, and callers without one, are excluded', async () => {
      const actor = await world.actor();
      const mutex = of(actor, world.name());
      const owner = {};
      await using held = await mutex.acquire({ owner });
      expect(await mutex.tryAcquire()).toBeNull();
      expect(await mutex.tryAcquire({ owner: {} })).toBeNull();
      await expect(mutex.acquire({ timeout: 20 })).rejects.toMatchObject({ code: 'NOT_ACQUIRED' });
      await using _inner = await mutex.acquire({ owner: held, timeout: '5s' });
    });

    test('a loss ends every handle of the hold', async () => {
      const actor = await world.actor();
      const mutex = of(actor, world.name());
      const outer = await mutex.acquire();
      const inner = await mutex.acquire({ owner: outer });
      const states: string[] = [];
      inner.state$.subscribe((state) => states.push(state));
      await world.operator().kv.delete(outer.key);
      await eventually('the loss', () => inner.signal.aborted && outer.signal.aborted);
      expect(states).toEqual(['held', 'lost']);
      expect(inner.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
      await expect(mutex.acquire({ owner: inner })).rejects.toMatchObject({ code: 'LOCK_LOST' });
      await using _next = await mutex.acquire({ timeout: '5s' });
    });

    test('wrong owners are refused', async () => {
      const actor = await world.actor();
      const name = world.name();
      const mutex = of(actor, name);
      await expect(new Mutex(actor.context, name).acquire({ owner: {} })).rejects.toThrow(
        /'owner'/,
      );
      await expect(mutex.acquire({ owner: 'me' as never })).rejects.toThrow(/'owner'/);
      const first = await mutex.acquire();
      const owner = {};
      const waiting = mutex.acquire({ owner });
      await expect(mutex.acquire({ owner })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
      await first.release();
      await expect(mutex.acquire({ owner: first })).rejects.toMatchObject({ code: 'RELEASED' });
      await (await waiting).release();
    });
  });

  describe('requestRevoke', () => {
    test('reaches the holder, early or late, and leaves nothing behind', async () => {
      const [a, b] = [await world.actor(), await world.actor({ meta: { host: 'b' } })];
      const name = world.name();
      const [ours, theirs] = [new Mutex(a.context, name), new Mutex(b.context, name)];
      expect(await theirs.requestRevoke()).toBe(false);
      const lock = await ours.acquire();
      const waiting = theirs.acquire();
      await lineLength(lockPrefix(name), 2);
      const heard: Revocation[] = [];
      lock.revocation$.subscribe((revocation) => heard.push(revocation));
      await eventually('its watches', () => b.faults.calls.length >= 4);
      b.faults.take();
      expect(await theirs.requestRevoke({ reason: 'deploy' })).toBe(true);
      expect(kinds(b)).toEqual(['list', 'txn']);
      expect(await theirs.requestRevoke({ reason: 'again' })).toBe(true);
      await eventually('the request', () => heard.length === 1);
      expect(heard).toMatchObject([{ by: b.session.id, meta: { host: 'b' }, reason: 'deploy' }]);
      lock.assertHeld();
      let completed = false;
      const late: Revocation[] = [];
      lock.revocation$.subscribe({
        next: (revocation) => late.push(revocation),
        complete: () => {
          completed = true;
        },
      });
      expect(late).toHaveLength(1);
      expect((await lock.guard(a.client.kv.txn()).commit()).succeeded).toBe(true);
      await lock.release();
      expect(completed).toBe(true);
      const next = await waiting;
      const none: Revocation[] = [];
      next.revocation$.subscribe((revocation) => none.push(revocation));
      await settle();
      expect(none).toEqual([]);
      await next.release();
      await lineLength(lockPrefix(name), 0);
    });

    test('survives a lost answer and a holder that goes in between', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      const [ours, theirs] = [new Mutex(a.context, name), new Mutex(b.context, name)];
      const lock = await ours.acquire();
      b.faults.next('lose-answer');
      expect(await theirs.requestRevoke()).toBe(true);
      b.faults.before = async ({ write }) => {
        if (!write) return;
        b.faults.heal();
        await second.release();
      };
      await lock.release();
      const second = await ours.acquire();
      expect(await theirs.requestRevoke()).toBe(false);
      await lineLength(lockPrefix(name), 0);
    });

    test('is heard through a compaction, and refused by keys of another kind', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      const lock = await new Mutex(a.context, name).acquire();
      await new Mutex(b.context, name).requestRevoke();
      const { kv } = world.operator();
      const { revision } = await kv.put('filler', 'x');
      await kv.compact(revision);
      const heard: Revocation[] = [];
      lock.revocation$.subscribe((revocation) => heard.push(revocation));
      await eventually('the request', () => heard.length === 1);
      await lock.release();
      await kv.put(`${lockPrefix(name)}foreign`, '');
      await expect(new Mutex(b.context, name).requestRevoke()).rejects.toMatchObject({
        code: 'FAILED_PRECONDITION',
      });
      await kv.delete(`${lockPrefix(name)}foreign`);
    });
  });

  test('progress$ tells of the reserved place, each step and the lock; leaving releases', async () => {
    const actor = await world.actor();
    const name = world.name();
    const mutex = new Mutex(actor.context, name);
    const first = await mutex.acquire();
    const between = mutex.acquire();
    await lineLength(lockPrefix(name), 2);
    const seen: LockProgress[] = [];
    const waiting = mutex.progress$().subscribe((step) => seen.push(step));
    await eventually('the place', () => seen.length === 1);
    await first.release();
    await eventually('a step', () => seen.length === 2);
    await (await between).release();
    await eventually('the lock', () => seen.length === 3);
    expect(seen).toMatchObject([
      { type: 'reserved', ahead: 2 },
      { type: 'moved', ahead: 1 },
      { type: 'acquired', lock: { isHeld: true } },
    ]);
    waiting.unsubscribe();
    await lineLength(lockPrefix(name), 0);
    const holder = await mutex.acquire();
    const given = mutex.progress$().subscribe();
    await lineLength(lockPrefix(name), 2);
    given.unsubscribe();
    await lineLength(lockPrefix(name), 1);
    await holder.release();
    let reason: unknown;
    await using _held = await mutex.acquire();
    mutex.progress$({ timeout: 20 }).subscribe({
      error: (error) => {
        reason = error;
      },
    });
    await eventually('the error', () => reason !== undefined);
    expect(reason).toMatchObject({ code: 'NOT_ACQUIRED' });
  });

  describe.skipIf(!commandExists('etcdctl'))('layout etcd', () => {
    const etcdctl = (...words: string[]) =>
      new Launched('etcdctl', ['--endpoints', world.endpoint(), ...words], {
        logPath: `${temporaryDirectory('etcdctl')}/log`,
        environment: { ETCDCTL_API: '3' },
      });
    const of = (actor: Actor, name: string) => new Mutex(actor.context, name, { layout: 'etcd' });

    test('excludes etcdctl lock, and is excluded by it, in one order', async () => {
      const actor = await world.actor();
      const name = world.name('shared');
      const lock = await of(actor, name).acquire();
      const theirs = etcdctl('lock', name);
      try {
        await lineLength(`${name}/`, 2);
        const behind = of(actor, name).acquire();
        await lineLength(`${name}/`, 3);
        expect(theirs.log()).toBe('');
        await lock.release();
        await eventually('their lock', () => theirs.log().startsWith(`${name}/`));
        expect(await of(actor, name).tryAcquire()).toBeNull();
        await settle();
        expect(await Promise.race([behind, Promise.resolve('waiting')])).toBe('waiting');
        await expect(of(actor, name).requestRevoke()).rejects.toMatchObject({
          code: 'FAILED_PRECONDITION',
        });
        await theirs.kill('SIGINT');
        const ours = await behind;
        expect(ours.token > lock.token).toBe(true);
        await ours.release();
      } finally {
        await theirs.kill();
      }
      await lineLength(`${name}/`, 0);
    });

    test('a command under etcdctl lock runs once ours is gone with its session', async () => {
      const actor = await world.actor();
      const name = world.name('shared');
      await of(actor, name).acquire();
      const theirs = etcdctl('lock', name, 'echo', 'inside');
      await lineLength(`${name}/`, 2);
      await actor.session.close();
      expect(await theirs.exited).toMatchObject({ code: 0 });
      expect(theirs.log()).toContain('inside');
    });

    test('names that would touch the keys of the recipes are refused', async () => {
      const actor = await world.actor();
      expect(() => of(actor, 'conclave/lock/x')).toThrow(/'name'/);
      expect(() => of(actor, 'conclave')).toThrow(/'name'/);
      expect(() => of(actor, '')).toThrow(/'name'/);
      const layout = 'zookeeper' as 'etcd';
      expect(() => new Mutex(actor.context, 'x', { layout })).toThrow(/'layout'/);
    });
  });

  test('wrong options are refused by name: they must not mean their absence', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () =>
      new Mutex(actor.context, world.name(), options as never);
    for (const [options, words] of [
      [null, "'options'"],
      ['10s', "'options'"],
      [{ maxhold: '1s' }, "did you mean 'maxHold'"],
      [{ reentrant: 'yes' }, "'reentrant'"],
    ] as const) {
      expect(make(options), words).toThrow(expect.objectContaining(refused(words)));
    }
    const name = world.name();
    const mutex = new Mutex(actor.context, name);
    await using holder = await mutex.acquire();
    for (const [options, words] of [
      [{ tmieout: 10 }, "did you mean 'timeout'"],
      [{ signal: {} }, "'signal'"],
      [{ signal: null }, "'signal'"],
      [{ onPosition: 1 }, "'onPosition'"],
      [null, "'options'"],
    ] as const) {
      await expect(mutex.acquire(options as never), words).rejects.toMatchObject(refused(words));
    }
    const tried = mutex.tryAcquire({ timeout: 10 } as never);
    await expect(tried).rejects.toMatchObject(refused("'timeout'"));
    const resumed = mutex.resume(holder.sequencer, { signal: undefined } as never);
    await expect(resumed).rejects.toMatchObject(refused("'signal'"));
    const asked = [
      mutex.requestRevoke({ raeson: 'x' } as never),
      mutex.requestRevoke({ reason: 1 as never }),
    ];
    for (const each of asked) await expect(each).rejects.toMatchObject(refused("'reason'"));
    await expect(mutex.using(1 as never)).rejects.toMatchObject(refused("'fn'"));
    // Nobody who was refused has left anything.
    expect(await mutex.inspect()).toMatchObject({ holder: { key: holder.key }, waiters: [] });
  });
});
