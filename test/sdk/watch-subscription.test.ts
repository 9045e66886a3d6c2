/** One watch that nothing is shared with, against hand-made answers of a server. */
import { expect, test } from 'vitest';
import { Keyspace } from '../../sdk/keys.ts';
import type { WatchNotice, WatchOptions } from '../../sdk/watch.ts';
import { sharedOptions, WatchGroup } from '../../sdk/watch-group.ts';
import { WatchSubscription } from '../../sdk/watch-subscription.ts';
import { WatchResponse } from '../../server/wire/etcdserverpb/rpc.ts';

const keyspace = new Keyspace('ns/');

const setUp = (options: WatchOptions = {}) => {
  const calls: string[] = [];
  const watch = new WatchSubscription(options, {
    pause: () => calls.push('pause'),
    resume: () => calls.push('resume'),
    remove: () => calls.push('remove'),
  });
  const range = { prefix: '' };
  const group = new WatchGroup(keyspace, range, keyspace.span(range), sharedOptions(options));
  const upstream = group.launch([watch]);
  const iterator = watch[Symbol.asyncIterator]();
  const next = async (): Promise<WatchNotice | undefined> => (await iterator.next()).value;
  return { watch, upstream, calls, next };
};

const response = (header: bigint, revisions: readonly bigint[] = [], fragment = false) =>
  WatchResponse.fromPartial({
    header: { revision: header },
    fragment,
    events: revisions.map((modRevision) => ({
      kv: { key: Buffer.from(`ns/k${modRevision}`), modRevision },
    })),
  });

test('without a start the first revision is the one after the created answer', () => {
  const { upstream } = setUp();
  expect(upstream.request(1n).startRevision).toBe(0n);
  upstream.onCreated(response(41n));
  expect(upstream.request(2n).startRevision).toBe(42n);
});

test('resumes after the last event, not after the header of a catch-up answer', () => {
  const { upstream } = setUp({ from: 5n });
  upstream.request(1n);
  upstream.onCreated(response(900n));
  expect(upstream.request(2n).startRevision).toBe(5n);
  upstream.onResponse(response(900n, [5n, 6n]));
  expect(upstream.request(3n).startRevision).toBe(7n);
});

test('progress moves nothing', async () => {
  const { upstream, next } = setUp({ from: 5n, progress: true });
  upstream.request(1n);
  upstream.onCreated(response(8n));
  upstream.onResponse(response(50n));
  expect(await next()).toEqual({ type: 'progress', revision: 50n });
  expect(upstream.request(2n).startRevision).toBe(5n);
});

test('progress nobody asked for is not shown', async () => {
  const { upstream, next } = setUp({ from: 5n });
  upstream.onResponse(response(50n));
  upstream.onResponse(response(51n, [51n]));
  expect(await next()).toMatchObject({ type: 'events', revision: 51n });
});

test('a response of several revisions becomes a notice for each', async () => {
  const { upstream, next } = setUp({ from: 1n });
  upstream.onResponse(response(9n, [3n, 3n, 4n, 7n]));
  const sizes = [await next(), await next(), await next()].map(
    (notice) => notice?.type === 'events' && [notice.revision, notice.events.length],
  );
  expect(sizes).toEqual([
    [3n, 2],
    [4n, 1],
    [7n, 1],
  ]);
});

test('pieces are put together; those whose rest is lost are asked for again', async () => {
  const { upstream, next } = setUp({ from: 1n });
  upstream.onResponse(response(3n, [3n, 3n], true));
  upstream.onLost();
  expect(upstream.request(2n).startRevision).toBe(1n);
  upstream.onResponse(response(3n, [3n, 3n], true));
  upstream.onResponse(response(3n, [3n]));
  const notice = await next();
  expect(notice?.type === 'events' && notice.events).toHaveLength(3);
});

test('after a reset events continue right behind the listing', async () => {
  const { watch, upstream, next } = setUp({ from: 5n });
  const value = { type: 'reset', revision: 20n, compactRevision: 15n, kvs: [] } as const;
  watch.reset({ done: false, value });
  expect(await next()).toMatchObject({ type: 'reset', revision: 20n });
  expect(upstream.request(2n).startRevision).toBe(21n);
});

test('a full buffer pauses the watch, which still takes all of the answer, and room resumes it', async () => {
  const { upstream, calls, next } = setUp({ from: 1n, highWaterMark: 4 });
  upstream.onResponse(response(3n, [1n, 2n, 3n]));
  expect(calls).toEqual([]);
  upstream.onResponse(response(5n, [4n, 5n]));
  expect(calls).toEqual(['pause']);
  await next();
  await next();
  expect(calls).toEqual(['pause']);
  await next();
  expect(calls).toEqual(['pause', 'resume']);
  expect(upstream.request(2n).startRevision).toBe(6n);
});

test('what was received before a failure is delivered first; then the failure, once', async () => {
  const { watch, calls, next } = setUp({ from: 1n });
  const controller = new AbortController();
  const aborting = setUp({ from: 1n, signal: controller.signal });
  aborting.upstream.onResponse(response(1n, [1n]));
  controller.abort(new Error('enough'));
  expect(await aborting.next()).toMatchObject({ revision: 1n });
  await expect(aborting.next()).rejects.toMatchObject({
    code: 'ABORTED',
    cause: expect.objectContaining({ message: 'enough' }),
  });
  expect(await aborting.next()).toBeUndefined();
  expect(aborting.calls).toEqual(['remove']);
  const waiting = next();
  await watch.cancel();
  expect(await waiting).toBeUndefined();
  expect(calls).toEqual(['remove']);
  await expect(watch.created).rejects.toMatchObject({ code: 'CLOSED' });
});

test('a failure rejects the first who waits; the others find the end', async () => {
  const { watch, next } = setUp({ from: 1n });
  const controller = new AbortController();
  const aborting = setUp({ from: 1n, signal: controller.signal });
  const failing = [aborting.next(), aborting.next()] as const;
  controller.abort();
  await expect(failing[0]).rejects.toMatchObject({ code: 'ABORTED' });
  expect(await failing[1]).toBeUndefined();
  const ending = [next(), next()];
  await watch.cancel();
  expect(await Promise.all(ending)).toEqual([undefined, undefined]);
});

test('keys come without the namespace; one consumer only', async () => {
  const { watch, upstream, next } = setUp({ from: 1n });
  upstream.onResponse(response(1n, [1n]));
  const notice = await next();
  expect(notice?.type === 'events' && notice.events[0]?.kv.key).toBe('k1');
  expect(() => watch[Symbol.asyncIterator]()).toThrow(
    expect.objectContaining({ code: 'FAILED_PRECONDITION' }),
  );
});

test.each([
  ['from', { from: 5 as never }],
  ['highWaterMark', { highWaterMark: 0 }],
  ['puts', { puts: false, deletes: false }],
])('refuses a bad %s', (field, options) => {
  expect(() => setUp(options)).toThrow(
    expect.objectContaining({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`'${field}'`),
    }),
  );
});
