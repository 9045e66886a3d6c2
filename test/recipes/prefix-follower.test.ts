/** The keeper of a prefix over a made-up member: watches that do not work, and what they cost. */
import { expect, test } from 'vitest';
import { PrefixFollower } from '../../recipes/common/prefix-follower.ts';
import { viewPrefix } from '../../recipes/common/prefix-view.ts';
import type { Client } from '../../sdk/client.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { EventSource } from '../../sdk/observe.ts';
import type { WatchNotice } from '../../sdk/watch.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { settle } from './world.ts';

type Watched = AsyncGenerator<WatchNotice>;

/** A store with nothing under any prefix, whose watches go on as a test says. */
class Store {
  readonly clock = new ManualClock();
  readonly client: Client;
  /** When each was asked for. */
  readonly listsMs: number[] = [];
  readonly watchesMs: number[] = [];
  revision = 7n;
  /** Listings are answered once it has resolved. */
  answers: Promise<unknown> = Promise.resolve();
  watch: (signal: AbortSignal) => Watched = broken;

  constructor() {
    const { clock } = this;
    const kv = {
      list: async () => {
        this.listsMs.push(clock.monotonicMs());
        await this.answers;
        return { kvs: [], revision: this.revision, count: 0n, more: false };
      },
      watch: (_range: unknown, { signal }: { readonly signal: AbortSignal }) => {
        this.watchesMs.push(clock.monotonicMs());
        return this.watch(signal);
      },
    };
    const events$ = new EventSource<never>().observable;
    this.client = { kv, clock, random: () => 0.999, events$ } as unknown as Client;
  }

  /** Lets time pass, and all that it brings about happen. */
  async pass(ms: number): Promise<void> {
    for (let passed = 0; passed < ms; passed += 10) {
      this.clock.advance(10);
      await settle(2);
    }
  }
}

async function* broken(): Watched {
  yield* [];
  throw new ConclaveError('UNREACHABLE', 'broken by the test');
}

/** A watch on which nothing happens. */
async function* quiet(signal: AbortSignal): Watched {
  yield* [];
  await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
}

test('a watch that breaks each time right after its listing makes no busy loop', async () => {
  const store = new Store();
  const closing = new AbortController();
  const views = viewPrefix(store.client, 'p/', { signal: closing.signal });
  let shown = 0;
  const running = (async () => {
    for await (const _ of views) shown += 1;
  })();
  await store.pass(30_000);
  expect(shown).toBe(1);
  expect(store.listsMs.length).toBe(1);
  // Twice as long each time, until it is five seconds.
  const waitsMs = store.watchesMs.slice(1).map((at, index) => at - (store.watchesMs[index] ?? 0));
  expect(waitsMs.slice(0, 4)).toEqual([40, 80, 160, 320]);
  expect(Math.max(...waitsMs)).toBe(5_000);
  expect(store.watchesMs.length).toBeLessThan(16);
  // Without a watch the copy is compared all the same.
  await store.pass(60_000);
  expect(store.listsMs.length).toBe(2);
  closing.abort();
  await running;
});

test.each<[string, (store: Store) => Watched]>([
  [
    'has brought something',
    async function* (store) {
      store.revision += 1n;
      yield { type: 'events', revision: store.revision, events: [] };
    },
  ],
  [
    'has lived',
    async function* ({ clock }) {
      yield* [];
      await new Promise<void>((resolve) => clock.setTimer(10_000, resolve));
    },
  ],
])('after a watch that %s the next follows soon', async (_, lives) => {
  const store = new Store();
  const follower = new PrefixFollower(store.client, { prefix: 'p/' }, () => undefined);
  await store.pass(10_000);
  const failed = store.watchesMs.length;
  let brokeMs = 0;
  store.watch = async function* () {
    store.watch = quiet;
    yield* lives(store);
    brokeMs = store.clock.monotonicMs();
    yield* broken();
  };
  await store.pass(20_000);
  expect(store.watchesMs.length).toBe(failed + 2);
  expect((store.watchesMs.at(-1) ?? 0) - brokeMs).toBeLessThanOrEqual(50);
  await follower.close();
});

test('once a watch stands again the copy is compared, and a store that is another is noticed', async () => {
  const store = new Store();
  const told: string[] = [];
  const follower = new PrefixFollower(store.client, { prefix: 'p/' }, (notice) => {
    told.push(notice.type === 'reset' ? `reset ${notice.reason}` : notice.type);
  });
  await store.pass(1_000);
  store.revision = 5n;
  store.watch = quiet;
  await store.pass(10_000);
  expect(told).toEqual(['reset start', 'stale', 'reset rewound', 'fresh']);
  expect([follower.stale, follower.copy.revision]).toEqual([false, 5n]);
  await follower.close();
});

test('a loop that takes its time misses nothing, and its lag is not taken for a loss', async () => {
  const store = new Store();
  store.watch = async function* (signal) {
    while (store.revision < 10n) {
      store.revision += 1n;
      yield { type: 'events', revision: store.revision, events: [] };
    }
    yield* quiet(signal);
  };
  const closing = new AbortController();
  const views = viewPrefix(store.client, 'p/', { signal: closing.signal, recheckMs: 1_000 });
  const seen: bigint[] = [];
  const running = (async () => {
    for await (const { revision } of views) {
      seen.push(revision);
      await new Promise<void>((resolve) => store.clock.setTimer(5_000, resolve));
    }
  })();
  await store.pass(30_000);
  expect(seen).toEqual([7n, 8n, 9n, 10n]);
  closing.abort();
  await running;
});

test('after the end nothing is told, and a comparison that was under way is the last', async () => {
  const store = new Store();
  let refuse = () => {};
  store.watch = async function* () {
    yield* [];
    await new Promise<void>((resolve) => {
      refuse = resolve;
    });
    throw new ConclaveError('PERMISSION_DENIED', 'refused by the test');
  };
  const told: string[] = [];
  const follower = new PrefixFollower(
    store.client,
    { prefix: 'p/', recheckMs: 1_000, endsRefused: true },
    ({ type }) => {
      told.push(type);
    },
  );
  await store.pass(100);
  let answer = () => {};
  store.answers = new Promise<void>((resolve) => {
    answer = resolve;
  });
  // Longer than a store may take that answers well.
  await store.pass(3_500);
  refuse();
  await follower.ended;
  expect(told).toEqual(['reset', 'stale', 'refused']);
  expect(store.listsMs.length).toBe(2);
  answer();
  await store.pass(10_000);
  expect(told).toEqual(['reset', 'stale', 'refused']);
  expect(store.listsMs.length).toBe(2);
});
