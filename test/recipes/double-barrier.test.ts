import { describe, expect, test } from 'vitest';
import { type DoubleState, stepDouble } from '../../recipes/barriers/double.ts';
import {
  DoubleBarrier,
  type DoubleBarrierHandle,
  type DoubleBarrierState,
} from '../../recipes/barriers/double-barrier.ts';
import { doubleBarrierPrefix } from '../../recipes/names.ts';
import { op } from '../../sdk/txn.ts';
import type { Call } from '../support/faulty-kv.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { waitFor } from '../support/wait.ts';
import { actorOf, crowd, crowded, watches } from './barrier-tools.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { type Actor, compactTo, deafContext, eventually, settle, useWorld } from './world.ts';

describe('double barrier, without a store', () => {
  const view = { revision: 9n, own: 5n, forming: 3, ready: undefined, present: 2 };
  const waiting: DoubleState = { kind: 'waiting', busy: false, generation: 3, own: 5n };

  test('is inside only if its own key is among the counted', () => {
    const ready = { through: 4n, revision: 8n };
    const late = stepDouble(2, waiting, { kind: 'ready-seen', ready });
    expect(late.state).toEqual({ kind: 'entering' });
    const counted = { through: 5n, revision: 8n };
    const inside = stepDouble(2, waiting, { kind: 'ready-seen', ready: counted });
    expect(inside.effects).toContainEqual({ kind: 'granted', own: 5n, token: 8n });
  });

  test('a look that shows enough parties forms, whatever the own place', () => {
    const enough = stepDouble(2, waiting, { kind: 'viewed', view });
    expect(enough.effects).toEqual([{ kind: 'form', generation: 3 }]);
    const few = stepDouble(3, waiting, { kind: 'viewed', view });
    expect(few.effects.map(({ kind }) => kind)).toEqual([
      'watch-entry',
      'watch-own',
      'recheck-later',
    ]);
  });

  test('a key that is gone, or of another life, ends it', () => {
    for (const own of [undefined, 7n]) {
      const { state } = stepDouble(2, waiting, { kind: 'viewed', view: { ...view, own } });
      expect(state).toEqual({ kind: 'out', end: { kind: 'place-lost' } });
    }
  });

  test('nothing is granted after it has left', () => {
    const left = stepDouble(2, waiting, { kind: 'leave' });
    expect(left.state.kind).toBe('withdrawing');
    const ready = { through: 5n, revision: 8n };
    expect(stepDouble(2, left.state, { kind: 'ready-seen', ready }).effects).toEqual([]);
    expect(stepDouble(2, left.state, { kind: 'viewed', view }).effects).toEqual([]);
  });
});

describe.skipIf(storeMissing)('double barrier', () => {
  const world = useWorld();
  const of = (actor: Pick<Actor, 'context'>, name: string, parties = 2, recheck?: number) =>
    new DoubleBarrier(actor.context, name, {
      parties,
      ...(recheck === undefined ? {} : { recheck }),
    });
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const keys = async (name: string) => {
    const prefix = doubleBarrierPrefix(name);
    const { kvs } = await world.operator().kv.list({ prefix });
    return kvs.map(({ key }) => key.slice(prefix.length));
  };
  const folder = async (name: string) =>
    (await keys(name)).filter((key) => key.startsWith('in/')).length;
  const present = (name: string, count: number) =>
    eventually(`${count} in the folders`, async () => (await folder(name)) === count);
  const outcome = (wait: Promise<unknown>) => Promise.race([wait, Promise.resolve('waiting')]);
  const compact = async () => {
    const { kv } = world.operator();
    const { revision } = await kv.put('filler', 'x');
    await compactTo(kv, revision);
  };
  /** Enters with all of them, in this order. */
  const together = async (name: string, ...actors: Actor[]): Promise<DoubleBarrierHandle[]> => {
    const before = await folder(name);
    const entering: Promise<DoubleBarrierHandle>[] = [];
    for (const [index, actor] of actors.entries()) {
      const enters = of(actor, name, actors.length).enter();
      enters.catch(() => undefined);
      entering.push(enters);
      if (index < actors.length - 1) await present(name, before + index + 1);
    }
    return Promise.all(entering);
  };

  test('exchanges: 2 to enter, 2 to leave, and 2 and 1 for whoever is last', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await Promise.all((await together(name, a, b)).map((inside) => inside.leave()));
    await present(name, 0);
    kinds(a);
    kinds(b);
    const [first, second] = await together(name, a, b);
    // The two watches, on the generation and on the own key, are opened together.
    expect(kinds(a)).toEqual(['txn', 'watch', 'watch']);
    expect(kinds(b).filter((kind) => kind !== 'watch')).toEqual(['txn', 'txn']);
    const leaving = second?.leave();
    await present(name, 1);
    await eventually('its watch', () => b.faults.calls.length === 2);
    expect(kinds(b)).toEqual(['txn', 'watch']);
    await first?.leave();
    await leaving;
    expect(kinds(b)).toEqual([]);
    await present(name, 0);
    // And the key of the oldest is removed, which nobody waits for.
    expect(kinds(a)).toEqual(['txn', 'txn']);
    expect(await keys(name)).toEqual(['terms']);
  });

  test('nobody enters before all are there, nobody leaves before all do', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const alone = of(a, name).enter();
    await present(name, 1);
    await settle();
    expect(await outcome(alone)).toBe('waiting');
    const second = await of(b, name).enter();
    const first = await alone;
    expect(first.generation).toBe(second.generation);
    expect(first.token).toBe(second.token);
    await Promise.all([first.leave(), second.leave()]);
    // The oldest stays until it is alone; any other removes its key, and waits for the oldest.
    for (const goer of [0, 1]) {
      await present(name, 0);
      const actors = [a, b] as const;
      const both = await together(name, ...actors);
      const [goes, stays] = [both[goer], both[1 - goer]];
      for (const actor of actors) actor.faults.take();
      const leaving = goes?.leave();
      await watches(actors[goer] as Actor, 1);
      await present(name, goer === 0 ? 2 : 1);
      await settle();
      expect(await outcome(leaving ?? Promise.resolve())).toBe('waiting');
      expect(goes?.isHeld).toBe(false);
      stays?.assertHeld();
      await stays?.leave();
      await leaving;
    }
  });

  test('generations follow each other, and their tokens rise', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const tokens: bigint[] = [];
    for (let generation = 1; generation <= 3; generation++) {
      const [first, second] = await together(name, a, b);
      expect([first?.generation, second?.generation]).toEqual([generation, generation]);
      tokens.push(first?.token ?? 0n);
      await Promise.all([first?.leave(), second?.leave()]);
      await present(name, 0);
    }
    expect([...tokens].sort((x, y) => (x < y ? -1 : 1))).toEqual(tokens);
  });

  test('excess and late parties form the next generation, while the first is inside', async () => {
    const actor = await world.actor();
    const name = world.name();
    const all = await Promise.all(
      Array.from({ length: 12 }, () => of(actor, name, 3).enter({ timeout: '8s' })),
    );
    const generations = new Map<number, number>();
    for (const { generation } of all) {
      generations.set(generation, (generations.get(generation) ?? 0) + 1);
    }
    expect([...generations].sort()).toEqual([
      [1, 3],
      [2, 3],
      [3, 3],
      [4, 3],
    ]);
    await Promise.all(all.map((inside) => inside.leave({ timeout: '8s' })));
    await eventually('all keys to go', async () => (await keys(name)).join() === 'terms');
  });

  test('a party that dies between count and ready is not counted', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const dies = of(a, name).enter();
    dies.catch(() => undefined);
    await present(name, 1);
    let hasKilled = false;
    b.faults.before = async ({ parts }) => {
      // The transaction that would complete the generation, with both keys in its conditions.
      if (parts?.compares.length !== 3 || parts.success.length < 2 || hasKilled) return;
      if (!parts.compares.every(({ operator }) => operator === '==')) return;
      const isEntry = parts.compares.some(({ operand }) => operand === 0n);
      if (isEntry) return;
      hasKilled = true;
      await a.killLease();
    };
    const survivor = of(b, name).enter();
    await eventually('the death', () => hasKilled);
    await present(name, 1);
    await settle();
    expect(await outcome(survivor)).toBe('waiting');
    const other = await of(c, name).enter();
    expect((await survivor).generation).toBe(other.generation);
    await expect(dies).rejects.toMatchObject({ code: 'LOCK_LOST' });
  });

  test('whoever dies inside is not waited for, be it the oldest or another', async () => {
    for (const dying of [0, 1, 2]) {
      const actors = [await world.actor(), await world.actor(), await world.actor()];
      const name = world.name();
      const inside = await together(name, ...actors);
      const others = inside.filter((_, index) => index !== dying);
      const leaving = others.map((each) => each.leave({ timeout: '8s' }));
      await settle();
      expect(await outcome(Promise.race(leaving))).toBe('waiting');
      await actors[dying]?.killLease();
      await Promise.all(leaving);
      await eventually('no key', async () => (await keys(name)).join() === 'terms');
    }
  });

  test('when all die inside, the next generation clears up behind them', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    await together(name, a, b);
    await a.killLease();
    await b.killLease();
    expect(await keys(name)).toEqual(['ready/0000000000000001', 'terms']);
    const both = await together(name, c, await c.another());
    expect((await keys(name)).filter((key) => key.startsWith('ready/'))).toHaveLength(1);
    await Promise.all(both.map((inside) => inside.leave()));
    await eventually('no key', async () => (await keys(name)).join() === 'terms');
  });

  test('giving up to enter leaves nothing, and the others wait for somebody else', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await expect(of(a, name).enter({ timeout: 40 })).rejects.toMatchObject({
      code: 'NOT_ACQUIRED',
    });
    const abort = new AbortController();
    const given = of(a, name).enter({ signal: abort.signal });
    await present(name, 1);
    abort.abort('enough');
    await expect(given).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' });
    await present(name, 0);
    const waits = of(b, name).enter();
    await present(name, 1);
    await settle();
    expect(await outcome(waits)).toBe('waiting');
    await of(a, name).enter();
    await waits;
  });

  test('giving up to leave: this one has left, the others need not wait for it', async () => {
    for (const giver of [0, 1]) {
      const actors = [await world.actor(), await world.actor()];
      const name = world.name();
      const inside = await together(name, ...actors);
      const [gives, stays] = [inside[giver], inside[1 - giver]];
      const leaving = gives?.leave({ timeout: 40 });
      await expect(leaving).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'applied' });
      // Leaving again is the same leaving.
      await expect(gives?.leave()).rejects.toMatchObject({ code: 'TIMEOUT' });
      await stays?.leave({ timeout: '8s' });
      await present(name, 0);
      const abort = new AbortController();
      const again = await together(name, ...actors);
      const aborted = again[giver]?.leave({ signal: abort.signal });
      abort.abort('enough');
      await expect(aborted).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' });
      await again[1 - giver]?.leave({ timeout: '8s' });
    }
  });

  test('drop the reply of every write: one key each, one generation, nothing left', async () => {
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
      const inside = await together(name, a, b);
      expect(inside.map(({ generation }) => generation)).toEqual([1, 1]);
      await Promise.all(inside.map((each) => each.leave({ timeout: '8s' })));
      await eventually('no key', async () => (await keys(name)).join() === 'terms');
      for (const actor of [a, b]) actor.faults.heal();
    }
  });

  test('an entry that arrives after it was given up does not count', async () => {
    const a = await world.actor();
    const name = world.name();
    const abort = new AbortController();
    a.faults.plan = ({ write }) => {
      if (!write || abort.signal.aborted) return 'pass';
      abort.abort();
      return 'linger';
    };
    await expect(of(a, name).enter({ signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    await eventually('the mark', async () => {
      const prefix = `conclave/gone/${a.session.id}`;
      return (await world.operator().kv.count({ prefix })) === 1n;
    });
    await a.faults.deliver();
    expect(await folder(name)).toBe(0);
  });

  test('kill the session at every step: the wait ends at once, and nobody waits for it', async () => {
    for (const step of ['enter', 'while waiting', 'inside', 'leaving'] as const) {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      if (step === 'enter') a.faults.before = () => a.session.close();
      const entering = of(a, name).enter();
      entering.catch(() => undefined);
      if (step === 'enter') {
        await expect(entering).rejects.toMatchObject({ code: 'CLOSED' });
        continue;
      }
      await eventually('its watches', () => a.faults.calls.length >= 3);
      if (step === 'while waiting') {
        await a.session.close();
        await expect(entering).rejects.toMatchObject({ code: 'CLOSED' });
        await present(name, 0);
        continue;
      }
      const other = await of(b, name).enter();
      const inside = await entering;
      const leaving = step === 'leaving' ? inside.leave() : undefined;
      leaving?.catch(() => undefined);
      await settle();
      await a.session.close();
      expect(inside.signal.aborted).toBe(true);
      if (leaving !== undefined) await expect(leaving).rejects.toMatchObject({ code: 'CLOSED' });
      else await inside.leave();
      await other.leave({ timeout: '8s' });
    }
  });

  test('freeze the process past its TTL: neither inside nor let in', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor({ clock, ttl: '10s' }), await world.actor()];
    const name = world.name();
    const [first] = await together(name, a, b);
    const next = of(a, name).enter();
    next.catch(() => undefined);
    await present(name, 3);
    clock.freeze(20_000);
    expect(first?.isHeld).toBe(false);
    expect(() => first?.assertHeld()).toThrow(expect.objectContaining({ code: 'SESSION_LOST' }));
    await of(b, name).enter();
    await expect(next).rejects.toMatchObject({ code: 'SESSION_LOST' });
  });

  test('delete own key by hand: waiting or inside, it is told, and not waited for', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const robbed = of(a, name).enter();
    robbed.catch(() => undefined);
    await eventually('its watches', () => a.faults.calls.length >= 3);
    const prefix = `${doubleBarrierPrefix(name)}in/`;
    await world.operator().kv.delete({ prefix });
    await expect(robbed).rejects.toMatchObject({ code: 'LOCK_LOST' });
    const [first, second] = await together(name, a, b);
    await world.operator().kv.delete(first?.key ?? '');
    await eventually('the loss', () => first?.signal.aborted === true);
    expect(first?.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
    await second?.leave({ timeout: '8s' });
    await first?.leave();
  });

  test('a key that was removed and written again by somebody else stays', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [first, second] = await together(name, a, b);
    const key = second?.key ?? '';
    await world.operator().kv.delete(key);
    await world.operator().kv.put(key, 'not the same');
    await eventually('the loss', () => second?.signal.aborted === true);
    await second?.leave();
    await settle();
    expect(await world.operator().kv.getString(key)).toBe('not the same');
    await first?.leave({ timeout: '8s' });
    await world.operator().kv.delete(key);
  });

  test('compact under every watch: enter and leave', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.after = async ({ write }) => {
      if (write) await compact();
    };
    const entering = of(a, name).enter();
    await present(name, 1);
    await compact();
    const second = await of(b, name).enter();
    await compact();
    const first = await entering;
    const leaving = second.leave();
    await present(name, 1);
    await compact();
    await first.leave();
    await compact();
    await leaving;
  });

  test('a generation that is complete between the answer and the watch, compacted away, is not missed', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.after = async ({ write }) => {
      if (!write) return;
      a.faults.heal();
      await of(b, name).enter();
      await compact();
    };
    const inside = await of(a, name).enter({ timeout: '8s' });
    expect(inside.generation).toBe(1);
  });

  test('the slow look finds what no watch reported: complete, dead, all left', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const deaf = { context: deafContext(a) };
    const entering = of(deaf, name, 2, 60).enter({ timeout: '8s' });
    await present(name, 1);
    const second = await of(b, name).enter();
    const first = await entering;
    const leaving = second.leave({ timeout: '8s' });
    await present(name, 1);
    await first.leave({ timeout: '8s' });
    await leaving;
    const again = of(deaf, name, 2, 60).enter({ timeout: '8s' });
    await present(name, 1);
    const other = await of(b, name).enter();
    const deafOne = await again;
    const left = deafOne.leave({ timeout: '8s' });
    await settle();
    await other.leave({ timeout: '8s' });
    await left;
  });

  test('restore an old snapshot: whose key is not in it is not inside', async () => {
    await using store = await startRewindableStore();
    const name = world.name();
    const { actor, rewind, close } = await actorOf(store);
    const inside = await of(actor, name, 1, 60).enter();
    actor.faults.take();
    const waiting = of(actor, `${name}/w`, 2, 60).enter();
    waiting.catch(() => undefined);
    await watches(actor, 2);
    await rewind(2);
    await eventually('the loss', () => inside.signal.aborted);
    expect(inside.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
    await expect(waiting).rejects.toMatchObject({ code: 'LOCK_LOST' });
    await close();
  });

  test('re-grant a lease id: a key of another life is not the own one', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [first, second] = await together(name, a, b);
    const { lease } = a.session;
    await a.killLease();
    await world.operator().leases.grant('30s', { id: lease });
    await world.operator().kv.put(first?.key ?? '', 'by the same lease', { lease });
    await eventually('the loss', () => first?.signal.aborted === true);
    // A new key under the old name stands in nobody's way: it is younger than the generation.
    await second?.leave({ timeout: '8s' });
  });

  test('1,000 parties: two exchanges each to enter, two to leave, whatever their number', async () => {
    // The machine may be slow: renewals must not be what fails.
    const actor = await world.actor({ ttl: '300s' });
    const name = world.name();
    const parties = crowd;
    const prefix = `${doubleBarrierPrefix(name)}in/`;
    const inFolder = async () => Number(await world.operator().kv.count({ prefix }));
    const entering = await crowded(
      parties,
      () => of(actor, name, parties, 3_600_000).enter(),
      async (started) => (await inFolder()) >= started,
    );
    const all = await Promise.all(entering);
    expect(new Set(all.map(({ token }) => token)).size).toBe(1);
    const entered = actor.faults.take();
    const calls = (kind: string) => entered.filter((call) => call.kind === kind).length;
    // Each entered, and the last one completed the generation.
    expect(calls('txn') + calls('list')).toBeLessThanOrEqual(parties + 20);
    expect(calls('watch')).toBeLessThanOrEqual(2 * parties);
    // The oldest is the last to leave here, and is all that is left by then.
    const leaving = await crowded(
      parties,
      (index) => (all.at(-1 - index) as DoubleBarrierHandle).leave(),
      async (started) => (await inFolder()) <= parties - started + 1,
    );
    await Promise.all(leaving);
    expect(actor.faults.take().length).toBeLessThanOrEqual(2 * parties + 60);
  }, 200_000);

  test('a crowd that loses one between its seals and its end is not complete', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const parties = 125;
    const abort = new AbortController();
    // It hears of nobody, and so does not try to complete the generation itself.
    const deaf = { context: deafContext(c) };
    const given = of(deaf, name, parties).enter({ signal: abort.signal });
    given.catch(() => undefined);
    await present(name, 1);
    const others = Array.from({ length: parties - 2 }, () => of(a, name, parties).enter());
    for (const each of others) each.catch(() => undefined);
    await present(name, parties - 1);
    let hasSealed = false;
    const isSealing = ({ parts }: Call) =>
      parts !== undefined &&
      parts.success.length > 0 &&
      parts.success.every(({ kind }) => kind === 'txn');
    // Whoever looks, because its own answer was lost, would complete the generation as well.
    a.faults.plan = (call) => (isSealing(call) ? 'refuse' : 'pass');
    b.faults.after = async (call) => {
      if (!isSealing(call) || hasSealed) return;
      hasSealed = true;
      abort.abort();
      const isGone = async () => !(await keys(name)).some((key) => key.includes(c.session.id));
      await eventually('its key to be gone', isGone);
    };
    const last = of(b, name, parties).enter();
    await eventually('the seals', () => hasSealed);
    await expect(given).rejects.toMatchObject({ code: 'ABORTED' });
    await present(name, parties - 1);
    await settle();
    expect(await outcome(last)).toBe('waiting');
    expect((await of(b, name, parties).inspect()).missing).toBe(1);
    a.faults.heal();
    await of(a, name, parties).enter({ timeout: '8s' });
    await last;
    await Promise.all(others);
    const seals = { prefix: `${doubleBarrierPrefix(name)}seal/` };
    expect(await world.operator().kv.count(seals)).toBe(0n);
  }, 30_000);

  test('etcd-io/etcd#14603: thousands of steps do not recurse', async () => {
    let state: DoubleState = { kind: 'waiting', busy: false, generation: 1, own: 5n };
    for (let turn = 0; turn < 50_000; turn++) {
      state = stepDouble(2, state, { kind: 'recheck' }).state;
      const view = { revision: 9n, own: 5n, forming: 1, ready: undefined, present: 1 };
      state = stepDouble(2, state, { kind: 'viewed', view }).state;
    }
    expect(state.kind).toBe('waiting');
    const actor = await world.actor();
    const name = world.name();
    for (let turn = 1; turn <= 20; turn++) {
      const inside = await of(actor, name, 1).enter();
      expect(inside.generation).toBe(turn);
      await inside.leave();
    }
  });

  test('two tasks of one session are two parties', async () => {
    const actor = await world.actor();
    const name = world.name();
    const [first, second] = await Promise.all([of(actor, name).enter(), of(actor, name).enter()]);
    expect(first.key).not.toBe(second.key);
    await Promise.all([first.leave(), second.leave()]);
  });

  test('await using leaves with the others; using does, too, and tells a loss', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const left: string[] = [];
    const party = async (actor: Actor, who: string) => {
      {
        await using inside = await of(actor, name).enter();
        inside.assertHeld();
      }
      left.push(who);
    };
    await Promise.all([party(a, 'a'), party(b, 'b')]);
    expect(left.sort()).toEqual(['a', 'b']);
    const used = of(a, name).using(async (inside) => {
      await world.operator().kv.delete(inside.key);
      await eventually('the loss', () => inside.signal.aborted);
    });
    used.catch(() => undefined);
    await of(b, name).using(() => undefined);
    await expect(used).rejects.toMatchObject({ code: 'LOCK_LOST' });
    // Disposal waits for the others only as long as it is told to.
    const both = await Promise.all([
      of(a, name).enter({ leaveTimeout: 40 }),
      of(b, name).enter({ leaveTimeout: 40 }),
    ]);
    await both[0][Symbol.asyncDispose]();
    await both[1][Symbol.asyncDispose]();
    await both[1][Symbol.asyncDispose]();
  });

  test('a guarded transaction fails once the party is out', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const [first, second] = await together(name, a, b);
    const write = first?.guard(a.client.kv.txn().then(op.put(`target/${name}`, '1')));
    expect((await write?.commit())?.succeeded).toBe(true);
    await Promise.all([first?.leave(), second?.leave()]);
    await present(name, 0);
    expect((await write?.commit())?.succeeded).toBe(false);
    expect(() => first?.assertHeld()).toThrow(expect.objectContaining({ code: 'RELEASED' }));
  });

  test('inspect and state$ show who waits, who is inside, since when, and how many are missing', async () => {
    const a = await world.actor({ meta: { host: 'a' } });
    const b = await world.actor({ meta: { host: 'b' } });
    const name = world.name();
    const seen: DoubleBarrierState[] = [];
    const subscription = of(a, name).state$.subscribe((state) => seen.push(state));
    await eventually('the first state', () => seen.length > 0);
    const before = Date.now();
    const entering = of(a, name).enter({ meta: { job: '7' } });
    await present(name, 1);
    const waiting = await of(b, name).inspect();
    expect(waiting).toMatchObject({ parties: 2, generation: 1, missing: 1, inside: [] });
    expect(waiting.waiting).toMatchObject([
      { session: a.session.id, meta: { host: 'a', job: '7' } },
    ]);
    const second = await of(b, name).enter();
    const first = await entering;
    const inside = await of(b, name).inspect();
    expect(inside).toMatchObject({ generation: 2, waiting: [], missing: 2 });
    expect(inside.inside).toMatchObject([
      { generation: 1, members: [{ meta: { host: 'a' } }, { meta: { host: 'b' } }] },
    ]);
    expect(inside.inside[0]?.since.getTime()).toBeGreaterThanOrEqual(before);
    await Promise.all([first.leave(), second.leave()]);
    await waitFor('the end', () => (seen.at(-1)?.inside.length === 0 ? true : undefined));
    subscription.unsubscribe();
    expect(seen.some((state) => state.inside.length === 1)).toBe(true);
  });

  test('waits, holds and losses are measured', async () => {
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
    const late = of(a, name).enter({ timeout: '1s' });
    late.catch(() => undefined);
    await eventually('its watches', () => a.faults.calls.length >= 3);
    clock.advance(1_000);
    await expect(late).rejects.toThrow();
    await (await of(a, `${name}/1`, 1).enter()).leave();
    const inside = await of(a, `${name}/1`, 1).enter();
    await world.operator().kv.delete(inside.key);
    await eventually('the loss', () => inside.signal.aborted);
    expect(measured).toEqual([
      ['contended', 'double-barrier', 'wait'],
      ['waited', 'double-barrier', 'NOT_ACQUIRED'],
      ['waited', 'double-barrier', 'acquired'],
      ['held', 'double-barrier'],
      ['waited', 'double-barrier', 'acquired'],
      ['lost', 'double-barrier', 'LOCK_LOST'],
      ['held', 'double-barrier'],
    ]);
  });

  test('wrong use: other numbers of parties are a MISMATCH, the rest is refused by name', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const entering = of(a, name, 2).enter();
    await present(name, 1);
    await expect(of(b, name, 3).enter()).rejects.toMatchObject({ code: 'MISMATCH' });
    await expect(of(b, name).forget()).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    const second = await of(b, name, 2).enter();
    await Promise.all([(await entering).leave(), second.leave()]);
    await present(name, 0);
    await of(b, name).forget();
    expect(await keys(name)).toEqual([]);
    await (await of(a, name, 1).enter()).leave();
    for (const parties of [0, 1.5, 4_033, Number.NaN]) {
      expect(() => of(a, name, parties)).toThrow(/'parties'/);
    }
    expect(() => of(a, '')).toThrow(/'name'/);
    expect(() => of(a, name, 2, 0)).toThrow(/'recheck'/);
    await expect(of(a, name).enter({ timeout: 'soon' })).rejects.toThrow(/'timeout'/);
    await expect(of(a, name).enter({ leaveTimeout: 'late' })).rejects.toThrow(/'leaveTimeout'/);
    const signal = AbortSignal.abort('no');
    await expect(of(a, name).enter({ signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('terms that this version cannot read are refused, and not asked again and again', async () => {
    const actor = await world.actor();
    const name = world.name();
    await world.operator().kv.put(`${doubleBarrierPrefix(name)}terms`, '{"v":2}');
    await expect(of(actor, name).enter()).rejects.toMatchObject({ code: 'CODEC' });
    // The second one makes sure that nothing is left.
    expect(kinds(actor)).toEqual(['txn', 'txn']);
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () =>
      new DoubleBarrier(actor.context, 'x', options as never);
    expect(make(undefined)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make({ parties: 1, rechekc: 1 })).toThrow(expect.objectContaining(refused("'recheck'")));
    const barrier = of(actor, world.name(), 1);
    for (const [options, words] of [
      [{ tmieout: 10 }, "'timeout'"],
      [{ signal: {} }, "'signal'"],
      [null, "'options'"],
    ] as const) {
      await expect(barrier.enter(options as never)).rejects.toMatchObject(refused(words));
      await using inside = await barrier.enter();
      await expect(inside.leave(options as never)).rejects.toMatchObject(refused(words));
    }
    await expect(barrier.using(1 as never)).rejects.toMatchObject(refused("'fn'"));
  });
});
