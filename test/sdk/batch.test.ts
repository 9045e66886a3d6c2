import { Channel, credentials } from '@grpc/grpc-js';
import { Status } from 'nice-grpc-common';
import { expect, test } from 'vitest';
import { systemClock } from '../../sdk/clock.ts';
import { connect } from '../../sdk/index.ts';
import { Lanes } from '../../sdk/transport-lanes.ts';
import { RangeRequest } from '../../server/wire/etcdserverpb/rpc.ts';
import { answerTo, FakeBatchServer } from '../support/fake-batch-server.ts';
import { waitFor } from '../support/wait.ts';

const open = (server: FakeBatchServer, transport: 'auto' | 'batch' | 'unary' = 'auto') =>
  connect({
    endpoints: server.endpoint,
    transport,
    retry: { minDelay: 5, maxDelay: 20 },
    requestTimeout: '5s',
  });

test('the calls of one turn travel in one message, and large ones in several', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  await Promise.all(Array.from({ length: 50 }, (_, index) => client.kv.get(`k${index}`)));
  expect(server.messages.map(({ calls }) => calls.length)).toEqual([50]);
  const value = Buffer.alloc(400_000);
  await Promise.all(Array.from({ length: 5 }, () => client.kv.put('k', value)));
  expect(server.messages.slice(1).map(({ calls }) => calls.length)).toEqual([2, 2, 1]);
  expect(server.streams).toBe(2);
  expect(server.plainCalls).toBe(0);
  await client.kv.put('k', Buffer.alloc(1_200_000));
  expect(server.plainCalls).toBe(1);
  expect(server.calls.every(({ timeoutMs }) => timeoutMs > 4_000 && timeoutMs <= 5_000)).toBe(true);
});

test('answers find their calls in whatever order they come', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  server.answering = false;
  const counts = Promise.all(['a', 'b', 'c'].map((key) => client.kv.count(key)));
  await waitFor('the calls', () => server.calls.length === 3 || undefined);
  const [a, b, c] = server.calls.map(({ id, method }, index) =>
    answerTo(id, method, BigInt(index)),
  );
  if (a === undefined || b === undefined || c === undefined) throw new Error('a call is missing');
  server.answer(c, { ...a, id: 4_000_000 });
  server.answer(b, a);
  expect(await counts).toEqual([0n, 1n, 2n]);
});

test('one call may fail without the others', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  server.answering = false;
  const [bad, good] = [client.kv.put('a', ''), client.kv.put('b', '')];
  const failed = expect(bad).rejects.toMatchObject({ code: 'NO_SPACE', outcome: 'not-applied' });
  await waitFor('the calls', () => server.calls.length === 2 || undefined);
  const [first, second] = server.calls;
  if (first === undefined || second === undefined) throw new Error('a call is missing');
  server.answer(
    {
      id: first.id,
      response: Buffer.alloc(0),
      code: Status.RESOURCE_EXHAUSTED,
      error: 'etcdserver: mvcc: database space exceeded',
      more: false,
    },
    answerTo(second.id, second.method),
  );
  await failed;
  expect(await good).toEqual({ revision: 7n });
});

test('a call that is given up is cancelled at the server', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  server.answering = false;
  await expect(client.kv.get('a', { timeout: 30 })).rejects.toMatchObject({ code: 'TIMEOUT' });
  const controller = new AbortController();
  const aborted = client.kv.get('b', { signal: controller.signal });
  await waitFor('the call', () => server.calls.length >= 2 || undefined);
  controller.abort();
  await expect(aborted).rejects.toMatchObject({ code: 'ABORTED' });
  await waitFor(
    'both cancellations',
    () => server.calls.filter(({ cancel }) => cancel).length === 2 || undefined,
  );
  const cancelled = server.calls.filter(({ cancel }) => cancel).map(({ id }) => id);
  const asked = server.calls.filter(({ cancel }) => !cancel).map(({ id }) => id);
  expect(cancelled).toEqual(asked);
});

test('an aborted call that has not left yet never leaves', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  const controller = new AbortController();
  const write = client.kv.put('a', '', { signal: controller.signal });
  controller.abort();
  await expect(write).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-applied' });
  await client.kv.get('b');
  expect(server.calls).toHaveLength(1);
});

test('giving up many calls that have not left takes little time, and the others leave', async () => {
  await using server = await FakeBatchServer.start();
  const channel = new Channel(server.endpoint, credentials.createInsecure(), {});
  const single = { unary: () => Promise.reject(new Error('single')), close: () => undefined };
  const caller = new Lanes(channel, single, systemClock);
  const get = (signal?: AbortSignal) =>
    caller.unary('range', RangeRequest.create({ key: Buffer.from('k') }), {
      timeoutMs: 60_000,
      signal,
    });
  const controllers = Array.from({ length: 40_000 }, () => new AbortController());
  const given = Promise.allSettled(controllers.map(({ signal }) => get(signal)));
  const kept = [get(), get()];
  const startedMs = performance.now();
  for (const controller of controllers) controller.abort();
  const tookMs = performance.now() - startedMs;
  expect((await given).every(({ status }) => status === 'rejected')).toBe(true);
  await Promise.all(kept);
  expect(server.calls).toHaveLength(2);
  // Looking through all of them for each takes half a minute.
  expect(tookMs).toBeLessThan(10_000);
  caller.close();
  channel.close();
});

test('without batches it falls back to single calls and remembers', async () => {
  await using server = await FakeBatchServer.start();
  server.serving = false;
  await using client = await open(server);
  await Promise.all([client.kv.put('a', ''), client.kv.put('b', ''), client.kv.get('c')]);
  await client.kv.get('d');
  expect(server.streams).toBe(1);
  expect(server.plainCalls).toBe(4);
  await using strict = await open(server, 'batch');
  await expect(strict.kv.get('a')).rejects.toMatchObject({ code: 'UNIMPLEMENTED' });
  await using plain = await open(server, 'unary');
  await plain.kv.get('a');
  expect(server.streams).toBe(2);
});

test('a stream that breaks fails its writes, repeats its reads, and is opened again', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  server.answering = false;
  const write = client.kv.put('a', '');
  const read = client.kv.get('b');
  const unknown = expect(write).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
  await waitFor('the calls', () => server.calls.length === 2 || undefined);
  server.answering = true;
  server.fail(Status.UNAVAILABLE, 'going away');
  await unknown;
  expect(await read).toBeNull();
  expect(server.streams).toBe(2);
  const puts = server.calls.filter(({ method }) => method === 2);
  expect(puts).toHaveLength(1);
});

test('UNIMPLEMENTED after batches were served is a broken stream, not a reason to fall back', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  await client.kv.get('a');
  server.answering = false;
  const write = client.kv.put('a', '');
  const failed = expect(write).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
  await waitFor('the call', () => server.calls.length === 2 || undefined);
  server.fail(Status.UNIMPLEMENTED, 'changed my mind');
  await failed;
  expect(server.plainCalls).toBe(0);
});

test('a server that answers what is pending and ends the stream loses no answer', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  await client.kv.get('warm');
  server.answering = false;
  // More than are handed out in one turn.
  const count = 200;
  const writes = Promise.all(Array.from({ length: count }, (_, n) => client.kv.put(`${n}`, '')));
  await waitFor('the calls', () => server.calls.length === count + 1 || undefined);
  server.answer(...server.calls.slice(1).map(({ id, method }) => answerTo(id, method)));
  server.fail(Status.UNAVAILABLE, 'etcdserver: server stopped');
  expect(await writes).toEqual(Array.from({ length: count }, () => ({ revision: 7n })));
});

test('the answers of one message are handed out a few in each turn, in their order', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  await client.kv.get('warm');
  let turn = 0;
  const turns = new Map<number, number[]>();
  let isOver = false;
  const count = (): void => {
    turn += 1;
    if (!isOver) setImmediate(count);
  };
  server.answering = false;
  const calls = Array.from({ length: 80 }, async (_, n) => {
    await client.kv.get(`${n}`);
    turns.set(turn, [...(turns.get(turn) ?? []), n]);
  });
  await waitFor('the calls', () => server.calls.length === 81 || undefined);
  count();
  server.answer(...server.calls.slice(1).map(({ id, method }) => answerTo(id, method)));
  await Promise.all(calls);
  isOver = true;
  expect([...turns.values()].map(({ length }) => length)).toEqual([32, 32, 16]);
  expect([...turns.values()].flat()).toEqual(Array.from({ length: 80 }, (_, n) => n));
});

test('when the stream ends, writes still here go to another member, those sent are unknown', async () => {
  await using server = await FakeBatchServer.start();
  await using other = await FakeBatchServer.start();
  await using client = await connect({
    endpoints: [server.endpoint, other.endpoint],
    retry: { minDelay: 5, maxDelay: 20 },
    random: () => 0,
  });
  await client.kv.get('warm');
  server.deaf = true;
  const value = Buffer.alloc(600_000);
  const writes = Promise.allSettled(
    Array.from({ length: 30 }, (_, index) => client.kv.put(`k${index}`, value)),
  );
  await waitFor('the first write', () => server.messages.length === 2 || undefined);
  server.fail(Status.UNAVAILABLE, 'etcdserver: server stopped');
  const outcomes = await writes;
  const sent = outcomes.filter(({ status }) => status === 'rejected');
  expect(sent.length).toBeGreaterThan(0);
  for (const outcome of sent)
    expect(outcome).toMatchObject({ reason: { code: 'OUTCOME_UNKNOWN' } });
  expect(other.calls.length).toBeGreaterThan(0);
  expect(other.calls.length).toBe(outcomes.length - sent.length);
});

test('why a stream ended is no answer to the calls it carried', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  await client.kv.get('warm');
  server.answering = false;
  const write = client.kv.put('a', '');
  const unknown = expect(write).rejects.toMatchObject({ code: 'OUTCOME_UNKNOWN' });
  await waitFor('the call', () => server.calls.length === 2 || undefined);
  server.answering = true;
  server.fail(Status.UNAVAILABLE, 'etcdserver: no leader');
  await unknown;
  expect(server.calls).toHaveLength(2);
});

test('a stream that is refused as a whole carried nothing', async () => {
  await using server = await FakeBatchServer.start();
  await using other = await FakeBatchServer.start();
  await using client = await connect({
    endpoints: [server.endpoint, other.endpoint],
    retry: { minDelay: 5, maxDelay: 20 },
    random: () => 0,
  });
  server.refusal = 'etcdserver: no leader';
  expect(await client.kv.put('a', '')).toEqual({ revision: 7n });
  expect([server.streams, other.streams]).toEqual([1, 1]);
});
