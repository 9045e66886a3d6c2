import { describe, expect, test } from 'vitest';
import { verifySequencer } from '../../recipes/line/sequencer.ts';
import { MultiLock } from '../../recipes/locks/multi-lock.ts';
import { Mutex } from '../../recipes/locks/mutex.ts';
import { lockPrefix } from '../../recipes/names.ts';
import { op } from '../../sdk/txn.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, eventually, settle, turnCosts, useWorld } from './world.ts';

describe.skipIf(storeMissing)('multi-lock', () => {
  const world = useWorld();
  const of = (actor: Actor, ...names: string[]) => new MultiLock(actor.context, names);
  const length = async (name: string) =>
    Number(await world.operator().kv.count({ prefix: lockPrefix(name) }));
  const lineLength = (name: string, wanted: number) =>
    eventually(`${wanted} members of ${name}`, async () => (await length(name)) === wanted);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);

  test('all names cost one exchange to acquire, to try, and to release', async () => {
    const actor = await world.actor({ clock: new ManualClock() });
    const names = [world.name(), world.name(), world.name()];
    const locks = await of(actor, ...names).acquire();
    expect(kinds(actor)).toEqual(['txn']);
    expect([...locks.tokens.keys()].sort()).toEqual([...names].sort());
    expect(await of(actor, names[1] ?? '', world.name()).tryAcquire()).toBeNull();
    expect(kinds(actor)).toEqual(['txn']);
    expect(await new Mutex(actor.context, names[2] ?? '').tryAcquire()).toBeNull();
    kinds(actor);
    await locks.release();
    expect(kinds(actor)).toEqual(['txn']);
    for (const name of names) expect(await length(name)).toBe(0);
    await using again = await of(actor, ...names).tryAcquire();
    for (const name of names) {
      expect((again?.tokens.get(name) ?? 0n) > (locks.tokens.get(name) ?? 0n)).toBe(true);
      expect(await verifySequencer(actor.client.kv, again?.sequencers.get(name) ?? '')).toBe(true);
    }
  });

  test('a try that one name refuses leaves no key at any', async () => {
    const actor = await world.actor();
    const [a, b] = [world.name(), world.name()];
    await using _held = await new Mutex(actor.context, b).acquire();
    expect(await of(actor, a, b).tryAcquire()).toBeNull();
    expect([await length(a), await length(b)]).toEqual([0, 1]);
  });

  test('opposite orders and overlapping sets do not deadlock, and exclude each other', async () => {
    const actors = [await world.actor(), await world.actor(), await world.actor()];
    const [a, b, c] = [world.name('a'), world.name('b'), world.name('c')];
    const sets = [[a, b], [b, a], [b, c], [c, a], [a, b, c], [c]];
    const inside = new Set<string>();
    await Promise.all(
      Array.from({ length: 24 }, async (_, index) => {
        const actor = actors[index % 3] as Actor;
        const names = sets[index % sets.length] ?? [];
        await of(actor, ...names).using(async () => {
          for (const name of names) {
            expect(inside.has(name)).toBe(false);
            inside.add(name);
          }
          await settle(2);
          for (const name of names) inside.delete(name);
        });
      }),
    );
    for (const name of [a, b, c]) expect(await length(name)).toBe(0);
  });

  test('waits its turn at each name, with the free ones reserved', async () => {
    const [x, y] = [await world.actor(), await world.actor()];
    const [a, b] = [world.name(), world.name()];
    const held = await new Mutex(x.context, b).acquire();
    const waiting = of(y, a, b).acquire();
    await lineLength(b, 2);
    expect(await new Mutex(x.context, a).tryAcquire()).toBeNull();
    await eventually('its wait', () => y.faults.calls.length > turnCosts.wait.length);
    await held.release();
    const locks = await waiting;
    expect(kinds(y).filter((kind) => kind === 'txn')).toEqual(['txn', ...turnCosts.look]);
    await locks.release();
  });

  test('giving up leaves every line, also what was granted already', async () => {
    const [x, y] = [await world.actor(), await world.actor()];
    const [a, b] = [world.name(), world.name()];
    await using _held = await new Mutex(x.context, b).acquire();
    await expect(of(y, a, b).acquire({ timeout: 40 })).rejects.toMatchObject({
      code: 'NOT_ACQUIRED',
    });
    await lineLength(a, 0);
    await lineLength(b, 1);
    const abort = new AbortController();
    const waiting = of(y, a, b).acquire({ signal: abort.signal });
    await lineLength(b, 2);
    abort.abort('no');
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', cause: 'no' });
    await lineLength(a, 0);
    await lineLength(b, 1);
  });

  test('losing one name, held or waited for, ends all', async () => {
    const [x, y] = [await world.actor(), await world.actor()];
    const [a, b] = [world.name(), world.name()];
    const remove = async (name: string, index: number) => {
      const { kv } = world.operator();
      const { kvs } = await kv.list({ prefix: lockPrefix(name) }, { order: 'create' });
      await kv.delete(kvs[index]?.key ?? '');
    };
    const locks = await of(x, a, b).acquire();
    const write = x.client.kv.txn().then(op.put(`target/${a}`, 'x'));
    const guarded = locks.guard(write);
    expect((await guarded.commit()).succeeded).toBe(true);
    const waiting = of(y, a, b).acquire();
    waiting.catch(() => undefined);
    await lineLength(b, 2);
    await eventually('its watches', () => y.faults.calls.length >= 5);
    await remove(b, 1);
    await expect(waiting).rejects.toMatchObject({ code: 'LOCK_LOST' });
    await lineLength(a, 1);
    await remove(b, 0);
    await eventually('the loss', () => locks.signal.aborted);
    expect(locks.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
    expect(locks.isHeld).toBe(false);
    expect((await guarded.commit()).succeeded).toBe(false);
    await lineLength(a, 0);
  });

  test('bad lists of names are refused', async () => {
    const actor = await world.actor();
    for (const names of [[], ['a', 'a'], ['a', ''], Array.from({ length: 51 }, (_, i) => `${i}`)]) {
      expect(() => of(actor, ...names)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      );
    }
    expect(() => new MultiLock(actor.context, 'a' as never)).toThrow(/'names'/);
  });

  test('inspect tells by name who holds and who waits, in one exchange', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const [x, y] = [world.name(), world.name()];
    const both = await of(a, x, y).acquire();
    const single = new Mutex(b.context, y).acquire();
    await eventually(
      'a waiter',
      async () => (await of(c, y).inspect()).get(y)?.waiters.length === 1,
    );
    c.faults.take();
    const seen = await of(c, x, y, `${x}/free`).inspect();
    expect(kinds(c)).toEqual(['txn']);
    expect([...seen.keys()].sort()).toEqual([x, `${x}/free`, y].sort());
    expect(seen.get(x)).toMatchObject({ holder: { session: a.session.id }, waiters: [] });
    expect(seen.get(y)).toMatchObject({
      holder: { session: a.session.id },
      waiters: [{ session: b.session.id }],
    });
    expect(seen.get(`${x}/free`)).toEqual({ holder: null, waiters: [] });
    await both.release();
    await (await single).release();
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (names: unknown, options?: unknown) => () =>
      new MultiLock(actor.context, names as never, options as never);
    expect(make(5)).toThrow(expect.objectContaining(refused("'names'")));
    expect(make('ab')).toThrow(expect.objectContaining(refused("'names'")));
    expect(make(['a'], null)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make(['a'], { rechekc: 1 })).toThrow(expect.objectContaining(refused("'recheck'")));
    const locks = of(actor, world.name());
    const acquired = locks.acquire({ tmieout: 10 } as never);
    await expect(acquired).rejects.toMatchObject(refused("'timeout'"));
    const tried = locks.tryAcquire({ timeout: 10 } as never);
    await expect(tried).rejects.toMatchObject(refused("'timeout'"));
    await expect(locks.using(undefined as never)).rejects.toMatchObject(refused("'fn'"));
  });
});
