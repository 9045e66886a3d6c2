import { describe, expect, test } from 'vitest';
import { connect } from '../../recipes/connect.ts';
import type { CacheEvent } from '../../recipes/group/cache-entry.ts';
import { type CacheOptions, PrefixCache } from '../../recipes/group/prefix-cache.ts';
import { eventsKept } from '../../recipes/group/steps.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { op } from '../../sdk/txn.ts';
import { storeMissing } from '../support/store.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { type Actor, deafContext, eventually, settle, useWorld } from './world.ts';

describe.skipIf(storeMissing)('cache', () => {
  const world = useWorld();
  const of = (actor: Actor, prefix: string, options: CacheOptions<number> = {}) =>
    new PrefixCache<number>(actor.context, prefix, options);
  const kv = () => world.operator().kv;
  const newPrefix = () => `${world.name('cache')}/`;
  const content = (cache: PrefixCache<number>) =>
    Object.fromEntries([...cache.entries()].map(({ key, value }) => [key, value]));
  const follow = (cache: PrefixCache<number>) => {
    const events: CacheEvent<number>[] = [];
    let isOver = false;
    cache.changes$.subscribe({
      next: (event) => events.push(event),
      complete: () => {
        isOver = true;
      },
    });
    return { events, isOver: () => isOver };
  };
  const told = (events: readonly CacheEvent<number>[]) =>
    events.map((event) => {
      if (event.type === 'reset') return `reset ${event.reason} ${event.snapshot.entries.size}`;
      if (event.type !== 'changed') return event.type;
      return event.changes.map((change) => `${change.type} ${change.key}`).join(', ');
    });

  test('shows what is there, at the cost of one exchange and a watch; reading costs nothing', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await kv().put(`${prefix}a`, '1');
    const { revision } = await kv().put(`${prefix}deep/b`, '2');
    const cache = of(actor, prefix);
    await cache.ready();
    await cache.ready();
    expect([cache.get('a'), cache.get('deep/b'), cache.get('c')]).toEqual([1, 2, undefined]);
    expect([cache.has('a'), cache.has('c'), cache.size]).toEqual([true, false, 2]);
    expect(cache.entry('deep/b')?.modRevision).toBe(revision);
    expect(cache.revision).toBeGreaterThanOrEqual(revision);
    expect(cache.stale).toBe(false);
    expect(actor.faults.take().map(({ kind }) => kind)).toEqual(['list', 'watch']);
  });

  test('a write is read once its revision is waited for', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await using cache = of(actor, prefix);
    const { revision } = await kv().put(`${prefix}a`, '1');
    expect(await cache.waitForRevision(revision)).toBeGreaterThanOrEqual(revision);
    expect(cache.get('a')).toBe(1);
    const deleted = await kv().delete(`${prefix}a`);
    await cache.waitForRevision(deleted.revision);
    expect(cache.has('a')).toBe(false);
    // Nothing is sent beside the listing and the watch.
    expect(actor.faults.take().map(({ kind }) => kind)).toEqual(['list', 'watch']);
  });

  test('who waits for a write does so until the watch brings it', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    const watch = actor.client.kv.watch.bind(actor.client.kv);
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    async function* late<T>(notices: AsyncIterable<T>): AsyncGenerator<T> {
      await released;
      yield* notices;
    }
    Object.assign(actor.client.kv, {
      watch: (range: object, options: object) => late(watch(range as never, options)),
    });
    await using cache = of(actor, prefix);
    await cache.ready();
    const { revision } = await kv().put(`${prefix}a`, '1');
    let isOver = false;
    const waiting = cache.waitForRevision(revision).finally(() => {
      isOver = true;
    });
    await settle();
    expect([isOver, cache.has('a')]).toEqual([false, false]);
    release();
    await waiting;
    expect(cache.get('a')).toBe(1);
  });

  test('a revision is told whole, and a snapshot is of one revision', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await kv().put(`${prefix}old`, '0');
    await using cache = of(actor, prefix);
    const { events } = follow(cache);
    await cache.ready();
    const before = cache.snapshot();
    expect(cache.snapshot()).toBe(before);
    const txn = kv()
      .txn()
      .then(op.put(`${prefix}a`, '1'), op.put(`${prefix}b`, '1'), op.delete(`${prefix}old`));
    const { revision } = await txn.commit();
    await cache.waitForRevision(revision);
    expect(content(cache)).toEqual({ a: 1, b: 1 });
    expect([...before.entries.keys()]).toEqual(['old']);
    expect(told(events).slice(1)).toEqual(['put a, put b, delete old']);
    expect(events[1]).toMatchObject({
      revision,
      changes: [{}, {}, { previous: { value: 0 } }],
    });
  });

  test('a cache that has not reached the store yet shows nothing, not emptiness', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await kv().put(`${prefix}a`, '1');
    actor.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    const cache = of(actor, prefix);
    const { events } = follow(cache);
    await eventually('staleness', () => events.length === 1);
    expect(told(events)).toEqual(['stale']);
    expect([cache.stale, cache.revision]).toEqual([true, 0n]);
    for (const read of [() => cache.get('a'), () => cache.entries(), () => cache.size]) {
      expect(read).toThrow(expect.objectContaining({ code: 'FAILED_PRECONDITION' }));
    }
    const { signal } = new AbortController();
    await expect(cache.ready({ signal, timeout: 20 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    actor.faults.heal();
    await cache.ready();
    expect(told(events)).toEqual(['stale', 'reset start 1', 'fresh']);
  });

  test('while the store cannot be reached the last known stays, and is said to be stale', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await kv().put(`${prefix}a`, '1');
    await using cache = of(actor, prefix, { recheck: 40 });
    const { events } = follow(cache);
    await cache.ready();
    actor.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    await eventually('staleness', () => cache.stale);
    expect(content(cache)).toEqual({ a: 1 });
    expect(cache.snapshot().stale).toBe(true);
    actor.faults.heal();
    await eventually('freshness', () => !cache.stale);
    expect(cache.snapshot().stale).toBe(false);
    expect(told(events)).toEqual(['reset start 1', 'stale', 'fresh']);
  });

  test('compact under every watch: what could not be followed is told as a reset', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    // The watch is made to begin at a revision that is compacted.
    const watch = actor.client.kv.watch.bind(actor.client.kv);
    Object.assign(actor.client.kv, {
      watch: (range: object, options: object) => watch(range as never, { ...options, from: 2n }),
    });
    await kv().put(`${prefix}a`, '1');
    const { revision } = await kv().put(`${prefix}b`, '1');
    await kv().compact(revision);
    await using cache = of(actor, prefix);
    const { events } = follow(cache);
    await eventually('the second reset', () => events.length === 2);
    await kv().delete(`${prefix}b`);
    await eventually('the deletion', () => events.length === 3);
    expect(told(events)).toEqual(['reset start 2', 'reset compacted 2', 'delete b']);
    expect(content(cache)).toEqual({ a: 1 });
  });

  test('restart a watch mid-replay: no revision is told twice, and none is left out', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    // Each watch breaks after its third notice.
    const watch = actor.client.kv.watch.bind(actor.client.kv);
    let starts = 0;
    Object.assign(actor.client.kv, {
      watch: (range: object, options: object) => {
        starts += 1;
        return breaking(watch(range as never, options));
      },
    });
    async function* breaking<T>(notices: AsyncIterable<T>): AsyncGenerator<T> {
      let left = 3;
      for await (const notice of notices) {
        yield notice;
        left -= 1;
        if (left === 0) throw new ConclaveError('UNREACHABLE', 'broken by the test');
      }
    }
    await using cache = of(actor, prefix);
    const { events } = follow(cache);
    await cache.ready();
    const written: bigint[] = [];
    for (let value = 0; value < 10; value++) {
      written.push((await kv().put(`${prefix}a`, `${value}`)).revision);
    }
    await eventually('the last', () => cache.get('a') === 9);
    const revisions = events.flatMap((event) => (event.type === 'changed' ? event.revision : []));
    expect(revisions).toEqual(written);
    expect(starts).toBeGreaterThan(2);
  });

  test('restore an old snapshot: revisions that run backwards are told as a reset', async () => {
    await using store = await startRewindableStore();
    const prefix = newPrefix();
    await store.after.kv.put(`${prefix}a`, '1');
    await store.before.kv.put(`${prefix}a`, '1');
    for (let value = 2; value < 6; value++) await store.before.kv.put(`${prefix}b`, `${value}`);
    const conclave = await connect(store.endpoint);
    const session = await conclave.session();
    const cache = session.cache<number>(prefix);
    const { events } = follow(cache);
    await cache.ready();
    const { revision } = cache;
    expect(content(cache)).toEqual({ a: 1, b: 5 });
    store.rewind();
    // No watch tells: each waits for revisions that the store had before.
    await eventually('the reset', () => cache.revision < revision);
    expect(content(cache)).toEqual({ a: 1 });
    expect(told(events).filter((line) => line.startsWith('reset'))).toEqual([
      'reset start 2',
      'reset rewound 1',
    ]);
    const after = await store.after.kv.put(`${prefix}c`, '3');
    await cache.waitForRevision(after.revision);
    expect(cache.get('c')).toBe(3);
    await conclave.close();
  });

  test('restore an old snapshot that holds the same: the revision is lower all the same', async () => {
    await using store = await startRewindableStore();
    const prefix = newPrefix();
    for (const { kv: each } of [store.before, store.after]) await each.put(`${prefix}a`, '1');
    for (let filler = 0; filler < 9; filler++) await store.before.kv.put('filler', `${filler}`);
    const conclave = await connect(store.endpoint);
    const session = await conclave.session();
    const cache = session.cache<number>(prefix);
    const { events } = follow(cache);
    await cache.ready();
    store.rewind();
    await eventually('the reset', () => told(events).includes('reset rewound 1'));
    // A watch from the revision of before would not hear of this one.
    await store.after.kv.put(`${prefix}a`, '2');
    await eventually('the news', () => cache.get('a') === 2);
    expect(told(events).filter((line) => line.startsWith('reset'))).toHaveLength(2);
    await conclave.close();
  });

  test('what no watch brings is found by comparing, and told as a reset', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await kv().put(`${prefix}a`, '1');
    await kv().put(`${prefix}b`, '1');
    const cache = new PrefixCache<number>(deafContext(actor), prefix, { recheck: 40 });
    const { events } = follow(cache);
    await cache.ready();
    await kv().delete(`${prefix}a`);
    await kv().put(`${prefix}b`, '2');
    await kv().put(`${prefix}c`, '3');
    await eventually('the reset', () => events.length === 2);
    expect(told(events)).toEqual(['reset start 2', 'reset missed 2']);
    expect(content(cache)).toEqual({ b: 2, c: 3 });
    await cache.close();
  });

  test('a revision that no watch brings is read anew, and one that is not there yet is refused', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    const cache = new PrefixCache<number>(deafContext(actor), prefix);
    const { events } = follow(cache);
    await cache.ready();
    const { revision } = await kv().put(`${prefix}a`, '1');
    await cache.waitForRevision(revision);
    expect(cache.get('a')).toBe(1);
    expect(told(events)).toEqual(['reset start 0', 'reset asked 1']);
    await expect(cache.waitForRevision(1n << 50n)).rejects.toMatchObject({
      code: 'FUTURE_REVISION',
    });
    await cache.close();
  });

  test('writes while a comparison is under way are no difference', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await using cache = of(actor, prefix, { recheck: 15 });
    const { events } = follow(cache);
    await cache.ready();
    let value = 0;
    actor.faults.before = async ({ kind }) => {
      if (kind !== 'list') return;
      value += 1;
      await kv().put(`${prefix}a`, `${value}`);
      await kv().delete(`${prefix}b`);
    };
    actor.faults.after = async ({ kind }) => {
      if (kind !== 'list') return;
      await kv().delete(`${prefix}a`);
      await kv().put(`${prefix}b`, `${value}`);
    };
    await eventually('comparisons', () => value >= 4);
    actor.faults.heal();
    await settle();
    expect(told(events).filter((line) => line.startsWith('reset'))).toEqual(['reset start 0']);
  });

  test('more than the cache may hold is refused, and nothing is dropped silently', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await kv().put(`${prefix}a`, '1');
    await kv().put(`${prefix}b`, '1');
    const full = { code: 'FULL', retryable: false };
    const tooSmall = of(actor, prefix, { maxEntries: 1 });
    await expect(tooSmall.ready()).rejects.toMatchObject(full);
    const bytes = of(actor, prefix, { maxBytes: 2 * prefix.length + 3 });
    await expect(bytes.ready()).rejects.toMatchObject(full);
    const cache = of(actor, prefix, { maxEntries: 2, maxBytes: 10_000 });
    const { events, isOver } = follow(cache);
    await cache.ready();
    expect(cache.size).toBe(2);
    await kv().put(`${prefix}c`, '1');
    await eventually('the end', isOver);
    expect(told(events)).toEqual(['reset start 2', 'refused']);
    expect(() => cache.get('a')).toThrow(expect.objectContaining(full));
    await expect(cache.waitForRevision(1n)).rejects.toMatchObject(full);
    const late = follow(cache);
    expect(told(late.events)).toEqual(['refused']);
  });

  test('what the codec does not understand spoils one key, not the cache', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await kv().put(`${prefix}good`, '1');
    await kv().put(`${prefix}bad`, '{');
    await kv().put(Buffer.concat([Buffer.from(prefix), Buffer.from([0xff])]), '1');
    await using cache = of(actor, prefix);
    const { events } = follow(cache);
    await cache.ready();
    expect(content(cache)).toEqual({ good: 1 });
    expect([...cache.snapshot().unreadable.keys()].sort()).toEqual(['bad', '\ufffd'].sort());
    expect(() => cache.get('bad')).toThrow(expect.objectContaining({ code: 'CODEC' }));
    expect(cache.has('bad')).toBe(true);
    const spoiled = await kv().put(`${prefix}good`, '{');
    const mended = await kv().put(`${prefix}bad`, '2');
    await cache.waitForRevision(mended.revision);
    expect(spoiled.revision).toBeLessThan(mended.revision);
    expect(told(events).slice(1)).toEqual(['unreadable good', 'put bad']);
    expect(content(cache)).toEqual({ bad: 2 });
  });

  test('a loop that lags too far behind gets one reset for all that it missed', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    await using cache = of(actor, prefix);
    await cache.ready();
    const loop = cache.changes()[Symbol.asyncIterator]();
    expect((await loop.next()).value).toMatchObject({ type: 'reset', reason: 'start' });
    let last = 0n;
    for (let at = 0; at <= eventsKept; at += 50) {
      const writes = Array.from({ length: 50 }, (_, index) =>
        kv().put(`${prefix}${at + index}`, '1'),
      );
      for (const { revision } of await Promise.all(writes)) if (revision > last) last = revision;
    }
    await eventually('all of them', () => cache.revision >= last);
    const { value } = await loop.next();
    expect(value).toMatchObject({ type: 'reset', reason: 'overflow' });
    expect(value?.type === 'reset' && value.snapshot.entries.size).toBe(cache.size);
    const { revision } = await kv()
      .txn()
      .then(op.put(`${prefix}x`, '1'))
      .commit();
    expect((await loop.next()).value).toMatchObject({ type: 'changed', revision });
    await loop.return?.();
    expect(await loop.next()).toMatchObject({ done: true });
  });

  test('kill the session at every step of a wait: the wait ends at once, and the cache goes on', async () => {
    const actor = await world.actor({ ttl: '2s' });
    const prefix = newPrefix();
    const hidden = await actor.another();
    hidden.faults.plan = ({ kind }) => (kind === 'list' ? 'refuse' : 'pass');
    const unready = of(hidden, prefix);
    const ready = unready.ready();
    ready.catch(() => undefined);
    await hidden.session.close();
    await expect(ready).rejects.toMatchObject({ code: 'CLOSED' });
    actor.faults.heal();
    await using cache = of(actor, prefix);
    await cache.ready();
    const waiting = cache.waitForRevision(1n << 50n);
    waiting.catch(() => undefined);
    await actor.killLease();
    await expect(waiting).rejects.toMatchObject({ code: expect.stringMatching(/LOST|FUTURE/) });
    await eventually('the loss', () => actor.session.state === 'lost');
    await expect(cache.waitForRevision(1n << 50n)).rejects.toMatchObject({ code: 'SESSION_LOST' });
    await kv().put(`${prefix}a`, '1');
    await eventually('the news', () => cache.get('a') === 1);
    await unready.close();
  });

  test('names options that do not exist, and what is of another type', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    expect(() => of(actor, prefix, { maxEntires: 1 } as object)).toThrow(/mean 'maxEntries'/);
    expect(() => of(actor, prefix, { codec: {} as never })).toThrow(/'codec'/);
    expect(() => of(actor, prefix, null as never)).toThrow(/'options'/);
    await using cache = of(actor, prefix);
    await expect(cache.ready({ timeuot: 1 } as object)).rejects.toThrow(/'timeuot'/);
    await expect(cache.waitForRevision(1n, { timeuot: 1 } as object)).rejects.toThrow(/'timeuot'/);
    expect(() => cache.changes({ singal: 1 } as object)).toThrow(/'singal'/);
  });

  test('a prefix that is not well-formed would show the keys of another: it is refused', async () => {
    const actor = await world.actor();
    const root = world.name();
    await kv().put(`${root}\ufffd/key`, '1');
    expect(() => of(actor, `${root}\ud800/`)).toThrow(/'prefix': it must be a well-formed text/);
    expect(() => of(actor, `${'x'.repeat(1_024)}/`)).toThrow(/1025 bytes.*at most 1024 bytes/);
    await using cache = of(actor, `${root}\u{1f600}/`);
    await cache.ready();
    expect(cache.size).toBe(0);
  });

  test('wrong use: closing twice is harmless, a closed cache refuses, bad input is named', async () => {
    const actor = await world.actor();
    const prefix = newPrefix();
    const cache = of(actor, prefix);
    const { isOver } = follow(cache);
    await cache.ready();
    const waiting = cache.waitForRevision(1n << 50n);
    waiting.catch(() => undefined);
    await Promise.all([cache.close(), cache.close()]);
    await cache[Symbol.asyncDispose]();
    await expect(waiting).rejects.toMatchObject({ code: 'CLOSED' });
    expect(() => cache.get('a')).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(isOver()).toBe(true);
    expect(follow(cache)).toMatchObject({ events: [] });
    const seen: unknown[] = [];
    for await (const event of cache.changes()) seen.push(event);
    expect(seen).toEqual([]);
    for (const bad of ['', 'a', 'a/b', 7 as never])
      expect(() => of(actor, bad)).toThrow(/'prefix'/);
    expect(() => of(actor, prefix, { maxEntries: 0 })).toThrow(/'maxEntries'/);
    expect(() => of(actor, prefix, { maxBytes: 0.5 })).toThrow(/'maxBytes'/);
    expect(() => of(actor, prefix, { recheck: 1 })).toThrow(/'recheck'/);
    await using open = of(actor, prefix);
    await expect(open.waitForRevision(-1n)).rejects.toThrow(/'revision'/);
    const signal = AbortSignal.abort();
    await expect(open.ready({ signal })).rejects.toMatchObject({ code: 'ABORTED' });
    await open.ready();
    await actor.close();
    expect(() => open.get('a')).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });
});
