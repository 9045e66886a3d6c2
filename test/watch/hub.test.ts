import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Ask, type Change, FIRST_REVISION, HubWorld } from './hub-world.ts';

const keys = ['a', 'b', 'ba', 'c', 'd'];

const change: fc.Arbitrary<Change> = fc.record({
  key: fc.constantFrom(...keys),
  remove: fc.boolean(),
  size: fc.constantFrom(0, 10, 300),
});
const changes = fc.array(change, { minLength: 1, maxLength: 4 });

const ask: fc.Arbitrary<Ask> = fc.record({
  key: fc.constantFrom('', ...keys),
  rangeEnd: fc.constantFrom('', '', '*', ...keys),
  // Relative to the revision at the time; 0 stands for "from now on".
  startRevision: fc.integer({ min: -12, max: 4 }),
  puts: fc.boolean(),
  deletes: fc.boolean(),
  prevKv: fc.boolean(),
});

const client = fc.nat({ max: 3 });

const step = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('publish' as const), changes }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('publish-late' as const), first: changes, changes }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('ask' as const), client, ask }) },
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('take' as const), client, count: fc.nat({ max: 5 }) }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('catch-up' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('cancel' as const), client, id: fc.nat({ max: 4 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('compact' as const), back: fc.nat({ max: 10 }) }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('progress' as const), client }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('tick' as const), client }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reconnect' as const), client }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('install' as const),
      missed: fc.array(changes, { maxLength: 4 }),
      back: fc.nat({ max: 10 }),
    }),
  },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

function run(world: HubWorld, steps: readonly Step[]): void {
  for (let count = 0; count < 4; count += 1) world.connect();
  for (const each of steps) {
    const target = 'client' in each ? world.clients[each.client] : undefined;
    switch (each.do) {
      case 'publish':
        world.publish(each.changes);
        break;
      case 'publish-late':
        world.publishLate([each.first, each.changes]);
        break;
      case 'catch-up':
        world.hub.catchUp();
        break;
      case 'compact':
        world.compact(world.revision - each.back);
        break;
      case 'install':
        world.install(each.missed, world.revision - each.back);
        break;
      default: {
        if (target === undefined) throw new Error('no such client');
        runFor(world, target, each);
      }
    }
  }
  world.settle();
}

function runFor(world: HubWorld, target: HubWorld['clients'][number], each: Step): void {
  switch (each.do) {
    case 'ask': {
      const { startRevision } = each.ask;
      const start = startRevision === 0 ? 0 : Math.max(1, world.revision + startRevision);
      world.ask(target, { ...each.ask, startRevision: start });
      break;
    }
    case 'take':
      world.take(target, each.count);
      break;
    case 'cancel':
      target.stream.cancel(BigInt(each.id));
      break;
    case 'progress':
      target.stream.requestProgress();
      break;
    case 'tick':
      target.stream.tickProgress();
      break;
    case 'reconnect':
      world.disconnect(target);
      world.connect();
      break;
    default:
      throw new Error(`not a step of a client: ${each.do}`);
  }
}

const sizes = fc.record({
  ringBytes: fc.constantFrom(1, 600, 100_000),
  streamBytes: fc.constantFrom(1, 500, 100_000),
  catchUpRevisions: fc.constantFrom(1, 3, 1_000),
});

test('every watcher gets exactly its events, once, in order, whole revisions at a time', () => {
  fc.assert(
    fc.property(sizes, fc.array(step, { maxLength: 120, size: 'max' }), (options, steps) => {
      run(new HubWorld(options), steps);
    }),
    { numRuns: 400 },
  );
});

const small = { ringBytes: 600, streamBytes: 500, catchUpRevisions: 3 };
const all: Ask = {
  key: 'a',
  rangeEnd: '*',
  startRevision: 0,
  puts: true,
  deletes: true,
  prevKv: false,
};
const put = (key: string, size = 10): Change => ({ key, remove: false, size });

test('a slow stream falls behind without delaying the others and catches up from history', () => {
  const world = new HubWorld(small);
  const slow = world.connect();
  const fast = world.connect();
  world.ask(slow, all);
  world.ask(fast, all);
  for (let count = 0; count < 50; count += 1) {
    world.publish([put('a', 300)]);
    world.take(fast, 10);
    expect(fast.stream.queuedBytes).toBe(0);
    expect(slow.stream.queuedBytes).toBeLessThanOrEqual(500);
  }
  expect(world.hub.counts.behind).toBe(1);
  world.settle();
  expect(world.historyReads).toBeGreaterThan(0);
});

test('a compaction that passes a slow watcher cancels it with the compact revision', () => {
  const world = new HubWorld(small);
  const slow = world.connect();
  world.ask(slow, all);
  for (let count = 0; count < 20; count += 1) world.publish([put('a', 300)]);
  world.compact(world.revision);
  const kinds: string[] = [];
  for (let delivery = slow.stream.take(); delivery; delivery = slow.stream.take()) {
    kinds.push(delivery.kind);
    if (delivery.kind === 'compacted') expect(delivery.compactRevision).toBe(world.revision);
  }
  expect(kinds).toEqual(['created', 'events', 'compacted']);
  expect(world.hub.counts).toMatchObject({ watchers: 0, behind: 0 });
});

test('a start revision at the compact revision is served, one below is cancelled', () => {
  const world = new HubWorld(small);
  for (let count = 0; count < 9; count += 1) world.publish([put('a')]);
  world.compact(5);
  const client = world.connect();
  world.ask(client, { ...all, startRevision: 4 });
  expect(client.stream.take()).toMatchObject({ kind: 'created', id: 0n, revision: 10 });
  expect(client.stream.take()).toEqual({ kind: 'compacted', id: 0n, compactRevision: 5 });
  world.ask(client, { ...all, startRevision: 5 });
  while (world.hub.catchUp());
  expect(client.stream.take()).toMatchObject({ kind: 'created', id: 1n });
  expect(client.stream.take()).toMatchObject({ kind: 'events', id: 1n });
});

test('a future start revision is silent until it is reached, progress included', () => {
  const world = new HubWorld(small);
  const client = world.connect();
  world.ask(client, { ...all, startRevision: FIRST_REVISION + 3 });
  client.stream.take();
  world.publish([put('a')]);
  client.stream.requestProgress();
  client.stream.tickProgress();
  client.stream.tickProgress();
  expect(client.stream.take()).toBeUndefined();
  world.publish([put('a')]);
  client.stream.requestProgress();
  expect(client.stream.take()).toMatchObject({ kind: 'progress', id: -1n, revision: 3 });
  world.publish([put('a')]);
  expect(client.stream.take()).toMatchObject({ kind: 'events', revision: 4 });
});

test('an unreachable answer to a progress request is dropped: no watcher, or one behind', () => {
  const world = new HubWorld(small);
  const client = world.connect();
  client.stream.requestProgress();
  expect(client.stream.take()).toBeUndefined();
  world.publish([put('a')]);
  world.ask(client, { ...all, startRevision: FIRST_REVISION + 1 });
  client.stream.take();
  client.stream.requestProgress();
  expect(client.stream.take()).toBeUndefined();
});

test('ids: automatic ones take the next free number, a duplicate and an empty range are refused', () => {
  const world = new HubWorld(small);
  const { stream } = world.connect();
  const base = {
    key: Buffer.from('a'),
    rangeEnd: Buffer.alloc(0),
    startRevision: 0,
    puts: true,
    deletes: true,
    prevKv: false,
    progressNotify: false,
    fragment: false,
  };
  stream.create({ ...base, id: 1n });
  stream.create({ ...base, id: 0n });
  stream.create({ ...base, id: 0n });
  stream.create({ ...base, id: 1n });
  stream.create({ ...base, id: 7n, key: Buffer.from('b'), rangeEnd: Buffer.from('b') });
  stream.create({ ...base, id: 8n, startRevision: -1 });
  stream.create({ ...base, id: -5n });
  const answers = Array.from({ length: 7 }, () => stream.take());
  expect(answers).toMatchObject([
    { kind: 'created', id: 1n },
    { kind: 'created', id: 0n },
    { kind: 'created', id: 2n },
    { kind: 'refused', reason: 'mvcc: duplicate watch ID provided on the WatchStream' },
    { kind: 'refused', reason: 'mvcc: watcher range is empty' },
    { kind: 'refused', reason: 'etcdserver: mvcc: required revision has been compacted' },
    { kind: 'created', id: -5n },
  ]);
});

test('nothing follows a cancellation, and what was queued before it comes before it', () => {
  const world = new HubWorld({ ...small, streamBytes: 100_000 });
  const client = world.connect();
  world.ask(client, all);
  world.publish([put('a')]);
  client.stream.cancel(0n);
  client.stream.cancel(0n);
  world.publish([put('a')]);
  const kinds = Array.from({ length: 4 }, () => client.stream.take()?.kind);
  expect(kinds).toEqual(['created', 'events', 'canceled', undefined]);
});

test('a watcher of a snapshot-installing member reads what lies between, or is cancelled', () => {
  const world = new HubWorld(small);
  const client = world.connect();
  world.ask(client, all);
  world.take(client, 1);
  world.install([[put('a')], [put('b')]], -1);
  world.settle();
  expect(world.delivered).toBe(2);
  world.install([[put('a')], [put('b')]], world.revision + 2);
  expect(client.stream.take()).toMatchObject({ kind: 'compacted', compactRevision: 5 });
});

test('notifies once when there is something to take', () => {
  const world = new HubWorld(small);
  const client = world.connect();
  expect(client.wasReady).toBe(false);
  world.ask(client, all);
  expect(client.wasReady).toBe(true);
});

test('progress ticks reach quiet, synced watchers whose client reads', () => {
  const world = new HubWorld(small);
  const client = world.connect();
  world.ask(client, all);
  world.take(client, 1);
  client.stream.tickProgress();
  expect(client.stream.take()).toBeUndefined();
  client.stream.tickProgress();
  expect(client.stream.take()).toMatchObject({ kind: 'progress', id: 0n, revision: 1 });
  for (let count = 0; count < 10; count += 1) client.stream.tickProgress();
  expect(client.stream.queuedBytes).toBeLessThan(200);
});

test('only for those behind is more than the newest revisions held', () => {
  const world = new HubWorld({ ringBytes: 1_000_000, streamBytes: 500, catchUpRevisions: 1_000 });
  const publish = (count: number) => {
    for (let done = 0; done < count; done += 1) world.publish([put('a')]);
  };
  publish(1_000);
  const { ringBytes } = world.hub.counts;
  publish(1_000);
  expect(world.hub.counts.ringBytes).toBe(ringBytes);
  const slow = world.connect();
  world.ask(slow, all);
  publish(1_000);
  expect(world.hub.counts.behind).toBe(1);
  expect(world.hub.counts.ringBytes).toBeGreaterThan(3 * ringBytes);
  world.settle();
  expect(world.historyReads).toBe(0);
  world.publish([put('a')]);
  expect(world.hub.counts.ringBytes).toBe(ringBytes);
});

test('of large revisions that nobody is behind only the newest are held, one at least', () => {
  const world = new HubWorld({ ringBytes: 9_000_000, streamBytes: 500, catchUpRevisions: 1_000 });
  const publish = (count: number, size: number) => {
    for (let done = 0; done < count; done += 1) world.publish([put('a', size)]);
  };
  publish(50, 50_000);
  expect(world.hub.counts.ringBytes).toBeGreaterThan(100_000);
  expect(world.hub.counts.ringBytes).toBeLessThan(300_000);
  publish(1, 1_000_000);
  expect(world.hub.counts.ringBytes).toBeGreaterThan(1_000_000);
  const slow = world.connect();
  world.ask(slow, all);
  publish(50, 50_000);
  expect(world.hub.counts.behind).toBe(1);
  expect(world.hub.counts.ringBytes).toBeGreaterThan(2_500_000);
  world.settle();
  expect(world.historyReads).toBe(0);
});
