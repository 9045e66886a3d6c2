/** What goes over the wire to a member, seen from the member. */
import { createServer } from 'nice-grpc';
import type { CallContext } from 'nice-grpc-common';
import { expect, test } from 'vitest';
import { systemClock } from '../../sdk/clock.ts';
import { parseEndpoints } from '../../sdk/endpoints.ts';
import { connect } from '../../sdk/index.ts';
import { insecureCredentials } from '../../sdk/tls.ts';
import { GrpcTransport } from '../../sdk/transport-grpc.ts';
import {
  PutRequest,
  WatchDefinition,
  type WatchRequest,
  WatchResponse,
} from '../../server/wire/etcdserverpb/rpc.ts';
import { FakeBatchServer } from '../support/fake-batch-server.ts';
import { TcpProxy } from '../support/proxy.ts';
import { waitFor } from '../support/wait.ts';

const overGrpc = (endpoint: string, transport: 'auto' | 'unary' = 'auto'): GrpcTransport => {
  const [parsed] = parseEndpoints(endpoint);
  if (parsed === undefined) throw new Error('no endpoint');
  const withoutBatches = new Set<string>();
  return new GrpcTransport(parsed, {
    transport,
    credentials: insecureCredentials,
    withoutBatches,
    clock: systemClock,
  });
};

const put = PutRequest.fromPartial({ key: Buffer.from('k') });

const numberOf = (client: bigint, sequence: bigint, floor: bigint) => ({
  timeoutMs: 5_000,
  number: { client, sequence, floor: () => floor },
});

test('a message tells the floor of one client, so it holds the numbers of one', async () => {
  await using server = await FakeBatchServer.start();
  server.clients.add(1n).add(2n);
  const transport = overGrpc(server.endpoint);
  await transport.connected();
  await Promise.all([
    transport.unary('put', put, { timeoutMs: 5_000 }),
    transport.unary('put', put, numberOf(1n, 8n, 4n)),
    transport.unary('put', put, numberOf(1n, 9n, 4n)),
    transport.unary('put', put, numberOf(2n, 1n, 1n)),
    transport.unary('put', put, { timeoutMs: 5_000 }),
  ]);
  expect(
    server.messages.map(({ floor, calls }) => [floor, ...calls.map(({ sequence }) => sequence)]),
  ).toEqual([
    [4n, 0n, 8n, 9n],
    [1n, 1n, 0n],
  ]);
  transport.close();
});

test('a numbered write is never sent without its number', async () => {
  await using server = await FakeBatchServer.start();
  server.serving = false;
  const transport = overGrpc(server.endpoint);
  await transport.connected();
  const refused = { kind: 'unnumbered', sent: false };
  for (let round = 0; round < 2; round++) {
    await expect(transport.unary('put', put, numberOf(1n, 1n, 1n))).rejects.toMatchObject(refused);
  }
  transport.close();
  const unary = overGrpc(server.endpoint, 'unary');
  await unary.connected();
  await expect(unary.unary('put', put, numberOf(1n, 1n, 1n))).rejects.toMatchObject(refused);
  await expect(unary.unary('ping', {}, { timeoutMs: 5_000 })).rejects.toMatchObject(refused);
  unary.close();
  expect(server.plainCalls).toBe(0);
});

test('closing ends an attempt to connect', async () => {
  // Nobody answers from this address, which is reserved for documentation.
  const transport = overGrpc('192.0.2.1:9');
  const connecting = expect(transport.connected()).rejects.toMatchObject({ kind: 'status' });
  await new Promise((resolve) => setImmediate(resolve));
  transport.close();
  await connecting;
});

test('closing at once leaves no connection behind', async () => {
  await using server = await FakeBatchServer.start();
  await using proxy = await TcpProxy.to(server.endpoint);
  const early = overGrpc(proxy.endpoint);
  const refused = expect(early.connected()).rejects.toMatchObject({ kind: 'status' });
  early.close();
  await refused;
  const later = overGrpc(proxy.endpoint);
  await later.connected();
  // Connections are accepted in their order.
  await waitFor('one connection', () => proxy.connections === 1 || undefined, { timeoutMs: 2_000 });
  later.close();
  await waitFor('none', () => proxy.connections === 0 || undefined);
});

test('watch streams ask for a leader, so that a member cut off from it ends them', async () => {
  const asked: (string | undefined)[] = [];
  const server = createServer();
  server.add(WatchDefinition, {
    async *watch(requests: AsyncIterable<WatchRequest>, context: CallContext) {
      asked.push(context.metadata.get('hasleader'));
      for await (const _ of requests) {
        yield WatchResponse.fromPartial({ header: { revision: 3n }, created: true, watchId: 1n });
      }
    },
  });
  const port = await server.listen('127.0.0.1:0');
  const client = await connect(`127.0.0.1:${port}`);
  const watch = client.kv.watch('k');
  await watch.created;
  expect(asked).toEqual(['true']);
  await client.close();
  server.forceShutdown();
});
