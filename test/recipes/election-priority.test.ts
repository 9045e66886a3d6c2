/** The election by priority: leader key, ranks, hand-over, requests to make way. */
import { describe, expect, test } from 'vitest';
import { pause } from '../../recipes/common/repeat.ts';
import type { Leader } from '../../recipes/election/candidates.ts';
import { Election } from '../../recipes/election/election.ts';
import type { ElectionOptions } from '../../recipes/election/election-options.ts';
import type { Leadership } from '../../recipes/election/leadership.ts';
import { verifySequencer } from '../../recipes/line/sequencer.ts';
import { electionPrefix, goneKey } from '../../recipes/names.ts';
import { type Clock, systemClock } from '../../sdk/clock.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { op } from '../../sdk/txn.ts';
import type { Call } from '../support/faulty-kv.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, compactTo, deafContext, eventually, settle, useWorld } from './world.ts';

/** Ten times as fast as the real one: for those whose patience the tests would have to wait for. */
const hastyClock: Clock = {
  monotonicMs: () => systemClock.monotonicMs() * 10,
  wallMs: () => systemClock.wallMs() * 10,
  setTimer: (delayMs, callback) => systemClock.setTimer(delayMs / 10, callback),
};

describe.skipIf(storeMissing)('election by priority', () => {
  const world = useWorld();
  const of = (actor: Actor, name: string, options: ElectionOptions<string> = {}) =>
    new Election<string>(actor.context, name, { priority: 0, vacancyStep: 30, ...options });
  const keysOf = async (name: string) => {
    const { kvs } = await world.operator().kv.list({ prefix: electionPrefix(name) });
    return kvs.map(({ key }) => key.slice(electionPrefix(name).length)).sort();
  };
  const standing = (name: string, count: number) =>
    eventually(`${count} candidates`, async () => {
      const names = await keysOf(name);
      return names.filter((key) => /^[0-9a-f]+-/.test(key)).length === count;
    });
  const noKeys = (name: string) =>
    eventually('no keys', async () => (await keysOf(name)).length === 0);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const watching = (actor: Actor) =>
    eventually('its watch', () => actor.faults.calls.some(({ kind }) => kind === 'watch'));
  const compactNow = async () => {
    const { kv } = world.operator();
    const { revision } = await kv.put('filler', 'x');
    await compactTo(kv, revision);
  };
  const hasty = () => world.actor({ clock: hastyClock, ttl: '60s' });
  /** A leader that follows the election, whatever its term cost so far. */
  const settled = async (actor: Actor, election: Election<string>, value: string) => {
    const leadership = await election.campaign({ value });
    await watching(actor);
    actor.faults.take();
    return leadership;
  };

  test('an only candidate leads after one exchange and resigns in one', async () => {
    const a = await world.actor();
    const name = world.name();
    const leadership = await of(a, name).campaign({ value: 'a' });
    expect(kinds(a)).toEqual(['txn']);
    expect(leadership.isLeader).toBe(true);
    expect((await keysOf(name)).length).toBe(2);
    await leadership.resign();
    expect(kinds(a)).toEqual(['txn']);
    expect(await keysOf(name)).toEqual([]);
    expect(() => leadership.assertLeader()).toThrow(expect.objectContaining({ code: 'RELEASED' }));
  });

  test('being handed the leadership takes two: stand, watch; handing over takes one', async () => {
    const [a, b] = [await hasty(), await world.actor()];
    const name = world.name();
    const leader = await settled(a, of(a, name), 'a');
    const waiting = of(b, name).campaign({ value: 'b' });
    await standing(name, 2);
    await watching(b);
    await settle();
    a.faults.take();
    await leader.resign();
    const next = await waiting;
    expect(kinds(a)).toEqual(['txn']);
    expect(kinds(b)).toEqual(['txn', 'watch']);
    expect(next.term > leader.term).toBe(true);
  });

  test('filling the vacancy of a leader that died takes one more', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await of(a, name).campaign({ value: 'a' });
    const waiting = of(b, name).campaign({ value: 'b' });
    await standing(name, 2);
    await watching(b);
    await a.killLease();
    await waiting;
    expect(kinds(b)).toEqual(['txn', 'watch', 'txn']);
  });

  test('a vacancy goes to the highest rank: priority first, then who came first', async () => {
    const actors: Actor[] = [];
    for (let n = 0; n < 5; n++) actors.push(await world.actor());
    const name = world.name();
    const [a] = actors;
    if (a === undefined) return;
    await of(a, name).campaign({ value: 'dies' });
    const led: string[] = [];
    const ranks = [1, 5, 5, 3];
    const waits = ranks.map(async (priority, at) => {
      const actor = actors[at + 1];
      if (actor === undefined) return;
      await standing(name, at + 1);
      const leadership = await of(actor, name, { priority }).campaign({ value: `${at}` });
      led.push(`${at}`);
      await leadership.resign();
    });
    await standing(name, 5);
    await a.killLease();
    await Promise.all(waits);
    expect(led).toEqual(['1', '2', '3', '0']);
    await noKeys(name);
  });

  test('where the highest rank is frozen the next one fills the vacancy a little later', async () => {
    const clock = new ManualClock();
    const [a, b, c] = [await world.actor(), await world.actor({ clock }), await world.actor()];
    const name = world.name();
    await of(a, name).campaign({ value: 'a' });
    const frozen = of(b, name, { priority: 9 }).campaign({ value: 'b' });
    frozen.catch(() => undefined);
    await standing(name, 2);
    b.faults.plan = () => 'refuse';
    const waiting = of(c, name).campaign({ value: 'c' });
    await standing(name, 3);
    await watching(c);
    await a.killLease();
    expect((await waiting).isLeader).toBe(true);
  });

  test('many candidates at once: exactly one leads at a time, in rising terms', async () => {
    const name = world.name();
    const actors: Actor[] = [];
    for (let n = 0; n < 3; n++) actors.push(await world.actor());
    let leading = 0;
    const terms: bigint[] = [];
    await Promise.all(
      Array.from({ length: 12 }, async (_, at) => {
        const actor = actors[at % 3];
        if (actor === undefined) return;
        const leadership = await of(actor, name, { priority: at % 4 }).campaign({ value: `${at}` });
        leading += 1;
        expect(leading).toBe(1);
        terms.push(leadership.term);
        await settle(2);
        leading -= 1;
        await leadership.resign();
      }),
    );
    expect(terms).toHaveLength(12);
    expect([...terms].sort((x, y) => (x < y ? -1 : 1))).toEqual(terms);
    await noKeys(name);
  });

  describe('transfer', () => {
    const cast = async () => {
      const [a, b, c] = [await hasty(), await world.actor(), await world.actor()];
      const name = world.name();
      const leader = await settled(a, of(a, name, { priority: 9 }), 'a');
      const behind = [b, c].map((actor, at) => {
        const waiting = of(actor, name, { priority: at }).campaign({ value: 'bc'[at] ?? '' });
        waiting.catch(() => undefined);
        return waiting;
      });
      await standing(name, 3);
      const listed = await of(a, name).candidates();
      const [, , low] = listed;
      if (low === undefined) throw new Error('nobody stands');
      const [[atB], [atC]] = [behind, behind.slice(1)];
      return { a, b, c, name, leader, low, atB, atC } as const;
    };

    test('to a named candidate: one exchange, no gap, and the leader stops first', async () => {
      const { a, c, name, leader, low, atB } = await cast();
      const seen: (string | null)[] = [];
      const following = of(c, name).leader$.subscribe((next) => seen.push(next?.value ?? null));
      await eventually('the leader', () => seen.length === 1);
      a.faults.take();
      let stoppedFirst = false;
      a.faults.before = () => {
        stoppedFirst = leader.signal.aborted && !leader.isLeader;
      };
      await leader.transfer(low);
      expect(kinds(a)).toEqual(['txn']);
      expect(stoppedFirst).toBe(true);
      const next = await atB;
      expect(next?.term !== undefined && next.term > leader.term).toBe(true);
      await eventually('the news', () => seen.length === 2);
      following.unsubscribe();
      expect(seen).toEqual(['a', 'b']);
      expect(leader.signal.reason).toMatchObject({ code: 'RELEASED' });
      await standing(name, 2);
    });

    test('to a candidate that is gone resigns to whoever ranks next, and says so', async () => {
      const { b, leader, low, atC } = await cast();
      await b.session.close();
      await expect(leader.transfer(low)).rejects.toMatchObject({ code: 'NOT_FOUND' });
      expect((await atC)?.isLeader).toBe(true);
    });

    test('whose answer is lost is recognised; a late copy of it moves nothing', async () => {
      const { a, name, leader, low, atB } = await cast();
      a.faults.next('lose-answer');
      await leader.transfer(low);
      const second = await atB;
      const again = of(a, name).campaign({ value: 'again' });
      await standing(name, 3);
      expect((await of(a, name).candidates())[0]).toMatchObject({ value: 'b' });
      a.faults.next('linger');
      await second?.resign();
      await a.faults.deliver();
      await standing(name, 2);
      again.catch(() => undefined);
    });

    test('that lingers and is repeated moves the leadership once', async () => {
      const { a, b, name, leader, low, atB, atC } = await cast();
      a.faults.next('linger');
      await leader.transfer(low);
      const second = await atB;
      await a.faults.deliver();
      await settle();
      second?.assertLeader();
      expect((await second?.guard(b.client.kv.txn()).commit())?.succeeded).toBe(true);
      await second?.resign();
      const third = await atC;
      expect((await of(a, name).candidates()).map(({ value }) => value)).toEqual(['c']);
      third?.assertLeader();
      const [leading] = (
        await world.operator().kv.list({ prefix: electionPrefix(name) })
      ).kvs.filter(({ key }) => key.endsWith('/leader'));
      expect(leading?.modRevision).toBe(third?.term);
    });

    test('is refused to oneself, to nonsense, twice, and without priorities', async () => {
      const { a, name, leader, low, atB } = await cast();
      const [me] = await of(a, name).candidates();
      if (me === undefined) return;
      await expect(leader.transfer(me)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      const elsewhere = { ...low, key: low.key.replace(name.replace('/', '%2F'), 'elsewhere') };
      expect(elsewhere.key).not.toBe(low.key);
      await expect(leader.transfer(elsewhere)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
      await expect(leader.transfer({} as never)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
      leader.assertLeader();
      await leader.transfer(low);
      await atB;
      await expect(leader.transfer(low)).rejects.toMatchObject({ code: 'RELEASED' });
      const plain = await new Election<string>(a.context, world.name()).campaign({ value: 'x' });
      await expect(plain.transfer(low)).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
      plain.assertLeader();
    });

    test('fails as lost when the leader key was removed by hand meanwhile', async () => {
      const { a, name, leader, low } = await cast();
      a.faults.before = async ({ write }) => {
        if (!write) return;
        a.faults.heal();
        await world.operator().kv.delete(`${electionPrefix(name)}leader`);
      };
      await expect(leader.transfer(low)).rejects.toMatchObject({ code: 'LEADERSHIP_LOST' });
      await standing(name, 2);
    });
  });

  describe('preemption', () => {
    test('a preferred candidate of higher priority is made way for, once its request has stood', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      const seen: (string | null)[] = [];
      const following = of(a, name).leader$.subscribe((next) => seen.push(next?.value ?? null));
      const reasons: unknown[] = [];
      const abort = new AbortController();
      const led = of(a, name, { preemptAfter: 80 }).lead(
        async ({ signal }) => {
          await eventually('the end', () => signal.aborted);
          reasons.push(signal.reason);
        },
        { value: 'a', signal: abort.signal },
      );
      led.catch(() => undefined);
      await eventually('the leader', () => seen.at(-1) === 'a');
      // It follows the election from here on.
      await eventually(
        'its watch',
        () => a.faults.calls.filter(({ kind }) => kind === 'watch').length === 2,
      );
      const since = performance.now();
      const high = await of(b, name, { priority: 5, preferred: true }).campaign({ value: 'b' });
      expect(performance.now() - since).toBeGreaterThanOrEqual(75);
      expect(reasons).toMatchObject([{ code: 'LEADERSHIP_LOST' }]);
      // The former leader stands again, and leads again when the other one goes.
      await standing(name, 2);
      await high.resign();
      await eventually('the former leader', () => seen.at(-1) === 'a');
      following.unsubscribe();
      expect(seen.filter((value) => value !== null)).toEqual(['a', 'b', 'a']);
      abort.abort();
      await led.catch(() => undefined);
      await noKeys(name);
    });

    test('a handle is told who asks, and decides', async () => {
      const [a, b] = [await world.actor(), await world.actor({ meta: { host: 'b' } })];
      const name = world.name();
      const low = await of(a, name, { preemptAfter: 0 }).campaign({ value: 'a' });
      const waiting = of(b, name, { priority: 1, preferred: true }).campaign({ value: 'b' });
      const asked = await new Promise<Parameters<Leadership<string>['transfer']>[0]>((resolve) => {
        low.preemption$.subscribe(resolve);
      });
      expect(asked).toMatchObject({ priority: 1, session: b.session.id, meta: { host: 'b' } });
      low.assertLeader();
      await low.transfer(asked);
      expect((await waiting).isLeader).toBe(true);
    });

    test('who asks no more is not shown to those who look later; who asks again is', async () => {
      const [a, b] = [await hasty(), await world.actor()];
      const name = world.name();
      const low = await of(a, name, { preemptAfter: 0 }).campaign({ value: 'a' });
      const asked: string[] = [];
      low.preemption$.subscribe(({ key }) => asked.push(key));
      const asksNow = () => {
        let is = false;
        low.preemption$.subscribe(() => (is = true)).unsubscribe();
        return is;
      };
      for (const times of [1, 2]) {
        const going = new AbortController();
        const { signal } = going;
        const high = of(b, name, { priority: 1, preferred: true });
        const waiting = high.campaign({ value: 'b', signal });
        waiting.catch(() => undefined);
        await eventually('the request', () => asked.length === times);
        expect(asksNow()).toBe(true);
        going.abort();
        await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
        await eventually('nobody asks', () => !asksNow());
      }
      low.assertLeader();
    });

    test('a candidate that comes and goes, one of equal priority, or one that is not preferred moves nothing', async () => {
      const clock = new ManualClock();
      const a = await world.actor({ clock, ttl: '600s' });
      const [b, c, d] = [await world.actor(), await world.actor(), await world.actor()];
      const name = world.name();
      const leader = await of(a, name, { priority: 3, preemptAfter: '5s' }).campaign({
        value: 'a',
      });
      clock.advance(300);
      await watching(a);
      let asked = 0;
      leader.preemption$.subscribe(() => {
        asked += 1;
      });
      const patience = new AbortController();
      const { signal } = patience;
      for (const [actor, options] of [
        [c, { priority: 3, preferred: true }],
        [d, { priority: 9 }],
      ] as const) {
        of(actor, name, options)
          .campaign({ value: 'x', signal })
          .catch(() => undefined);
      }
      await standing(name, 3);
      const timers = clock.timers;
      for (let flap = 0; flap < 3; flap++) {
        const going = new AbortController();
        const high = of(b, name, { priority: 9, preferred: true });
        const waiting = high.campaign({ value: 'b', signal: going.signal });
        await eventually('the request weighed', () => clock.timers === timers + 1);
        clock.advance(4_000);
        going.abort();
        await waiting.catch(() => undefined);
        await eventually('the request dropped', () => clock.timers === timers);
      }
      expect(asked).toBe(0);
      leader.assertLeader();
      patience.abort();
    });
  });

  test('lead hands over to the one that its function names, once the function is done', async () => {
    const [a, b, c] = [await hasty(), await world.actor(), await world.actor()];
    const name = world.name();
    const waits = (): Promise<Leadership<string>>[] =>
      [b, c].map((actor, at) => {
        const waiting = of(actor, name, { priority: at }).campaign({ value: 'bc'[at] ?? '' });
        waiting.catch(() => undefined);
        return waiting;
      });
    let behind: Promise<Leadership<string>>[] = [];
    const led = of(a, name).lead(
      async ({ transferTo, signal, assertLeader }) => {
        behind = waits();
        await standing(name, 3);
        const to = (await of(a, name).candidates()).find(({ value }) => value === 'b');
        if (to) transferTo(to);
        expect(signal.aborted).toBe(true);
        // It leads until it is done.
        assertLeader();
        expect((await of(c, name).candidates())[0]).toMatchObject({ value: 'a' });
        return 'done';
      },
      { value: 'a' },
    );
    expect(await led).toBe('done');
    expect((await Promise.race(behind)).key).toBe((await behind[0])?.key);
    const plain = new Election<string>(a.context, world.name());
    await expect(
      plain.lead(({ transferTo }) => transferTo({} as never), { value: 'x' }),
    ).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
  });

  test('lead stands again when its function stopped by the signal that handing over aborts', async () => {
    const [a, b] = [await hasty(), await world.actor()];
    const name = world.name();
    for (const stop of ['throwIfAborted', 'pause'] as const) {
      let behind: Promise<Leadership<string>> | undefined;
      let runs = 0;
      const led = of(a, name).lead(
        async ({ transferTo, signal }) => {
          runs += 1;
          if (runs > 1) return 'led again';
          behind = of(b, name).campaign({ value: 'b' });
          await standing(name, 2);
          const [, to] = await of(a, name).candidates();
          if (to) transferTo(to);
          if (stop === 'pause') await pause(systemClock, 60_000, signal);
          signal.throwIfAborted();
          return 'did not stop';
        },
        { value: 'a' },
      );
      await eventually('a successor', () => behind !== undefined || runs > 1);
      const [next] = await Promise.all([behind, standing(name, 2)]);
      await next?.resign();
      expect(await led).toBe('led again');
    }
    // What it throws of its own is not mistaken for that.
    const failing = of(a, name).lead(
      ({ transferTo, key }) => {
        transferTo({ key: `${key}x`, createRevision: 1n, session: b.session.id });
        throw new Error('of its own');
      },
      { value: 'a' },
    );
    await expect(failing).rejects.toThrow('of its own');
  });

  test('proclaiming changes the value and not the term, each once, a late one not at all', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const leadership = await of(a, name).campaign({ value: '0' });
    const seen: Leader<string>[] = [];
    const following = of(b, name).leader$.subscribe((leader) => leader && seen.push(leader));
    await eventually('the leader', () => seen.length === 1);
    a.faults.next('lose-answer');
    await leadership.proclaim('1');
    a.faults.next('linger');
    await leadership.proclaim('2');
    await leadership.proclaim('3');
    await a.faults.deliver();
    await eventually('the last', () => seen.at(-1)?.value === '3');
    following.unsubscribe();
    expect(new Set(seen.map(({ term }) => term))).toEqual(new Set([leadership.term]));
    leadership.assertLeader();
  });

  test('guarded writes and sequencers of a former term are refused, also after a hand-over', async () => {
    const [a, b] = [await hasty(), await world.actor()];
    const name = world.name();
    const first = await settled(a, of(a, name), 'a');
    const waiting = of(b, name).campaign({ value: 'b' });
    await standing(name, 2);
    const write = first.guard(a.client.kv.txn().then(op.put(`target/${name}`, 'a')));
    const { sequencer } = first;
    const { kv } = world.operator();
    expect(await verifySequencer(kv, sequencer)).toBe(true);
    const [, to] = await of(a, name).candidates();
    if (to) await first.transfer(to);
    const second = await waiting;
    expect((await write.commit()).succeeded).toBe(false);
    expect(await verifySequencer(kv, sequencer)).toBe(false);
    expect(await verifySequencer(kv, second.sequencer)).toBe(true);
    expect((await second.guard(b.client.kv.txn()).commit()).succeeded).toBe(true);
    // Nor does a leader that has not heard yet that somebody ended its term by hand write anything.
    const other = world.name();
    const deaf = { ...b, context: deafContext(b) } as Actor;
    const unheard = await of(deaf, other).campaign({ value: 'b' });
    await kv.delete(`${electionPrefix(other)}leader`);
    expect((await unheard.guard(b.client.kv.txn()).commit()).succeeded).toBe(false);
    expect(await verifySequencer(kv, unheard.sequencer)).toBe(false);
  });

  describe('faults', () => {
    test('drop the reply of every write: nobody stands twice, and nothing is left', async () => {
      const name = world.name();
      for (let nth = 1; nth <= 6; nth++) {
        const [a, b] = [await hasty(), await world.actor()];
        let seen = 0;
        const plan: Actor['faults']['plan'] = ({ write }) => {
          seen += write ? 1 : 0;
          return write && seen === nth ? 'lose-answer' : 'pass';
        };
        a.faults.plan = plan;
        b.faults.plan = plan;
        const first = await of(a, name).campaign({ value: 'a' });
        await first.proclaim('A');
        const waiting = of(b, name, { priority: 2, preferred: true }).campaign({ value: 'b' });
        await standing(name, 2);
        await watching(a);
        await first.resign().catch(() => undefined);
        const second = await waiting;
        expect(second.term > first.term).toBe(true);
        second.assertLeader();
        await second.resign().catch(() => undefined);
        await noKeys(name);
      }
    });

    test('kill the session at every step of a wait', async () => {
      const steps = ['enqueue', 'after the enqueue', 'while waiting', 'take', 'leading'] as const;
      const a = await world.actor();
      for (const step of steps) {
        const name = world.name();
        const b = await world.actor({ ttl: '2s' });
        const leader = await of(a, name).campaign({ value: 'a' });
        if (step === 'enqueue')
          b.faults.before = ({ write }) => (write ? b.session.close() : undefined);
        const waiting = of(b, name).campaign({ value: 'b' });
        waiting.catch(() => undefined);
        if (step !== 'enqueue') await standing(name, 2);
        if (step === 'after the enqueue') await b.killLease();
        if (step === 'while waiting') {
          await watching(b);
          await b.session.close();
        }
        if (step === 'take') {
          await watching(b);
          b.faults.before = ({ write }) => (write ? b.killLease() : undefined);
          await leader.resign();
        }
        if (step === 'leading') {
          await leader.resign();
          const second = await waiting;
          await b.killLease();
          await eventually('the loss', () => second.signal.aborted);
        } else {
          await expect(waiting, step).rejects.toMatchObject({
            code: expect.stringMatching(/SESSION_LOST|CLOSED|LEADERSHIP_LOST/),
          });
        }
        await leader.resign();
        await noKeys(name);
      }
    });

    test('freeze the process past its TTL: it knows before any timer fires, and is not elected', async () => {
      const clock = new ManualClock();
      const [a, b] = [await world.actor({ clock, ttl: '10s' }), await world.actor()];
      const name = world.name();
      const leadership = await of(a, name).campaign({ value: 'a' });
      const waiting = of(a, name).campaign({ value: 'too' });
      waiting.catch(() => undefined);
      await standing(name, 2);
      clock.freeze(9_000);
      expect(leadership.isLeader).toBe(false);
      expect(leadership.signal.reason).toMatchObject({ code: 'SESSION_LOST' });
      await world.operator().kv.delete(`${electionPrefix(name)}leader`);
      await expect(waiting).rejects.toMatchObject({ code: 'SESSION_LOST' });
      await of(b, name).campaign({ value: 'b', timeout: '5s' });
    });

    test('delete own key by hand: leader key, key of the leader, key of a candidate', async () => {
      const { kv } = world.operator();
      for (const what of ['leader', 'own', 'waiting'] as const) {
        const [a, b] = [await hasty(), await world.actor()];
        const name = world.name();
        const leader = await settled(a, of(a, name), 'a');
        const waiting = of(b, name).campaign({ value: 'b' });
        waiting.catch(() => undefined);
        await standing(name, 2);
        await watching(b);
        const [, candidate] = await of(a, name).candidates();
        if (what === 'leader') await kv.delete(`${electionPrefix(name)}leader`);
        if (what === 'own') await kv.delete(leader.key);
        if (what === 'waiting' && candidate) await kv.delete(candidate.key);
        if (what === 'waiting') {
          await expect(waiting).rejects.toMatchObject({ code: 'LEADERSHIP_LOST' });
          leader.assertLeader();
          await leader.resign();
        } else {
          await eventually('the loss', () => leader.signal.aborted);
          expect(leader.signal.reason).toMatchObject({ code: 'LEADERSHIP_LOST' });
          const next = await waiting;
          expect(next.term > leader.term).toBe(true);
          await next.resign();
        }
        await noKeys(name);
      }
    });

    test('a refusal of a repeated attempt to lead does not take the keys of the leader', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      await of(a, name).campaign({ value: 'a' });
      const waiting = of(b, name).campaign({ value: 'b' });
      await standing(name, 2);
      await watching(b);
      const leaderKey = `${electionPrefix(name)}leader`;
      const isTake = ({ parts }: Call) =>
        parts?.success.some((made) => made.kind === 'put' && made.key === leaderKey) ?? false;
      let takes = 0;
      let refused = false;
      b.faults.plan = (call) => {
        if (!isTake(call)) return 'pass';
        takes += 1;
        return takes === 1 ? 'lose-answer' : 'pass';
      };
      b.faults.before = async (call) => {
        if (!isTake(call) || takes === 1) return;
        // Its watch has told it meanwhile that the first one took effect.
        await waiting;
        b.faults.take();
        refused = true;
        throw new ConclaveError('PERMISSION_DENIED', 'refused by the test');
      };
      await a.killLease();
      const leader = await waiting;
      await eventually('the refusal', () => refused);
      await settle();
      expect(b.faults.take().filter(({ write }) => write)).toEqual([]);
      leader.assertLeader();
      expect(await keysOf(name)).toHaveLength(2);
    });

    test('compact under every watch', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      const first = await of(a, name).campaign({ value: 'a' });
      b.faults.after = async ({ write }) => {
        // Between the answer to the enqueue and the watch: the hand-over is compacted away.
        if (!write) return;
        b.faults.heal();
        await first.resign();
        await compactNow();
      };
      const second = await of(b, name).campaign({ value: 'b', timeout: '8s' });
      await compactNow();
      const third = of(a, name).campaign({ value: 'c' });
      await standing(name, 2);
      await compactNow();
      await second.resign();
      await (await third).resign();
    });

    test('re-grant a lease id: revives nothing', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      const leader = await of(a, name).campaign({ value: 'a' });
      const waiting = of(a, name).campaign({ value: 'too' });
      waiting.catch(() => undefined);
      await standing(name, 2);
      await watching(a);
      await a.killLease();
      await world.operator().leases.grant('60s', { id: a.session.lease });
      await expect(waiting).rejects.toMatchObject({
        code: expect.stringMatching(/LEADERSHIP_LOST|SESSION_LOST/),
      });
      await eventually('the loss', () => leader.signal.aborted);
      await noKeys(name);
      await of(b, name).campaign({ value: 'b', timeout: '5s' });
      await world.operator().leases.revoke(a.session.lease);
    });

    test('restore an old snapshot: a leader that the store forgot finds out by a slow read', async () => {
      const a = await world.actor();
      const name = world.name();
      const deaf = { ...a, context: deafContext(a) } as Actor;
      const leader = await of(deaf, name, { recheck: 40 }).campaign({ value: 'a' });
      const waiting = of(deaf, name, { recheck: 40 }).campaign({ value: 'b' });
      await standing(name, 2);
      // The state of before the term, at a revision of before it.
      const { kv } = deaf.context.session.client;
      const list = kv.list.bind(kv);
      Object.assign(kv, {
        list: async (...words: Parameters<typeof list>) => {
          const listed = await list(...words);
          const kvs = listed.kvs.filter(
            ({ key }) => !key.endsWith('/leader') && key !== leader.key,
          );
          return { ...listed, kvs, revision: leader.term - 1n };
        },
      });
      await eventually('the loss', () => leader.signal.aborted);
      expect(leader.signal.reason).toMatchObject({ code: 'LEADERSHIP_LOST' });
      Object.assign(kv, { list });
      expect((await waiting).term > leader.term).toBe(true);
    });

    test('the slow re-read finds a hand-over and a vacancy that no watch reported', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      for (const how of ['vacancy', 'hand-over'] as const) {
        const name = world.name();
        const leader = await of(a, name).campaign({ value: 'a' });
        if (how === 'hand-over') await watching(a);
        const deaf = { ...b, context: deafContext(b) } as Actor;
        const waiting = of(deaf, name, { recheck: 40 }).campaign({ value: 'b', timeout: '5s' });
        await standing(name, 2);
        const [, to] = await of(a, name).candidates();
        if (how === 'hand-over' && to) await leader.transfer(to);
        else await world.operator().kv.delete(leader.key);
        if (how === 'vacancy') await world.operator().kv.delete(`${electionPrefix(name)}leader`);
        await (await waiting).resign();
      }
    });

    test('a candidacy that is given up leaves nothing, even when its enqueue arrives late', async () => {
      const a = await world.actor();
      const name = world.name();
      for (const fate of ['linger', 'lose-answer'] as const) {
        const abort = new AbortController();
        a.faults.next(fate);
        a.faults.after = () => abort.abort();
        const given = of(a, name).campaign({ value: 'a', signal: abort.signal });
        given.catch(() => undefined);
        await eventually('the enqueue', () => a.faults.calls.some(({ write }) => write));
        abort.abort();
        await expect(given).rejects.toMatchObject({ code: 'ABORTED' });
        await settle();
        await a.faults.deliver();
        await noKeys(name);
        a.faults.heal();
        a.faults.take();
      }
      const { kvs } = await world.operator().kv.list({ prefix: goneKey('') });
      expect(kvs.every(({ lease }) => lease !== 0n)).toBe(true);
    });

    test('a candidate that is made leader while it gives up leaves a vacancy, not a ghost', async () => {
      const [a, b, c] = [await hasty(), await world.actor(), await world.actor()];
      const name = world.name();
      const leader = await settled(a, of(a, name), 'a');
      const abort = new AbortController();
      const leaving = of(b, name, { priority: 5 }).campaign({ value: 'b', signal: abort.signal });
      leaving.catch(() => undefined);
      const staying = of(c, name).campaign({ value: 'c' });
      await standing(name, 3);
      const [, to] = await of(a, name).candidates();
      b.faults.before = async ({ write }) => {
        if (!write) return;
        b.faults.heal();
        if (to) await leader.transfer(to);
      };
      abort.abort();
      await expect(leaving).rejects.toMatchObject({ code: 'ABORTED' });
      expect((await staying).isLeader).toBe(true);
      await standing(name, 1);
    });

    test('two tasks, one session: they exclude each other', async () => {
      const a = await world.actor();
      const election = of(a, world.name());
      const first = await election.campaign({ value: 'a' });
      await expect(election.campaign({ value: 'b', timeout: 50 })).rejects.toMatchObject({
        code: 'NOT_ACQUIRED',
      });
      const waiting = election.campaign({ value: 'c' });
      await standing(first.name, 2);
      await first.resign();
      expect((await waiting).isLeader).toBe(true);
    });

    test('a session that is lost fails all of its candidates at once', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      await of(a, name).campaign({ value: 'a' });
      const waits = [1, 2, 3].map((n) => of(b, name).campaign({ value: `${n}` }));
      for (const wait of waits) wait.catch(() => undefined);
      await standing(name, 4);
      await b.session.close();
      for (const wait of await Promise.allSettled(waits)) expect(wait.status).toBe('rejected');
      await standing(name, 1);
    });
  });

  describe('the two forms', () => {
    test('do not mix: whoever comes second is told, and leaves nothing', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const fifo = (actor: Actor, name: string) => new Election<string>(actor.context, name);
      const forms = [
        [fifo, of],
        [of, fifo],
      ] as const;
      for (const [ours, theirs] of forms) {
        const name = world.name();
        const leader = await ours(a, name).campaign({ value: 'a' });
        const before = (await keysOf(name)).length;
        for (const fate of ['pass', 'lose-answer'] as const) {
          b.faults.next(fate);
          const theirsFails = theirs(b, name).campaign({ value: 'b', timeout: '5s' });
          await expect(theirsFails).rejects.toMatchObject({ code: 'MISMATCH' });
          await eventually('no trace', async () => (await keysOf(name)).length === before);
        }
        leader.assertLeader();
        // Followers need not know the form.
        expect((await theirs(b, name).candidates())[0]).toMatchObject({ value: 'a' });
        for await (const seen of theirs(b, name).observe()) {
          expect(seen).toMatchObject({ value: 'a', term: leader.term });
          break;
        }
        await leader.resign();
        await (await theirs(b, name).campaign({ value: 'b' })).resign();
      }
    });

    test('bad options are refused by name', async () => {
      const a = await world.actor();
      const make = (options: object) => () => new Election(a.context, 'x', options);
      expect(make({ priority: 1.5 })).toThrow(/'priority'/);
      expect(make({ priority: '1' })).toThrow(/'priority'/);
      expect(make({ preferred: true })).toThrow(/'preferred'/);
      expect(make({ preemptAfter: '1s' })).toThrow(/'preemptAfter'/);
      expect(make({ priority: 1, vacancyStep: 0 })).toThrow(/'vacancyStep'/);
      expect(make({ priority: 1, preferred: 'yes' })).toThrow(/'preferred'/);
      expect(make({ priority: 1, layout: 'etcd' })).toThrow(/'priority'/);
      expect(make({ layout: 'consul' })).toThrow(/'layout'/);
      expect(make({ priority: 1, recheck: 0 })).toThrow(/'recheck'/);
      expect(() => new Election(a.context, '')).toThrow(/'name'/);
    });
  });

  test('what is no candidate is refused, and the leader goes on', async () => {
    const actor = await world.actor();
    const election = new Election<string>(actor.context, world.name(), { priority: 1 });
    const refused = { code: 'INVALID_ARGUMENT', message: expect.stringContaining("'candidate'") };
    await using leader = await election.campaign({ value: 'a' });
    for (const candidate of [undefined, null, 'a', { key: 'a' }]) {
      await expect(leader.transfer(candidate as never)).rejects.toMatchObject(refused);
    }
    expect(leader.isLeader).toBe(true);
    await leader.resign();
    const led = election.lead(
      ({ transferTo }) => expect(() => transferTo(undefined as never)).toThrow(/'candidate'/),
      { value: 'a' },
    );
    await led;
  });
});
