import { describe, expect, test } from 'vitest';
import type { Migration, MigrationContext } from '../../recipes/election/migration-run.ts';
import { Migrations, type MigrationsOptions } from '../../recipes/election/migrations.ts';
import { migrationsPrefix } from '../../recipes/names.ts';
import type { ErrorCode } from '../../sdk/errors.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { Call } from '../support/faulty-kv.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, compactTo, deafContext, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('migrations', () => {
  const world = useWorld();
  const of = (
    actor: Actor,
    name: string,
    list: readonly Migration[],
    options: MigrationsOptions = {},
  ) => new Migrations(actor.context, name, list, options);
  const kinds = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const keysOf = async (name: string) => {
    const { kvs } = await world.operator().kv.list({ prefix: migrationsPrefix(name) });
    return kvs.map(({ key }) => key.slice(migrationsPrefix(name).length));
  };
  const inLine = (name: string, count: number) =>
    eventually(
      `${count} in line`,
      async () => (await keysOf(name)).filter((key) => key.startsWith('line/')).length === count,
    );
  /** A step that appends its id to a key of the store; done twice it would show. */
  const appending = (name: string, id: string): Migration => ({
    id,
    writes: async ({ client }) => {
      const log = await client.kv.get(`target/${name}`);
      return [op.put(`target/${name}`, `${log ? Buffer.from(log.value) : ''}${id};`)];
    },
  });
  const target = (name: string) => world.operator().kv.getString(`target/${name}`);
  const ids = ['1', '2', '3'];
  const threeFor = (name: string) => ids.map((id) => appending(name, id));
  /** An effect that goes on until it is let go. */
  const gated = (id: string, more: { readonly idempotent?: boolean } = {}) => {
    let open: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => {
      open = resolve;
    });
    const runs: MigrationContext[] = [];
    const run = async (context: MigrationContext) => {
      runs.push(context);
      await gate;
    };
    return { migration: { id, run, ...more } satisfies Migration, runs, open: () => open() };
  };
  const codeOf = async (work: Promise<unknown>): Promise<ErrorCode | 'fine'> =>
    work.then(
      () => 'fine',
      (error) => error.code,
    );

  test('each runs once, in order; a client that comes later finds it done in one exchange', async () => {
    const [a, b] = [
      await world.actor({ clock: new ManualClock() }),
      await world.actor({ clock: new ManualClock() }),
    ];
    const name = world.name();
    expect(await of(a, name, threeFor(name)).run()).toEqual({ ran: ids });
    expect(await target(name)).toBe('1;2;3;');
    expect(await of(b, name, threeFor(name)).run()).toEqual({ ran: [] });
    expect(kinds(b)).toEqual(['list']);
    expect(await of(b, name, [...threeFor(name), appending(name, '4')]).run()).toEqual({
      ran: ['4'],
    });
    // Whoever knows fewer of them has nothing to do.
    expect(await of(a, name, threeFor(name)).run()).toEqual({ ran: [] });
    expect(await target(name)).toBe('1;2;3;4;');
    expect(await keysOf(name)).toEqual([
      'step/000001',
      'step/000002',
      'step/000003',
      'step/000004',
    ]);
  });

  test('costs a listing, two to lead, one for writes and two for effects, one to end', async () => {
    const a = await world.actor({ clock: new ManualClock() });
    const name = world.name();
    const list: Migration[] = [
      { id: 'w', writes: () => [op.put(`target/${name}`, 'w')] },
      { id: 'e', run: () => undefined },
    ];
    await of(a, name, list).run();
    expect(kinds(a)).toEqual(['list', 'txn', 'list', 'txn', 'txn', 'txn', 'txn']);
  });

  test('many clients at once: one runs them, and all return when they are done', async () => {
    const actors = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const slow = gated('slow');
    const list = [appending(name, '1'), slow.migration, appending(name, '2')];
    const runs = actors.flatMap((actor) => [0, 1].map(() => of(actor, name, list).run()));
    await inLine(name, 6);
    await eventually('the effect', () => slow.runs.length === 1);
    slow.open();
    const results = await Promise.all(runs);
    expect(results.flatMap(({ ran }) => ran)).toEqual(['1', 'slow', '2']);
    expect(slow.runs).toHaveLength(1);
    expect(await target(name)).toBe('1;2;');
    await inLine(name, 0);
  });

  test('followers wait by a watch, with timeout and signal', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const slow = gated('slow');
    const running = of(a, name, [slow.migration]).run();
    await eventually('the effect', () => slow.runs.length === 1);
    const late = of(b, name, [slow.migration]).run({ timeout: 40 });
    await expect(late).rejects.toMatchObject({ code: 'TIMEOUT', retryable: true });
    const abort = new AbortController();
    const given = of(b, name, [slow.migration]).run({ signal: abort.signal });
    await inLine(name, 2);
    abort.abort('enough');
    await expect(given).rejects.toMatchObject({ code: 'ABORTED' });
    b.faults.take();
    const follower = of(b, name, [slow.migration]).run({ timeout: '10s' });
    await inLine(name, 2);
    slow.open();
    expect(await follower).toEqual({ ran: [] });
    await running;
    await inLine(name, 0);
    const aborted = AbortSignal.abort();
    const never = of(b, name, [slow.migration]).run({ signal: aborted });
    await expect(never).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('what ran, when, by whom and how it stands is shown', async () => {
    const [a, b] = [await world.actor({ meta: { host: 'a' } }), await world.actor()];
    const name = world.name();
    const slow = gated('slow');
    const list = [appending(name, '1'), slow.migration, appending(name, '2')];
    const seen: string[] = [];
    const following = of(b, name, list).state$.subscribe(({ steps }) =>
      seen.push(steps.map(({ state }) => state).join()),
    );
    await eventually('the first look', () => seen.length === 1);
    const running = of(a, name, list).run();
    await eventually('the effect', () => slow.runs.length === 1);
    const waiting = of(b, name, list).run();
    await inLine(name, 2);
    const state = await of(b, name, list).inspect();
    expect(state.steps).toMatchObject([
      { id: '1', version: '1', state: 'done', by: a.session.id, meta: { host: 'a' }, attempts: 1 },
      { id: 'slow', state: 'running', token: slow.runs[0]?.token, resolved: false },
      { id: '2', state: 'pending', attempts: 0 },
    ]);
    expect(state.steps[0]?.finishedAt).toBeInstanceOf(Date);
    expect(state.runner).toMatchObject({ session: a.session.id, meta: { host: 'a' } });
    expect(state.waiting).toMatchObject([{ session: b.session.id }]);
    slow.open();
    await Promise.all([running, waiting]);
    await eventually('all done', () => seen.at(-1) === 'done,done,done');
    following.unsubscribe();
    expect(seen[0]).toBe('pending,pending,pending');
    expect(seen).toContain('done,running,pending');
  });

  describe('signal and timeout end a wait for a store that is away', () => {
    test.each(['first look', 'look of the runner'])('at the %s', async (when) => {
      const a = await world.actor();
      const name = world.name();
      const away = () => {
        let lists = 0;
        a.faults.plan = ({ kind }) => {
          lists += kind === 'list' ? 1 : 0;
          return kind === 'list' && lists >= (when === 'first look' ? 1 : 2) ? 'refuse' : 'pass';
        };
      };
      away();
      const late = of(a, name, threeFor(name)).run({ timeout: 300 });
      await expect(late).rejects.toMatchObject({ code: 'TIMEOUT' });
      away();
      a.faults.take();
      const abort = new AbortController();
      const given = of(a, name, threeFor(name)).run({ signal: abort.signal });
      given.catch(() => undefined);
      const lists = () => a.faults.calls.filter(({ kind }) => kind === 'list').length;
      await eventually('a repetition', () => lists() > 2);
      abort.abort('enough');
      await expect(given).rejects.toMatchObject({ code: 'ABORTED' });
      a.faults.heal();
      await inLine(name, 0);
      expect(await target(name)).toBeNull();
    });

    test('while something is settled', async () => {
      const a = await world.actor();
      const name = world.name();
      const list = [{ id: 'bad', run: () => Promise.reject(new Error('half done')) }];
      await expect(of(a, name, list).run()).rejects.toThrow('half done');
      for (const how of ['done', 'again'] as const) {
        for (const from of ['list', 'settle'] as const) {
          let calls = 0;
          a.faults.plan = ({ kind, write }) => {
            calls += write || kind === from ? 1 : 0;
            // What comes after joining the line, up to leaving it.
            const isMeant = kind === 'list' || (calls > 1 && from === 'settle');
            return isMeant && kind === (from === 'list' ? 'list' : 'txn') ? 'refuse' : 'pass';
          };
          const late = of(a, name, list).resolve('bad', how, { timeout: 300 });
          await expect(late, `${how} ${from}`).rejects.toMatchObject({ code: 'TIMEOUT' });
          a.faults.heal();
          await inLine(name, 0);
        }
      }
      expect((await of(a, name, list).inspect()).steps[0]?.state).toBe('failed');
    });
  });

  describe('a runner that fails in the middle', () => {
    const crash = async (idempotent: boolean) => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      const slow = gated('slow', { idempotent });
      const list = [appending(name, '1'), slow.migration, appending(name, '2')];
      const running = of(a, name, list).run();
      running.catch(() => undefined);
      await eventually('the effect', () => slow.runs.length === 1);
      await a.killLease();
      await eventually('its key', async () => !(await keysOf(name)).some((k) => /line/.test(k)));
      return { a, b, name, slow, list, running };
    };

    test('is tried again where that does no harm, and its late end changes nothing', async () => {
      const { b, name, slow, list, running } = await crash(true);
      const again = of(b, name, list).run();
      await eventually('the second attempt', () => slow.runs.length === 2);
      expect(slow.runs.map(({ attempt }) => attempt)).toEqual([1, 2]);
      const [first, second] = slow.runs.map(({ token }) => token);
      expect(first !== undefined && second !== undefined && second > first).toBe(true);
      slow.open();
      expect(await again).toEqual({ ran: ['slow', '2'] });
      expect(await codeOf(running)).toMatch(/LEADERSHIP_LOST|SESSION_LOST/);
      const { steps } = await of(b, name, list).inspect();
      expect(steps[1]).toMatchObject({ state: 'done', attempts: 2, by: b.session.id });
      expect(await target(name)).toBe('1;2;');
    });

    test('stops everybody else with a clear error, and is settled by hand', async () => {
      const { a, b, name, slow, list } = await crash(false);
      const stopped = of(b, name, list).run();
      await expect(stopped).rejects.toMatchObject({
        code: 'FAILED_PRECONDITION',
        outcome: 'unknown',
        message: expect.stringContaining(
          `'slow' of '${name}' was begun by session ${a.session.id}`,
        ),
        remedy: expect.stringContaining("resolve('slow'"),
      });
      expect((await of(b, name, list).inspect()).steps[1]?.state).toBe('interrupted');
      expect(slow.runs).toHaveLength(1);
      expect(await target(name)).toBe('1;');
      await inLine(name, 0);
      slow.open();
      const { resolve } = {
        resolve: (id: string, how: 'done' | 'again') => of(b, name, list).resolve(id, how),
      };
      await expect(resolve('1', 'done')).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
      await expect(resolve('2', 'done')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      await expect(resolve('slow', 'maybe' as 'done')).rejects.toThrow(/'how'/);
      await resolve('slow', 'done');
      expect(await of(b, name, list).run()).toEqual({ ran: ['2'] });
      expect(slow.runs).toHaveLength(1);
      expect((await of(b, name, list).inspect()).steps[1]).toMatchObject({
        state: 'done',
        resolved: true,
      });
    });

    test('or is counted as never begun', async () => {
      const { b, name, slow, list } = await crash(false);
      slow.open();
      b.faults.next('lose-answer', ({ parts }) =>
        Boolean(parts?.success.some(({ kind }) => kind === 'delete' && parts.failure.length > 0)),
      );
      await of(b, name, list).resolve('slow', 'again');
      expect(await of(b, name, list).run()).toEqual({ ran: ['slow', '2'] });
      expect(slow.runs.map(({ attempt }) => attempt)).toEqual([1, 1]);
    });
  });

  test('a step that was interrupted does not run unseen once it only writes', async () => {
    const a = await world.actor();
    const name = world.name();
    const bad = { id: 'x', idempotent: true, run: () => Promise.reject(new Error('half done')) };
    await expect(of(a, name, [bad]).run()).rejects.toThrow('half done');
    const list = [appending(name, 'x')];
    await expect(of(a, name, list).run()).rejects.toMatchObject({ code: 'FAILED_PRECONDITION' });
    expect(await target(name)).toBeNull();
    await of(a, name, list).resolve('x', 'again');
    expect(await of(a, name, list).run()).toEqual({ ran: ['x'] });
  });

  test('a damaged record is shown in its place, and the others in theirs', async () => {
    const a = await world.actor();
    const name = world.name();
    await of(a, name, threeFor(name).slice(0, 2)).run();
    const { kv } = world.operator();
    await kv.put(`${migrationsPrefix(name)}step/000001`, 'no record');
    const { steps } = await of(a, name, threeFor(name)).inspect();
    expect(steps.map(({ id, state }) => [id, state])).toEqual([
      ['1', 'damaged'],
      ['2', 'done'],
      ['3', 'pending'],
    ]);
    await expect(of(a, name, threeFor(name)).run()).rejects.toMatchObject({ code: 'MISMATCH' });
    await kv.delete(`${migrationsPrefix(name)}step/000001`);
    const shown = (await of(a, name, threeFor(name).slice(0, 1)).inspect()).steps;
    expect(shown.map(({ id, state }) => [id, state])).toEqual([
      ['1', 'pending'],
      ['2', 'done'],
    ]);
  });

  test('settling fails when the guard refuses it and the record is still there', async () => {
    const a = await world.actor();
    const name = world.name();
    const list: Migration[] = [
      {
        id: 'bad',
        run: () => {
          throw new Error('half done');
        },
      },
    ];
    await expect(of(a, name, list).run()).rejects.toThrow('half done');
    for (const how of ['done', 'again'] as const) {
      // The second to write: the first joins the line.
      let writes = 0;
      a.faults.before = async ({ write }) => {
        writes += write ? 1 : 0;
        const prefix = `${migrationsPrefix(name)}line/`;
        if (write && writes === 2) await world.operator().kv.delete({ prefix });
      };
      const deaf = { ...a, context: deafContext(a) } as Actor;
      await expect(of(deaf, name, list).resolve('bad', how), how).rejects.toMatchObject({
        code: 'LEADERSHIP_LOST',
      });
      a.faults.heal();
      expect((await of(a, name, list).inspect()).steps[0]?.state).toBe('failed');
    }
  });

  test('what a migration throws reaches its caller, is shown, and stops those who wait', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    let fail: (error: Error) => void = () => undefined;
    const list: Migration[] = [
      { id: 'bad', run: () => new Promise((_, reject) => (fail = reject)) },
    ];
    const running = of(a, name, list).run();
    running.catch(() => undefined);
    await inLine(name, 1);
    const waiting = of(b, name, list).run();
    waiting.catch(() => undefined);
    await inLine(name, 2);
    fail(new Error('no such table'));
    await expect(running).rejects.toThrow('no such table');
    await expect(waiting).rejects.toThrow(/and failed: no such table/);
    expect((await of(a, name, list).inspect()).steps).toMatchObject([
      { state: 'failed', error: 'no such table' },
    ]);
    await inLine(name, 0);
    const broken: Migration[] = [
      {
        id: 'w',
        writes: () => {
          throw new Error('not now');
        },
      },
    ];
    const other = world.name();
    await expect(of(a, other, broken).run()).rejects.toThrow('not now');
    // Nothing was begun: it may be tried again as it is.
    expect(await of(a, other, [{ id: 'w', writes: () => [] }]).run()).toEqual({ ran: ['w'] });
  });

  test('clients that have others, or others in their places, are told', async () => {
    const a = await world.actor();
    const name = world.name();
    await of(a, name, threeFor(name)).run();
    const [one, two, three] = threeFor(name);
    if (!one || !two || !three) return;
    const wrong: (readonly [readonly Migration[], RegExp])[] = [
      [[one, three, two], /number 2 is '2' in the store and '3' here/],
      [[{ ...one, version: 'b' }, two], /'1' has version '1' in the store and 'b' here/],
      [[two], /number 1/],
    ];
    for (const [list, message] of wrong) {
      const refused = of(a, name, list).run();
      await expect(refused).rejects.toMatchObject({
        code: 'MISMATCH',
        message: expect.stringMatching(message),
      });
    }
    expect(await of(a, name, threeFor(name)).run()).toEqual({ ran: [] });
    await world.operator().kv.delete(`${migrationsPrefix(name)}step/000002`);
    await expect(of(a, name, threeFor(name)).run()).rejects.toThrow(/number 2 is missing/);
    expect(await target(name)).toBe('1;2;3;');
  });

  test('a follower with another list is told as soon as it shows', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const slow = gated('slow');
    const last = gated('last');
    const running = of(a, name, [slow.migration, last.migration]).run();
    await eventually('the effect', () => slow.runs.length === 1);
    const waiting = of(b, name, [slow.migration, appending(name, 'x')]).run();
    waiting.catch(() => undefined);
    await inLine(name, 2);
    slow.open();
    await expect(waiting).rejects.toMatchObject({ code: 'MISMATCH' });
    last.open();
    await running;
  });

  test('writes under conditions of their own go through a nested transaction', async () => {
    const a = await world.actor();
    const name = world.name();
    const list: Migration[] = [
      {
        id: 'seed',
        writes: ({ client, guard }) => [
          op.txn(
            guard(client.kv.txn())
              .if(compare.createRevision(`target/${name}`, '==', 0n))
              .then(op.put(`target/${name}`, 'seeded')),
          ),
        ],
      },
    ];
    await of(a, name, list).run();
    expect(await target(name)).toBe('seeded');
  });

  describe('faults', () => {
    test('drop the reply of every write: writes happen once, and effects are begun once', async () => {
      for (let nth = 1; nth <= 7; nth++) {
        const a = await world.actor();
        const name = world.name();
        let seen = 0;
        a.faults.plan = ({ write }) => {
          seen += write ? 1 : 0;
          return write && seen === nth ? 'lose-answer' : 'pass';
        };
        let runs = 0;
        const effect: Migration = {
          id: 'e',
          run: () => {
            runs += 1;
          },
        };
        const { ran } = await of(a, name, [
          appending(name, '1'),
          effect,
          appending(name, '2'),
        ]).run();
        expect(ran).toEqual(['1', 'e', '2']);
        expect(runs).toBe(1);
        expect(await target(name)).toBe('1;2;');
        await inLine(name, 0);
      }
    });

    test('a late copy of a write changes nothing', async () => {
      const a = await world.actor();
      const name = world.name();
      const isWrite = ({ parts }: Call) =>
        parts?.success.map(({ kind }) => kind).join() === 'put,put';
      let sent = 0;
      a.faults.plan = (call) => (isWrite(call) && sent++ % 2 === 0 ? 'linger' : 'pass');
      // The first copies arrive before they are repeated, the last when all is over.
      a.faults.before = async (call) => {
        if (isWrite(call) && sent < 5) await a.faults.deliver();
      };
      await of(a, name, threeFor(name)).run();
      await a.faults.deliver();
      expect(await target(name)).toBe('1;2;3;');
      const { kvs } = await world.operator().kv.list({ prefix: migrationsPrefix(name) });
      expect(kvs.map(({ version }) => version)).toEqual([1n, 1n, 1n]);
      expect((await of(a, name, threeFor(name)).inspect()).steps.map(({ state }) => state)).toEqual(
        ['done', 'done', 'done'],
      );
    });

    test('kill the session at every step of a run: nothing is done twice by the next', async () => {
      for (let nth = 1; nth <= 7; nth++) {
        const [a, b] = [await world.actor({ ttl: '2s' }), await world.actor()];
        const name = world.name();
        let calls = 0;
        a.faults.before = async () => {
          calls += 1;
          if (calls === nth) await a.killLease();
        };
        const first = of(a, name, threeFor(name)).run();
        // Without its lease it can only have done what came before, or nothing but its release is left.
        expect(await codeOf(first), `${nth}`).toMatch(/SESSION_LOST|LEADERSHIP_LOST|fine/);
        await of(b, name, threeFor(name)).run();
        expect(await target(name)).toBe('1;2;3;');
      }
    });

    test('freeze the process past its TTL: what it was at is not recorded as done', async () => {
      const clock = new ManualClock();
      const [a, b] = [await world.actor({ clock, ttl: '10s' }), await world.actor()];
      const name = world.name();
      const slow = gated('slow', { idempotent: true });
      const running = of(a, name, [slow.migration]).run();
      running.catch(() => undefined);
      await eventually('the effect', () => slow.runs.length === 1);
      clock.freeze(11_000);
      slow.open();
      await expect(running).rejects.toMatchObject({ code: 'SESSION_LOST' });
      expect((await of(b, name, [slow.migration]).inspect()).steps[0]?.state).toMatch(
        /running|interrupted/,
      );
      await world.operator().leases.revoke(a.session.lease);
      expect(await of(b, name, [slow.migration]).run()).toEqual({ ran: ['slow'] });
    });

    test('delete own key by hand: the function is asked to stop, and its end is not recorded', async () => {
      const a = await world.actor();
      const name = world.name();
      let reason: unknown;
      const list: Migration[] = [
        {
          id: 'long',
          run: async ({ signal, assertLeader }) => {
            const { kv } = world.operator();
            await kv.delete({ prefix: `${migrationsPrefix(name)}line/` });
            await eventually('the loss', () => signal.aborted);
            reason = signal.reason;
            expect(assertLeader).toThrow();
          },
        },
      ];
      await expect(of(a, name, list).run()).rejects.toMatchObject({ code: 'LEADERSHIP_LOST' });
      expect(reason).toMatchObject({ code: 'LEADERSHIP_LOST' });
      expect((await of(a, name, list).inspect()).steps[0]?.state).toBe('interrupted');
    });

    test('compact under every watch, and a follower that hears nothing', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      const slow = gated('slow');
      const running = of(a, name, [slow.migration]).run();
      await eventually('the effect', () => slow.runs.length === 1);
      const deaf = { ...b, context: deafContext(b) } as Actor;
      const followers = [
        of(b, name, [slow.migration]).run(),
        of(deaf, name, [slow.migration], { recheck: 40 }).run(),
      ];
      await inLine(name, 3);
      const compactNow = async () => {
        const { kv } = world.operator();
        const { revision } = await kv.put('filler', 'x');
        await compactTo(kv, revision);
      };
      await compactNow();
      slow.open();
      await running;
      await compactNow();
      expect(await Promise.all(followers)).toEqual([{ ran: [] }, { ran: [] }]);
    });

    test('re-grant a lease id: a former runner writes nothing more', async () => {
      const [a, b] = [await world.actor(), await world.actor()];
      const name = world.name();
      const slow = gated('slow', { idempotent: true });
      const running = of(a, name, [slow.migration]).run();
      running.catch(() => undefined);
      await eventually('the effect', () => slow.runs.length === 1);
      await a.killLease();
      await world.operator().leases.grant('60s', { id: a.session.lease });
      const again = of(b, name, [slow.migration]).run();
      await eventually('the second attempt', () => slow.runs.length === 2);
      slow.open();
      expect(await codeOf(running)).toMatch(/LEADERSHIP_LOST|SESSION_LOST/);
      expect(await again).toEqual({ ran: ['slow'] });
      expect((await of(b, name, [slow.migration]).inspect()).steps[0]?.by).toBe(b.session.id);
      await world.operator().leases.revoke(a.session.lease);
    });

    test('restore an old snapshot: what the store forgot runs again', async () => {
      const a = await world.actor();
      const name = world.name();
      await of(a, name, threeFor(name)).run();
      const { kv } = world.operator();
      await kv.delete({ prefix: migrationsPrefix(name) });
      await kv.delete(`target/${name}`);
      expect(await of(a, name, threeFor(name)).run()).toEqual({ ran: ids });
      expect(await target(name)).toBe('1;2;3;');
    });

    test('two tasks, one session: one runs, the other waits', async () => {
      const a = await world.actor();
      const name = world.name();
      const migrations = of(a, name, threeFor(name));
      const results = await Promise.all([migrations.run(), migrations.run()]);
      expect(results.flatMap(({ ran }) => ran)).toEqual(ids);
    });

    test('closing the session asks the function to stop, and waits for it', async () => {
      const a = await world.actor();
      const name = world.name();
      let stopped = false;
      const list: Migration[] = [
        {
          id: 'long',
          run: async ({ signal }) => {
            await eventually('the request', () => signal.aborted);
            await settle();
            stopped = true;
          },
        },
        appending(name, 'never'),
      ];
      const running = of(a, name, list).run();
      running.catch(() => undefined);
      await eventually('the start', async () => (await keysOf(name)).includes('step/000001'));
      await a.close();
      expect(stopped).toBe(true);
      await expect(running).rejects.toMatchObject({
        code: expect.stringMatching(/ABORTED|CLOSED/),
      });
      expect(await target(name)).toBeNull();
      // It had ended before its leader did.
      expect((await of(await world.actor(), name, list).inspect()).steps[0]?.state).toBe('done');
    });
  });

  test('bad input is refused by name', async () => {
    const a = await world.actor();
    const make =
      (list: unknown, name = 'x') =>
      () =>
        of(a, name, list as Migration[]);
    const run = () => undefined;
    expect(make([], '')).toThrow(/'name'/);
    expect(make('no')).toThrow(/'migrations'/);
    expect(make([{ id: '', run }])).toThrow(/'migrations\[0\]\.id'/);
    expect(
      make([
        { id: 'a', run },
        { id: 'a', run },
      ]),
    ).toThrow(/'migrations\[1\]\.id'/);
    expect(make([{ id: 'a', run, version: 2 }])).toThrow(/'migrations\[0\]\.version'/);
    expect(make([{ id: 'a' }])).toThrow(/'migrations\[0\]'/);
    expect(make([{ id: 'a', run, writes: run }])).toThrow(/'migrations\[0\]'/);
    expect(() => of(a, 'x', [], { recheck: 0 })).toThrow(/'recheck'/);
    await expect(of(a, 'x', [{ id: 'a', run }]).run({ timeout: -1 })).rejects.toThrow(/'timeout'/);
    // Also where there is nothing to wait for.
    await expect(of(a, 'x', []).run({ timeout: 'bogus' as never })).rejects.toThrow(/'timeout'/);
    expect(await of(a, world.name(), []).run()).toEqual({ ran: [] });
    await a.session.close();
    await expect(of(a, 'x', []).run()).rejects.toMatchObject({ code: 'CLOSED' });
  });

  test('wrong fields and options are refused by name', async () => {
    const refused = (words: string) => ({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(words),
    });
    const actor = await world.actor();
    const make = (list: unknown, options?: unknown) => () =>
      new Migrations(actor.context, 'x', list as never, options as never);
    const run = () => undefined;
    for (const [list, words] of [
      [[null], "'migrations[0]'"],
      // It would block after a crash.
      [[{ id: '1', run, idempotnt: true }], "'migrations[0].idempotent'"],
      [[{ id: '1', run, idempotent: 'yes' }], "'migrations[0].idempotent'"],
    ] as const) {
      expect(make(list), words).toThrow(expect.objectContaining(refused(words)));
    }
    expect(make([], null)).toThrow(expect.objectContaining(refused("'options'")));
    expect(make([], { rechekc: 1 })).toThrow(expect.objectContaining(refused("'recheck'")));
    const migrations = of(actor, world.name(), []);
    for (const options of [{ singal: undefined }, { signal: {} }]) {
      const calls = [
        migrations.run(options as never),
        migrations.resolve('1', 'done', options as never),
      ];
      for (const call of calls) await expect(call).rejects.toMatchObject(refused("'signal'"));
    }
  });
});
