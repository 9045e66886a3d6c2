import { Metadata, status } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import {
  type Answer,
  Answers,
  Calls,
  LeaseKeepAliveManyRequest,
  LeaseKeepAliveManyResponse,
  Method,
} from '../../server/wire/conclave/v1/batch.ts';
import {
  LeaseGrantRequest,
  LeaseKeepAliveRequest,
  LeaseKeepAliveResponse,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
} from '../../server/wire/etcdserverpb/rpc.ts';
import { Face } from '../support/face.ts';
import { ByteStream } from './calls.ts';

const key = Buffer.from('k');
const encoded = {
  put: (value: Buffer) =>
    Buffer.from(PutRequest.encode(PutRequest.create({ key, value })).finish()),
  range: Buffer.from(RangeRequest.encode(RangeRequest.create({ key })).finish()),
  local: Buffer.from(
    RangeRequest.encode(RangeRequest.create({ key, serializable: true })).finish(),
  ),
};

class Exchange {
  readonly stream: ByteStream;

  constructor(face: Face, metadata?: Metadata) {
    this.stream = new ByteStream(face.raw(), '/conclave.v1.Batch/Exchange', metadata).read();
  }

  send(...calls: NonNullable<NonNullable<Parameters<typeof Calls.create>[0]>['calls']>): void {
    this.stream.call.write(Buffer.from(Calls.encode(Calls.create({ calls })).finish()));
  }

  get answers(): readonly Answer[] {
    return this.stream.received.flatMap((message) => Answers.decode(message).answers);
  }

  async count(count: number): Promise<readonly Answer[]> {
    await this.stream.until(() => this.answers.length >= count);
    return this.answers;
  }
}

test('calls of one message are answered in one message', async () => {
  await using face = await Face.open();
  const exchange = new Exchange(face);
  exchange.send(
    ...Array.from({ length: 100 }, (_, index) => ({
      id: index,
      method: Method.PUT,
      request: encoded.put(Buffer.from(String(index))),
    })),
  );
  const answers = await exchange.count(100);
  expect(exchange.stream.received).toHaveLength(1);
  expect(answers.map(({ id, code }) => [id, code])).toEqual(
    Array.from({ length: 100 }, (_, index) => [index, 0]),
  );
  const revisions = answers.map(({ response }) => PutResponse.decode(response).header?.revision);
  expect(revisions).toEqual(Array.from({ length: 100 }, (_, index) => BigInt(index + 2)));
  exchange.send({ id: 7, method: Method.RANGE, request: encoded.range });
  const last = (await exchange.count(101)).at(-1);
  expect(RangeResponse.decode(last?.response ?? key).kvs[0]?.value.toString()).toBe('99');
});

test('leases are granted and kept alive through the same handlers', async () => {
  await using face = await Face.open();
  const exchange = new Exchange(face);
  const grant = LeaseGrantRequest.encode(LeaseGrantRequest.create({ ID: 5n, TTL: 10n })).finish();
  exchange.send({ id: 1, method: Method.LEASE_GRANT, request: Buffer.from(grant) });
  await exchange.count(1);
  const keep = (ID: bigint) =>
    Buffer.from(LeaseKeepAliveRequest.encode(LeaseKeepAliveRequest.create({ ID })).finish());
  exchange.send(
    { id: 2, method: Method.LEASE_KEEP_ALIVE, request: keep(5n) },
    { id: 3, method: Method.LEASE_KEEP_ALIVE, request: keep(6n) },
  );
  const [, kept, lost] = await exchange.count(3);
  expect(LeaseKeepAliveResponse.decode(kept?.response ?? key).TTL).toBe(10n);
  expect(LeaseKeepAliveResponse.decode(lost?.response ?? key).TTL).toBe(0n);
});

test('many leases are kept alive by one call, each answered in its place', async () => {
  await using face = await Face.open();
  const { lease } = face.wire();
  for (const [ID, TTL] of [
    [5n, 10n],
    [-6n, 20n],
  ] as const)
    await lease.leaseGrant({ ID, TTL });
  const exchange = new Exchange(face);
  const many = (ids: bigint[]) => Buffer.from(LeaseKeepAliveManyRequest.encode({ ids }).finish());
  exchange.send(
    { id: 1, method: Method.LEASE_KEEP_ALIVE_MANY, request: many([-6n, 7n, 5n]) },
    { id: 2, method: Method.LEASE_KEEP_ALIVE_MANY, request: many(Array(1_025).fill(5n)) },
  );
  const [first, second] = [...(await exchange.count(2))].sort((a, b) => a.id - b.id);
  expect(LeaseKeepAliveManyResponse.decode(first?.response ?? key).ttlSeconds).toEqual([
    20n,
    0n,
    10n,
  ]);
  expect(second).toMatchObject({
    code: status.INVALID_ARGUMENT,
    error: '1025 leases are to be renewed, at most 1024 are at a time',
  });
});

test('a bad call gets an error of its own and the others their answers', async () => {
  await using face = await Face.open();
  const exchange = new Exchange(face);
  exchange.send(
    { id: 1, method: Method.PUT, request: Buffer.from([0xff]) },
    { id: 2, method: 99 as Method, request: encoded.range },
    { id: 3, method: Method.RANGE, request: Buffer.alloc(0) },
    { id: 4, method: Method.PUT, request: encoded.put(key) },
    { id: 5 },
  );
  const answers = [...(await exchange.count(5))].sort((a, b) => a.id - b.id);
  expect(answers.map(({ code }) => code)).toEqual([
    status.INTERNAL,
    status.UNIMPLEMENTED,
    status.INVALID_ARGUMENT,
    status.OK,
    status.UNIMPLEMENTED,
  ]);
  expect(answers[2]?.error).toBe('etcdserver: key is not provided');
});

test('a slow call delays no other', async () => {
  await using face = await Face.open();
  let open = () => {};
  face.member.gate = new Promise((resolve) => {
    open = resolve;
  });
  const exchange = new Exchange(face);
  exchange.send(
    { id: 1, method: Method.RANGE, request: encoded.range },
    { id: 2, method: Method.RANGE, request: encoded.local },
  );
  expect((await exchange.count(1)).map(({ id }) => id)).toEqual([2]);
  open();
  expect((await exchange.count(2)).map(({ id }) => id)).toEqual([2, 1]);
});

test('a timeout is answered, a cancelled call is not, and their ids are free again', async () => {
  await using face = await Face.open();
  let open = () => {};
  face.member.gate = new Promise((resolve) => {
    open = resolve;
  });
  const exchange = new Exchange(face);
  exchange.send(
    { id: 1, method: Method.RANGE, request: encoded.range, timeoutMs: 20 },
    { id: 2, method: Method.RANGE, request: encoded.range },
    { id: 3, method: Method.RANGE, request: encoded.range },
    { id: 3, method: Method.RANGE, request: encoded.range },
    { id: 2, cancel: true },
    { id: 99, cancel: true },
  );
  const [duplicate, late] = await exchange.count(2);
  expect(duplicate).toMatchObject({ id: 3, code: status.INVALID_ARGUMENT });
  expect(late).toMatchObject({
    id: 1,
    code: status.DEADLINE_EXCEEDED,
    error: 'context deadline exceeded',
  });
  exchange.send(
    { id: 1, method: Method.RANGE, request: encoded.local },
    { id: 2, method: Method.RANGE, request: encoded.local },
  );
  await exchange.count(4);
  open();
  exchange.stream.call.end();
  await exchange.stream.ended;
  expect(exchange.answers.map(({ id }) => id)).toEqual([3, 1, 1, 2, 3]);
});

test('half-close: what is under way is answered, then the stream ends', async () => {
  await using face = await Face.open();
  const exchange = new Exchange(face);
  exchange.send({ id: 1, method: Method.PUT, request: encoded.put(key) });
  exchange.stream.call.end();
  expect((await exchange.stream.ended).code).toBe(status.OK);
  expect(exchange.answers).toHaveLength(1);
});

test('more calls than may be under way wait in the transport', async () => {
  await using face = await Face.open();
  let open = () => {};
  face.member.gate = new Promise((resolve) => {
    open = resolve;
  });
  let started = 0;
  const propose = face.member.propose.bind(face.member);
  face.member.propose = (command) => {
    started += 1;
    return propose(command);
  };
  const exchange = new Exchange(face);
  const total = 20_000;
  for (let id = 0; id < total; id += 100) {
    exchange.send(
      ...Array.from({ length: 100 }, (_, index) => ({
        id: id + index,
        method: Method.PUT,
        request: encoded.put(key),
      })),
    );
  }
  await expect.poll(() => started, { timeout: 10_000 }).toBeGreaterThanOrEqual(8_192);
  // Whatever else is read now would have been started by the time another stream got its answer.
  const other = new Exchange(face);
  other.send({ id: 1, method: Method.RANGE, request: encoded.local });
  await other.count(1);
  expect(started).toBeLessThan(8_192 + 3_000);
  open();
  await exchange.count(total);
  expect(new Set(exchange.answers.map(({ id }) => id)).size).toBe(total);
});

test.each([
  ['cancelled', 0],
  ['expired', 1],
])('calls that were %s count until their handlers are done', async (_, timeoutMs) => {
  await using face = await Face.open();
  let open = () => {};
  face.member.gate = new Promise((resolve) => {
    open = resolve;
  });
  let started = 0;
  const propose = face.member.propose.bind(face.member);
  face.member.propose = (command) => {
    started += 1;
    return propose(command);
  };
  const exchange = new Exchange(face);
  const total = 20_000;
  for (let id = 0; id < total; id += 100) {
    const ids = Array.from({ length: 100 }, (_, index) => id + index);
    const put = { method: Method.PUT, request: encoded.put(key), timeoutMs };
    exchange.send(...ids.map((id) => ({ id, ...put })));
    if (timeoutMs === 0) exchange.send(...ids.map((id) => ({ id, cancel: true })));
  }
  await expect.poll(() => started, { timeout: 10_000 }).toBeGreaterThanOrEqual(8_192);
  // Reading has come to a halt when nothing is started in the time of many exchanges.
  const other = new Exchange(face);
  for (let count = 1, quiet = 0, seen = 0; quiet < 20; count += 1) {
    other.send({ id: count, method: Method.RANGE, request: encoded.local });
    await other.count(count);
    quiet = started === seen ? quiet + 1 : 0;
    seen = started;
  }
  expect(started).toBeLessThan(8_192 + 3_000);
  open();
  await expect.poll(() => started, { timeout: 10_000 }).toBe(total);
});

test('large answers travel in several messages', async () => {
  await using face = await Face.open();
  const exchange = new Exchange(face);
  exchange.send({ id: 0, method: Method.PUT, request: encoded.put(Buffer.alloc(300_000)) });
  await exchange.count(1);
  exchange.send(
    ...[1, 2, 3, 4].map((id) => ({ id, method: Method.RANGE, request: encoded.range })),
  );
  await exchange.count(5);
  expect(exchange.stream.received).toHaveLength(5);
});

test('a client that puts parts together gets small answers before large ones are through', async () => {
  await using face = await Face.open();
  const metadata = new Metadata();
  metadata.set('conclave-parts', 'true');
  const exchange = new Exchange(face, metadata);
  const value = Buffer.alloc(1_000_000, 5);
  exchange.send({ id: 0, method: Method.PUT, request: encoded.put(value) });
  await exchange.count(1);
  const count = RangeRequest.create({ key, countOnly: true });
  const request = Buffer.from(RangeRequest.encode(count).finish());
  exchange.send(...[1, 2, 3].map((id) => ({ id, method: Method.RANGE, request: encoded.range })), {
    id: 4,
    method: Method.RANGE,
    request,
  });
  await exchange.stream.until(() => exchange.answers.filter(({ more }) => !more).length === 5);
  expect(exchange.answers.filter(({ more }) => !more).map(({ id }) => id)).toEqual([0, 4, 1, 2, 3]);
  for (const each of [1, 2, 3]) {
    const parts = exchange.answers.filter(({ id }) => id === each);
    expect(parts.length).toBeGreaterThan(10);
    const response = Buffer.concat(parts.map(({ response }) => response));
    expect(RangeResponse.decode(response).kvs[0]?.value.equals(value)).toBe(true);
  }
});

test('a message that is none ends the stream', async () => {
  await using face = await Face.open();
  const exchange = new Exchange(face);
  exchange.stream.call.write(Buffer.from([0x0a, 0x7f]));
  expect((await exchange.stream.ended).code).toBe(status.INTERNAL);
});

test('a server that stops answers what is under way before it ends the stream', async () => {
  await using face = await Face.open();
  const exchange = new Exchange(face);
  let open = () => {};
  face.member.gate = new Promise((resolve) => {
    open = resolve;
  });
  exchange.send({ id: 1, method: Method.PUT, request: encoded.put(Buffer.from('v')) });
  await expect.poll(() => face.member.waiting).toBe(1);
  face.member.isStopping = true;
  const closed = face.close(5_000);
  open();
  await closed;
  expect(exchange.answers.map(({ id, code }) => [id, code])).toEqual([[1, 0]]);
  expect(await exchange.stream.ended).toMatchObject({ details: 'etcdserver: server stopped' });
});

test('a server that stops ends the stream when the last call under way is cancelled', async () => {
  await using face = await Face.open();
  const exchange = new Exchange(face);
  let open = () => {};
  face.member.gate = new Promise((resolve) => {
    open = resolve;
  });
  exchange.send({ id: 1, method: Method.PUT, request: encoded.put(Buffer.from('v')) });
  await expect.poll(() => face.member.waiting).toBe(1);
  const closed = face.close(60_000);
  exchange.send({ id: 1, cancel: true });
  expect(await exchange.stream.ended).toMatchObject({ details: 'etcdserver: server stopped' });
  open();
  await closed;
});

test('an answer in pieces arrives whole, in one part or in many', async () => {
  const cases = (['lean', 'grpc-js'] as const).flatMap((carrier) => [
    { carrier, takesParts: true },
    { carrier, takesParts: false },
  ]);
  for (const { carrier, takesParts } of cases) {
    await using face = await Face.open({ rpc: { carrier } });
    const { kv } = face.wire();
    const value = Buffer.alloc(300_000, 'v');
    for (const name of ['a', 'b', 'c', 'd', 'e']) await kv.put({ key: Buffer.from(name), value });
    const span = RangeRequest.create({ key: Buffer.from('a'), rangeEnd: Buffer.from('z') });
    const request = Buffer.from(RangeRequest.encode(span).finish());
    const metadata = new Metadata();
    if (takesParts) metadata.set('conclave-parts', 'true');
    const exchange = new Exchange(face, metadata);
    exchange.send({ id: 7, method: Method.RANGE, request });
    await exchange.stream.until(() => exchange.answers.some(({ more }) => !more));
    const parts = exchange.answers;
    expect(parts.length > 1).toBe(takesParts);
    expect(parts.every(({ id, code, error }) => id === 7 && code === 0 && error === '')).toBe(true);
    const response = Buffer.concat(parts.map((part) => part.response));
    const { kvs, count } = RangeResponse.decode(response);
    expect(count).toBe(5n);
    expect(kvs.map((each) => each.key.toString()).join('')).toBe('abcde');
    expect(kvs.every((each) => each.value.equals(value))).toBe(true);
  }
});
