import { describe, expect, test } from 'vitest';
import { Barrier, type BarrierOptions, type BarrierState } from '../../recipes/barriers/barrier.ts';
import type { RecipeContext } from '../../recipes/common/context.ts';
import { barrierPrefix } from '../../recipes/names.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { actorOf, crowd, watches } from './barrier-tools.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { type Actor, compactTo, deafContext, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('barrier', () => {
  const world = useWorld();
  const of = (actor: { context: RecipeContext }, name: string, options?: BarrierOptions) =>
    new Barrier(actor.context, name, options);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const keys = async (name: string) => {
    const { kvs } = await world.operator().kv.list({ prefix: barrierPrefix(name) });
    return kvs.map(({ key }) => key.slice(barrierPrefix(name).length));
  };
  const waiters = (name: string, count: number) =>
    eventually(
      `${count} waiters`,
      async () => (await keys(name)).filter((key) => key.startsWith('waiting/')).length === count,
    );
  const outcome = (wait: Promise<unknown>) => Promise.race([wait, Promise.resolve('waiting')]);
  const compact = async () => {
    const { kv } = world.operator();
    const { revision } = await kv.put('filler', 'x');
    await compactTo(kv, revision);
  };

  test('exchanges: raise 1, wait 1 when it is down, else 2, lower 1', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await of(b, name).wait();
    expect(kinds(b)).toEqual(['txn']);
    const raised = await of(a, name).raise();
    expect(kinds(a)).toEqual(['txn', 'watch']);
    const waiting = of(b, name).wait();
    await waiters(name, 1);
    await raised?.release();
    expect(kinds(a)).toEqual(['txn']);
    await waiting;
    // And the announcement is taken back, which nobody waits for.
    await waiters(name, 0);
    expect(kinds(b)).toEqual(['txn', 'watch', 'txn']);
    expect(await keys(name)).toEqual([]);
  });

  test('a wait that is not announced writes nothing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using raised = await of(a, name).raise();
    const waiting = of(b, name).wait({ announce: false });
    await eventually('its watch', () => b.faults.calls.length >= 2);
    expect((await keys(name)).filter((key) => key.startsWith('waiting/'))).toEqual([]);
    await raised?.release();
    await waiting;
    expect(kinds(b)).toEqual(['list', 'watch']);
  });

  test('only one can raise it; the other is told', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using raised = await of(a, name).raise();
    expect(raised?.isHeld).toBe(true);
    expect(await of(b, name).raise()).toBeNull();
    expect(await of(b, name).raisePermanently()).toBe(false);
  });

  test('a leased barrier falls with its session, a permanent one stays until it is lowered', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const [leased, permanent] = [world.name(), world.name()];
    const raised = await of(a, leased).raise();
    expect(await of(a, permanent).raisePermanently()).toBe(true);
    const first = of(b, leased).wait();
    const second = of(b, permanent).wait();
    await waiters(permanent, 1);
    await a.session.close();
    await first;
    expect(raised?.signal.reason).toMatchObject({ code: 'CLOSED' });
    await settle();
    expect(await outcome(second)).toBe('waiting');
    expect(await of(b, permanent).lower()).toBe(true);
    await second;
    expect(await of(b, permanent).lower()).toBe(false);
  });

  test('a handle learns that somebody else lowered it', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const raised = await of(a, name).raise();
    await of(b, name).lower();
    await eventually('the loss', () => raised?.signal.aborted === true);
    expect(raised?.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
    expect(() => raised?.assertHeld()).toThrow(expect.objectContaining({ code: 'LOCK_LOST' }));
  });

  test('tokens rise; a late release does not lower the next one', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await of(a, name).raise();
    a.faults.next('linger');
    await expect(first?.release()).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    await of(b, name).wait({ timeout: '5s' });
    await using second = await of(b, name).raise();
    expect((second?.token ?? 0n) > (first?.token ?? 0n)).toBe(true);
    await a.faults.deliver();
    await settle();
    expect(await keys(name)).toContain('gate');
  });

  test('drop the reply of every write: one raising, one lowering, no announcement left', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    for (let nth = 1; nth <= 4; nth++) {
      const name = world.name();
      for (const actor of [a, b]) {
        let seen = 0;
        actor.faults.plan = ({ write }) => {
          seen += write ? 1 : 0;
          return write && seen === nth ? 'lose-answer' : 'pass';
        };
      }
      const raised = await of(a, name).raise();
      expect(raised).not.toBeNull();
      const waiting = of(b, name).wait();
      await waiters(name, 1);
      await raised?.release().catch(() => undefined);
      await waiting;
      await waiters(name, 0);
      expect(await of(a, name).raisePermanently()).toBe(true);
      expect(await of(a, name).lower()).toBe(true);
      await of(b, name).wait();
      for (const actor of [a, b]) actor.faults.heal();
    }
  });

  test('a raising that arrives after it was lowered raises nothing', async () => {
    const a = await world.actor();
    const name = world.name();
    a.faults.next('linger');
    const raised = await of(a, name).raise();
    await raised?.release();
    await a.faults.deliver();
    expect((await keys(name)).includes('gate')).toBe(false);
  });

  test('an announcement that arrives after its wait is not made', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using _raised = await of(a, name).raise();
    const abort = new AbortController();
    b.faults.plan = ({ write }) => {
      if (!write || abort.signal.aborted) return 'pass';
      abort.abort();
      return 'linger';
    };
    await expect(of(b, name).wait({ signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    await eventually('the mark', async () => {
      const prefix = `conclave/gone/${b.session.id}`;
      return (await world.operator().kv.count({ prefix })) === 1n;
    });
    await b.faults.deliver();
    expect((await keys(name)).filter((key) => key.startsWith('waiting/'))).toEqual([]);
  });

  test('a timeout and a signal end a wait, and nothing is left of it', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using _raised = await of(a, name).raise();
    await expect(of(b, name).wait({ timeout: 30 })).rejects.toMatchObject({ code: 'NOT_ACQUIRED' });
    const abort = new AbortController();
    const waiting = of(b, name).wait({ signal: abort.signal });
    await waiters(name, 1);
    abort.abort('enough');
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' });
    await waiters(name, 0);
  });

  test('etcd-io/etcd#17198: a watch that dies lets nobody through', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using raised = await of(a, name).raise();
    // Each watch ends at once, without an event.
    const dead = { signal: AbortSignal.abort() };
    const kv = { ...b.client.kv, watch: () => b.client.kv.watch('nothing', dead) };
    const client = Object.create(b.client, { kv: { value: kv } });
    const session = Object.create(b.session, { client: { value: client } });
    const waiting = of({ context: { ...b.context, session } }, name, { recheck: 40 }).wait();
    const looks = () => b.faults.calls.filter(({ kind }) => kind === 'list').length;
    await eventually('some looks', () => looks() > 2);
    expect(await outcome(waiting)).toBe('waiting');
    await raised?.release();
    await waiting;
  });

  test('kill the session at every step of a wait: it ends at once', async () => {
    const a = await world.actor();
    const name = world.name();
    await using _raised = await of(a, name).raise();
    for (const step of ['look', 'while waiting'] as const) {
      const b = await world.actor();
      if (step === 'look') b.faults.after = () => b.session.close();
      const waiting = of(b, name).wait();
      waiting.catch(() => undefined);
      if (step === 'while waiting') {
        await eventually('its watch', () => b.faults.calls.length >= 2);
        await b.session.close();
      }
      await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' });
      await expect(of(b, name).wait()).rejects.toMatchObject({ code: 'CLOSED' });
      await waiters(name, 0);
    }
  });

  test('freeze the process past its TTL: neither a wait nor a raised barrier goes on', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor({ clock, ttl: '10s' }), await world.actor()];
    const name = world.name();
    const raised = await of(a, name).raise();
    const gate = await of(b, world.name('other')).raise();
    const waiting = of(a, gate?.name ?? '').wait();
    waiting.catch(() => undefined);
    await waiters(gate?.name ?? '', 1);
    clock.freeze(20_000);
    expect(raised?.isHeld).toBe(false);
    await gate?.release();
    await expect(waiting).rejects.toMatchObject({ code: 'SESSION_LOST' });
  });

  test('delete own key by hand: the gate is down, an announcement is of no matter', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const raised = await of(a, name).raise();
    const waiting = of(b, name).wait();
    await waiters(name, 1);
    await world.operator().kv.delete({ prefix: `${barrierPrefix(name)}waiting/` });
    await settle();
    expect(await outcome(waiting)).toBe('waiting');
    await world.operator().kv.delete(`${barrierPrefix(name)}gate`);
    await waiting;
    await eventually('the loss', () => raised?.signal.aborted === true);
  });

  test('compact under every watch: nobody is let through early, and nobody waits for ever', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const raised = await of(a, name).raise();
    b.faults.after = async ({ write }) => {
      if (!write) return;
      b.faults.heal();
      await compact();
    };
    const waiting = of(b, name).wait();
    await eventually('its watch', () => b.faults.calls.length >= 2);
    await compact();
    await settle();
    expect(await outcome(waiting)).toBe('waiting');
    await raised?.release();
    await compact();
    await waiting;
  });

  test('a gate that falls between the look and the watch, and is compacted away, is not missed', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const raised = await of(a, name).raise();
    b.faults.after = async ({ write }) => {
      if (!write) return;
      b.faults.heal();
      await raised?.release();
      await compact();
    };
    await of(b, name).wait({ timeout: '8s' });
  });

  test('a barrier that was lowered and raised again lets those of before through', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await of(a, name).raise();
    const waiting = new Barrier(deafContext(b), name, { recheck: 60 }).wait({ timeout: '8s' });
    await waiters(name, 1);
    await first?.release();
    await using _second = await of(a, name).raise();
    await waiting;
  });

  test('the slow look finds what no watch reported', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const raised = await of(a, name).raise();
    const waiting = new Barrier(deafContext(b), name, { recheck: 60 }).wait({ timeout: '8s' });
    await waiters(name, 1);
    await raised?.release();
    await waiting;
  });

  test('restore an old snapshot: a barrier that is up there holds, until it falls there', async () => {
    await using store = await startRewindableStore();
    const name = world.name();
    const gate = `${barrierPrefix(name)}gate`;
    await store.after.kv.put(gate, 'old');
    for (let filler = 0; filler < 9; filler++) await store.before.kv.put('filler', 'x');
    await store.before.kv.put(gate, 'new');
    const { actor, rewind, close } = await actorOf(store);
    const waiting = of(actor, name, { recheck: 60 }).wait({ announce: false });
    let isOver = false;
    waiting.then(
      () => {
        isOver = true;
      },
      () => undefined,
    );
    await watches(actor, 1);
    await rewind();
    expect(isOver).toBe(false);
    await store.after.kv.delete(gate);
    await waiting;
    await close();
  });

  test('1,000 waiters: each looks once, watches once, and is woken once', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const count = crowd;
    const raised = await of(a, name).raise();
    const waits = Array.from({ length: count }, () =>
      of(b, name, { recheck: '1h' }).wait({ announce: false }),
    );
    await eventually('all watches', () => b.faults.calls.length === 2 * count);
    await raised?.release();
    await Promise.all(waits);
    expect(b.faults.calls).toHaveLength(2 * count);
  }, 60_000);

  test('two tasks of one session wait for the same gate', async () => {
    const a = await world.actor();
    const name = world.name();
    const raised = await of(a, name).raise();
    const waits = [of(a, name).wait(), of(a, name).wait()];
    await waiters(name, 2);
    await raised?.release();
    await Promise.all(waits);
    await waiters(name, 0);
  });

  test('inspect and state$ show who raised it and who waits', async () => {
    const a = await world.actor({ meta: { host: 'a' } });
    const name = world.name();
    const seen: BarrierState[] = [];
    const subscription = of(a, name).state$.subscribe((state) => seen.push(state));
    await eventually('the first state', () => seen.length > 0);
    const before = Date.now();
    const raised = await of(a, name).raise({ meta: { why: 'deploy' } });
    const waiting = of(a, name).wait({ meta: { step: '2' } });
    await waiters(name, 1);
    const state = await of(a, name).inspect();
    expect(state.raised).toMatchObject({
      session: a.session.id,
      meta: { host: 'a', why: 'deploy' },
    });
    expect(state.raised?.since.getTime()).toBeGreaterThanOrEqual(before);
    expect(state.waiters).toMatchObject([{ meta: { host: 'a', step: '2' } }]);
    await raised?.release();
    await waiting;
    await eventually('the end', () => seen.length > 3 && seen.at(-1)?.raised === null);
    subscription.unsubscribe();
    expect(seen.some(({ waiters: all }) => all.length === 1)).toBe(true);
  });

  test('waits, holds and refusals are measured', async () => {
    const measured: unknown[] = [];
    const clock = new ManualClock();
    const a = await world.actor({
      clock,
      ttl: '60s',
      metrics: {
        waited: ({ recipe, outcome: end }) => measured.push(['waited', recipe, end]),
        held: ({ recipe }) => measured.push(['held', recipe]),
        contended: ({ recipe, kind }) => measured.push(['contended', recipe, kind]),
        lost: ({ recipe, reason }) => measured.push(['lost', recipe, reason]),
      },
    });
    const name = world.name();
    const raised = await of(a, name).raise();
    await of(a, name).raise();
    const late = of(a, name).wait({ timeout: '1s' });
    late.catch(() => undefined);
    await eventually('its watch', () => a.faults.calls.length >= 5);
    clock.advance(1_000);
    await expect(late).rejects.toThrow();
    await raised?.release();
    await of(a, name).wait();
    expect(measured).toEqual([
      ['contended', 'barrier', 'refused'],
      ['contended', 'barrier', 'wait'],
      ['waited', 'barrier', 'NOT_ACQUIRED'],
      ['held', 'barrier'],
      ['waited', 'barrier', 'acquired'],
    ]);
  });

  test('wrong use is refused by name, and disposing twice is harmless', async () => {
    const a = await world.actor();
    expect(() => of(a, '')).toThrow(/'name'/);
    expect(() => of(a, 'x'.repeat(201))).toThrow(/'name'/);
    expect(() => of(a, 'x', { recheck: 0 })).toThrow(/'recheck'/);
    const barrier = of(a, world.name());
    await expect(barrier.wait({ timeout: 'soon' })).rejects.toThrow(/'timeout'/);
    await expect(barrier.wait({ announce: 'yes' as never })).rejects.toThrow(/'announce'/);
    const signal = AbortSignal.abort('no');
    await expect(barrier.wait({ signal })).rejects.toMatchObject({ code: 'ABORTED' });
    const raised = await barrier.raise();
    await raised?.release();
    await raised?.release();
    await raised?.[Symbol.asyncDispose]();
    expect(() => raised?.assertHeld()).toThrow(expect.objectContaining({ code: 'RELEASED' }));
    // One level: 'a' and 'a/b' are two barriers.
    const [one, other] = [of(a, 'slash'), of(a, 'slash/gate')];
    await using _one = await one.raise();
    await other.wait();
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () => new Barrier(actor.context, 'x', options as never);
    expect(make(null)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make({ rechekc: 1 })).toThrow(expect.objectContaining(refused("'recheck'")));
    const barrier = of(actor, world.name());
    for (const raised of [
      barrier.raise({ mta: {} } as never),
      barrier.raisePermanently({ mta: {} } as never),
    ]) {
      await expect(raised).rejects.toMatchObject(refused("'meta'"));
    }
    for (const [options, words] of [
      [null, "'options'"],
      [{ tmieout: 10 }, "'timeout'"],
      [{ signal: {} }, "'signal'"],
    ] as const) {
      await expect(barrier.wait(options as never)).rejects.toMatchObject(refused(words));
    }
  });
});
