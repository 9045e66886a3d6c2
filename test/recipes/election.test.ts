import { getEventListeners } from 'node:events';
import { describe, expect, test } from 'vitest';
import type { Leader } from '../../recipes/election/candidates.ts';
import { Election } from '../../recipes/election/election.ts';
import { electionPrefix } from '../../recipes/names.ts';
import { json } from '../../sdk/codec.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { op } from '../../sdk/txn.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, compactTo, deafContext, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('election', () => {
  const world = useWorld();
  const electionOf = (actor: Actor, name: string) => new Election<string>(actor.context, name);
  const candidates = async (name: string) => {
    const { kvs } = await world.operator().kv.list({ prefix: electionPrefix(name) });
    return kvs;
  };
  const candidacies = (name: string, count: number) =>
    eventually(`${count} candidates`, async () => (await candidates(name)).length === count);

  test('an only candidate leads after one exchange and resigns in one', async () => {
    const a = await world.actor({ clock: new ManualClock() });
    const leadership = await electionOf(a, world.name()).campaign({ value: 'a' });
    expect(a.faults.take().map(({ kind }) => kind)).toEqual(['txn']);
    expect(leadership.isLeader).toBe(true);
    await leadership.resign();
    expect(a.faults.take().map(({ kind }) => kind)).toEqual(['txn']);
    expect(() => leadership.assertLeader()).toThrow(expect.objectContaining({ code: 'RELEASED' }));
  });

  test('leads in the order of candidacy; terms rise and followers see the same ones', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const seen: (Leader<string> | null)[] = [];
    const following = electionOf(c, name).leader$.subscribe((leader) => seen.push(leader));
    await eventually('the first look', () => seen.length === 1);
    const first = await electionOf(a, name).campaign({ value: 'a' });
    const waiting = electionOf(b, name).campaign({ value: 'b' });
    await candidacies(name, 2);
    await first.resign();
    const second = await waiting;
    await second.resign();
    await eventually('no leader', () => seen.length >= 4 && seen.at(-1) === null);
    following.unsubscribe();
    expect(second.term > first.term).toBe(true);
    expect(seen.map((leader) => leader && [leader.value, leader.term])).toEqual([
      null,
      ['a', first.term],
      ['b', second.term],
      null,
    ]);
  });

  test('followers see a proclaimed value under the same term', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const leadership = await electionOf(a, name).campaign({ value: 'one' });
    const values: unknown[] = [];
    for await (const leader of electionOf(b, name).observe()) {
      values.push([leader?.value, leader?.term]);
      if (values.length === 1) await leadership.proclaim('two');
      else break;
    }
    expect(values).toEqual([
      ['one', leadership.term],
      ['two', leadership.term],
    ]);
  });

  test('no follower ever sees a candidate as leader', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const seen: (string | null)[] = [];
    const leader = await electionOf(a, name).campaign({ value: 'leader' });
    const following = electionOf(b, name).leader$.subscribe((next) =>
      seen.push(next?.value ?? null),
    );
    await eventually('the leader', () => seen.length === 1);
    const abort = new AbortController();
    const others = [0, 1, 2].map((index) =>
      electionOf(b, name).campaign({ value: `candidate ${index}`, signal: abort.signal }),
    );
    await candidacies(name, 4);
    await leader.proclaim('still the leader');
    abort.abort();
    await Promise.allSettled(others);
    await candidacies(name, 1);
    await leader.resign();
    await eventually('no leader', () => seen.at(-1) === null);
    following.unsubscribe();
    expect(seen).toEqual(['leader', 'still the leader', null]);
  });

  test('a leader elected between the listing and the watch is not missed', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    let elected = false;
    b.faults.after = async ({ kind }) => {
      if (kind !== 'list' || elected) return;
      elected = true;
      await electionOf(a, name).campaign({ value: 'a' });
    };
    const seen: (string | null)[] = [];
    for await (const leader of electionOf(b, name).observe()) {
      seen.push(leader?.value ?? null);
      if (leader) break;
    }
    expect(seen).toEqual([null, 'a']);
  });

  test('the store forgetting the past does not confuse followers', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const seen: (string | null)[] = [];
    const following = electionOf(b, name).leader$.subscribe((next) =>
      seen.push(next?.value ?? null),
    );
    await eventually('the first look', () => seen.length === 1);
    const first = await electionOf(a, name).campaign({ value: 'a' });
    const { revision } = await world.operator().kv.put('filler', 'x');
    await compactTo(world.operator().kv, revision);
    await first.proclaim('b');
    await eventually('the proclamation', () => seen.at(-1) === 'b');
    following.unsubscribe();
  });

  test('candidates are listed in order, the leader first', async () => {
    const [a, b] = [await world.actor({ meta: { host: 'a' } }), await world.actor()];
    const name = world.name();
    const leader = await electionOf(a, name).campaign({ value: 'a' });
    const abort = new AbortController();
    const waiting = electionOf(b, name).campaign({ value: 'b', signal: abort.signal });
    waiting.catch(() => undefined);
    await candidacies(name, 2);
    const listed = await electionOf(b, name).candidates();
    expect(listed).toMatchObject([
      { value: 'a', createRevision: leader.term, meta: { host: 'a' }, session: a.session.id },
      { value: 'b' },
    ]);
    abort.abort();
  });

  test('a proclamation whose answer is lost takes effect once, and a late one not at all', async () => {
    const a = await world.actor();
    const name = world.name();
    const leadership = await electionOf(a, name).campaign({ value: '0' });
    a.faults.next('lose-answer');
    await leadership.proclaim('1');
    const [afterOne] = await candidates(name);
    expect(afterOne?.version).toBe(2n);
    a.faults.next('linger');
    await leadership.proclaim('2');
    await leadership.proclaim('3');
    await a.faults.deliver();
    const [leader] = await electionOf(a, name).candidates();
    expect(leader?.value).toBe('3');
  });

  test('a late resignation does not remove a successor', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await electionOf(a, name).campaign({ value: 'a' });
    a.faults.next('linger');
    await first.resign().catch(() => undefined);
    const second = await electionOf(b, name).campaign({ value: 'b', timeout: '5s' });
    await a.faults.deliver();
    expect((await candidates(name)).map(({ key }) => key)).toEqual([second.key]);
  });

  test('a leader whose key was removed learns it from its proclamation', async () => {
    const a = await world.actor();
    const name = world.name();
    const leadership = await electionOf(a, name).campaign({ value: 'a' });
    await world.operator().kv.delete(leadership.key);
    await expect(leadership.proclaim('b')).rejects.toMatchObject({ code: 'LEADERSHIP_LOST' });
    await eventually('the loss', () => leadership.signal.aborted);
    expect(leadership.signal.reason).toMatchObject({ code: 'LEADERSHIP_LOST' });
    expect(await candidates(name)).toHaveLength(0);
  });

  test('a guarded write of a former leader fails', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await electionOf(a, name).campaign({ value: 'a' });
    const guarded = first.guard(a.client.kv.txn().then(op.put(`target/${name}`, 'a')));
    await a.killLease();
    await electionOf(b, name).campaign({ value: 'b', timeout: '5s' });
    expect((await guarded.commit()).succeeded).toBe(false);
  });

  test('a leader that was frozen past its deadline knows it does not lead', async () => {
    const clock = new ManualClock();
    const a = await world.actor({ clock, ttl: '10s' });
    const leadership = await electionOf(a, world.name()).campaign({ value: 'a' });
    clock.freeze(9_000);
    expect(leadership.isLeader).toBe(false);
    expect(leadership.signal.reason).toMatchObject({ code: 'SESSION_LOST' });
  });

  test('lead runs its function while it leads, then resigns and returns what it returned', async () => {
    const a = await world.actor();
    const name = world.name();
    const result = await electionOf(a, name).lead(
      async ({ term, proclaim, signal }) => {
        expect(signal.aborted).toBe(false);
        await proclaim('working');
        return term;
      },
      { value: 'a' },
    );
    expect(result > 0n).toBe(true);
    expect(await candidates(name)).toHaveLength(0);
  });

  test('lead campaigns again after a loss, in a new session when the old one is gone', async () => {
    const a = await world.actor({ ttl: '2s' });
    const name = world.name();
    const terms: bigint[] = [];
    const reasons: unknown[] = [];
    const led = electionOf(a, name).lead(
      async ({ term, key, signal }) => {
        terms.push(term);
        if (terms.length === 3) return 'done';
        if (terms.length === 1) await world.operator().kv.delete(key);
        else await a.killLease();
        await eventually('the loss', () => signal.aborted);
        reasons.push(signal.reason);
        return 'lost';
      },
      { value: 'a' },
    );
    expect(await led).toBe('done');
    expect(terms[0] !== undefined && terms[1] !== undefined && terms[1] > terms[0]).toBe(true);
    expect(terms[2] !== undefined && terms[1] !== undefined && terms[2] > terms[1]).toBe(true);
    expect(reasons[0]).toMatchObject({ code: 'LEADERSHIP_LOST' });
    expect(await candidates(name)).toHaveLength(0);
  });

  test('lead without requeue rejects with the loss', async () => {
    const a = await world.actor();
    const led = electionOf(a, world.name()).lead(
      async ({ key, signal }) => {
        await world.operator().kv.delete(key);
        await eventually('the loss', () => signal.aborted);
      },
      { value: 'a', requeue: false },
    );
    await expect(led).rejects.toMatchObject({ code: 'LEADERSHIP_LOST' });
  });

  test('lead passes on what its function throws, after resigning', async () => {
    const a = await world.actor();
    const name = world.name();
    const led = electionOf(a, name).lead(
      () => {
        throw new Error('no good leader');
      },
      { value: 'a' },
    );
    await expect(led).rejects.toThrow('no good leader');
    expect(await candidates(name)).toHaveLength(0);
  });

  test('a loop over leaders leaves no listener behind, however it ends', async () => {
    const a = await world.actor();
    const { signal } = new AbortController();
    a.faults.before = () => {
      throw new ConclaveError('PERMISSION_DENIED', 'refused by the test');
    };
    const follow = async () => {
      for await (const _ of electionOf(a, world.name()).observe({ signal })) break;
    };
    await expect(follow()).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    a.faults.heal();
    await follow();
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
  });

  test('lead passes on losses that are not of its own term', async () => {
    const a = await world.actor();
    for (const code of ['SESSION_LOST', 'LEADERSHIP_LOST'] as const) {
      let runs = 0;
      const led = electionOf(a, world.name()).lead(
        () => {
          runs += 1;
          throw runs === 1 ? new ConclaveError(code, 'of another one') : new Error('run again');
        },
        { value: 'a' },
      );
      await expect(led).rejects.toMatchObject({ code });
      expect(runs).toBe(1);
    }
  });

  test('lead campaigns again when its own proclamation is the first to learn of the loss', async () => {
    const a = await world.actor();
    const deaf = { ...a, context: deafContext(a) } as Actor;
    const name = world.name();
    let runs = 0;
    const led = electionOf(deaf, name).lead(
      async ({ key, proclaim }) => {
        runs += 1;
        if (runs > 1) return 'led again';
        await world.operator().kv.delete(key);
        await proclaim('too late');
        return 'never';
      },
      { value: 'a' },
    );
    expect(await led).toBe('led again');
  });

  test('the signal of lead asks the function to stop, and it leads until it has stopped', async () => {
    const a = await world.actor();
    const name = world.name();
    const abort = new AbortController();
    let whileStopping = 0;
    const led = electionOf(a, name).lead(
      async ({ signal }) => {
        abort.abort('enough');
        await eventually('the request', () => signal.aborted);
        whileStopping = (await candidates(name)).length;
        throw new Error('stopped');
      },
      { value: 'a', signal: abort.signal },
    );
    await expect(led).rejects.toThrow('stopped');
    expect(whileStopping).toBe(1);
    expect(await candidates(name)).toHaveLength(0);
  });

  test('closing the session ends lead', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await electionOf(a, name).campaign({ value: 'a' });
    const led = electionOf(b, name).lead(() => 'never', { value: 'b' });
    led.catch(() => undefined);
    await candidacies(name, 2);
    await b.close();
    await expect(led).rejects.toMatchObject({ code: expect.stringMatching(/CLOSED|ABORTED/) });
    await candidacies(name, 1);
  });

  test('values go through the codec; one that cannot be written is refused before anything is', async () => {
    const a = await world.actor();
    const name = world.name();
    const codec = json<{ port: number }>();
    const election = new Election<{ port: number }>(a.context, name, { codec });
    const leadership = await election.campaign({ value: { port: 80 } });
    expect(await election.candidates()).toMatchObject([{ value: { port: 80 } }]);
    await leadership.resign();
    a.faults.take();
    const broken = new Election<undefined>(a.context, name);
    await expect(broken.campaign({ value: undefined })).rejects.toMatchObject({ code: 'CODEC' });
    expect(() => new Election(a.context, name, { recheck: 0 })).toThrow(/'recheck'/);
    await settle();
    expect(a.faults.take()).toEqual([]);
  });

  test('wrong options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (options: unknown) => () => new Election(actor.context, 'x', options as never);
    expect(make(null)).toThrow(expect.objectContaining(refused("'options'")));
    // It would choose the other form.
    expect(make({ prioriy: 1 })).toThrow(expect.objectContaining(refused("'priority'")));
    const election = electionOf(actor, world.name());
    for (const [options, words] of [
      [undefined, "'options'"],
      [{ vlaue: 'a' }, "'value'"],
      [{ value: 'a', tmieout: 1 }, "'timeout'"],
      [{ value: 'a', signal: {} }, "'signal'"],
    ] as const) {
      await expect(election.campaign(options as never)).rejects.toMatchObject(refused(words));
    }
    const run = async () => undefined;
    for (const [fn, options, words] of [
      [1, { value: 'a' }, "'fn'"],
      [run, undefined, "'options'"],
      [run, { value: 'a', requeu: false }, "'requeue'"],
      [run, { value: 'a', requeue: 'no' }, "'requeue'"],
      [run, { value: 'a', signal: {} }, "'signal'"],
    ] as const) {
      const led = election.lead(fn as never, options as never);
      await expect(led).rejects.toMatchObject(refused(words));
    }
    const observe = (options: unknown) => () => election.observe(options as never);
    expect(observe({ singal: undefined })).toThrow(expect.objectContaining(refused("'signal'")));
    expect(observe({ signal: {} })).toThrow(expect.objectContaining(refused("'signal'")));
    expect(await election.candidates()).toEqual([]);
  });
});
