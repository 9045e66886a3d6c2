import { expect, test } from 'vitest';
import { parseEndpoints } from '../../sdk/endpoints.ts';
import { Link } from '../../sdk/link.ts';
import { watchPulse } from '../../sdk/pulse.ts';
import { insecureCredentials } from '../../sdk/tls.ts';
import { GrpcTransport } from '../../sdk/transport-grpc.ts';
import { RangeRequest } from '../../server/wire/etcdserverpb/rpc.ts';
import { FakeBatchServer } from '../support/fake-batch-server.ts';
import { ManualClock } from '../support/manual-clock.ts';
import { waitFor } from '../support/wait.ts';

test('parts of an answer keep a link whose pings are not answered, silence does not', async () => {
  await using server = await FakeBatchServer.start();
  server.numbering = true;
  server.answering = false;
  server.silent = true;
  const clock = new ManualClock();
  const [endpoint] = parseEndpoints(server.endpoint);
  if (endpoint === undefined) throw new Error('no endpoint');
  const transport = new GrpcTransport(endpoint, {
    transport: 'auto',
    credentials: insecureCredentials,
    withoutBatches: new Set(),
    clock,
  });
  const link = new Link(endpoint, { openTransport: () => transport, clock });
  await link.connected(1_000);
  const request = RangeRequest.fromPartial({ key: Buffer.from('k') });
  const read = link.unary('range', request, { timeoutMs: 60_000 });
  read.catch(() => undefined);
  const { id } = await waitFor('the call', () => server.calls[0]);
  let silences = 0;
  watchPulse(link, { clock, onSilence: () => (silences += 1) });
  const beat = async (betweenPingAndTimeout: () => Promise<unknown>) => {
    const { pings } = server;
    clock.advance(500);
    await waitFor('a ping', () => server.pings > pings || undefined);
    await betweenPingAndTimeout();
    clock.advance(1_500);
    // What follows from the timeout happens in this turn.
    await new Promise((resolve) => setImmediate(resolve));
  };
  const part = async () => {
    const { received } = transport;
    server.answer({ id, code: 0, error: '', response: Buffer.alloc(10), more: true });
    await waitFor('a part', () => transport.received > received || undefined);
  };
  for (let round = 0; round < 4; round += 1) {
    await beat(part);
    expect(silences).toBe(0);
  }
  await beat(async () => undefined);
  expect(silences).toBe(1);
  link.close();
  await expect(read).rejects.toMatchObject({ kind: 'closed' });
});
