/** Watches of a client that want the same share one at the server, and nobody can tell. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Ask, type Change, turn, WatchWorld } from './watch-world.ts';

const put = (...keys: readonly string[]): readonly Change[] =>
  keys.map((key) => ({ key, remove: false }));
const now: Ask = { prefix: 'a', from: undefined };

const change: fc.Arbitrary<Change> = fc.record({
  key: fc.constantFrom('a', 'aa', 'ab', 'b'),
  remove: fc.boolean(),
});
const ask = fc.record({
  prefix: fc.constantFrom('a', 'a', 'aa'),
  // Relative to the revision at the time; 0 stands for "now".
  from: fc.integer({ min: -8, max: 3 }),
  deletes: fc.constantFrom(true, true, true, false),
  progress: fc.constantFrom(false, false, true),
  highWaterMark: fc.constantFrom(1, 3, 100),
});
const follower = fc.nat({ max: 7 });
const step = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('put' as const),
      changes: fc.array(change, { minLength: 1, maxLength: 3 }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('follow' as const), ask }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('read' as const), follower, count: fc.nat({ max: 4 }) }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ do: fc.constant('deliver' as const), count: fc.nat({ max: 6 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('catch-up' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tick' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('cancel' as const), follower }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('cut' as const) }) },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('compact' as const), back: fc.nat({ max: 6 }) }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function run(world: WatchWorld, steps: readonly Step[]): Promise<void> {
  const { store, followers } = world;
  for (const each of steps) {
    const target = 'follower' in each ? followers[each.follower] : undefined;
    switch (each.do) {
      case 'put':
        store.put(each.changes);
        break;
      case 'follow': {
        const { from } = each.ask;
        const start = from === 0 ? undefined : Math.max(1, store.revision + from);
        if (followers.length < 8) world.follow({ ...each.ask, from: start });
        break;
      }
      case 'read':
        target?.read(each.count);
        break;
      case 'deliver':
        store.deliver(each.count);
        world.clock.advance(20);
        break;
      case 'catch-up':
        store.hub.catchUp();
        break;
      case 'tick':
        for (const { stream } of store.taps) stream.tickProgress();
        break;
      case 'cancel':
        await target?.cancel();
        break;
      case 'cut':
        store.cut();
        break;
      case 'compact':
        store.compact(store.revision - each.back);
        break;
    }
    await turn();
    world.check();
  }
}

test('each watch is told exactly what it asked for, whatever the others do', async () => {
  const sizes = fc.record({
    streamBytes: fc.constantFrom(1, 300, 100_000),
    catchUpRevisions: fc.constantFrom(1, 3, 1_000),
  });
  await fc.assert(
    fc.asyncProperty(sizes, fc.array(step, { maxLength: 60, size: 'max' }), async (size, steps) => {
      const world = await WatchWorld.start(size);
      try {
        await run(world, steps);
        // Beyond every start in the future, and something for everybody.
        for (let count = 0; count < 4; count++) world.store.put(put('a', 'aa'));
        await world.settle();
        world.store.put(put('a', 'aa'));
        world.store.put([{ key: 'aa', remove: true }]);
        await world.settle();
        const going = world.followers.filter(({ isCancelled }) => !isCancelled);
        expect(going.flatMap(({ missing }) => missing)).toEqual([]);
        const kinds = new Set(
          going.map(({ ask: { prefix, deletes, progress } }) => `${prefix} ${deletes} ${progress}`),
        );
        expect(world.store.hub.counts.watchers).toBe(kinds.size);
      } finally {
        await world.close();
      }
    }),
    { numRuns: 150 },
  );
});

test('a thousand watches of one prefix are one at the server, with one answer an event', async () => {
  const world = await WatchWorld.start();
  for (let count = 0; count < 1_000; count++) world.follow(now);
  await world.settle();
  expect(world.store.hub.counts.watchers).toBe(1);
  const { answers } = world.store;
  for (let count = 0; count < 10; count++) world.store.put(put('a1'));
  await world.settle();
  expect(world.store.answers - answers).toBe(10);
  expect(world.followers.every(({ notices }) => notices.length === 10)).toBe(true);
  await world.close();
});

test('watches of other ranges, namespaces or options get what is theirs', async () => {
  const world = await WatchWorld.start();
  const kv = world.client.namespace('a').kv;
  const inside = kv.watch({ prefix: '' })[Symbol.asyncIterator]();
  const puts = world.follow({ ...now, deletes: false });
  const all = world.follow(now);
  const first = inside.next();
  await world.settle();
  world.store.put(put('a/k'));
  world.store.put([{ key: 'a/k', remove: true }]);
  await world.settle();
  expect((await first).value).toMatchObject({ events: [{ kv: { key: '/k' } }] });
  expect(all.notices).toMatchObject([{ events: [{ kv: { key: 'a/k' } }] }, { type: 'events' }]);
  expect(puts.notices).toHaveLength(1);
  await world.close();
});

test('who catches up on the past delays nobody who waits for what happens', async () => {
  const world = await WatchWorld.start();
  for (let count = 0; count < 50; count++) world.store.put(put('a'));
  const past = world.follow({ ...now, from: 2 });
  await turn();
  world.store.deliver(10);
  await turn();
  const waiting = world.follow(now);
  await turn();
  world.store.deliver(10);
  await turn();
  waiting.read(1);
  past.read(1_000);
  // The server has not got round to reading history.
  world.store.put(put('a'));
  world.store.deliver(10);
  await turn();
  await turn();
  expect(waiting.notices).toMatchObject([{ revision: 52n }]);
  expect(past.notices).toEqual([]);
  await world.settle();
  expect(past.notices).toHaveLength(51);
  expect(world.store.hub.counts.watchers).toBe(1);
  await world.close();
});

test('a slow consumer holds up nobody and keeps no more than its mark and an answer', async () => {
  const world = await WatchWorld.start({ streamBytes: 100_000, catchUpRevisions: 5 });
  const slow = world.follow({ ...now, highWaterMark: 4 });
  const fast = world.follow(now);
  await world.settle([]);
  for (let count = 0; count < 100; count++) {
    world.store.put(put('a'));
    await world.settle([fast]);
  }
  expect(fast.notices).toHaveLength(100);
  world.store.accepts = false;
  world.store.cut();
  slow.read(1_000);
  for (let count = 0; count < 20; count++) await turn();
  expect(slow.notices).toHaveLength(4);
  world.store.accepts = true;
  await world.settle();
  expect(slow.notices).toHaveLength(100);
  world.store.put(put('a'));
  await world.settle();
  expect(world.store.hub.counts.watchers).toBe(1);
  await world.close();
});

test('a lost connection brings back one watch for all, from where the last of them stands', async () => {
  const world = await WatchWorld.start();
  for (let count = 0; count < 5; count++) world.follow(now);
  await world.settle();
  world.store.put(put('a'));
  await world.settle();
  world.follow({ ...now, from: 9 });
  await world.settle();
  world.store.starts.length = 0;
  world.store.cut();
  for (let count = 0; count < 8; count++) world.store.put(put('a'));
  await world.settle();
  expect(world.store.starts).toEqual([3]);
  expect(world.followers.map(({ notices }) => notices.length)).toEqual([9, 9, 9, 9, 9, 2]);
  await world.close();
});

test('a compaction resets only those that it passed, by one listing', async () => {
  const world = await WatchWorld.start();
  const early = [world.follow(now), world.follow(now)];
  const late = world.follow({ ...now, from: 12 });
  await world.settle();
  expect(world.store.hub.counts.watchers).toBe(1);
  world.store.accepts = false;
  world.store.cut();
  for (let count = 0; count < 9; count++) world.store.put(put('a'));
  world.store.compact(10);
  world.store.accepts = true;
  await world.settle();
  for (let count = 0; count < 3; count++) world.store.put(put('a'));
  await world.settle();
  for (const { notices } of early) {
    expect(notices.map(({ type, revision }) => `${type} ${revision}`)).toEqual([
      'reset 10',
      'events 11',
      'events 12',
      'events 13',
    ]);
  }
  expect(late.notices.map(({ type, revision }) => `${type} ${revision}`)).toEqual([
    'events 12',
    'events 13',
  ]);
  await world.close();
});
