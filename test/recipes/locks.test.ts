/** What every lock over a line must survive, whatever its rules: the same troubles for all of them. */
import { describe, expect, test } from 'vitest';
import type { RecipeContext } from '../../recipes/common/context.ts';
import { parseSequencer } from '../../recipes/line/sequencer.ts';
import { CustomLine } from '../../recipes/locks/custom-line.ts';
import type { LockHandle } from '../../recipes/locks/lock-handle.ts';
import type { MultiLockHandle } from '../../recipes/locks/multi-handle.ts';
import { MultiLock } from '../../recipes/locks/multi-lock.ts';
import { Mutex } from '../../recipes/locks/mutex.ts';
import { RwLock } from '../../recipes/locks/rw-lock.ts';
import { Semaphore } from '../../recipes/locks/semaphore.ts';
import { op } from '../../sdk/txn.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { storeMissing } from '../support/store.ts';
import { type Actor, compactTo, deafContext, eventually, settle, useWorld } from './world.ts';

type Exclusive = {
  acquire(options?: {
    signal?: AbortSignal;
    timeout?: string | number;
    maxHold?: string;
  }): Promise<LockHandle>;
  tryAcquire(): Promise<LockHandle | null>;
};

type Kind = {
  /** The prefix of the keys in line. */
  readonly prefix: (escapedName: string) => string;
  readonly make: (
    context: RecipeContext,
    name: string,
    options?: { recheck?: number },
  ) => Exclusive;
};

const kinds: Readonly<Record<string, Kind>> = {
  mutex: {
    prefix: (name) => `conclave/lock/${name}/`,
    make: (context, name, options) => new Mutex(context, name, options),
  },
  'mutex, reentrant': {
    prefix: (name) => `conclave/lock/${name}/`,
    make: (context, name, options) => new Mutex(context, name, { reentrant: true, ...options }),
  },
  'mutex, in the layout of etcd': {
    prefix: (name) => `${name.replaceAll('%2F', '/')}/`,
    make: (context, name, options) => new Mutex(context, name, { layout: 'etcd', ...options }),
  },
  'rw, to write': {
    prefix: (name) => `conclave/rw/${name}/`,
    make: (context, name, options) => {
      const lock = new RwLock(context, name, options);
      return {
        acquire: (wait) => lock.write(wait),
        tryAcquire: () => lock.tryAcquire('write'),
      };
    },
  },
  'rw, upgradable': {
    prefix: (name) => `conclave/rw/${name}/`,
    make: (context, name, options) => {
      const lock = new RwLock(context, name, options);
      return {
        acquire: (wait) => lock.upgradable(wait),
        tryAcquire: () => lock.tryAcquire('upgradable'),
      };
    },
  },
  'multi-lock of one': {
    prefix: (name) => `conclave/lock/${name}/`,
    make: (context, name, options) => {
      const locks = new MultiLock(context, [name], options);
      // One name is enough to see it as any other lock.
      const single = (handle: MultiLockHandle): LockHandle => {
        const [sequencer = ''] = handle.sequencers.values();
        const { key } = parseSequencer(sequencer);
        const extra = { name, key, sequencer, token: handle.tokens.get(name) };
        return new Proxy(handle, {
          get: (target, property) => {
            if (property in extra) return extra[property as keyof typeof extra];
            const value: unknown = Reflect.get(target, property, target);
            return typeof value === 'function' ? value.bind(target) : value;
          },
        }) as unknown as LockHandle;
      };
      return {
        acquire: async (wait) => single(await locks.acquire(wait)),
        tryAcquire: async () => {
          const handle = await locks.tryAcquire();
          return handle && single(handle);
        },
      };
    },
  },
  'line with a rule': {
    prefix: (name) => `conclave/line/${name}/`,
    make: (context, name, options) =>
      new CustomLine(context, name, { policy: (_me, ahead) => ahead.at(-1), ...options }),
  },
  'semaphore of one': {
    prefix: (name) => `conclave/semaphore/${name}/line/`,
    make: (context, name, options) => new Semaphore(context, name, { limit: 1, ...options }),
  },
};

describe.skipIf(storeMissing).each(Object.entries(kinds))('%s', (_kind, { prefix, make }) => {
  const world = useWorld();
  const of = (actor: Actor, name: string) => make(actor.context, name);
  const members = async (name: string) => {
    const range = { prefix: prefix(name.replaceAll('/', '%2F')) };
    const { kvs } = await world.operator().kv.list(range);
    return [...kvs].sort((a, b) => (a.createRevision < b.createRevision ? -1 : 1));
  };
  const lineLength = (name: string, length: number) =>
    eventually(`${length} members of ${name}`, async () => (await members(name)).length === length);
  const kindsOf = (actor: Actor) => actor.faults.take().map(({ kind }) => kind);
  const compactNow = async () => {
    const { kv } = world.operator();
    const { revision } = await kv.put('filler', 'x');
    await compactTo(kv, revision);
  };

  const isTold = ({ faults }: Actor) => faults.calls.some(({ kind }) => kind === 'wait');
  /** A member that is told of its turn asks once; others watch who is ahead and themselves. */
  const isWaiting = (actor: Actor) => isTold(actor) || actor.faults.calls.length >= 3;

  test('costs one exchange when free, two or three to wait one turn, one to release', async () => {
    const [a, b] = [
      await world.actor({ clock: new ManualClock() }),
      await world.actor({ clock: new ManualClock() }),
    ];
    const name = world.name();
    const first = await of(a, name).acquire();
    expect(kindsOf(a)).toEqual(['txn']);
    const waiting = of(b, name).acquire();
    await lineLength(name, 2);
    await eventually('its wait', () => isWaiting(b));
    await first.release();
    expect(kindsOf(a)).toEqual(['txn']);
    await using second = await waiting;
    const spent = kindsOf(b);
    if (spent.includes('wait')) expect(spent).toEqual(['txn', 'wait']);
    else {
      expect(spent.filter((kind) => kind !== 'watch')).toEqual(['txn', 'txn']);
      expect(spent.indexOf('watch')).toBe(1);
    }
    expect(second.token > first.token).toBe(true);
  });

  test('who is not told of its turn, because the store refuses to wait, watches for it', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await of(a, name).acquire();
    b.faults.plan = ({ kind }) => (kind === 'wait' ? 'refuse' : 'pass');
    const waiting = of(b, name).acquire();
    const watches = () => b.faults.calls.filter(({ kind }) => kind === 'watch');
    await eventually('its watches', () => watches().length >= 2);
    await first.release();
    const second = await waiting;
    expect(second.token > first.token).toBe(true);
    await second.release();
  });

  test('tryAcquire costs one exchange either way and leaves no key when refused', async () => {
    const [a, b] = [
      await world.actor({ clock: new ManualClock() }),
      await world.actor({ clock: new ManualClock() }),
    ];
    const name = world.name();
    await using lock = await of(a, name).tryAcquire();
    expect(lock?.isHeld).toBe(true);
    expect(kindsOf(a)).toEqual(['txn']);
    expect(await of(b, name).tryAcquire()).toBeNull();
    expect(kindsOf(b)).toEqual(['txn']);
    await lineLength(name, 1);
  });

  test('two tasks of one session exclude each other', async () => {
    const actor = await world.actor();
    const lock = of(actor, world.name());
    let inside = 0;
    let most = 0;
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        await using _held = await lock.acquire();
        inside += 1;
        most = Math.max(most, inside);
        await settle(3);
        inside -= 1;
      }),
    );
    expect(most).toBe(1);
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
      const lock = await of(a, name).acquire();
      expect((await members(name)).map(({ key }) => key)).toEqual([lock.key]);
      lock.assertHeld();
      const waiting = of(a, name).acquire();
      await lineLength(name, 2);
      await lock.release().catch(() => undefined);
      const next = await waiting;
      expect(next.token > lock.token).toBe(true);
      await next.release().catch(() => undefined);
      await lineLength(name, 0);
      a.faults.heal();
    }
    a.faults.next('lose-answer');
    const tried = await of(a, name).tryAcquire();
    expect((await members(name)).map(({ key }) => key)).toEqual([tried?.key]);
    await tried?.release();
    await lineLength(name, 0);
  });

  test('a wait that is given up leaves the line, even when its enqueue arrives late', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const abort = new AbortController();
    a.faults.plan = ({ write }) => {
      if (!write || abort.signal.aborted) return 'pass';
      abort.abort();
      return 'linger';
    };
    await expect(of(a, name).acquire({ signal: abort.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    await eventually('the mark', async () => {
      const { count } = await world.operator().kv.list({ prefix: `conclave/gone/${a.session.id}` });
      return count === 1n;
    });
    await a.faults.deliver();
    await lineLength(name, 0);
    await using _lock = await of(b, name).acquire({ timeout: '5s' });
    await expect(of(a, name).acquire({ timeout: 30 })).rejects.toMatchObject({
      code: 'NOT_ACQUIRED',
    });
    await lineLength(name, 1);
  });

  test('copies of an enqueue that arrive after the release do not join the line', async () => {
    const actor = await world.actor();
    const name = world.name();
    for (const acquire of ['acquire', 'tryAcquire'] as const) {
      actor.faults.next('linger', ({ write }) => write, 2);
      const lock = await of(actor, name)[acquire]();
      await lock?.release();
      await lineLength(name, 0);
      await actor.faults.deliver();
      await lineLength(name, 0);
    }
  });

  test('a session killed at any step of a wait ends the wait', async () => {
    const name = world.name();
    const a = await world.actor();
    const lock = await of(a, name).acquire();
    for (const step of ['enqueue', 'after the enqueue', 'while waiting', 'look'] as const) {
      const b = await world.actor({ ttl: '10s' });
      if (step === 'enqueue') {
        b.faults.before = ({ write }) => (write ? b.session.close() : undefined);
      }
      const waiting = of(b, name).acquire();
      waiting.catch(() => undefined);
      if (step === 'after the enqueue') {
        await lineLength(name, 2);
        await b.killLease();
      }
      if (step === 'while waiting') {
        await eventually('its wait', () => isWaiting(b));
        await b.session.close();
      }
      if (step === 'look') {
        await eventually('its wait', () => isWaiting(b));
        if (isTold(b)) {
          // It needs no look.
          await b.session.close();
        }
        b.faults.before = ({ kind, write }) =>
          kind === 'txn' && !write ? b.killLease() : undefined;
        await lock.release();
      }
      await expect(waiting, step).rejects.toMatchObject({
        code: expect.stringMatching(/SESSION_LOST|CLOSED|LOCK_LOST/),
      });
      await lineLength(name, step === 'look' ? 0 : 1);
    }
  });

  test('a session that is lost fails all of its waiters at once', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    await using _lock = await of(a, name).acquire();
    const waits = Array.from({ length: 5 }, () => of(b, name).acquire());
    const outcomes = Promise.allSettled(waits);
    await lineLength(name, 6);
    await b.session.close();
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'CLOSED' } });
    }
    await lineLength(name, 1);
  });

  test('a process frozen past its deadline knows it before any timer fires', async () => {
    const clock = new ManualClock();
    const a = await world.actor({ clock, ttl: '10s' });
    const name = world.name();
    const lock = await of(a, name).acquire();
    clock.freeze(20_000);
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'SESSION_LOST' }));
    expect(lock.isHeld).toBe(false);
    expect(lock.signal.aborted).toBe(true);
    await expect(of(a, name).acquire()).rejects.toMatchObject({ code: 'SESSION_LOST' });
  });

  test('a hold longer than maxHold ends with LOCK_LOST and lets the next one in', async () => {
    const clock = new ManualClock();
    const [a, b] = [await world.actor({ clock, ttl: '60s' }), await world.actor()];
    const name = world.name();
    const lock = await of(a, name).acquire({ maxHold: '5s' });
    clock.advance(4_999);
    lock.assertHeld();
    clock.advance(1);
    expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
    await using _next = await of(b, name).acquire({ timeout: '5s' });
  });

  test('a key removed by hand is a loss, to a holder and to a waiter', async () => {
    const [a, b, c] = [await world.actor(), await world.actor(), await world.actor()];
    const name = world.name();
    const lock = await of(a, name).acquire();
    const robbed = of(b, name).acquire();
    robbed.catch(() => undefined);
    await lineLength(name, 2);
    const behind = of(c, name).acquire();
    await lineLength(name, 3);
    const [, second] = await members(name);
    await world.operator().kv.delete(second?.key ?? '');
    await expect(robbed).rejects.toMatchObject({ code: 'LOCK_LOST' });
    await settle();
    expect(await Promise.race([behind, Promise.resolve('waiting')])).toBe('waiting');
    await world.operator().kv.delete(lock.key);
    await eventually('the loss', () => lock.signal.aborted);
    expect(lock.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
    const next = await behind;
    await lock.release();
    await lineLength(name, 1);
    await next.release();
  });

  test('a lease that was granted again revives nothing', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const lock = await of(a, name).acquire();
    const waiting = of(a, name).acquire();
    waiting.catch(() => undefined);
    await lineLength(name, 2);
    await eventually('the watches', () => a.faults.calls.length >= 4);
    await a.killLease();
    await world.operator().leases.grant('60s', { id: a.session.lease });
    await expect(waiting).rejects.toMatchObject({
      code: expect.stringMatching(/LOCK_LOST|SESSION_LOST/),
    });
    await eventually('the loss', () => lock.signal.aborted);
    await lineLength(name, 0);
    await using next = await of(b, name).acquire({ timeout: '5s' });
    expect(next.token > lock.token).toBe(true);
    await world.operator().leases.revoke(a.session.lease);
  });

  test('compaction under every watch of a wait is survived', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await of(a, name).acquire();
    b.faults.after = async ({ write }) => {
      // Between the answer to the enqueue and the watch: the delete is compacted away.
      if (!write) return;
      b.faults.heal();
      await first.release();
      await compactNow();
    };
    const second = await of(b, name).acquire({ timeout: '8s' });
    await compactNow();
    const third = of(a, name).acquire();
    await lineLength(name, 2);
    await compactNow();
    await second.release();
    await (await third).release();
  });

  test('the slow re-read finds a release that no watch reported', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const first = await of(a, name).acquire();
    const waiting = make(deafContext(b), name, { recheck: 100 }).acquire({ timeout: '10s' });
    await lineLength(name, 2);
    await first.release();
    await (await waiting).release();
  });

  test('a guarded transaction fails once the lock has passed on', async () => {
    const [a, b] = [await world.actor(), await world.actor()];
    const name = world.name();
    const target = `target/${name}`;
    const lock = await of(a, name).acquire();
    const guarded = lock.guard(a.client.kv.txn().then(op.put(target, 'first')));
    expect((await guarded.commit()).succeeded).toBe(true);
    await world.operator().kv.delete(lock.key);
    await using _next = await of(b, name).acquire();
    expect((await guarded.commit()).succeeded).toBe(false);
  });

  test('releasing twice does no harm, and a released handle refuses to be used', async () => {
    const actor = await world.actor({ clock: new ManualClock() });
    const lock = await of(actor, world.name()).acquire();
    await lock.release();
    actor.faults.take();
    await lock.release();
    await lock[Symbol.asyncDispose]();
    expect(kindsOf(actor)).toEqual([]);
    expect(lock.isHeld).toBe(false);
    expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ code: 'RELEASED' }));
    expect(() => lock.guard(actor.client.kv.txn())).toThrow(
      expect.objectContaining({ code: 'RELEASED' }),
    );
  });

  test('names that could mix or cannot be kept are refused or escaped', async () => {
    const actor = await world.actor();
    for (const name of ['', 'x'.repeat(201)]) {
      expect(() => of(actor, name)).toThrow(
        expect.objectContaining({
          code: 'INVALID_ARGUMENT',
          message: expect.stringMatching(/'name'/),
        }),
      );
    }
    const name = world.name();
    await using _outer = await of(actor, name).acquire();
    await using _inner = await of(actor, `${name}/x`).acquire({ timeout: '5s' });
  });
});
