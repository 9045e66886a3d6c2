import { firstValueFrom, toArray } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { inLineOrder } from '../../recipes/line/line-record.ts';
import { verifySequencer } from '../../recipes/line/sequencer.ts';
import { type LineUp, Mutex } from '../../recipes/locks/mutex.ts';
import type { MutexHandle } from '../../recipes/locks/mutex-handle.ts';
import { lockPrefix } from '../../recipes/names.ts';
import { op } from '../../sdk/txn.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { waitFor } from '../support/wait.ts';
import { type Actor, deafContext, eventually, settle, turnCosts, useWorld } from './world.ts';

describe.skipIf(storeMissing)('mutex', () => {
  const world = useWorld();
  const mutexOf = (actor: Actor, name: string) => new Mutex(actor.context, name);
  const members = async (name: string) => {
    const { kvs } = await world.operator().kv.list({ prefix: lockPrefix(name) });
    return kvs;
  };
  const lineLength = (name: string, length: number) =>
    eventually(`${length} members of ${name}`, async () => (await members(name)).length === length);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);

  test('a free lock takes one exchange to acquire and one to release', async () => {
    const actor = await world.actor({ clock: new ManualClock() });
    const mutex = mutexOf(actor, world.name());
    const lock = await mutex.acquire();
    expect(kinds(actor)).toEqual(['txn']);
    await lock.release();
    expect(kinds(actor)).toEqual(['txn']);
  });

  test('a held lock: join, then wait and look', async () => {
    const [a, b] = [
      await world.actor({ clock: new ManualClock() }),
      await world.actor({ clock: new ManualClock() }),
    ];
    const name = world.name();
    const first = await mutexOf(a, name).acquire();
    const waiting = mutexOf(b, name).acquire();
    await lineLength(name, 2);
    await first.release();
    await using second = await waiting;
    expect(kinds(b)).toEqual(['txn', ...turnCosts.wait, ...turnCosts.look]);
    expect(second.token > first.token).toBe(true);
  });

  test('tryAcquire takes one exchange and leaves no key when refused', async () => {
    const [a, b] = [
      await world.actor({ clock: new ManualClock() }),
      await world.actor({ clock: new ManualClock() }),
    ];
    const name = world.name();
    await using lock = await mutexOf(a, name).tryAcquire();
    expect(lock).not.toBeNull();
    expect(kinds(a)).toEqual(['txn']);
    expect(await mutexOf(b, name).tryAcquire()).toBeNull();
    expect(kinds(b)).toEqual(['txn']);
    expect(await members(name)).toHaveLength(1);
  });

  test('tryAcquire does not overtake those who wait', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const lock = await mutexOf(a, name).acquire();
    const waiting = mutexOf(b, name).acquire();
    await lineLength(name, 2);
    const released = lock.release();
    expect(await mutexOf(c, name).tryAcquire()).toBeNull();
    await released;
    await (await waiting).release();
  });

  test('is granted in the order of joining, with rising tokens', async () => {
    const actor = await world.actor();
    const name = world.name();
    const order: number[] = [];
    const tokens: bigint[] = [];
    const first = await mutexOf(actor, name).acquire();
    const waits: Promise<void>[] = [];
    for (let index = 0; index < 8; index++) {
      waits.push(
        mutexOf(actor, name).using((lock) => {
          order.push(index);
          tokens.push(lock.token);
        }),
      );
      await lineLength(name, index + 2);
    }
    await first.release();
    await Promise.all(waits);
    expect(order).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect([...tokens].sort((a, b) => (a < b ? -1 : 1))).toEqual(tokens);
    expect(new Set([first.token, ...tokens]).size).toBe(9);
    expect(await members(name)).toHaveLength(0);
  });

  test('two tasks of one session exclude each other', async () => {
    const actor = await world.actor();
    const name = world.name();
    let inside = 0;
    let most = 0;
    const mutex = mutexOf(actor, name);
    await Promise.all(
      Array.from({ length: 12 }, () =>
        mutex.using(async () => {
          inside += 1;
          most = Math.max(most, inside);
          await settle(3);
          inside -= 1;
        }),
      ),
    );
    expect(most).toBe(1);
  });

  test('200 waiters: each release wakes exactly one, and all get their turn in order', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const holder = await mutexOf(a, name).acquire();
    const waiters = 200;
    const granted: MutexHandle[] = [];
    const waits = Array.from({ length: waiters }, async () => {
      // Without the slow re-read, which on a slow machine would add looks of its own.
      granted.push(await new Mutex(b.context, name, { recheck: '1h' }).acquire());
    });
    await lineLength(name, waiters + 1);
    let told = 0;
    b.faults.after = ({ kind }) => {
      if (kind === 'wait') told += 1;
    };
    const calls = (1 + turnCosts.wait.length) * waiters;
    await eventually('all waits', () => b.faults.calls.length >= calls);
    const line = inLineOrder(await members(name)).map(({ key }) => key);
    b.faults.take();
    let previous = holder;
    for (let turn = 1; turn <= waiters; turn++) {
      await previous.release();
      previous = await waitFor('the next holder', () => granted[turn - 1]);
      await settle(1);
      expect(granted).toHaveLength(turn);
      // Only the one that was next has looked, or was told.
      const looks = b.faults.calls.filter(({ kind, write }) => kind === 'txn' && !write);
      expect(looks.length + told).toBe(turn);
    }
    await previous.release();
    await Promise.all(waits);
    // The order is that of the store, which need not be that of calls made in one burst.
    expect([holder, ...granted].map(({ key }) => key)).toEqual(line);
    expect(await members(name)).toHaveLength(0);
  }, 60_000);

  test('a wait that times out rejects with NOT_ACQUIRED and leaves the line', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using _lock = await mutexOf(a, name).acquire();
    await expect(mutexOf(b, name).acquire({ timeout: 50 })).rejects.toMatchObject({
      code: 'NOT_ACQUIRED',
    });
    await lineLength(name, 1);
  });

  test('an aborted wait rejects with the reason as cause, and those behind move up', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const lock = await mutexOf(a, name).acquire();
    const abort = new AbortController();
    const given = mutexOf(b, name).acquire({ signal: abort.signal });
    await lineLength(name, 2);
    const behind = mutexOf(c, name).acquire();
    await lineLength(name, 3);
    abort.abort('changed my mind');
    await expect(given).rejects.toMatchObject({ code: 'ABORTED', cause: 'changed my mind' });
    await lineLength(name, 2);
    // The one in front left, but the holder is still there.
    await settle();
    expect(await Promise.race([behind, Promise.resolve('waiting')])).toBe('waiting');
    await lock.release();
    await (await behind).release();
  });

  test('a signal that has aborted already costs nothing', async () => {
    const actor = await world.actor({ clock: new ManualClock() });
    const acquire = mutexOf(actor, world.name()).acquire({ signal: AbortSignal.abort('no') });
    await expect(acquire).rejects.toMatchObject({ code: 'ABORTED' });
    expect(kinds(actor)).toEqual([]);
  });

  test('the lost answer of every write of a life is survived', async () => {
    const name = world.name();
    const a = await world.actor();
    for (let nth = 1; nth <= 4; nth++) {
      let seen = 0;
      a.faults.plan = ({ write }) => {
        seen += write ? 1 : 0;
        return write && seen === nth ? 'lose-answer' : 'pass';
      };
      const lock = await mutexOf(a, name).acquire();
      expect((await members(name)).map(({ key }) => key)).toEqual([lock.key]);
      lock.assertHeld();
      const waiting = mutexOf(a, name).acquire();
      await lineLength(name, 2);
      await lock.release().catch(() => undefined);
      const next = await waiting;
      expect(next.token > lock.token).toBe(true);
      await next.release().catch(() => undefined);
      await lineLength(name, 0);
      a.faults.heal();
    }
  });

  test('tryAcquire recognises its own key after a lost answer', async () => {
    const actor = await world.actor();
    const name = world.name();
    actor.faults.next('lose-answer');
    const lock = await mutexOf(actor, name).tryAcquire();
    expect(lock?.isHeld).toBe(true);
    expect(await members(name)).toHaveLength(1);
    await lock?.release();
    expect(await members(name)).toHaveLength(0);
  });

  test('an enqueue that arrives after its wait was given up does not join the line', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const abort = new AbortController();
    a.faults.plan = ({ write }) => {
      // The repetition is never sent: the caller gives up first.
      if (!write || abort.signal.aborted) return 'pass';
      abort.abort();
      return 'linger';
    };
    await expect(mutexOf(a, name).acquire({ signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    await eventually('the mark', async () => {
      const { count } = await world.operator().kv.list({ prefix: `conclave/gone/${a.session.id}` });
      return count === 1n;
    });
    await a.faults.deliver();
    expect(await members(name)).toHaveLength(0);
    await using _lock = await mutexOf(b, name).acquire({ timeout: '5s' });
  });

  test('an enqueue whose answer was lost and whose wait was given up leaves no orphan', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const abort = new AbortController();
    a.faults.plan = ({ write }) => {
      if (!write || abort.signal.aborted) return 'pass';
      abort.abort();
      return 'lose-answer';
    };
    await expect(mutexOf(a, name).acquire({ signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    await using _lock = await mutexOf(b, name).acquire({ timeout: '5s' });
    await lineLength(name, 1);
  });

  test('a release the store does not confirm is repeated in the background', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const lock = await mutexOf(a, name).acquire();
    const errors: unknown[] = [];
    a.session.errors$.subscribe((error) => errors.push(error));
    a.faults.next('refuse', ({ write }) => write, 3);
    await expect(lock.release()).rejects.toMatchObject({ code: 'UNREACHABLE' });
    // A second call does not release another's lock: it is the same promise.
    await expect(lock.release()).rejects.toMatchObject({ code: 'UNREACHABLE' });
    await using _next = await mutexOf(b, name).acquire({ timeout: '5s' });
    expect(errors.length).toBeGreaterThan(0);
  });

  test('a late repetition of a release cannot remove the next holder', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const lock = await mutexOf(a, name).acquire();
    a.faults.next('linger');
    await lock.release().catch(() => undefined);
    await using next = await mutexOf(b, name).acquire({ timeout: '5s' });
    await a.faults.deliver();
    await settle();
    expect((await members(name)).map(({ key }) => key)).toEqual([next.key]);
  });

  test('releasing and disposing twice does no harm', async () => {
    const actor = await world.actor({ clock: new ManualClock() });
    const mutex = mutexOf(actor, world.name());
    const lock = await mutex.acquire();
    await lock.release();
    actor.faults.take();
    await lock.release();
    await lock[Symbol.asyncDispose]();
    await lock[Symbol.asyncDispose]();
    expect(kinds(actor)).toEqual([]);
  });

  test('a handle that was released refuses to be used', async () => {
    const actor = await world.actor();
    const lock = await mutexOf(actor, world.name()).acquire();
    expect(lock.isHeld).toBe(true);
    await lock.release();
    expect(lock.isHeld).toBe(false);
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'RELEASED' }));
    expect(() => lock.guard(actor.client.kv.txn())).toThrow(
      expect.objectContaining({ code: 'RELEASED' }),
    );
    expect(lock.signal.reason).toMatchObject({ code: 'RELEASED' });
  });

  test('disposing does not hide the error of the body', async () => {
    const actor = await world.actor();
    const body = async () => {
      await using _lock = await mutexOf(actor, world.name()).acquire();
      actor.faults.next('refuse', () => true, 1_000);
      throw new Error('the body failed');
    };
    await expect(body()).rejects.toThrow('the body failed');
  });

  test('a key removed by hand is a loss: the signal says so and the token is of no more use', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const lock = await mutexOf(a, name).acquire();
    const states = firstValueFrom(lock.state$.pipe(toArray()));
    await world.operator().kv.delete(lock.key);
    await eventually('the loss', () => lock.signal.aborted);
    expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'LOCK_LOST' }));
    expect(await states).toEqual(['held', 'lost']);
    const next = await mutexOf(b, name).acquire();
    // A lost handle is released at once and touches nothing.
    await lock.release();
    expect(await members(name)).toHaveLength(1);
    expect(next.token > lock.token).toBe(true);
    await next.release();
  });

  test('a waiter whose key is removed by hand learns it; those behind are not let in', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    await using lock = await mutexOf(a, name).acquire();
    const robbed = mutexOf(b, name).acquire();
    robbed.catch(() => undefined);
    await lineLength(name, 2);
    const behind = mutexOf(c, name).acquire();
    await lineLength(name, 3);
    await eventually('its wait', () => b.faults.calls.length > turnCosts.wait.length);
    const [, second] = [...(await members(name))].sort((x, y) =>
      x.createRevision < y.createRevision ? -1 : 1,
    );
    await world.operator().kv.delete(second?.key ?? '');
    await expect(robbed).rejects.toMatchObject({ code: 'LOCK_LOST' });
    await settle();
    lock.assertHeld();
    expect(await Promise.race([behind, Promise.resolve('waiting')])).toBe('waiting');
    await lock.release();
    await (await behind).release();
  });

  test('a session killed at any step of a wait ends the wait with SESSION_LOST', async () => {
    const name = world.name();
    const a = await world.actor();
    const lock = await mutexOf(a, name).acquire();
    // Who is told needs no look.
    const last = turnCosts.look.length > 0 ? (['look'] as const) : [];
    const steps = ['enqueue', 'after the enqueue', 'while waiting', ...last] as const;
    for (const step of steps) {
      const b = await world.actor({ ttl: '10s' });
      if (step === 'enqueue')
        b.faults.before = ({ write }) => (write ? b.session.close() : undefined);
      const waiting = mutexOf(b, name).acquire();
      waiting.catch(() => undefined);
      if (step === 'after the enqueue') {
        await eventually('the enqueue', async () => (await members(name)).length === 2);
        await b.killLease();
      }
      if (step === 'while waiting') {
        await eventually('its wait', () => b.faults.calls.length > turnCosts.wait.length);
        await b.session.close();
      }
      if (step === 'look') {
        await eventually('its wait', () => b.faults.calls.length > turnCosts.wait.length);
        b.faults.before = ({ kind, write }) =>
          kind === 'txn' && !write ? b.killLease() : undefined;
        await lock.release();
      }
      await expect(waiting, step).rejects.toMatchObject({
        code: expect.stringMatching(/SESSION_LOST|CLOSED|LOCK_LOST/),
      });
      await lineLength(name, step === 'look' ? 0 : 1);
    }
    await lock.release();
  });

  test('a process frozen past its deadline knows it before any timer fires', async () => {
    const clock = new ManualClock();
    const a = await world.actor({ clock, ttl: '10s' });
    const lock = await mutexOf(a, world.name()).acquire();
    lock.assertHeld();
    clock.freeze(9_000);
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'SESSION_LOST' }));
    expect(lock.isHeld).toBe(false);
    expect(lock.signal.aborted).toBe(true);
    await lock.release();
  });

  test('a grant that arrives after the deadline is not handed out', async () => {
    const clock = new ManualClock();
    const a = await world.actor({ clock, ttl: '10s' });
    a.faults.before = ({ write }) => {
      if (write) clock.freeze(20_000);
    };
    await expect(mutexOf(a, world.name()).acquire()).rejects.toMatchObject({
      code: 'SESSION_LOST',
    });
  });

  test('while renewals fail, onSuspend decides whether a holder may go on', async () => {
    for (const onSuspend of ['stop', 'continue'] as const) {
      const clock = new ManualClock();
      const a = await world.actor({ clock, ttl: '9s', onSuspend });
      const lock = await mutexOf(a, world.name()).acquire();
      clock.freeze(7_000);
      expect(a.session.state).toBe('suspended');
      if (onSuspend === 'continue') lock.assertHeld();
      else {
        expect(() => lock.assertHeld()).toThrow(
          expect.objectContaining({ code: 'SESSION_SUSPENDED' }),
        );
      }
      expect(lock.isHeld).toBe(true);
    }
  });

  test('compaction under every watch of a wait is survived', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await mutexOf(a, name).acquire();
    const waiting = mutexOf(b, name).acquire();
    await lineLength(name, 2);
    const compactNow = async () => {
      const { kv } = world.operator();
      const { revision } = await kv.put('filler', 'x');
      await kv.compact(revision);
    };
    await compactNow();
    await first.release();
    await compactNow();
    const second = await waiting;
    await compactNow();
    const third = mutexOf(a, name).acquire();
    await lineLength(name, 2);
    await compactNow();
    await second.release();
    await (await third).release();
  });

  test('a release between the answer to the enqueue and the watch is not missed', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await mutexOf(a, name).acquire();
    b.faults.after = ({ write }) => (write ? first.release() : undefined);
    const lock = await mutexOf(b, name).acquire({ timeout: '8s' });
    b.faults.heal();
    await lock.release();
  });

  test('nor when compaction has removed all trace of it', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await mutexOf(a, name).acquire();
    b.faults.after = async ({ write }) => {
      if (!write) return;
      b.faults.heal();
      await first.release();
      const { revision } = await world.operator().kv.put('filler', 'x');
      await world.operator().kv.compact(revision);
    };
    const lock = await mutexOf(b, name).acquire({ timeout: '8s' });
    await lock.release();
  });

  test('a waiter whose key was removed and compacted away learns it', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using _lock = await mutexOf(a, name).acquire();
    b.faults.after = async ({ write }) => {
      if (!write) return;
      b.faults.heal();
      const own = (await members(name)).find(({ lease }) => lease === b.session.lease);
      const { kv } = world.operator();
      await kv.delete(own?.key ?? '');
      const { revision } = await kv.put('filler', 'x');
      await kv.compact(revision);
    };
    await expect(mutexOf(b, name).acquire({ timeout: '8s' })).rejects.toMatchObject({
      code: 'LOCK_LOST',
    });
  });

  test('a release leaves alone a key that was removed and written again by somebody else', async () => {
    const actor = await world.actor();
    const name = world.name();
    const lock = await mutexOf(actor, name).acquire();
    await world.operator().kv.delete(lock.key);
    await world.operator().kv.put(lock.key, 'not the same');
    await lock.release();
    expect(await world.operator().kv.getString(lock.key)).toBe('not the same');
    await world.operator().kv.delete(lock.key);
  });

  test('the slow re-read finds a release that no watch reported', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await mutexOf(a, name).acquire();
    const waiting = new Mutex(deafContext(b), name, { recheck: 100 }).acquire({ timeout: '10s' });
    await lineLength(name, 2);
    await first.release();
    await (await waiting).release();
  });

  test('a guarded transaction fails once the lock has passed on', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const target = `target/${name}`;
    const lock = await mutexOf(a, name).acquire();
    const write = (value: string) => a.client.kv.txn().then(op.put(target, value));
    const guarded = lock.guard(write('first'));
    expect((await guarded.commit()).succeeded).toBe(true);
    await world.operator().kv.delete(lock.key);
    await using _next = await mutexOf(b, name).acquire();
    expect((await guarded.commit()).succeeded).toBe(false);
    expect(await world.operator().kv.getString(target)).toBe('first');
  });

  test('a sequencer can be checked against the store', async () => {
    const a = await world.actor();
    const lock = await mutexOf(a, world.name()).acquire();
    const { kv } = world.operator();
    expect(await verifySequencer(kv, lock.sequencer)).toBe(true);
    await lock.release();
    expect(await verifySequencer(kv, lock.sequencer)).toBe(false);
    await expect(verifySequencer(kv, 'nonsense')).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  test('a hold longer than maxHold ends with LOCK_LOST and lets the next one in', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor({ clock, ttl: '60s' }), await world.actor()];
    const name = world.name();
    const lock = await mutexOf(a, name).acquire({ maxHold: '5s' });
    clock.advance(4_999);
    lock.assertHeld();
    clock.advance(1);
    expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
    await using _next = await mutexOf(b, name).acquire({ timeout: '5s' });
  });

  test('using tells a body that did not notice that the lock was lost', async () => {
    const a = await world.actor();
    const used = mutexOf(a, world.name()).using(async (lock) => {
      await world.operator().kv.delete(lock.key);
      await eventually('the loss', () => lock.signal.aborted);
      return 'done';
    });
    await expect(used).rejects.toMatchObject({ code: 'LOCK_LOST' });
  });

  test('subscribing to hold$ acquires, unsubscribing releases', async () => {
    const a = await world.actor();
    const name = world.name();
    const mutex = mutexOf(a, name);
    const first = await mutex.acquire();
    const emitted: bigint[] = [];
    const subscription = mutex.hold$().subscribe((lock) => emitted.push(lock.token));
    await lineLength(name, 2);
    await first.release();
    await eventually('the hold', () => emitted.length === 1);
    subscription.unsubscribe();
    await lineLength(name, 0);
    // Unsubscribing while waiting leaves the line, too.
    const second = await mutex.acquire();
    const waiting = mutex.hold$().subscribe();
    await lineLength(name, 2);
    waiting.unsubscribe();
    await lineLength(name, 1);
    await second.release();
  });

  test('hold$ errors with the reason when the lock is lost', async () => {
    const a = await world.actor();
    const mutex = mutexOf(a, world.name());
    const failed = new Promise((resolve) => {
      mutex.hold$().subscribe({
        next: (lock) => void world.operator().kv.delete(lock.key),
        error: resolve,
      });
    });
    expect(await failed).toMatchObject({ code: 'LOCK_LOST' });
  });

  test('inspect and watch$ show holder and waiters with their meta, in order', async () => {
    const [a, b] = [
      await world.actor({ meta: { host: 'a' } }),
      await world.actor({ meta: { host: 'b' } }),
    ];
    const name = world.name();
    const seen: LineUp[] = [];
    const subscription = mutexOf(a, name).watch$.subscribe((lineUp) => seen.push(lineUp));
    const before = Date.now();
    const lock = await mutexOf(a, name).acquire({ meta: { job: '7' } });
    const waiting = mutexOf(b, name).acquire();
    await lineLength(name, 2);
    const { holder, waiters } = await mutexOf(a, name).inspect();
    expect(holder).toMatchObject({
      key: lock.key,
      session: a.session.id,
      meta: { host: 'a', job: '7' },
    });
    expect(holder?.since.getTime()).toBeGreaterThanOrEqual(before);
    expect(waiters).toMatchObject([{ session: b.session.id, meta: { host: 'b' } }]);
    await lock.release();
    await (await waiting).release();
    await eventually('the end', () => seen.at(-1)?.holder === null && seen.length > 3);
    subscription.unsubscribe();
    expect(seen.some((lineUp) => lineUp.holder?.meta['host'] === 'b')).toBe(true);
  });

  test('onPosition counts down', async () => {
    const actor = await world.actor();
    const name = world.name();
    const mutex = mutexOf(actor, name);
    const holder = await mutex.acquire();
    const before = mutex.acquire();
    await lineLength(name, 2);
    const positions: number[] = [];
    const waiting = mutex.acquire({ onPosition: (ahead) => positions.push(ahead) });
    await eventually('the first position', () => positions.length === 1);
    await holder.release();
    const second = await before;
    await eventually('the second position', () => positions.length === 2);
    await second.release();
    await (await waiting).release();
    expect(positions).toEqual([2, 1]);
  });

  test('waits, holds and losses are measured', async () => {
    const measured: unknown[] = [];
    const a = await world.actor({
      metrics: {
        waited: ({ recipe, outcome }) => measured.push(['waited', recipe, outcome]),
        held: ({ recipe }) => measured.push(['held', recipe]),
        contended: ({ recipe, kind }) => measured.push([kind, recipe]),
        lost: ({ recipe, reason }) => measured.push(['lost', recipe, reason]),
      },
    });
    const mutex = mutexOf(a, world.name());
    await (await mutex.acquire()).release();
    const lock = await mutex.acquire();
    // Long enough for joining the line on a busy machine: only who has joined waits.
    await expect(mutex.acquire({ timeout: 500 })).rejects.toThrow();
    await world.operator().kv.delete(lock.key);
    await eventually('the loss', () => lock.signal.aborted);
    expect(measured).toEqual([
      ['waited', 'mutex', 'acquired'],
      ['held', 'mutex'],
      ['waited', 'mutex', 'acquired'],
      ['wait', 'mutex'],
      ['waited', 'mutex', 'NOT_ACQUIRED'],
      ['lost', 'mutex', 'LOCK_LOST'],
      ['held', 'mutex'],
    ]);
  });

  test('closing the session releases; renewal does not outlive it', async () => {
    const clock = new ManualClock();
    const a = await world.actor({ clock, ttl: '10s' });
    const name = world.name();
    const lock = await mutexOf(a, name).acquire();
    const states: string[] = [];
    lock.state$.subscribe((state) => states.push(state));
    await a.session.close();
    expect(states.at(-1)).toBe('released');
    expect(lock.signal.reason).toMatchObject({ code: 'CLOSED' });
    expect(await members(name)).toHaveLength(0);
    await expect(mutexOf(a, name).acquire()).rejects.toMatchObject({ code: 'CLOSED' });
    expect(await world.operator().leases.timeToLive(a.session.lease)).toBeNull();
  });

  test('bad input is refused by name', async () => {
    const a = await world.actor();
    const refused = { code: 'INVALID_ARGUMENT' };
    expect(() => mutexOf(a, '')).toThrow(expect.objectContaining(refused));
    expect(() => mutexOf(a, 'x'.repeat(201))).toThrow(/'name'/);
    const mutex = mutexOf(a, world.name());
    await expect(mutex.acquire({ timeout: 'soon' })).rejects.toMatchObject(refused);
    await expect(mutex.acquire({ maxHold: 0 })).rejects.toThrow(/'maxHold'/);
    expect(() => new Mutex(a.context, 'x', { recheck: 0 })).toThrow(/'recheck'/);
  });
});

/** A watch that reports nothing until it is cancelled. */
