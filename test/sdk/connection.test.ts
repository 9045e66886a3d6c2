import { getEventListeners } from 'node:events';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../sdk/clock.ts';
import { Connection } from '../../sdk/connection.ts';
import { parseEndpoints } from '../../sdk/endpoints.ts';
import { type Client, type ClientEvent, connect, op } from '../../sdk/index.ts';
import { TcpProxy } from '../support/proxy.ts';
import { storeMissing, useStore } from '../support/store.ts';
import { waitFor } from '../support/wait.ts';

/** Looks like PEM and holds nothing. */
const pemOf = (kind: string) => `-----BEGIN ${kind}-----\nAAAA\n-----END ${kind}-----\n`;

const quick = { minDelay: 5, maxDelay: 50 } as const;

describe.skipIf(storeMissing).each(['auto', 'unary'] as const)(
  'calls, transport %s',
  (transport) => {
    const { store } = useStore();
    let direct: Client;
    let proxy: TcpProxy;
    beforeAll(async () => {
      direct = await connect(store().endpoint);
      proxy = await TcpProxy.to(store().endpoint);
    });
    afterAll(async () => {
      await direct.close();
      await proxy.close();
    });
    beforeEach(() => proxy.heal());
    // A closed client leaves no connection behind; only a peer that is stalled can delay that.
    afterEach(() => waitFor('connections to close', () => proxy.connections === 0 || undefined));
    let round = 0;
    const open = () =>
      connect({
        endpoints: proxy.endpoint,
        transport,
        retry: quick,
        namespace: `${transport}-${round++}/`,
      });
    const versionOf = async (key: string) =>
      (await direct.kv.get(`${transport}-${round - 1}/${key}`))?.version;
    const applied = (key: string, version = 1n) =>
      waitFor(`${key} to be applied`, async () => (await versionOf(key)) === version || undefined);

    /** Whether the store applies a write once however often it is sent. */
    const numbered = () => transport === 'auto' && store().system === 'conclave';

    test('a write whose answer is lost is applied once: repeated under its number, or not at all', async () => {
      await using client = await open();
      await client.kv.put('warm', '');
      proxy.loseAnswers();
      const writes = [
        client.kv.put('put', '1'),
        client.kv.txn().then(op.put('txn', '1')).commit(),
      ] as const;
      const outcomes = Promise.allSettled(writes);
      await applied('put');
      await applied('txn');
      proxy.cut();
      proxy.heal();
      const unknown = { code: 'OUTCOME_UNKNOWN', outcome: 'unknown', retryable: false };
      const expected = numbered()
        ? { status: 'fulfilled' }
        : { status: 'rejected', reason: unknown };
      expect(await outcomes).toMatchObject([expected, expected]);
      await client.kv.put('after', '1');
      expect(await versionOf('put')).toBe(1n);
      expect(await versionOf('txn')).toBe(1n);
    });

    test('a read whose answer is lost is repeated, a transaction that only reads too', async () => {
      await using client = await open();
      await client.kv.put('a', '1');
      proxy.loseAnswers();
      const before = proxy.requestBytes;
      const read = client.kv.getString('a');
      const reads = client.kv.txn().then(op.get('a')).commit();
      await waitFor('the reads to be sent', () => proxy.requestBytes > before || undefined);
      proxy.cut();
      proxy.heal();
      expect(await read).toBe('1');
      expect(await reads).toMatchObject({ responses: [{ key: 'a' }] });
    });

    test('a write that could not be sent is sent later, once', async () => {
      await using client = await open();
      proxy.refuse();
      await waitFor('the connection to break', () => proxy.connections === 0 || undefined);
      const write = client.kv.put('late', '1');
      setTimeout(() => proxy.heal(), 50);
      await write;
      expect(await versionOf('late')).toBe(1n);
    });

    test('writes that end the same when done twice survive a lost answer', async () => {
      await using client = await open();
      await client.kv.get('warm');
      const lose = async <T>(call: () => Promise<T>): Promise<T> => {
        proxy.loseAnswers();
        const before = proxy.requestBytes;
        const result = call();
        await waitFor('the call to be sent', () => proxy.requestBytes > before || undefined);
        // Applied by now: the store answers a later call of another client.
        await direct.kv.get('x');
        proxy.cut();
        proxy.heal();
        return await result;
      };
      const { id, ttlMs } = await lose(() => client.leases.grant('60s'));
      expect(ttlMs).toBe(60_000);
      expect(await direct.leases.timeToLive(id)).not.toBeNull();
      await lose(() => client.leases.revoke(id));
      expect(await direct.leases.timeToLive(id)).toBeNull();
      const { revision } = await direct.kv.put('x', '');
      await lose(() => client.kv.compact(revision));
    });

    test('a call ends at its timeout', async () => {
      await using client = await open();
      await client.kv.put('warm', '');
      proxy.stall();
      await expect(client.kv.get('a', { timeout: 50 })).rejects.toMatchObject({
        code: 'TIMEOUT',
        outcome: 'not-applied',
        retryable: true,
      });
      await expect(client.kv.put('a', '', { timeout: '50ms' })).rejects.toMatchObject({
        code: 'TIMEOUT',
        outcome: 'unknown',
      });
      proxy.refuse();
      await waitFor('the connection to break', () => proxy.connections === 0 || undefined);
      await expect(client.kv.put('a', '', { timeout: 50 })).rejects.toMatchObject({
        code: 'UNREACHABLE',
        outcome: 'not-applied',
        message: expect.stringContaining(proxy.endpoint),
      });
    });

    test('a call ends with its signal, wherever it is', async () => {
      await using client = await open();
      await client.kv.put('warm', '');
      const reason = new Error('changed my mind');
      const early = AbortSignal.abort(reason);
      await expect(client.kv.put('a', '', { signal: early })).rejects.toMatchObject({
        code: 'ABORTED',
        cause: reason,
        outcome: 'not-applied',
      });
      proxy.stall();
      const flying = new AbortController();
      const read = client.kv.get('a', { signal: flying.signal });
      const write = client.kv.put('a', '', { signal: flying.signal });
      setTimeout(() => flying.abort(reason), 30);
      await expect(read).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-applied' });
      await expect(write).rejects.toMatchObject({ code: 'ABORTED', outcome: 'unknown' });
      proxy.refuse();
      await waitFor('the connection to break', () => proxy.connections === 0 || undefined);
      const waiting = new AbortController();
      const unsent = client.kv.put('b', '', { signal: waiting.signal });
      setTimeout(() => waiting.abort(reason), 30);
      await expect(unsent).rejects.toMatchObject({ code: 'ABORTED', outcome: 'not-applied' });
    });

    test('a signal that lives long collects no listeners', async () => {
      await using client = await open();
      const { signal } = new AbortController();
      for (let index = 0; index < 5; index++) {
        await client.kv.put('a', '', { signal });
        await client.kv.list({ all: true }, { signal, timeout: '1s' });
        await client.leases.list({ signal });
        await client.kv.txn().then(op.get('a')).commit({ signal });
        await (await client.session({ signal })).close();
        const watch = client.kv.watch('a', { signal });
        await watch.created;
        await watch.cancel();
        for await (const _ of client.kv.iterate({ all: true }, { signal })) break;
        await expect(client.kv.get('a', { signal, revision: 10n ** 9n })).rejects.toThrow();
      }
      expect(getEventListeners(signal, 'abort')).toEqual([]);
    });

    test('closing ends what is under way', async () => {
      const client = await open();
      await client.kv.get('warm');
      proxy.stall();
      const read = client.kv.get('a');
      const write = client.kv.put('a', '');
      const ends = Promise.allSettled([read, write]);
      await new Promise(setImmediate);
      await client.close();
      await client.close();
      expect(await ends).toMatchObject([
        { reason: { code: 'CLOSED', outcome: 'not-applied' } },
        { reason: { code: 'CLOSED' } },
      ]);
      await expect(client.kv.get('a')).rejects.toMatchObject({ code: 'CLOSED' });
      await waitFor('the socket to close', () => proxy.connections === 0 || undefined);
    });
  },
);

describe.skipIf(storeMissing)('endpoints', () => {
  const { store } = useStore();

  test('when one goes away the next is used', async () => {
    await using one = await TcpProxy.to(store().endpoint);
    await using two = await TcpProxy.to(store().endpoint);
    await using client = await connect({
      endpoints: [one.endpoint, `http://${two.endpoint}`],
      retry: quick,
      random: () => 0,
    });
    const events: ClientEvent[] = [];
    client.events$.subscribe((event) => events.push(event));
    await client.kv.put('a', '1');
    expect([one.connections, two.connections]).toEqual([1, 0]);
    const watch = client.kv.watch('a');
    await watch.created;
    one.refuse();
    expect(await client.kv.getString('a')).toBe('1');
    expect(two.connections).toBe(1);
    expect(events).toMatchObject([
      { type: 'disconnected', endpoint: one.endpoint },
      { type: 'endpoint', endpoint: `http://${two.endpoint}` },
      { type: 'connected' },
    ]);
    await client.kv.put('a', '2');
    const { value } = await watch[Symbol.asyncIterator]().next();
    expect(value).toMatchObject({ type: 'events' });
    one.heal();
    two.refuse();
    expect(await client.kv.getString('a')).toBe('2');
  });

  test('a member can be asked by name', async () => {
    await using one = await TcpProxy.to(store().endpoint);
    await using client = await connect({ endpoints: [one.endpoint, store().endpoint] });
    const status = await client.cluster.status({ endpoint: one.endpoint });
    expect(status).toMatchObject({ leader: status.memberId, isLearner: false });
    expect(client.cluster.endpoints).toEqual([one.endpoint, store().endpoint]);
    expect(await client.cluster.members()).toMatchObject([{ id: status.memberId }]);
    const hash = await client.cluster.hashKv({ endpoint: one.endpoint });
    expect((await client.cluster.hashKv()).hash).toBe(hash.hash);
    expect(await client.cluster.alarms()).toEqual([]);
    await expect(client.cluster.status({ endpoint: 'elsewhere' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    if (store().system === 'etcd') {
      let bytes = 0;
      for await (const chunk of client.cluster.snapshot()) bytes += chunk.length;
      expect(bytes % 512).toBe(32);
    }
  });

  test('connect says whom it could not reach, in the time it was given', async () => {
    await using proxy = await TcpProxy.to(store().endpoint);
    proxy.refuse();
    await expect(
      connect({ endpoints: proxy.endpoint, connectTimeout: '200ms' }),
    ).rejects.toMatchObject({
      code: 'UNREACHABLE',
      message: expect.stringContaining(proxy.endpoint),
    });
    await expect(
      connect({ endpoints: proxy.endpoint, signal: AbortSignal.abort() }),
    ).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('TLS asked of a server without it: the remedy says so', async () => {
    await expect(
      connect({ endpoints: `https://${store().endpoint}`, connectTimeout: '300ms' }),
    ).rejects.toMatchObject({ code: 'UNREACHABLE', remedy: expect.stringContaining('speaks TLS') });
  });

  test('a link that cannot even be made is tried again in its own time, not at once', async () => {
    let attempts = 0;
    const connection: Connection = new Connection({
      endpoints: parseEndpoints('https://127.0.0.1:1'),
      openTransport: () => {
        attempts += 1;
        // Were it at once, no timer would ever run again.
        if (attempts > 100) connection.close();
        throw new Error('no credentials today');
      },
      clock: systemClock,
      retry: { retries: 1, minDelayMs: 20, maxDelayMs: 20 },
      requestTimeoutMs: 1_000,
      random: () => 0.5,
      logger: undefined,
    });
    try {
      await expect(connection.link(100)).rejects.toMatchObject({
        code: 'UNREACHABLE',
        message: expect.stringContaining('no credentials today'),
      });
      expect(attempts).toBeLessThan(20);
    } finally {
      connection.close();
    }
  });

  test.each([
    ['endpoints', { endpoints: 'host:port' }],
    ['endpoints', { endpoints: [] }],
    ['endpoints', { endpoints: 'ftp://host:1' }],
    ['endpoints', { endpoints: 'host:70000' }],
    ['directory', { endpoints: 'host:1', directory: 'x' }],
    ['transport', { endpoints: 'host:1', transport: 'pigeon' as never }],
    ['requestTimeout', { endpoints: 'host:1', requestTimeout: '1 year' }],
    ['tls.key', { endpoints: 'https://host:1', tls: { key: pemOf('PRIVATE KEY') } }],
    ['tls.cert', { endpoints: 'https://host:1', tls: { cert: pemOf('CERTIFICATE') } }],
    ['tls.cert', { endpoints: 'https://host:1', tls: { cert: 'x', key: pemOf('PRIVATE KEY') } }],
    [
      'tls.cert',
      {
        endpoints: 'host:1',
        tls: { cert: pemOf('CERTIFICATE'), key: pemOf('PRIVATE KEY') },
      },
    ],
    ['tls.ca', { endpoints: 'https://host:1', tls: { ca: 'not PEM' } }],
    ['tls.ca', { endpoints: 'https://host:1', tls: { ca: 7 as never } }],
  ])('refuses bad %s', async (field, options) => {
    await expect(connect(options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(`'${field}'`),
    });
  });
});
