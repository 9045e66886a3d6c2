import { describe, expect, test } from 'vitest';
import { BrokenBarrierError } from '../../recipes/barriers/broken.ts';
import { type CyclicState, judge, stepCyclic } from '../../recipes/barriers/cyclic.ts';
import {
  CyclicBarrier,
  type CyclicBarrierOptions,
  type CyclicBarrierState,
} from '../../recipes/barriers/cyclic-barrier.ts';
import { cyclicKeys, decodeRecord } from '../../recipes/barriers/cyclic-record.ts';
import { cyclicBarrierPrefix } from '../../recipes/names.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { actorOf, crowd, crowded } from './barrier-tools.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { type Actor, compactTo, deafContext, eventually, settle, useWorld } from './world.ts';

describe('cyclic barrier, without a store', () => {
  const rules = { parties: 2, hasAction: false };
  const record = { parties: 2, generation: 3, broken: undefined, past: [] };
  const place = { generation: 3, own: 5n, position: 1 };
  const waiting: CyclicState = { kind: 'waiting', ...place };
  const view = { revision: 9n, record, own: 5n, arrivals: 1, present: 1, elder: undefined };

  test('the record alone tells how a generation ended', () => {
    expect(judge(3, record)).toBeUndefined();
    expect(judge(2, record)).toEqual({ passed: true });
    expect(judge(2, { ...record, past: [2] })).toMatchObject({ reason: 'reset' });
    expect(judge(1, { ...record, past: [2] })).toEqual({ passed: true });
    const many = Array.from({ length: 16 }, (_, index) => index + 10);
    expect(judge(1, { ...record, generation: 30, past: many })).toMatchObject({
      reason: 'unknown',
    });
    // Removed by hand, or an old snapshot.
    expect(judge(4, record)).toMatchObject({ reason: 'unknown' });
    expect(judge(3, undefined)).toMatchObject({ reason: 'unknown' });
  });

  test('a count that falls short of the arrivals breaks it', () => {
    const { effects } = stepCyclic(rules, waiting, {
      kind: 'viewed',
      view: { ...view, arrivals: 2 },
    });
    expect(effects).toEqual([{ kind: 'break', generation: 3, reason: 'gone' }]);
  });

  test('giving up is decided by the record', () => {
    const { state } = stepCyclic(rules, waiting, { kind: 'give-up', reason: 'abort', error: 'e' });
    expect(state.kind).toBe('breaking');
    const late = { ...record, generation: 4 };
    expect(stepCyclic(rules, state, { kind: 'record-seen', record: late }).state).toEqual({
      kind: 'out',
      end: { kind: 'passed', generation: 3, position: 1 },
    });
    const broken = { reason: 'abort', by: 'x', since: new Date(0) } as const;
    const mine = { ...record, broken };
    expect(stepCyclic(rules, state, { kind: 'record-seen', record: mine }).state).toEqual({
      kind: 'out',
      end: { kind: 'gave-up', error: 'e' },
    });
  });

  test('the action runs once, before anybody goes on', () => {
    const acts = { parties: 2, hasAction: true };
    const last = { ...view, arrivals: 2, present: 2 };
    const entered = { kind: 'entered', generation: 3, position: 2, view: last } as const;
    const acting = stepCyclic(acts, { kind: 'entering' }, entered);
    expect(acting.effects).toContainEqual({ kind: 'act', generation: 3 });
    const looked = stepCyclic(acts, acting.state, { kind: 'viewed', view: last });
    expect(looked.effects.map(({ kind }) => kind)).not.toContain('act');
    const tripping = stepCyclic(acts, looked.state, { kind: 'acted' });
    expect(tripping.effects).toEqual([{ kind: 'trip', generation: 3, own: 5n }]);
    const again = stepCyclic(acts, tripping.state, { kind: 'viewed', view: last });
    expect(again.effects).toEqual([{ kind: 'trip', generation: 3, own: 5n }]);
  });
});

describe.skipIf(storeMissing)('cyclic barrier', () => {
  const world = useWorld();
  type Options = Partial<CyclicBarrierOptions>;
  const of = (actor: Pick<Actor, 'context'>, name: string, options: Options = {}) =>
    new CyclicBarrier(actor.context, name, { parties: 2, ...options });
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const keys = async (name: string) => {
    const prefix = cyclicBarrierPrefix(name);
    const { kvs } = await world.operator().kv.list({ prefix });
    return kvs.map(({ key }) => key.slice(prefix.length));
  };
  /** Parties of the generation that is open: what is left of the one before waits for nothing. */
  const present = (name: string, count: number) =>
    eventually(`${count} parties`, async () => {
      const prefix = cyclicBarrierPrefix(name);
      const { kv } = world.operator();
      const { generation } = decodeRecord(await kv.get(`${prefix}record`)) ?? { generation: 1 };
      const listed = await kv.list({ prefix: cyclicKeys(prefix).folder(generation) });
      return listed.kvs.length === count;
    });
  const outcome = (wait: Promise<unknown>) => Promise.race([wait, Promise.resolve('waiting')]);
  const compact = async () => {
    const { kv } = world.operator();
    const { revision } = await kv.put('filler', 'x');
    await compactTo(kv, revision);
  };
  const watching = (actor: Actor) =>
    eventually(
      'its watches',
      () => actor.faults.calls.filter(({ kind }) => kind === 'watch').length >= 2,
    );
  const brokenBy = (reason: string) => ({ name: 'BrokenBarrierError', reason });
  const quietly = <T>(wait: Promise<T>): Promise<T> => {
    wait.catch(() => undefined);
    return wait;
  };

  test('exchanges: 2 to wait, 2 for the last one', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = of(a, name).wait();
    await watching(a);
    // A session that has heard of nothing guesses the first generation.
    const second = await of(b, name).wait();
    expect(second).toEqual({ generation: 1, position: 2 });
    expect(await first).toEqual({ generation: 1, position: 1 });
    expect(kinds(a)).toEqual(['txn', 'watch', 'watch']);
    expect(kinds(b)).toEqual(['txn', 'txn']);
    await present(name, 0);
    const again = of(b, name).wait();
    await watching(b);
    await of(a, name).wait();
    await again;
    await present(name, 0);
    expect(kinds(b)).toEqual(['txn', 'watch', 'watch']);
    expect(kinds(a)).toEqual(['txn', 'txn']);
    // Only the last generation is still to be seen.
    expect(await keys(name)).toHaveLength(3);
  });

  test('again and again: nobody goes on before all are there', async () => {
    const actors = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const rounds = 6;
    let inside = 0;
    const steps: number[][] = [];
    await Promise.all(
      actors.map(async (actor, index) => {
        const barrier = of(actor, name, { parties: 3 });
        const seen: number[] = [];
        for (let round = 0; round < rounds; round++) {
          inside += 1;
          const { generation } = await barrier.wait({ timeout: '9s' });
          // Everybody has come this far.
          expect(inside).toBeGreaterThanOrEqual(3 * (round + 1));
          seen.push(generation);
        }
        steps[index] = seen;
      }),
    );
    expect(steps).toEqual(Array.from({ length: 3 }, () => [1, 2, 3, 4, 5, 6]));
  });

  test('the action is run by one party, the last, before any goes on', async () => {
    const actor = await world.actor();
    const name = world.name();
    const log: string[] = [];
    const parties = 4;
    const wait = async () => {
      const passed = await of(actor, name, {
        parties,
        action: async ({ generation, signal }) => {
          await settle(5);
          log.push(`action ${generation} ${signal.aborted}`);
        },
      }).wait();
      log.push('passed');
      return passed;
    };
    const all = await Promise.all(Array.from({ length: parties }, wait));
    expect(log).toEqual(['action 1 false', 'passed', 'passed', 'passed', 'passed']);
    expect(all.map(({ position }) => position).sort()).toEqual([1, 2, 3, 4]);
  });

  test('more than it takes wait for the next generation', async () => {
    const actor = await world.actor();
    const name = world.name();
    let release: () => void = () => undefined;
    const acting = new Promise<void>((resolve) => {
      release = resolve;
    });
    const action = () => acting;
    const first = [of(actor, name, { action }).wait(), of(actor, name, { action }).wait()];
    await present(name, 2);
    const late = of(actor, name).wait();
    await settle();
    expect(await outcome(late)).toBe('waiting');
    expect((await of(actor, name).inspect()).waiting).toHaveLength(2);
    release();
    await Promise.all(first);
    expect((await of(actor, name).wait()).generation).toBe(2);
    expect((await late).generation).toBe(2);
  });

  test('an action that throws breaks the generation: its party gets the error', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = quietly(of(a, name).wait());
    await present(name, 1);
    const action = () => {
      throw new Error('no');
    };
    await expect(of(b, name, { action }).wait()).rejects.toThrow('no');
    await expect(first).rejects.toMatchObject(brokenBy('action'));
  });

  test('a party that waits no longer breaks it for all: timeout', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor(), await world.actor()];
    const c = await world.actor({ clock, ttl: '60s' });
    const name = world.name();
    const first = quietly(of(a, name, { parties: 4 }).wait());
    const second = quietly(of(b, name, { parties: 4 }).wait());
    await present(name, 2);
    const gives = quietly(of(c, name, { parties: 4 }).wait({ timeout: '1s' }));
    await watching(c);
    clock.advance(1_000);
    await expect(gives).rejects.toMatchObject({ code: 'NOT_ACQUIRED', outcome: 'not-applied' });
    for (const each of [first, second]) {
      await expect(each).rejects.toMatchObject({
        ...brokenBy('timeout'),
        code: 'BARRIER_BROKEN',
        generation: 1,
        broken: { by: c.session.id },
      });
    }
    expect(await keys(name)).toEqual(['record']);
  });

  test('it stays broken until somebody resets it', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const abort = new AbortController();
    const gives = quietly(of(a, name).wait({ signal: abort.signal }));
    await watching(a);
    abort.abort('enough');
    await expect(gives).rejects.toMatchObject({ code: 'ABORTED', cause: 'enough' });
    for (const actor of [a, b]) {
      await expect(of(actor, name).wait()).rejects.toMatchObject(brokenBy('abort'));
    }
    expect((await of(b, name).inspect()).broken).toMatchObject({
      reason: 'abort',
      by: a.session.id,
    });
    await of(a, name).reset();
    const both = await Promise.all([of(a, name).wait(), of(b, name).wait()]);
    expect(both.map(({ generation }) => generation)).toEqual([2, 2]);
  });

  test('reset while parties wait breaks it for them, and only for them', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = quietly(of(a, name).wait());
    await present(name, 1);
    await of(b, name).reset();
    const error: unknown = await first.catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(BrokenBarrierError);
    expect(error).toMatchObject(brokenBy('reset'));
    await Promise.all([of(a, name).wait(), of(b, name).wait()]);
  });

  test('whoever dies breaks it for all: first, in the middle, or last', async () => {
    for (const dying of [0, 1, 2]) {
      const actors = [await world.actor(), await world.actor(), await world.actor()];
      const name = world.name();
      const waits: Promise<unknown>[] = [];
      for (const [index, actor] of actors.entries()) {
        waits.push(quietly(of(actor, name, { parties: 4 }).wait()));
        await present(name, index + 1);
        await watching(actor);
      }
      await actors[dying]?.killLease();
      for (const [index, each] of waits.entries()) {
        if (index !== dying) await expect(each).rejects.toMatchObject(brokenBy('gone'));
      }
    }
  });

  test('a death that nobody saw breaks it for whoever comes', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    void quietly(of(a, name).wait());
    await present(name, 1);
    await a.killLease();
    await expect(of(b, name).wait()).rejects.toMatchObject(brokenBy('gone'));
  });

  test('a party that dies while the action runs breaks it; the action is told', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    void quietly(of(a, name).wait());
    await present(name, 1);
    let wasTold = false;
    const action = async ({ signal }: { signal: AbortSignal }) => {
      const told = new Promise<void>((resolve) => {
        signal.addEventListener('abort', () => resolve());
      });
      await a.killLease();
      await told;
      wasTold = true;
    };
    await expect(of(b, name, { action }).wait()).rejects.toMatchObject(brokenBy('gone'));
    await eventually('the action to hear of it', () => wasTold);
  });

  test('who dies between the count and the end is not counted', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    // Deaf, so that it does not see its own end and break the generation first.
    void quietly(of({ context: deafContext(a) }, name).wait());
    await present(name, 1);
    b.faults.before = async ({ parts }) => {
      const isTrip = parts?.compares.some(({ target, operator }) => {
        return target === 'version' && operator === '==';
      });
      if (isTrip) await a.killLease();
    };
    await expect(of(b, name).wait()).rejects.toMatchObject(brokenBy('gone'));
  });

  test('who gives up too late has passed', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const abort = new AbortController();
    const first = new CyclicBarrier(deafContext(a), name, { parties: 2 }).wait({
      signal: abort.signal,
    });
    await present(name, 1);
    await of(b, name).wait();
    abort.abort('too late');
    expect(await first).toEqual({ generation: 1, position: 1 });
  });

  test('a store that does not answer holds up nobody who gives up', async () => {
    const clock = new ManualClock();
    const a = await world.actor({ clock, ttl: '60s' });
    const name = world.name();
    const abort = new AbortController();
    const first = quietly(of(a, name).wait({ signal: abort.signal }));
    await watching(a);
    a.faults.plan = ({ write }) => (write ? 'refuse' : 'pass');
    abort.abort();
    await settle();
    clock.advance(2_000);
    await expect(first).rejects.toMatchObject({ code: 'ABORTED', outcome: 'unknown' });
    a.faults.heal();
    for (let turn = 0; turn < 20; turn++) {
      clock.advance(500);
      await settle(5);
    }
    await present(name, 0);
  });

  test('drop the reply of every write: one arrival each, one end, nothing left', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    for (let nth = 1; nth <= 3; nth++) {
      const name = world.name();
      for (const actor of [a, b]) {
        let seen = 0;
        actor.faults.plan = ({ write }) => {
          seen += write ? 1 : 0;
          return write && seen === nth ? 'lose-answer' : 'pass';
        };
      }
      const first = of(a, name).wait({ timeout: '8s' });
      await present(name, 1);
      expect(await of(b, name).wait({ timeout: '8s' })).toEqual({ generation: 1, position: 2 });
      expect(await first).toEqual({ generation: 1, position: 1 });
      await present(name, 0);
      for (const actor of [a, b]) actor.faults.heal();
      // Resetting and breaking, too.
      a.faults.next('lose-answer');
      await of(a, name).reset();
      a.faults.next('lose-answer', ({ parts }) => parts?.success.length === 4);
      a.faults.take();
      const abort = new AbortController();
      const gives = quietly(of(a, name).wait({ signal: abort.signal }));
      await watching(a);
      abort.abort();
      await expect(gives).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-applied' });
      a.faults.heal();
      expect((await of(a, name).inspect()).broken).toMatchObject({ reason: 'abort' });
    }
  });

  test('an arrival that reaches the store after it was given up does not count', async () => {
    const a = await world.actor();
    const name = world.name();
    const abort = new AbortController();
    a.faults.plan = ({ write }) => {
      if (!write || abort.signal.aborted) return 'pass';
      abort.abort();
      return 'linger';
    };
    await expect(of(a, name).wait({ signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    await a.faults.deliver();
    expect((await keys(name)).filter((key) => key.startsWith('in/'))).toEqual([]);
    await Promise.all([of(a, name).wait({ timeout: '8s' }), of(a, name).wait({ timeout: '8s' })]);
  });

  test('kill the session at every step of a wait: it ends at once, the others are told', async () => {
    for (const step of ['enter', 'while waiting', 'action'] as const) {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      if (step === 'enter') a.faults.before = () => a.session.close();
      const other = step === 'action' ? quietly(of(b, name).wait()) : undefined;
      if (other !== undefined) await present(name, 1);
      const action = () => a.session.close();
      const waiting = quietly(of(a, name, step === 'action' ? { action } : {}).wait());
      if (step === 'while waiting') {
        await watching(a);
        await a.session.close();
      }
      await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' });
      await expect(of(a, name).wait()).rejects.toMatchObject({ code: 'CLOSED' });
      if (other !== undefined) await expect(other).rejects.toMatchObject(brokenBy('gone'));
    }
  });

  test('freeze the process past its TTL: it does not go on as if in time', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor({ clock, ttl: '10s' }), await world.actor()];
    const name = world.name();
    const waiting = quietly(of(a, name).wait());
    await watching(a);
    clock.freeze(20_000);
    await of(b, name).wait();
    await expect(waiting).rejects.toMatchObject({ code: 'SESSION_LOST' });
  });

  test('delete own key by hand breaks it, as a death does', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = quietly(of(a, name, { parties: 3 }).wait());
    await present(name, 1);
    const second = quietly(of(b, name, { parties: 3 }).wait());
    await present(name, 2);
    await watching(a);
    await watching(b);
    const { waiting } = await of(a, name).inspect();
    await world.operator().kv.delete(waiting[1]?.key ?? '');
    await expect(first).rejects.toMatchObject(brokenBy('gone'));
    await expect(second).rejects.toMatchObject(brokenBy('gone'));
  });

  test('compact under every watch: nobody passes early, and nobody waits for ever', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.after = async ({ write }) => {
      if (write) await compact();
    };
    const first = of(a, name).wait();
    await watching(a);
    await compact();
    await settle();
    expect(await outcome(first)).toBe('waiting');
    await of(b, name).wait();
    await compact();
    await first;
  });

  test('an end between the answer and the watch, compacted away, is not missed', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.after = async ({ write }) => {
      if (!write) return;
      a.faults.heal();
      await of(b, name).wait();
      await compact();
    };
    expect(await of(a, name).wait({ timeout: '8s' })).toEqual({ generation: 1, position: 1 });
  });

  test('the slow look finds what no watch reported: an end, a death', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const deaf = { context: deafContext(a) };
    const first = of(deaf, name, { recheck: 60 }).wait();
    await present(name, 1);
    await of(b, name).wait();
    await first;
    const c = await world.actor();
    const options = { recheck: 60, parties: 3 };
    const second = quietly(of(deaf, `${name}/d`, options).wait());
    await present(`${name}/d`, 1);
    void quietly(of(c, `${name}/d`, { parties: 3 }).wait());
    await present(`${name}/d`, 2);
    await c.killLease();
    await expect(second).rejects.toMatchObject(brokenBy('gone'));
  });

  test('restore an old snapshot: a generation that is not in it does not end', async () => {
    await using store = await startRewindableStore();
    const name = world.name();
    const { actor, rewind, close } = await actorOf(store);
    const waiting = quietly(of(actor, name, { recheck: 60 }).wait());
    await watching(actor);
    await rewind(1);
    await expect(waiting).rejects.toMatchObject(brokenBy('unknown'));
    await close();
  });

  test('1,000 parties: two exchanges each, whatever their number', async () => {
    // The machine may be slow: renewals must not be what fails.
    const actor = await world.actor({ ttl: '300s' });
    const name = world.name();
    const options = { parties: crowd, recheck: '1h' };
    const prefix = `${cyclicBarrierPrefix(name)}in/`;
    const waits = await crowded(
      crowd,
      () => of(actor, name, options).wait(),
      async (started) => (await world.operator().kv.count({ prefix })) >= BigInt(started),
    );
    const all = await Promise.all(waits);
    expect(new Set(all.map(({ position }) => position)).size).toBe(crowd);
    const calls = actor.faults.take();
    const watches = calls.filter(({ kind }) => kind === 'watch').length;
    expect(watches).toBeLessThanOrEqual(2 * crowd);
    // Those that were under way before the first answer may each see an elder go with the end.
    expect(calls.length - watches).toBeLessThanOrEqual(2 * crowd + 5);
  }, 200_000);

  test('two tasks of one session are two parties', async () => {
    const actor = await world.actor();
    const name = world.name();
    const both = await Promise.all([of(actor, name).wait(), of(actor, name).wait()]);
    expect(both.map(({ position }) => position).sort()).toEqual([1, 2]);
  });

  test('inspect and state$ show who waits, since when, and how many are missing', async () => {
    const a = await world.actor({ meta: { host: 'a' } });
    const name = world.name();
    const seen: CyclicBarrierState[] = [];
    const subscription = of(a, name).state$.subscribe((state) => seen.push(state));
    await eventually('the first state', () => seen.length > 0);
    const before = Date.now();
    const first = of(a, name).wait({ meta: { step: '1' } });
    await present(name, 1);
    const state = await of(a, name).inspect();
    expect(state).toMatchObject({ parties: 2, generation: 1, missing: 1, broken: null });
    expect(state.waiting).toMatchObject([
      { session: a.session.id, meta: { host: 'a', step: '1' } },
    ]);
    expect(state.waiting[0]?.since.getTime()).toBeGreaterThanOrEqual(before);
    await of(a, name).wait();
    await first;
    await eventually('the end', () => seen.at(-1)?.generation === 2);
    subscription.unsubscribe();
    expect(seen.some(({ waiting }) => waiting.length === 1)).toBe(true);
  });

  test('waits are measured', async () => {
    const measured: unknown[] = [];
    const clock = new ManualClock();
    const a = await world.actor({
      clock,
      ttl: '60s',
      metrics: {
        waited: ({ recipe, outcome: end }) => measured.push(['waited', recipe, end]),
        held: () => measured.push('held'),
        contended: ({ recipe, kind }) => measured.push(['contended', recipe, kind]),
        lost: () => measured.push('lost'),
      },
    });
    const name = world.name();
    const late = quietly(of(a, name).wait({ timeout: '1s' }));
    await watching(a);
    clock.advance(1_000);
    await expect(late).rejects.toThrow();
    await expect(of(a, name).wait()).rejects.toThrow();
    await of(a, name).reset();
    await of(a, `${name}/1`, { parties: 1, action: () => undefined }).wait();
    expect(measured).toEqual([
      ['contended', 'cyclic-barrier', 'wait'],
      ['waited', 'cyclic-barrier', 'NOT_ACQUIRED'],
      ['waited', 'cyclic-barrier', 'BARRIER_BROKEN'],
      ['waited', 'cyclic-barrier', 'acquired'],
    ]);
  });

  test('an entry whose answer was lost passes with the generation it counted in', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    let passed: Promise<unknown> = Promise.resolve();
    a.faults.next('lose-answer');
    a.faults.after = async () => {
      a.faults.after = () => undefined;
      // The generation is complete, and the next one has begun, before the entry is tried again.
      await of(b, name).wait();
      passed = quietly(of(b, name).wait());
      await present(name, 1);
    };
    expect(await of(a, name).wait({ timeout: '8s' })).toEqual({ generation: 1, position: 1 });
    await of(a, name).wait();
    expect(await passed).toEqual({ generation: 2, position: 1 });
  });

  test('an entry whose generation is long over by its next attempt joins no later one', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    a.faults.next('lose-answer');
    a.faults.after = async () => {
      a.faults.after = () => undefined;
      await of(b, name).wait();
      for (let round = 0; round < 2; round++)
        await Promise.all([of(b, name), of(c, name)].map((one) => one.wait()));
    };
    const late = of(a, name).wait({ timeout: '8s' });
    await expect(late).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
    await present(name, 0);
  });

  test('a record that is removed by hand leaves nobody behind whom the next one would meet', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const prefix = cyclicBarrierPrefix(name);
    const waits = quietly(of(a, name).wait());
    await watching(a);
    await world.operator().kv.delete(`${prefix}record`);
    await expect(waits).rejects.toMatchObject(brokenBy('unknown'));
    // Its key goes in the background: before that it still has the first position.
    await present(name, 0);
    const alone = of(b, name).wait();
    await present(name, 1);
    expect(await outcome(alone)).toBe('waiting');
    await of(a, name).wait();
    expect(await alone).toMatchObject({ position: 1 });
  });

  test('a record that this version cannot read is refused, and not asked again and again', async () => {
    const actor = await world.actor();
    const name = world.name();
    await world.operator().kv.put(`${cyclicBarrierPrefix(name)}record`, '{"v":2}');
    await expect(of(actor, name).wait()).rejects.toMatchObject({ code: 'CODEC' });
    expect(kinds(actor)).toEqual(['txn']);
    await expect(of(actor, name).reset()).rejects.toMatchObject({ code: 'CODEC' });
  });

  test('wrong use: other numbers of parties are a MISMATCH, the rest is refused by name', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = of(a, name).wait();
    await present(name, 1);
    await expect(of(b, name, { parties: 3 }).wait()).rejects.toMatchObject({ code: 'MISMATCH' });
    await expect(of(b, name).forget()).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    await of(b, name).wait();
    await of(b, name).forget();
    await first;
    expect(await keys(name)).toEqual([]);
    await of(a, name, { parties: 1 }).wait();
    for (const parties of [0, 1.5, 4_033, Number.NaN]) {
      expect(() => of(a, name, { parties })).toThrow(/'parties'/);
    }
    expect(() => of(a, '')).toThrow(/'name'/);
    expect(() => of(a, name, { recheck: 0 })).toThrow(/'recheck'/);
    expect(() => of(a, name, { action: 'run' as never })).toThrow(/'action'/);
    await expect(of(a, name).wait({ timeout: 'soon' })).rejects.toThrow(/'timeout'/);
    const signal = AbortSignal.abort('no');
    await expect(of(a, name).wait({ signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('a party whose own session has died is told that, the others that a party was gone', async () => {
    for (const notices of ['itself', 'the others'] as const) {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      const own = notices === 'itself' ? a.context : deafContext(a);
      const options = { parties: 3, recheck: 60 };
      const first = quietly(of({ context: own }, name, options).wait());
      await present(name, 1);
      const second = quietly(of(b, name, options).wait());
      await present(name, 2);
      await a.killLease();
      await expect(first, notices).rejects.toMatchObject({ code: 'SESSION_LOST' });
      await expect(second, notices).rejects.toMatchObject({
        ...brokenBy('gone'),
        code: 'BARRIER_BROKEN',
      });
    }
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () =>
      new CyclicBarrier(actor.context, 'x', options as never);
    expect(make(undefined)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make({ parties: 1, actoin: 1 })).toThrow(expect.objectContaining(refused("'action'")));
    const barrier = of(actor, world.name());
    for (const [options, words] of [
      [{ tmieout: 10 }, "'timeout'"],
      [{ signal: {} }, "'signal'"],
      [null, "'options'"],
    ] as const) {
      await expect(barrier.wait(options as never)).rejects.toMatchObject(refused(words));
    }
  });
});
