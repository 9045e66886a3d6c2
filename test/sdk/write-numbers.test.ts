/** Writes that are applied once however often they are sent, against a server that remembers them. */
import { Status } from 'nice-grpc-common';
import { describe, expect, test } from 'vitest';
import { systemClock } from '../../sdk/clock.ts';
import { parseEndpoints } from '../../sdk/endpoints.ts';
import { type Client, connect, op } from '../../sdk/index.ts';
import { Link } from '../../sdk/link.ts';
import { type MemberTransport, TransportFailure } from '../../sdk/transport.ts';
import { type HeldNumber, WriteNumbers } from '../../sdk/write-numbers.ts';
import { Method } from '../../server/wire/conclave/v1/batch.ts';
import { FakeBatchServer } from '../support/fake-batch-server.ts';
import { waitFor } from '../support/wait.ts';

const retry = { minDelay: 5, maxDelay: 20 } as const;

const start = async (): Promise<FakeBatchServer> => {
  const server = await FakeBatchServer.start();
  server.numbering = true;
  return server;
};

const open = (...servers: readonly FakeBatchServer[]): Promise<Client> =>
  connect({
    endpoints: servers.map(({ endpoint }) => endpoint),
    retry,
    requestTimeout: '5s',
    random: () => 0,
  });

const names = (server: FakeBatchServer) =>
  server.calls
    .filter(({ cancel }) => !cancel)
    .map(({ clientId, sequence }) => [clientId, sequence] as const);

test('the first writes register once, together, and are numbered; reads are not', async () => {
  await using server = await start();
  await using client = await open(server);
  await Promise.all([client.kv.put('a', ''), client.kv.put('b', ''), client.kv.get('c')]);
  await client.kv.txn().then(op.get('a')).commit();
  await client.kv.txn().then(op.put('d', '')).commit();
  expect(server.registrations).toBe(1);
  expect(names(server)).toEqual([
    [0n, 0n],
    [1001n, 1n],
    [1001n, 2n],
    [0n, 0n],
    [1001n, 3n],
  ]);
});

test('the floor follows the answers, and stands still while the oldest lacks its own', async () => {
  await using server = await start();
  await using client = await open(server);
  await client.kv.put('a', '');
  server.answering = false;
  const slow = client.kv.put('slow', '');
  await waitFor('the slow write', () => server.calls.length === 2 || undefined);
  server.answering = true;
  await client.kv.put('b', '');
  await client.kv.put('c', '');
  expect(server.messages.map(({ floor }) => floor)).toEqual([1n, 2n, 2n, 2n]);
  server.fail(Status.UNAVAILABLE, 'going away');
  await slow;
  await client.kv.put('d', '');
  expect(server.messages.at(-1)?.floor).toBe(5n);
});

test('a write whose answer is lost is sent again under its number and gets its first answer', async () => {
  await using server = await start();
  await using client = await open(server);
  await client.kv.put('a', '');
  server.answering = false;
  const write = client.kv.put('b', '');
  await waitFor('the write', () => server.applied.length === 2 || undefined);
  server.answering = true;
  server.fail(Status.UNAVAILABLE, 'going away');
  expect(await write).toEqual({ revision: 9n });
  expect(server.applied).toEqual(['a', 'b']);
  expect(names(server).slice(1)).toEqual([
    [1001n, 2n],
    [1001n, 2n],
  ]);
});

test('a write goes on at another member, which knows what the first applied', async () => {
  await using server = await start();
  await using other = await start();
  other.shareStateWith(server);
  await using client = await open(server, other);
  await client.kv.put('a', '');
  for (const known of server.clients) other.clients.add(known);
  server.answering = false;
  const write = client.kv.put('b', '');
  await waitFor('the write', () => server.applied.length === 2 || undefined);
  server.fail(Status.UNAVAILABLE, 'etcdserver: server stopped');
  expect(await write).toEqual({ revision: 9n });
  expect([...server.applied, ...other.applied]).toEqual(['a', 'b']);
});

test('a client that the server forgot registers anew, if nothing was sent under its name', async () => {
  await using server = await start();
  await using client = await open(server);
  await client.kv.put('a', '');
  server.clients.clear();
  await Promise.all([client.kv.put('b', ''), client.kv.put('c', '')]);
  expect(server.applied).toEqual(['a', 'b', 'c']);
  expect(server.registrations).toBe(2);
  expect(names(server).slice(-2)).toEqual([
    [1002n, 1n],
    [1002n, 2n],
  ]);
});

test('a write that may be applied already is not sent under another name', async () => {
  await using server = await start();
  await using client = await open(server);
  await client.kv.put('a', '');
  server.answering = false;
  const write = client.kv.put('b', '');
  const unknown = expect(write).rejects.toMatchObject({
    code: 'OUTCOME_UNKNOWN',
    outcome: 'unknown',
    retryable: false,
  });
  await waitFor('the write', () => server.applied.length === 2 || undefined);
  server.answering = true;
  server.clients.clear();
  server.fail(Status.UNAVAILABLE, 'going away');
  await unknown;
  expect(server.applied).toEqual(['a', 'b']);
  await client.kv.put('c', '');
  expect(server.applied).toEqual(['a', 'b', 'c']);
});

test('numbers in use stay within the window of the server', async () => {
  await using server = await start();
  server.window = 4;
  await using client = await open(server);
  server.answering = false;
  const writes = Array.from({ length: 10 }, (_, index) => client.kv.put(`k${index}`, ''));
  await waitFor('a full window', () => server.calls.length === 4 || undefined);
  await new Promise((resolve) => setImmediate(resolve));
  const waiting = client.kv.put('late', '', { timeout: 20 });
  await expect(waiting).rejects.toMatchObject({ code: 'TIMEOUT', outcome: 'not-applied' });
  const controller = new AbortController();
  const given = client.kv.put('late', '', { signal: controller.signal });
  controller.abort();
  await expect(given).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-applied' });
  expect(server.calls).toHaveLength(4);
  server.answering = true;
  server.fail(Status.UNAVAILABLE, 'going away');
  await Promise.all(writes);
  for (const { floor, calls } of server.messages) {
    for (const { sequence } of calls) expect(sequence - floor).toBeLessThan(4n);
  }
  expect(server.applied).toHaveLength(10);
});

describe('waiting for a number', () => {
  const link = {
    withoutNumbers: false,
    unary: async () => ({ clientId: 1n, window: 4 }),
  } as unknown as Link;
  const options = { timeoutMs: 5_000 } as const;
  /** With all numbers in use. */
  const full = async (clock = systemClock) => {
    const numbers = new WriteNumbers(clock, 1_000);
    const held: (HeldNumber | undefined)[] = [];
    for (let count = 0; count < 4; count += 1) held.push(await numbers.take(link, options));
    return { numbers, held };
  };
  const turn = () => new Promise((resolve) => setImmediate(resolve));

  test('numbers go to whoever waits the longest, and each waits once', async () => {
    let timers = 0;
    const { numbers, held } = await full({
      ...systemClock,
      setTimer: (...timer) => {
        timers += 1;
        return systemClock.setTimer(...timer);
      },
    });
    timers = 0;
    const order: number[] = [];
    const waiting = Array.from({ length: 100 }, async (_, index) => {
      const number = await numbers.take(link, options);
      order.push(index);
      return number;
    });
    await turn();
    for (const number of held) number?.release();
    // The room is theirs: nobody who comes now gets past them.
    expect(numbers.takeNow(link)).toBeUndefined();
    for (const one of waiting) (await one)?.release();
    expect(order).toEqual(Array.from({ length: 100 }, (_, index) => index));
    expect(timers).toBe(100);
  });

  test('whoever gave up in the moment in which there was room takes none of it', async () => {
    const { numbers, held } = await full();
    const controller = new AbortController();
    const first = numbers.take(link, { ...options, signal: controller.signal });
    const aborted = expect(first).rejects.toMatchObject({ kind: 'aborted' });
    const second = numbers.take(link, options);
    controller.abort();
    held[0]?.release();
    await aborted;
    expect(await second).toMatchObject({ sequence: 5n });
    for (const number of held) number?.release();
    (await second)?.release();
    expect(numbers.takeNow(link)?.floor()).toBe(6n);
  });

  test('those who wait when the server forgets the client get numbers of the next', async () => {
    const { numbers } = await full();
    const waiting = [numbers.take(link, options), numbers.take(link, options)];
    await turn();
    numbers.forget(1n);
    expect((await Promise.all(waiting)).map((number) => number?.sequence)).toEqual([1n, 2n]);
  });
});

describe('registrations that are not used', () => {
  const options = { timeoutMs: 5_000 } as const;
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  const failure = () => new TransportFailure('closed', Status.UNAVAILABLE, 'left', false);
  /** A link over which registrations are answered when the test says so, and goodbyes at once. */
  const manual = () => {
    const asked: ((client: bigint) => void)[] = [];
    const forgotten: bigint[] = [];
    const state = { leaving: false };
    const unary = (method: string, request: { clientId?: bigint }): Promise<unknown> => {
      if (state.leaving) return Promise.reject(failure());
      if (method === 'clientForget') {
        forgotten.push(request.clientId ?? 0n);
        return Promise.resolve({});
      }
      return new Promise((resolve) => {
        asked.push((clientId) => resolve({ clientId, window: 4 }));
      });
    };
    const transport = { unary, received: 0, close: () => undefined } as unknown as MemberTransport;
    const [endpoint] = parseEndpoints('127.0.0.1:1');
    if (endpoint === undefined) throw new Error('no endpoint');
    const link = new Link(endpoint, { openTransport: () => transport, clock: systemClock });
    return { link, asked, forgotten, state };
  };

  test('are taken back when another one was faster', async () => {
    const numbers = new WriteNumbers(systemClock, 1_000);
    const [slow, fast] = [manual(), manual()];
    const writes = [numbers.take(slow.link, options), numbers.take(fast.link, options)];
    fast.asked[0]?.(2n);
    await turn();
    slow.asked[0]?.(1n);
    expect((await Promise.all(writes)).map((number) => number?.client)).toEqual([2n, 2n]);
    expect(fast.forgotten).toEqual([1n]);
    await numbers.close(fast.link, 100);
    expect(fast.forgotten).toEqual([1n, 2n]);
  });

  test('are taken back when the answer came after the link was left', async () => {
    const numbers = new WriteNumbers(systemClock, 1_000);
    const [before, after] = [manual(), manual()];
    const lost = expect(numbers.take(before.link, options)).rejects.toMatchObject({ sent: false });
    before.link.retire();
    await lost;
    const write = numbers.take(after.link, options);
    after.asked[0]?.(2n);
    await write;
    before.asked[0]?.(1n);
    await turn();
    expect(after.forgotten).toEqual([1n]);
  });

  test('are taken back by the goodbye when there was no way before', async () => {
    const numbers = new WriteNumbers(systemClock, 1_000);
    const [slow, fast, last] = [manual(), manual(), manual()];
    const writes = [numbers.take(slow.link, options), numbers.take(fast.link, options)];
    fast.asked[0]?.(2n);
    await turn();
    fast.state.leaving = true;
    slow.asked[0]?.(1n);
    await Promise.all(writes);
    await turn();
    await numbers.close(last.link, 100);
    expect([...last.forgotten].sort()).toEqual([1n, 2n]);
  });

  test('are taken back when the client is closed before they are answered', async () => {
    const numbers = new WriteNumbers(systemClock, 1_000);
    const { link, asked, forgotten } = manual();
    const write = numbers.take(link, options).catch(() => undefined);
    const closed = numbers.close(link, 1_000);
    asked[0]?.(1n);
    await closed;
    await write;
    expect(forgotten).toEqual([1n]);
    await expect(numbers.take(link, options)).rejects.toMatchObject({ kind: 'closed' });
    expect(asked).toHaveLength(1);
  });
});

test('a large write travels with its number, alone; one beyond what servers take, without', async () => {
  await using server = await start();
  await using client = await open(server);
  await Promise.all([client.kv.put('a', Buffer.alloc(1_500_000)), client.kv.put('b', '')]);
  expect(server.messages.map(({ calls }) => calls.length)).toEqual([1, 1]);
  expect(server.plainCalls).toBe(0);
  await client.kv.put('c', Buffer.alloc(1_700_000));
  expect(server.plainCalls).toBe(1);
  await client.kv.put('d', '');
  expect(server.messages.at(-1)).toMatchObject({ floor: 4n, calls: [{ sequence: 4n }] });
});

test('a repeated grant, revoke and compaction are named too', async () => {
  await using server = await start();
  await using client = await open(server);
  await Promise.allSettled([
    client.leases.grant('5s'),
    client.leases.revoke(7n),
    client.kv.compact(3n),
    client.kv.delete('a'),
  ]);
  expect(server.calls.map(({ method, sequence }) => [method, sequence])).toEqual([
    [Method.LEASE_GRANT, 1n],
    [Method.LEASE_REVOKE, 2n],
    [Method.COMPACT, 3n],
    [Method.DELETE_RANGE, 4n],
  ]);
});

test('closing says goodbye, once there was a first write', async () => {
  await using server = await start();
  const reader = await open(server);
  await reader.kv.get('a');
  await reader.close();
  expect(server.forgotten).toEqual([]);
  const client = await open(server);
  await client.kv.put('a', '');
  await client.close();
  expect(server.forgotten).toEqual([1001n]);
});

test('where nobody registers, writes go unnumbered and as before', async () => {
  await using server = await FakeBatchServer.start();
  await using client = await open(server);
  await client.kv.put('a', '');
  await client.kv.put('b', '');
  expect(names(server)).toEqual([
    [0n, 0n],
    [0n, 0n],
  ]);
});
