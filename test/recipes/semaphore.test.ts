import { describe, expect, test } from 'vitest';
import { type Permit, Semaphore, type SemaphoreState } from '../../recipes/locks/semaphore.ts';
import { semaphorePrefix } from '../../recipes/names.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { waitFor } from '../support/wait.ts';
import { type Actor, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('semaphore', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string, limit?: number) =>
    new Semaphore(actor.context, name, limit === undefined ? {} : { limit });
  const members = async (name: string) =>
    (await world.operator().kv.list({ prefix: `${semaphorePrefix(name)}line/` })).kvs;
  const lineLength = (name: string, length: number) =>
    eventually(`${length} members of ${name}`, async () => (await members(name)).length === length);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const pending = async (promise: Promise<unknown>) => {
    await settle();
    expect(await Promise.race([promise, Promise.resolve('waiting')])).toBe('waiting');
  };

  test('permits within the limit cost one exchange each, the first one too', async () => {
    const actor = await world.actor({ clock: new ManualClock() });
    const semaphore = of(actor, world.name(), 3);
    const held = [await semaphore.acquire(), await semaphore.acquire({ weight: 2 })];
    expect(kinds(actor)).toEqual(['txn', 'txn']);
    expect(await semaphore.tryAcquire()).toBeNull();
    expect(kinds(actor)).toEqual(['txn']);
    await held[0]?.release();
    kinds(actor);
    await using last = await semaphore.tryAcquire();
    expect(kinds(actor)).toEqual(['txn', 'txn']);
    expect(last?.weight).toBe(1);
  });

  test('any release ahead lets the next one in, not only that of the one before', async () => {
    const [a, b] = [
      await world.actor({ clock: new ManualClock() }),
      await world.actor({ clock: new ManualClock() }),
    ];
    const name = world.name();
    const [first, second] = [await of(a, name, 2).acquire(), await of(a, name, 2).acquire()];
    const waiting = of(b, name, 2).acquire();
    await lineLength(name, 3);
    await eventually('its watches', () => b.faults.calls.length >= 4);
    await first.release();
    const third = await waiting;
    expect(kinds(b)).toEqual(['txn', 'watch', 'watch', 'watch', 'txn']);
    await second.release();
    await third.release();
  });

  test('a try that somebody else comes before is judged again', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using _first = await of(a, name, 2).acquire();
    for (const change of ['join', 'shrink'] as const) {
      let writes = 0;
      a.faults.before = async ({ write }) => {
        writes += write ? 1 : 0;
        if (writes !== 2) return;
        a.faults.heal();
        if (change === 'join') await of(b, name).acquire();
        else await of(b, name).resize(1);
      };
      if (change === 'shrink') await of(b, name).resize(3);
      expect(await of(a, name).tryAcquire()).toBeNull();
    }
    await lineLength(name, 2);
  });

  test('a light member does not pass a heavy one', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const holders = [await of(a, name, 4).acquire({ weight: 2 }), await of(a, name, 4).acquire()];
    const heavy = of(b, name, 4).acquire({ weight: 4 });
    await lineLength(name, 3);
    const light = of(b, name, 4).acquire();
    await lineLength(name, 4);
    expect(await of(a, name, 4).tryAcquire()).toBeNull();
    await holders[0]?.release();
    await pending(heavy);
    await pending(light);
    await holders[1]?.release();
    const four = await heavy;
    await pending(light);
    await four.release();
    await (await light).release();
  });

  test('never more than the limit are inside, whoever comes and goes', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 24 }, async (_, index) => {
        const weight = 1 + (index % 3);
        const semaphore = of(index % 2 ? a : b, name, 5);
        await using _permit = await semaphore.acquire({ weight });
        inside += weight;
        most = Math.max(most, inside);
        await settle(2);
        inside -= weight;
      }),
    );
    expect(most).toBeLessThanOrEqual(5);
    expect(most).toBeGreaterThan(2);
    await lineLength(name, 0);
  });

  test('a hundred waiters: each release costs one look, and draining is linear', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const waiters = 100;
    const holders = [await of(a, name, 2).acquire(), await of(a, name, 2).acquire()];
    const granted: Permit[] = [];
    // Without the slow re-read, which on a slow machine would add looks of its own.
    const semaphore = new Semaphore(b.context, name, { limit: 2, recheck: '1h' });
    const waits = Array.from({ length: waiters }, async () => {
      granted.push(await semaphore.acquire());
    });
    await lineLength(name, waiters + 2);
    await eventually('all watches', () => b.faults.calls.length >= 4 * waiters);
    b.faults.take();
    const held = [...holders];
    for (let turn = 1; turn <= waiters; turn++) {
      await held.shift()?.release();
      held.push(await waitFor('the next holder', () => granted[turn - 1]));
      await settle(1);
      expect(granted).toHaveLength(turn);
      const looks = b.faults.take().filter(({ kind, write }) => kind === 'txn' && !write);
      expect(looks).toHaveLength(1);
    }
    await Promise.all([...waits, ...held.map((permit) => permit.release())]);
    await lineLength(name, 0);
  }, 60_000);

  test('raising the limit admits waiters at once; lowering it takes nothing from holders', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await of(a, name, 2).acquire({ weight: 2 });
    const waits = [of(b, name).acquire(), of(b, name).acquire({ weight: 2 })];
    await lineLength(name, 3);
    await eventually('the watches', () => b.faults.calls.length >= 8);
    await of(a, name).resize(5);
    const [second, third] = await Promise.all(waits);
    await of(a, name).resize(3);
    for (const permit of [first, second, third]) permit?.assertHeld();
    // Both the first limit and the present one are known to clients; others disagree.
    const waiting = of(b, name, 2).acquire();
    await lineLength(name, 4);
    await first.release();
    await pending(waiting);
    await third?.release();
    await (await waiting).release();
    await second?.release();
    expect(await of(a, name, 2).inspect()).toMatchObject({ limit: 3, used: 0 });
    await expect(of(b, name, 4).acquire()).rejects.toMatchObject({ code: 'MISMATCH' });
  });

  test('a waiter too heavy for a lowered limit is told at once, and blocks nobody', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const holder = await of(a, name, 4).acquire({ weight: 4 });
    const heavy = of(b, name).acquire({ weight: 3 });
    const refused = expect(heavy).rejects.toThrow(/'weight'.*at most 2/);
    await lineLength(name, 2);
    const light = of(b, name).acquire();
    await lineLength(name, 3);
    await of(a, name).resize(2);
    await refused;
    await lineLength(name, 2);
    holder.assertHeld();
    await holder.release();
    await (await light).release();
  });

  test('limits that disagree are reported and leave nobody in line', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using _held = await of(a, name, 3).acquire();
    await expect(of(b, name, 4).acquire()).rejects.toMatchObject({ code: 'MISMATCH' });
    await expect(of(b, name, 4).tryAcquire()).rejects.toMatchObject({ code: 'MISMATCH' });
    b.faults.next('lose-answer');
    await expect(of(b, name, 4).acquire()).rejects.toMatchObject({ code: 'MISMATCH' });
    await lineLength(name, 1);
    await using _other = await of(b, name).acquire({ weight: 2, timeout: '5s' });
    await _held.release();
    await _other.release();
    await expect(of(b, name, 4).tryAcquire()).rejects.toMatchObject({ code: 'MISMATCH' });
    await lineLength(name, 0);
  });

  test('bad numbers and unknown limits are refused by name', async () => {
    const actor = await world.actor();
    const name = world.name();
    for (const limit of [0, 1.5, -1, Number.NaN]) {
      expect(() => of(actor, name, limit)).toThrow(/'limit'/);
    }
    await expect(of(actor, name).acquire()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(of(actor, name).tryAcquire()).rejects.toMatchObject({ code: 'NOT_FOUND' });
    await expect(of(actor, name, 2).acquire({ weight: 3 })).rejects.toThrow(/'weight'.*at most 2/);
    await expect(of(actor, name, 2).acquire({ weight: 0 })).rejects.toThrow(/'weight'/);
    await expect(of(actor, name).resize(0)).rejects.toThrow(/'limit'/);
    await lineLength(name, 0);
  });

  test('a resize whose answer was lost is done once; a lost race is tried again', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await of(a, name, 3).resize(5);
    a.faults.next('lose-answer');
    await of(a, name).resize(6);
    a.faults.before = async ({ write }) => {
      if (!write) return;
      a.faults.heal();
      await of(b, name).resize(7);
    };
    await of(a, name).resize(8);
    expect(await of(b, name, 3).inspect()).toMatchObject({ limit: 8 });
  });

  test('compaction under the watches of the line and of the limit is survived', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const compactNow = async () => {
      const { kv } = world.operator();
      const { revision } = await kv.put('filler', 'x');
      await kv.compact(revision);
    };
    const first = await of(a, name, 1).acquire();
    b.faults.after = async ({ write }) => {
      if (!write) return;
      b.faults.heal();
      await of(a, name).resize(2);
      await compactNow();
    };
    const second = await of(b, name).acquire({ timeout: '8s' });
    b.faults.after = async ({ write }) => {
      if (!write) return;
      b.faults.heal();
      await first.release();
      await compactNow();
    };
    await using _third = await of(b, name).acquire({ timeout: '8s' });
    await second.release();
  });

  test('inspect, watch$, using and hold$ show permits with their meta and weight', async () => {
    const actor = await world.actor({ meta: { host: 'a' } });
    const name = world.name();
    const semaphore = of(actor, name, 2);
    expect(await semaphore.inspect()).toEqual({ limit: null, used: 0, holders: [], waiters: [] });
    const seen: SemaphoreState[] = [];
    const watching = semaphore.watch$.subscribe((state) => seen.push(state));
    await semaphore.using(
      async (permit) => {
        expect(permit.weight).toBe(2);
        expect(await semaphore.inspect()).toMatchObject({
          limit: 2,
          used: 2,
          holders: [{ weight: 2, meta: { host: 'a', job: '7' }, key: permit.key }],
          waiters: [],
        });
      },
      { weight: 2, meta: { job: '7' } },
    );
    let weight = 0;
    const holding = semaphore.hold$().subscribe((permit) => {
      weight = permit.weight;
    });
    await eventually('the hold', () => weight === 1);
    holding.unsubscribe();
    await lineLength(name, 0);
    await eventually('the end', () => seen.some(({ used }) => used === 2));
    watching.unsubscribe();
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () => new Semaphore(actor.context, 'x', options as never);
    expect(make(null)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make({ limti: 1 })).toThrow(expect.objectContaining(refused("'limit'")));
    const permits = of(actor, world.name(), 2);
    const acquired = permits.acquire({ wieght: 2 } as never);
    await expect(acquired).rejects.toMatchObject(refused("'weight'"));
    const tried = permits.tryAcquire({ wieght: 2 } as never);
    await expect(tried).rejects.toMatchObject(refused("'weight'"));
  });
});
