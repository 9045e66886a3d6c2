import { Metadata, status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import { WatchRequest, WatchResponse } from '../../server/wire/etcdserverpb/rpc.ts';
import { Face } from '../support/face.ts';
import { ByteStream, Http2Stream } from './calls.ts';

const bytes = (text: string): Buffer => Buffer.from(text);

type Create = NonNullable<Parameters<typeof WatchRequest.create>[0]>['requestUnion'] & {
  $case: 'createRequest';
};

class Watching {
  readonly stream: ByteStream;
  readonly #decoded: WatchResponse[] = [];

  constructor(face: Face, metadata?: Metadata) {
    this.stream = new ByteStream(face.raw(), '/etcdserverpb.Watch/Watch', metadata);
  }

  send(requestUnion: NonNullable<Parameters<typeof WatchRequest.create>[0]>['requestUnion']): void {
    const request = WatchRequest.create(requestUnion === undefined ? {} : { requestUnion });
    this.stream.call.write(Buffer.from(WatchRequest.encode(request).finish()));
  }

  create(value: Create['value']): void {
    this.send({ $case: 'createRequest', value: value ?? {} });
  }

  get responses(): readonly WatchResponse[] {
    for (const message of this.stream.received.slice(this.#decoded.length)) {
      this.#decoded.push(WatchResponse.decode(message));
    }
    return this.#decoded;
  }

  async until(condition: (responses: readonly WatchResponse[]) => boolean) {
    await this.stream.until(() => condition(this.responses));
    return this.responses;
  }

  count(count: number): Promise<readonly WatchResponse[]> {
    return this.until((responses) => responses.length >= count);
  }

  get events(): string[] {
    return this.responses.flatMap(({ events }) =>
      events.map(({ kv }) => `${kv?.key}@${kv?.modRevision}`),
    );
  }
}

function put(face: Face, key: string, value = 'v'): void {
  face.member.applyNow({
    kind: 'put',
    key: bytes(key),
    value: bytes(value),
    lease: 0n,
    prevKv: false,
    ignoreValue: false,
    ignoreLease: false,
  });
}

test('created first, then events with previous values, then the cancellation and nothing more', async () => {
  await using face = await Face.open();
  const watch = new Watching(face);
  watch.stream.read();
  watch.create({ key: bytes('a'), rangeEnd: bytes('c'), prevKv: true });
  const [created] = await watch.count(1);
  expect(created).toMatchObject({ created: true, canceled: false, watchId: 0n, events: [] });
  expect(created?.header).toEqual({
    clusterId: 0xc0n,
    memberId: 0xabcn,
    revision: 1n,
    raftTerm: 2n,
  });
  put(face, 'a', '1');
  put(face, 'c', 'not watched');
  put(face, 'a', '2');
  face.member.applyNow({
    kind: 'delete-range',
    key: bytes('a'),
    rangeEnd: bytes(''),
    prevKv: false,
  });
  const told = await watch.count(4);
  expect(told.map((response) => response.header?.revision)).toEqual([1n, 2n, 4n, 5n]);
  expect(told[1]?.events[0]?.prevKv).toBeUndefined();
  expect(told[2]?.events[0]).toMatchObject({ type: 0, kv: { value: bytes('2') } });
  expect(told[2]?.events[0]?.prevKv?.value).toEqual(bytes('1'));
  expect(told[3]?.events[0]).toMatchObject({
    type: 1,
    kv: { key: bytes('a'), modRevision: 5n, createRevision: 0n, version: 0n, lease: 0n },
    prevKv: { value: bytes('2'), modRevision: 4n },
  });
  watch.send({ $case: 'cancelRequest', value: { watchId: 0n } });
  watch.send({ $case: 'cancelRequest', value: { watchId: 77n } });
  await watch.count(5);
  put(face, 'a');
  watch.create({ key: bytes('z') });
  const all = await watch.count(6);
  expect(all[4]).toMatchObject({
    canceled: true,
    created: false,
    watchId: 0n,
    compactRevision: 0n,
  });
  expect(all[5]).toMatchObject({ created: true, watchId: 1n });
});

test('past revisions come first, with the current revision in the header', async () => {
  await using face = await Face.open();
  for (const key of ['a', 'b', 'a']) put(face, key);
  const watch = new Watching(face);
  watch.stream.read();
  watch.create({ key: bytes('a'), startRevision: 2n });
  const [, past] = await watch.count(2);
  expect(watch.events).toEqual(['a@2', 'a@4']);
  expect(past?.header?.revision).toBe(4n);
});

test('refusals have the texts of etcd and leave the stream alive', async () => {
  await using face = await Face.open();
  for (const key of ['a', 'a', 'a']) put(face, key);
  face.member.applyNow({ kind: 'compact', revision: 3, physical: false });
  const watch = new Watching(face);
  watch.stream.read();
  watch.create({ key: bytes('b'), rangeEnd: bytes('a') });
  watch.create({ key: bytes('a'), watchId: 5n });
  watch.create({ key: bytes('a'), watchId: 5n });
  watch.create({ key: bytes('a'), startRevision: 2n });
  watch.create({ key: bytes('a'), startRevision: -1n });
  watch.create({ key: bytes('a'), startRevision: 3n, filters: [7 as 0] });
  watch.send(undefined);
  const told = await watch.until((responses) => responses.some(({ events }) => events.length > 0));
  const refused = { created: true, canceled: true, watchId: -1n };
  expect(told[0]).toMatchObject({ ...refused, cancelReason: 'mvcc: watcher range is empty' });
  expect(told[1]).toMatchObject({ created: true, canceled: false, watchId: 5n });
  expect(told[2]).toMatchObject({
    ...refused,
    cancelReason: 'mvcc: duplicate watch ID provided on the WatchStream',
  });
  expect(told[3]).toMatchObject({ created: true, canceled: false, watchId: 0n });
  expect(told[4]).toMatchObject({
    created: false,
    canceled: true,
    watchId: 0n,
    compactRevision: 3n,
    cancelReason: '',
    header: { revision: 0n },
  });
  expect(told[5]).toMatchObject({
    ...refused,
    cancelReason: 'etcdserver: mvcc: required revision has been compacted',
  });
  expect(watch.events).toEqual(['a@3', 'a@4']);
});

test('filters hide events, and a revision without any other is not sent', async () => {
  await using face = await Face.open();
  const watch = new Watching(face);
  watch.stream.read();
  watch.create({ key: bytes('a'), filters: [0] });
  await watch.count(1);
  put(face, 'a');
  face.member.applyNow({
    kind: 'delete-range',
    key: bytes('a'),
    rangeEnd: bytes(''),
    prevKv: false,
  });
  const [, event] = await watch.count(2);
  expect(event).toMatchObject({ header: { revision: 3n }, events: [{ type: 1 }] });
});

test('progress: on request for the whole stream, by itself for a quiet watcher', async () => {
  await using face = await Face.open({ rpc: { progressIntervalMs: 100 } });
  const watch = new Watching(face);
  watch.stream.read();
  watch.create({ key: bytes('a') });
  await watch.count(1);
  put(face, 'b');
  watch.send({ $case: 'progressRequest', value: {} });
  const [, progress] = await watch.count(2);
  expect(progress).toMatchObject({ watchId: -1n, header: { revision: 2n }, events: [] });
  watch.create({ key: bytes('a'), progressNotify: true });
  const told = await watch.count(4);
  expect(told[3]).toMatchObject({
    watchId: 1n,
    header: { revision: 2n },
    events: [],
    created: false,
  });
});

test('a half-closed stream stays', async () => {
  await using face = await Face.open();
  const watch = new Watching(face);
  watch.stream.read();
  watch.create({ key: bytes('a') });
  watch.stream.call.end();
  await watch.count(1);
  put(face, 'a');
  await watch.count(2);
  expect(face.member.hub.counts.watchers).toBe(1);
});

test('a client that goes away leaves nothing behind', async () => {
  await using face = await Face.open();
  const watch = new Watching(face);
  watch.stream.read();
  watch.create({ key: bytes('a') });
  await watch.count(1);
  watch.stream.call.cancel();
  await expect.poll(() => face.member.hub.counts).toMatchObject({ watchers: 0, streams: 0 });
  expect(face.rpc.openStreams).toBe(0);
});

test('a large revision is split only for a watcher that asked, without a gap', async () => {
  await using face = await Face.open({ rpc: { maxRequestBytes: 1_000 } });
  const watch = new Watching(face);
  watch.stream.read();
  watch.create({ key: bytes('k'), rangeEnd: Buffer.from([0]), fragment: true });
  watch.create({ key: bytes('k'), rangeEnd: Buffer.from([0]) });
  await watch.count(2);
  const value = Buffer.alloc(200_000, 'x');
  face.member.applyNow({
    kind: 'txn',
    compare: [],
    success: Array.from({ length: 8 }, (_, index) => ({
      kind: 'put' as const,
      key: bytes(`k${index}`),
      value,
      lease: 0n,
      prevKv: false,
      ignoreValue: false,
      ignoreLease: false,
    })),
    failure: [],
  });
  const told = await watch.until(
    (responses) => responses.filter(({ watchId }) => watchId === 1n).length === 2,
  );
  const fragments = told.filter(({ watchId, events }) => watchId === 0n && events.length > 0);
  expect(fragments.map(({ events }) => events.length)).toEqual([2, 2, 2, 2]);
  expect(fragments.map(({ fragment }) => fragment)).toEqual([true, true, true, false]);
  const places = fragments.map((fragment) => told.indexOf(fragment));
  expect(places).toEqual([2, 3, 4, 5]);
  expect(told.at(-1)).toMatchObject({ watchId: 1n, fragment: false });
  expect(told.at(-1)?.events).toHaveLength(8);
});

/** The keys and revisions in messages. */
const eventsIn = (messages: readonly Buffer[]): string[] =>
  messages
    .flatMap((message) => WatchResponse.decode(message).events)
    .map(({ kv }) => `${kv?.key}@${kv?.modRevision}`);

const createMessage = (key: Buffer): Buffer =>
  Buffer.from(
    WatchRequest.encode(
      WatchRequest.create({ requestUnion: { $case: 'createRequest', value: { key } } }),
    ).finish(),
  );

test('a client that never reads costs a bounded amount, and gets everything when it does', async () => {
  await using face = await Face.open({ streamBytes: 100_000, ringBytes: 100_000 });
  using silent = new Http2Stream(face.url, '/etcdserverpb.Watch/Watch');
  silent.send(createMessage(bytes('a')));
  const other = new Watching(face);
  other.stream.read();
  other.create({ key: bytes('a') });
  await other.count(1);
  await expect.poll(() => face.member.hub.counts.watchers).toBe(2);
  const revisions = 400;
  for (let count = 1; count <= revisions; count += 1) {
    put(face, 'a', 'x'.repeat(10_000));
    if (count % 5 === 0) await other.until(() => other.events.length === count);
  }
  // Four megabytes were meant for it: it holds the queue and a window, and the rest is in history.
  expect(face.member.hub.counts.behind).toBe(1);
  silent.read();
  await expect.poll(() => eventsIn(silent.received).length, { timeout: 5_000 }).toBe(revisions);
  expect(eventsIn(silent.received)).toEqual(other.events);
  expect(face.member.hub.counts.behind).toBe(0);
});

test('requests of a client that does not read its answers wait too', async () => {
  await using face = await Face.open();
  using flood = new Http2Stream(face.url, '/etcdserverpb.Watch/Watch');
  const total = 12_000;
  for (let count = 0; count < total; count += 1) flood.send(createMessage(bytes(`k${count}`)));
  await expect.poll(() => face.member.hub.counts.watchers).toBeGreaterThan(1_000);
  const other = new Watching(face);
  other.stream.read();
  other.create({ key: bytes('a') });
  await other.count(1);
  expect(face.member.hub.counts.watchers).toBeLessThan(total / 2);
  flood.read();
  await expect.poll(() => flood.received.length, { timeout: 10_000 }).toBe(total);
});

test('a request that is no message ends the stream only', async () => {
  await using face = await Face.open();
  const watch = new Watching(face);
  watch.stream.read();
  watch.stream.call.write(Buffer.from([0x0a, 0x7f]));
  expect((await watch.stream.ended).code).toBe(status.INTERNAL);
  expect(face.member.hub.counts.streams).toBe(0);
});

test('a client that asks for a leader is told when there is none', async () => {
  await using face = await Face.open();
  const metadata = new Metadata();
  metadata.set('hasleader', 'true');
  const demanding = new Watching(face, metadata);
  demanding.stream.read();
  demanding.create({ key: bytes('a') });
  const patient = new Watching(face);
  patient.stream.read();
  patient.create({ key: bytes('a') });
  await Promise.all([demanding.count(1), patient.count(1)]);
  face.member.leader = 0n;
  const noLeader = { code: status.UNAVAILABLE, details: 'etcdserver: no leader' };
  expect(await demanding.stream.ended).toEqual(noLeader);
  expect(await new Watching(face, metadata).stream.ended).toEqual(noLeader);
  expect(face.member.hub.counts.streams).toBe(1);
});

test('a stopping server says so on its streams', async () => {
  await using face = await Face.open();
  const watch = new Watching(face);
  watch.stream.read();
  watch.create({ key: bytes('a') });
  await watch.count(1);
  await face.close();
  expect(await watch.stream.ended).toEqual({
    code: status.UNAVAILABLE,
    details: 'etcdserver: server stopped',
  });
});
