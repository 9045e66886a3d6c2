/**
 * A store that is restored from an older snapshot under everything that shows a part of it: each view
 * shows what the snapshot holds, whether the store's revisions went back or have passed by other writes
 * those that the view had seen.
 */
import { describe, expect, test } from 'vitest';
import type { View } from '../../recipes/common/view.ts';
import { Conclave, connect } from '../../recipes/connect.ts';
import type { RecipeSession } from '../../recipes/session.ts';
import { storeMissing } from '../support/store.ts';
import { startRewindableStore } from './rewindable-store.ts';
import { eventually } from './world.ts';

type Case = {
  /** Makes what the view then shows as `shown(view)`: once in the store before, once in the snapshot. */
  readonly make: (session: RecipeSession, what: 'before' | 'after') => Promise<unknown>;
  readonly view: (session: RecipeSession) => View<unknown>;
  /** What there is to see, shortened; the same for what `make` was told to make. */
  readonly shown: (state: never) => unknown;
};

const meta = (entry: { readonly meta: Readonly<Record<string, string>> } | null | undefined) =>
  entry?.meta['what'] ?? null;

const of = <State>(given: {
  readonly make: Case['make'];
  readonly view: (session: RecipeSession) => View<State>;
  readonly shown: (state: State) => unknown;
}): Case => given;

const amount = { before: 5n, after: 3n };
const step = { id: 'one', run: async () => undefined };

const rate = { rate: 1, per: '1h', burst: 10 } as const;

type Meeting = {
  enter?(): Promise<unknown>;
  wait?(): Promise<unknown>;
  readonly state$: View<{ readonly waiting: readonly unknown[] }>;
};

/** Leaves one party waiting for another. */
const waits = async (meeting: Meeting) => {
  const waiting = meeting.enter?.() ?? meeting.wait?.();
  waiting?.catch(() => undefined);
  for await (const state of meeting.state$) if (state.waiting.length > 0) break;
};

const cases: Readonly<Record<string, Case>> = {
  'counter.value$': of({
    make: (session, what) => session.counter('n').add(amount[what]),
    view: (session) => session.counter('n').value$,
    shown: (value) => (value === 5n ? 'before' : value === 3n ? 'after' : null),
  }),
  'adder.sum$': of({
    make: (session, what) => session.adder('n', { shards: 1 }).add(amount[what]),
    view: (session) => session.adder('n').sum$,
    shown: (sum) => (sum === 5n ? 'before' : sum === 3n ? 'after' : null),
  }),
  'value.value$': of({
    make: (session, what) => session.value<string>('v').set(what),
    view: (session) => session.value<string>('v').value$,
    shown: (state) => state?.value ?? null,
  }),
  'mutex.watch$': of({
    make: (session) => session.mutex('m').acquire(),
    view: (session) => session.mutex('m').watch$,
    shown: ({ holder }) => meta(holder),
  }),
  'rw.watch$': of({
    make: (session) => session.rw('m').write(),
    view: (session) => session.rw('m').watch$,
    shown: ({ holders }) => meta(holders[0]),
  }),
  'semaphore.watch$': of({
    make: (session) => session.semaphore('s', { limit: 1 }).acquire(),
    view: (session) => session.semaphore('s').watch$,
    shown: ({ holders }) => meta(holders[0]),
  }),
  'line.watch$': of({
    make: (session) => session.line('l', { policy: (_me, ahead) => ahead.at(-1) }).acquire(),
    view: (session) => session.line('l', { policy: (_me, ahead) => ahead.at(-1) }).watch$,
    shown: (line) => meta(line[0]),
  }),
  'rateLimit.watch$': of({
    make: (session, what) => session.rateLimit('r', rate).take(Number(amount[what])),
    view: (session) => session.rateLimit('r', rate).watch$,
    shown: ({ available }) => (available === 5 ? 'before' : available === 7 ? 'after' : null),
  }),
  'cyclicBarrier.state$': of({
    make: (session) => waits(session.cyclicBarrier('c', { parties: 2 })),
    view: (session) => session.cyclicBarrier('c', { parties: 2 }).state$,
    shown: ({ waiting }) => meta(waiting[0]),
  }),
  'doubleBarrier.state$': of({
    make: (session) => waits(session.doubleBarrier('d', { parties: 2 })),
    view: (session) => session.doubleBarrier('d', { parties: 2 }).state$,
    shown: ({ waiting }) => meta(waiting[0]),
  }),
  'barrier.state$': of({
    make: async (session, what) => {
      if (what === 'after') await session.barrier('b').raise();
    },
    view: (session) => session.barrier('b').state$,
    shown: (state) => (state.raised ? 'after' : 'before'),
  }),
  'latch.state$': of({
    make: (session, what) => session.latch('l', { count: 2 }).arrive(what),
    view: (session) => session.latch('l', { count: 2 }).state$,
    shown: ({ arrived }) => arrived[0]?.id ?? null,
  }),
  'election.leader$': of({
    make: (session, what) => session.election<string>('e').campaign({ value: what }),
    view: (session) => session.election<string>('e').leader$,
    shown: (leader) => leader?.value ?? null,
  }),
  'election.candidates$': of({
    make: (session, what) => session.election<string>('e').campaign({ value: what }),
    view: (session) => session.election<string>('e').candidates$,
    shown: ([first]) => first?.value ?? null,
  }),
  'migrations.state$': of({
    make: async (session, what) => {
      if (what === 'after') await session.migrations('m', [step]).run();
    },
    view: (session) => session.migrations('m', [step]).state$,
    shown: ({ steps: [first] }) => (first?.state === 'done' ? 'after' : 'before'),
  }),
  'group.members$': of({
    make: (session, what) => session.group<string>('g').join({ id: what, data: what }),
    view: (session) => session.group<string>('g').members$,
    shown: ({ members: [first] }) => first?.id ?? null,
  }),
  'pool.instances$': of({
    make: (session, what) =>
      session.discovery<undefined>('d').register({ id: what, address: 'a:1' }),
    view: (session) => session.discovery<undefined>('d').pool().instances$,
    shown: ([first]) => first?.id ?? null,
  }),
};

const histories = {
  'the revisions went back': { fillBefore: 30, fillAfter: 0 },
  'other writes have passed the revisions': { fillBefore: 0, fillAfter: 30 },
};

describe.skipIf(storeMissing)('restore an old snapshot', () => {
  describe.each(Object.entries(histories))('%s', (_history, { fillBefore, fillAfter }) => {
    test.each(Object.entries(cases))('%s shows what is there now', async (_name, each) => {
      const { make, view, shown } = each;
      await using store = await startRewindableStore();
      await using older = new Conclave(store.after);
      await using newer = new Conclave(store.before);
      // The very same revisions, as far as the recipe goes: only what they wrote differs.
      await Promise.all([
        make(await newer.session({ ttl: '60s', meta: { what: 'before' } }), 'before'),
        make(await older.session({ ttl: '60s', meta: { what: 'after' } }), 'after'),
      ]);
      for (let n = 0; n < fillBefore; n++) await store.before.kv.put('filler', '');
      for (let n = 0; n < fillAfter; n++) await store.after.kv.put('filler', '');
      await using conclave = await connect(store.endpoint);
      const session = await conclave.session({ ttl: '60s' });
      const seen: unknown[] = [];
      const following = view(session).subscribe((state) => seen.push(shown(state as never)));
      await eventually('what was there', () => seen.at(-1) === 'before');
      store.rewind();
      await eventually('what is there now', () => seen.at(-1) === 'after');
      following.unsubscribe();
      expect(seen).not.toContain(undefined);
    });
  });
});
