import { firstValueFrom, take, toArray } from 'rxjs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Client, connect, op, type Watch, type WatchNotice } from '../../sdk/index.ts';
import { TcpProxy } from '../support/proxy.ts';
import { storeMissing, useStore } from '../support/store.ts';
import { waitFor } from '../support/wait.ts';

const quick = { minDelay: 5, maxDelay: 50 } as const;

/** Consumes a watch until `enough`, then cancels it. */
const collect = async (
  watch: Watch,
  enough: (notices: readonly WatchNotice[]) => boolean,
): Promise<readonly WatchNotice[]> => {
  const notices: WatchNotice[] = [];
  for await (const notice of watch) {
    notices.push(notice);
    if (enough(notices)) break;
  }
  return notices;
};

const eventKeys = (notices: readonly WatchNotice[]) =>
  notices.flatMap((notice) =>
    notice.type === 'events' ? notice.events.map(({ type, kv }) => `${type} ${kv.key}`) : [],
  );

describe.skipIf(storeMissing)('watches', () => {
  const { store } = useStore();
  let writer: Client;
  let proxy: TcpProxy;
  let round = 0;
  beforeAll(async () => {
    writer = await connect(store().endpoint);
    proxy = await TcpProxy.to(store().endpoint);
  });
  afterAll(async () => {
    await writer.close();
    await proxy.close();
  });
  const fresh = async () => {
    const prefix = `watch-${round++}/`;
    const client = await connect({ endpoints: proxy.endpoint, retry: quick });
    return { client, watched: client.namespace(prefix).kv, kv: writer.namespace(prefix).kv };
  };

  test('reports writes and deletions of the range, with what was before when asked', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    const watch = watched.watch({ prefix: 'a/' }, { prevKv: true });
    const { revision } = await watch.created;
    await kv.put('b', 'elsewhere');
    await kv.put('a/1', 'one');
    await kv.put('a/1', 'two');
    await kv.delete('a/1');
    const notices = await collect(watch, ({ length }) => length === 3);
    expect(notices).toMatchObject([
      { revision: revision + 2n, events: [{ type: 'put', kv: { key: 'a/1', version: 1n } }] },
      { revision: revision + 3n, events: [{ type: 'put', previous: { key: 'a/1', version: 1n } }] },
      { revision: revision + 4n, events: [{ type: 'delete', previous: { version: 2n } }] },
    ]);
    expect(notices[0]).not.toHaveProperty(['events', 0, 'previous']);
  });

  test('puts and deletes can be left out', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    const deletes = watched.watch({ all: true }, { puts: false });
    const puts = watched.watch({ all: true }, { deletes: false });
    await Promise.all([deletes.created, puts.created]);
    await kv.put('a', '');
    await kv.delete('a');
    await kv.put('b', '');
    await kv.delete('b');
    expect(eventKeys(await collect(deletes, ({ length }) => length === 2))).toEqual([
      'delete a',
      'delete b',
    ]);
    expect(eventKeys(await collect(puts, ({ length }) => length === 2))).toEqual([
      'put a',
      'put b',
    ]);
  });

  test('starts in the past when told so', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    await kv.put('a', '1');
    const { revision } = await kv.put('a', '2');
    await kv.put('a', '3');
    const notices = await collect(watched.watch('a', { from: revision }), (n) => n.length === 2);
    expect(notices).toMatchObject([{ revision }, { revision: revision + 1n }]);
  });

  test('neither misses nor repeats anything while connections are cut under writes', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    const watch = watched.watch({ prefix: 'k' });
    await watch.created;
    const rounds = 150;
    const seen = collect(watch, (notices) => notices.length === rounds);
    const revisions: bigint[] = [];
    for (let index = 0; index < rounds; index++) {
      const puts = [op.put('k/a', `${index}`), op.put('k/b', `${index}`), op.put('other', '')];
      const { revision } = await kv
        .txn()
        .then(...puts)
        .commit();
      revisions.push(revision);
      if (index % 10 === 5) proxy.cut();
    }
    const notices = await seen;
    expect(notices.map(({ revision }) => revision)).toEqual(revisions);
    expect(notices.every((notice) => notice.type === 'events' && notice.events.length === 2)).toBe(
      true,
    );
    expect(proxy.accepted).toBeGreaterThan(5);
  });

  test('continues after a connection that went silent is given up', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    const watch = watched.watch({ all: true });
    await watch.created;
    proxy.stall();
    await kv.put('a', '1');
    await kv.put('b', '2');
    proxy.cut();
    proxy.heal();
    expect(eventKeys(await collect(watch, ({ length }) => length === 2))).toEqual([
      'put a',
      'put b',
    ]);
  });

  test('compaction while away shows as a reset with everything there is', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    const watch = watched.watch({ all: true });
    await watch.created;
    await kv.put('before', '');
    const iterator = watch[Symbol.asyncIterator]();
    expect(await iterator.next()).toMatchObject({ value: { type: 'events' } });
    proxy.refuse();
    await kv.put('kept', '1');
    await kv.put('missed', '2');
    const { revision } = await kv.delete('missed');
    await kv.compact(revision);
    const later = await kv.put('kept', '3');
    proxy.heal();
    const reset = await iterator.next();
    expect(reset.value).toMatchObject({
      type: 'reset',
      compactRevision: revision,
      revision: later.revision,
      kvs: [{ key: 'before' }, { key: 'kept', modRevision: later.revision }],
    });
    const after = await kv.put('after', '');
    expect(await iterator.next()).toMatchObject({
      value: { type: 'events', revision: after.revision, events: [{ kv: { key: 'after' } }] },
    });
    await iterator.return?.();
  });

  test('a start that is compacted already begins with a reset', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    const { revision } = await kv.put('a', '1');
    await kv.put('a', '2');
    await kv.compact(revision + 1n);
    const watch = watched.watch('a', { from: revision });
    expect(await collect(watch, ({ length }) => length === 1)).toMatchObject([
      { type: 'reset', compactRevision: revision + 1n, kvs: [{ key: 'a', version: 2n }] },
    ]);
  });

  test('a slow consumer gets everything, and the watches beside it are not held up', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    const slow = watched.watch({ all: true }, { highWaterMark: 8 });
    const fast = watched.watch({ all: true });
    await Promise.all([slow.created, fast.created]);
    const total = 300;
    for (let index = 0; index < total; index++) await kv.put(`k${index}`, '');
    const expected = Array.from({ length: total }, (_, index) => `put k${index}`);
    const all = ({ length }: readonly unknown[]) => length === total;
    expect(eventKeys(await collect(fast, all))).toEqual(expected);
    expect(eventKeys(await collect(slow, all))).toEqual(expected);
  });

  test('a revision larger than a message arrives whole', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    const keys = Array.from({ length: 5 }, (_, index) => `k${index}`);
    const watch = watched.watch({ all: true });
    for (const key of keys) await kv.put(key, Buffer.alloc(900_000));
    const { revision } = await kv.delete({ prefix: 'k' });
    const before = watched.watch({ all: true }, { from: revision, prevKv: true });
    const [notice] = await collect(before, ({ length }) => length === 1);
    expect(notice?.type === 'events' && notice.events.map(({ kv: { key } }) => key)).toEqual(keys);
    await watch.cancel();
  });

  test('many watches share one connection', async () => {
    await using own = await TcpProxy.to(store().endpoint);
    await using client = await connect({ endpoints: own.endpoint, retry: quick });
    const watched = client.namespace('many/').kv;
    const kv = writer.namespace('many/').kv;
    const watches = Array.from({ length: 100 }, (_, index) => watched.watch(`k${index}`));
    await Promise.all(watches.map(({ created }) => created));
    expect(own.connections).toBe(1);
    own.cut();
    await kv.put('k7', '');
    await kv.put('k93', '');
    const [seventh, last] = [watches[7], watches[93]];
    if (seventh === undefined || last === undefined) throw new Error('a watch is missing');
    const one = ({ length }: readonly unknown[]) => length === 1;
    expect(eventKeys(await collect(seventh, one))).toEqual(['put k7']);
    expect(eventKeys(await collect(last, one))).toEqual(['put k93']);
  });

  test('works as an Observable; unsubscribing cancels', async () => {
    const { client, watched, kv } = await fresh();
    await using _ = client;
    const watch = watched.watch({ all: true });
    await watch.created;
    const two = firstValueFrom(watch.notices$.pipe(take(2), toArray()));
    await kv.put('a', '');
    await kv.put('b', '');
    expect(eventKeys(await two)).toEqual(['put a', 'put b']);
    await waitFor('the watch to end', async () => {
      await watch.cancel();
      return true;
    });
  });

  test('a range the server refuses fails the watch with a typed error', async () => {
    const { client, watched } = await fresh();
    await using _ = client;
    const watch = watched.watch({ from: 'b', to: 'a' });
    await expect(watch.created).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await expect(collect(watch, () => false)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('closing the client completes an Observable, which may have no error handler', async () => {
    const { client, watched } = await fresh();
    const watch = watched.watch('a');
    await watch.created;
    const end = new Promise<string>((resolve) => {
      watch.notices$.subscribe({
        error: () => resolve('failed'),
        complete: () => resolve('completed'),
      });
    });
    await client.close();
    expect(await end).toBe('completed');
  });

  test('ends with the client, and with its signal', async () => {
    const { client, watched } = await fresh();
    const controller = new AbortController();
    const aborted = watched.watch('a', { signal: controller.signal });
    const closed = watched.watch('a');
    await Promise.all([aborted.created, closed.created]);
    const ends = [collect(aborted, () => false), collect(closed, () => false)] as const;
    controller.abort();
    await expect(ends[0]).rejects.toMatchObject({ code: 'ABORTED' });
    await client.close();
    await expect(ends[1]).resolves.toEqual([]);
    const late = watched.watch('a');
    await expect(late.created).rejects.toMatchObject({ code: 'CLOSED' });
    const before = watched.watch('a', { signal: AbortSignal.abort() });
    await expect(before.created).rejects.toMatchObject({ code: expect.any(String) });
  });
});
