import { Status } from 'nice-grpc-common';
import { expect, test } from 'vitest';
import { connect } from '../../sdk/index.ts';
import { type Calls, Method } from '../../server/wire/conclave/v1/batch.ts';
import { PutRequest, RangeResponse } from '../../server/wire/etcdserverpb/rpc.ts';
import { answerTo, FakeBatchServer } from '../support/fake-batch-server.ts';
import { waitFor } from '../support/wait.ts';

const KIB = 1024;

const open = (server: FakeBatchServer, retry = { minDelay: 5, maxDelay: 20 }) =>
  connect({ endpoints: server.endpoint, retry, requestTimeout: '5s' });

const keyOf = ({ method, request }: Calls['calls'][number]): string =>
  method === Method.PUT ? PutRequest.decode(request).key.toString() : '';

/** The first call that writes this key. */
const arrived = (server: FakeBatchServer, key: string) =>
  waitFor(`the write of ${key}`, () => server.calls.find((call) => keyOf(call) === key));

const puts = (
  client: { kv: Awaited<ReturnType<typeof open>>['kv'] },
  name: string,
  bytes: number,
) =>
  Promise.allSettled(
    Array.from({ length: 30 }, (_, index) => client.kv.put(`${name}${index}`, Buffer.alloc(bytes))),
  );

test('small calls do not wait for large ones that cannot be sent', async () => {
  await using server = await FakeBatchServer.start();
  const client = await open(server);
  server.deaf = true;
  const large = puts(client, 'large', 600 * KIB);
  await arrived(server, 'large0');
  server.deaf = false;
  await client.kv.put('small', Buffer.alloc(50 * KIB));
  expect(await client.kv.get('k')).toBeNull();
  expect(server.calls.map(keyOf)).toContain('small');
  expect(server.calls.map(keyOf)).not.toContain('large29');
  expect(server.streams).toBe(2);
  await client.close();
  await large;
});

test('large calls do not wait for small ones that cannot be sent', async () => {
  await using server = await FakeBatchServer.start();
  const client = await open(server);
  server.deaf = true;
  const first = client.kv.put('first', '').catch(() => undefined);
  await arrived(server, 'first');
  const small = Promise.allSettled(
    Array.from({ length: 1_000 }, (_, n) => client.kv.put(`small${n}`, Buffer.alloc(10 * KIB))),
  );
  server.deaf = false;
  await client.kv.put('large', Buffer.alloc(600 * KIB));
  expect(server.calls.map(keyOf)).not.toContain('small999');
  await client.close();
  await Promise.all([first, small]);
});

test('calls of a lane travel in one message, and the other lane begins when it is needed', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  await Promise.all(['a', 'b', 'c'].map((key) => client.kv.put(key, Buffer.alloc(60 * KIB))));
  expect(server.streams).toBe(1);
  await Promise.all(['d', 'e'].map((key) => client.kv.put(key, Buffer.alloc(70 * KIB))));
  expect(server.messages.map(({ calls }) => calls.length)).toEqual([3, 2]);
  expect([server.streams, server.streamsTakingParts]).toEqual([2, 2]);
});

test('a server without batches is found out once, whatever the sizes of the calls', async () => {
  await using server = await FakeBatchServer.start();
  server.serving = false;
  await using client = await open(server);
  const gets = () => Promise.all([1, 200].map((kib) => client.kv.get('k'.repeat(kib * KIB))));
  await gets();
  expect([server.streams, server.plainCalls]).toEqual([2, 2]);
  await gets();
  expect([server.streams, server.plainCalls]).toEqual([2, 4]);
});

test('when a stream breaks, what the others carry is answered', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  server.answering = false;
  const small = expect(client.kv.put('small', '')).rejects.toMatchObject({
    code: 'OUTCOME_UNKNOWN',
  });
  await arrived(server, 'small');
  const failSmall = server.failLater();
  const large = client.kv.put('large', Buffer.alloc(600 * KIB));
  const { id, method } = await arrived(server, 'large');
  failSmall(Status.UNAVAILABLE, 'going away');
  await small;
  server.answer(answerTo(id, method));
  expect(await large).toEqual({ revision: 7n });
  server.answering = true;
  await client.kv.put('small', '');
  expect(server.streams).toBe(3);
});

test('that a message was refused says nothing about those before it', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  server.answering = false;
  const refuse = () => server.fail(Status.RESOURCE_EXHAUSTED, 'Received message larger than max');
  const only = client.kv.put('only', Buffer.alloc(600 * KIB));
  await arrived(server, 'only');
  refuse();
  await expect(only).rejects.toMatchObject({ code: 'TOO_LARGE', outcome: 'not-applied' });
  const first = client.kv.put('first', Buffer.alloc(600 * KIB));
  await arrived(server, 'first');
  const second = client.kv.put('second', Buffer.alloc(600 * KIB));
  await arrived(server, 'second');
  refuse();
  const unknown = {
    status: 'rejected',
    reason: { code: 'RESOURCE_EXHAUSTED', outcome: 'unknown' },
  };
  expect(await Promise.allSettled([first, second])).toMatchObject([unknown, unknown]);
});

test('numbers are of the client, not of a stream: none is told to be over that another carries', async () => {
  await using server = await FakeBatchServer.start();
  server.numbering = true;
  server.window = 64;
  await using client = await open(server);
  await client.kv.put('first', '');
  server.answering = false;
  const large = client.kv.put('large', Buffer.alloc(600 * KIB));
  const { id, method, sequence } = await arrived(server, 'large');
  const answerLarge = server.answerLater();
  server.answering = true;
  await client.kv.put('small', '');
  await client.kv.put('smaller', '');
  expect(sequence).toBe(2n);
  expect(server.messages.slice(-2).map(({ floor }) => floor)).toEqual([2n, 2n]);
  answerLarge(answerTo(id, method));
  await large;
  await client.kv.put('last', '');
  expect(server.messages.at(-1)?.floor).toBe(5n);
  expect(server.applied).toEqual(['first', 'large', 'small', 'smaller', 'last']);
  expect(server.clients.size).toBe(1);
});

const value = Buffer.from(Array.from({ length: 5_000 }, (_, index) => index % 251));
const response = Buffer.from(
  RangeResponse.encode(
    RangeResponse.fromPartial({
      header: { revision: 7n },
      kvs: [{ key: Buffer.from('k'), value, createRevision: 3n, modRevision: 3n, version: 1n }],
      count: 1n,
    }),
  ).finish(),
);
const part = (id: number, start: number, end: number) => ({
  id,
  code: 0,
  error: '',
  response: response.subarray(start, end),
  more: end < response.length,
});

test('an answer that comes in parts is put together, with others in between', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  server.answering = false;
  const order: string[] = [];
  const reads = ['a', 'b', 'c'].map(async (key) => {
    const found = await client.kv.get(key);
    order.push(key);
    return found?.value;
  });
  await waitFor('the calls', () => server.calls.length === 3 || undefined);
  const [a, b, c] = server.calls.map(({ id }) => id);
  if (a === undefined || b === undefined || c === undefined) throw new Error('a call is missing');
  server.answer(part(a, 0, 1_000), part(b, 0, 10));
  server.answer(part(b, 10, 4_000), answerTo(c, Method.RANGE));
  server.answer(part(a, 1_000, 2_000), part(b, 4_000, response.length));
  server.answer(part(a, 2_000, response.length));
  const [first, second, third] = await Promise.all(reads);
  expect(order).toEqual(['c', 'b', 'a']);
  expect(third).toBeUndefined();
  expect(first).toEqual(value);
  expect(second).toEqual(value);
});

test('a stream that ends between the parts of an answer did not answer', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  server.answering = false;
  const read = client.kv.get('a');
  await waitFor('the call', () => server.calls.length === 1 || undefined);
  server.answer(part(server.calls[0]?.id ?? 0, 0, 1_000));
  server.fail(Status.UNAVAILABLE, 'going away');
  await waitFor('the call again', () => server.calls.length === 2 || undefined);
  server.answer(part(server.calls[1]?.id ?? 0, 0, response.length));
  expect((await read)?.value).toEqual(value);
});
