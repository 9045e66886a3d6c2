/**
 * A store that is restored from an old snapshot under locks, workers and numbers: nobody goes on
 * believing that it holds what the store no longer knows, and whoever waits gets its turn.
 */
import { describe, expect, test } from 'vitest';
import { Conclave, connect } from '../../recipes/connect.ts';
import { noMetrics } from '../../recipes/metrics.ts';
import type { RecipeSession } from '../../recipes/session.ts';
import type { ConclaveError } from '../../sdk/errors.ts';
import { type Operation, op } from '../../sdk/txn.ts';
import { storeMissing } from '../support/store.ts';
import { type RewindableStore, startRewindableStore } from './rewindable-store.ts';
import { eventually } from './world.ts';

type Held = {
  readonly isHeld: boolean;
  readonly signal: AbortSignal;
  release(): Promise<void>;
};

type Kind = (session: RecipeSession, name: string) => Promise<Held>;

const recheck = 100;

/** Of leases in the snapshot: nobody renews them there before clients come, however slow the machine. */
const untilRewound = '60s';

const kinds: Readonly<Record<string, Kind>> = {
  mutex: (session, name) => session.mutex(name, { recheck }).acquire(),
  'mutex in the layout of etcd': (session, name) =>
    session.mutex(name, { recheck, layout: 'etcd' }).acquire(),
  'rw, to write': (session, name) => session.rw(name, { recheck }).write(),
  'rw, upgradable': (session, name) => session.rw(name, { recheck }).upgradable(),
  semaphore: (session, name) => session.semaphore(name, { limit: 1, recheck }).acquire(),
  'multi-lock': (session, name) => session.multi([name, `${name}-2`], { recheck }).acquire(),
  'line with a rule': (session, name) =>
    session.line(name, { policy: (_me, ahead) => ahead.at(-1), recheck }).acquire(),
};

/** A client, and how many of its calls have learned that they must wait. */
const connectCounting = async ({ endpoint }: RewindableStore) => {
  let waits = 0;
  const contended = ({ kind }: { kind: string }) => {
    if (kind === 'wait') waits += 1;
  };
  const conclave = await connect({
    endpoints: endpoint,
    metrics: { ...noMetrics, contended },
  });
  const waiting = (count: number) => eventually(`${count} to wait`, () => waits >= count);
  return { conclave, waiting, [Symbol.asyncDispose]: () => conclave.close() };
};

/** More revisions than anything of the older store will have. */
const goAhead = async ({ before }: RewindableStore) => {
  for (let n = 0; n < 30; n++) await before.kv.put('filler', `${n}`);
};

/** What the store holds now, at the same revisions, by the same leases. */
const takeSnapshot = async ({ before, after }: RewindableStore, leases: readonly bigint[]) => {
  for (const id of leases) await after.leases.grant(untilRewound, { id });
  const listed = await before.kv.list({ prefix: '' });
  const kvs = listed.kvs.filter(({ version }) => version === 1n);
  let { revision } = await after.kv.put('padding', '');
  const revisions = new Set(kvs.map(({ createRevision }) => createRevision));
  for (const at of [...revisions].sort((a, b) => (a < b ? -1 : 1))) {
    while (revision + 1n < at) ({ revision } = await after.kv.put('padding', ''));
    const together = kvs.filter(({ createRevision }) => createRevision === at);
    const puts = together.map(({ key, value, lease }) => op.put(key, value, { lease }));
    ({ revision } = await after.kv
      .txn()
      .then<readonly Operation[]>(...puts)
      .commit());
    expect(revision).toBe(at);
  }
};

describe.skipIf(storeMissing)('restore an old snapshot', () => {
  test.each(Object.entries(kinds))(
    '%s: what the snapshot does not know is lost, and held again by all in turn',
    async (_kind, acquire) => {
      await using store = await startRewindableStore();
      await goAhead(store);
      await using counting = await connectCounting(store);
      const { conclave, waiting } = counting;
      const known = await conclave.session({ ttl: '5s' });
      const unknown = await conclave.session({ ttl: '5s' });
      // The session of one is in the snapshot, without its keys; nothing of the other is.
      await store.after.leases.grant(untilRewound, { id: known.lease });
      const first = await acquire(known, 'x');
      const waits = [acquire(known, 'x'), acquire(unknown, 'x')];
      const refusals = waits.map((wait) =>
        wait.then(
          () => undefined,
          ({ code }: ConclaveError) => code,
        ),
      );
      await waiting(2);
      store.rewind();
      await eventually('the loss', () => first.signal.aborted && !first.isHeld);
      expect(first.signal.reason).toMatchObject({ code: 'LOCK_LOST' });
      // Of the other it shows first that the session is gone, or that the key is.
      expect(await Promise.all(refusals)).toEqual([
        'LOCK_LOST',
        expect.stringMatching(/^(LOCK|SESSION)_LOST$/),
      ]);
      const again = await acquire(known, 'x');
      const next = acquire(await conclave.session({ ttl: '5s' }), 'x');
      await waiting(3);
      expect(again.isHeld).toBe(true);
      await again.release();
      await (await next).release();
    },
  );

  test.each(Object.entries(kinds))(
    '%s: who holds in the snapshot goes on, and who is not in line there comes again',
    async (_kind, acquire) => {
      await using store = await startRewindableStore();
      await goAhead(store);
      await using counting = await connectCounting(store);
      const { conclave, waiting } = counting;
      const holder = await conclave.session({ ttl: '5s' });
      const waiter = await conclave.session({ ttl: '5s' });
      const held = await acquire(holder, 'x');
      await takeSnapshot(store, [holder.lease, waiter.lease]);
      const wait = acquire(waiter, 'x').catch(({ code }: ConclaveError) => code);
      await waiting(1);
      store.rewind();
      expect(await wait).toBe('LOCK_LOST');
      const again = acquire(waiter, 'x');
      await waiting(2);
      expect(held.isHeld).toBe(true);
      await held.release();
      await (await again).release();
    },
  );

  test.each([
    ['is in the snapshot', true],
    ['is not in the snapshot', false],
  ])('a worker whose session %s does the jobs that are there', async (_, isThere) => {
    await using store = await startRewindableStore();
    await goAhead(store);
    await using direct = new Conclave(store.after);
    const older = await direct.session({ ttl: '10s' });
    await older.queue<string>('q').push('old');
    await using conclave = await connect(store.endpoint);
    const session = await conclave.session({ ttl: '5s' });
    if (isThere) await store.after.leases.grant(untilRewound, { id: session.lease });
    const started: string[] = [];
    const ended: string[] = [];
    const worker = session.worker<string>(
      'q',
      async ({ data }, { signal }) => {
        started.push(data);
        if (data !== 'new') return;
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
        ended.push(data);
      },
      { visibility: '2s', sweepEvery: '100ms' },
    );
    await session.queue<string>('q').push('new');
    await eventually('the job', () => started.includes('new'));
    store.rewind();
    await eventually('the end of a job that is none', () => ended.includes('new'));
    await eventually('the older job', () => started.includes('old'));
    await older.queue<string>('q').push('newest');
    await eventually('the job pushed later', () => started.includes('newest'));
    await worker.close({ grace: 0 });
    await older.close();
  });

  test('numbers go on from the snapshot, and nothing is set over what nobody has seen', async () => {
    await using store = await startRewindableStore();
    await goAhead(store);
    await using conclave = await connect(store.endpoint);
    const session = await conclave.session({ ttl: '5s' });
    await store.after.leases.grant(untilRewound, { id: session.lease });
    const [counter, adder] = [session.counter('n'), session.adder('n', { shards: 2 })];
    const [ids, value] = [session.ids('n', { block: 1 }), session.value<string>('n')];
    expect(await counter.add(5n)).toBe(5n);
    await adder.add(5n);
    expect(await ids.next()).toBe(1n);
    expect(await ids.next()).toBe(2n);
    const set = await value.set('new');
    store.rewind();
    await eventually('the store', async () => (await counter.get()) === 0n);
    expect(await adder.sum()).toBe(0n);
    expect(await value.get()).toBeNull();
    // Nothing is set over what the caller has not seen.
    expect(await value.compareAndSet(set.revision, 'newer')).toBeNull();
    expect(await counter.add(2n)).toBe(2n);
    await adder.add(2n);
    expect(await adder.sum()).toBe(2n);
    // Ids that the snapshot does not know of are given again.
    expect(await ids.next()).toBe(1n);
    expect(await value.update((old) => old ?? 'first')).toMatchObject({ value: 'first' });
  });
});
