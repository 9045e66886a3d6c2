/** Connections of clients that put something else than an authority into `:authority`. */

import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { type AddressInfo, connect as connectTcp, createConnection, createServer } from 'node:net';
import { expect, test } from 'vitest';
import { mendAuthority } from '../../server/rpc/authority.ts';
import { StatusResponse } from '../../server/wire/etcdserverpb/rpc.ts';
import { Face } from '../support/face.ts';
import { within } from '../support/wait.ts';

const EMPTY_MESSAGE = Buffer.alloc(5);

/** As etcdctl 3.4 does: waits for the settings, then asks under a name that is a URL. */
async function statusOf(session: ClientHttp2Session, authority: string): Promise<StatusResponse> {
  const stream = session.request({
    ':method': 'POST',
    ':path': '/etcdserverpb.Maintenance/Status',
    ':authority': authority,
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  stream.end(EMPTY_MESSAGE);
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return StatusResponse.decode(Buffer.concat(chunks).subarray(EMPTY_MESSAGE.length));
}

const names = [
  'http://127.0.0.1:2379',
  '#initially=[http://127.0.0.1:2379;http://127.0.0.1:22379]',
  'http://a-name-of-more-than-one-hundred-and-twenty-six-bytes-in-huffman-code/'.repeat(4),
  'localhost:2379',
];
const carriers = ['lean', 'grpc-js'] as const;

test.each(names.flatMap((name) => carriers.map((carrier) => [name, carrier] as const)))(
  'calls under the name %s are served by %s, one after another and side by side',
  async (authority, carrier) => {
    await using face = await Face.open({ rpc: { carrier } });
    const session = connect(face.url);
    await once(session, 'remoteSettings');
    expect((await statusOf(session, authority)).raftTerm).toBe(2n);
    const all = await Promise.all(Array.from({ length: 20 }, () => statusOf(session, authority)));
    expect(all.map(({ leader }) => leader)).toEqual(all.map(() => 0xabcn));
    session.close();
  },
);

test('a connection to grpc-js may stay without a call, and ping meanwhile', async () => {
  await using face = await Face.open({ rpc: { carrier: 'grpc-js' }, listener: { silenceMs: 50 } });
  const session = connect(face.url);
  await once(session, 'remoteSettings');
  await new Promise((resolve, reject) => {
    session.ping((error) => (error === null ? resolve(undefined) : reject(error)));
  });
  expect((await statusOf(session, 'localhost')).raftTerm).toBe(2n);
  const idle = connect(face.url);
  // The second settings are Node's own: from then on it has the connection.
  await once(idle, 'remoteSettings');
  await once(idle, 'remoteSettings');
  expect((await statusOf(idle, 'localhost')).raftTerm).toBe(2n);
  session.close();
  idle.close();
});

test('a client that never acknowledges the settings is not handed to grpc-js', async () => {
  await using face = await Face.open({ rpc: { carrier: 'grpc-js' }, listener: { silenceMs: 50 } });
  const socket = connectTcp(Number(new URL(face.url).port), '127.0.0.1');
  socket.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
  socket.write(Buffer.from([0, 0, 0, 4, 0, 0, 0, 0, 0]));
  await within(once(socket.resume(), 'close'), 5_000, 'giving the connection up');
});

test.each([
  ['before', ['acknowledgement', 'headers']],
  ['behind', ['headers', 'acknowledgement']],
] as const)('an acknowledgement %s the first call is taken off', async (_, order) => {
  const frame = (type: number, flags: number, stream: number, payload: Buffer): Buffer => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(payload.length, 0, 3);
    head[3] = type;
    head[4] = flags;
    head.writeUInt32BE(stream, 5);
    return Buffer.concat([head, payload]);
  };
  const settings = frame(4, 0, 0, Buffer.alloc(0));
  const url = Buffer.from('http://member');
  const frames = {
    acknowledgement: frame(4, 1, 0, Buffer.alloc(0)),
    // A literal `:authority`, the first name of the static table.
    headers: frame(1, 4, 1, Buffer.concat([Buffer.of(0x41, url.length), url])),
  };
  const opening = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), settings]);

  const handedOver = new Promise<Buffer>((resolve) => {
    const server = createServer((socket) => {
      mendAuthority(socket, 10_000, () => {
        resolve(socket.read());
        socket.destroy();
        server.close();
      });
    });
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      const client = createConnection(port, '127.0.0.1');
      client.setNoDelay(true);
      client.write(opening);
      client.once('data', () => {
        for (const name of order) client.write(frames[name]);
      });
    });
  });
  const bytes = await handedOver;
  expect(bytes.includes('localhost')).toBe(true);
  expect(bytes.includes(url)).toBe(false);
  expect(bytes.includes(frames.acknowledgement)).toBe(false);
  expect(bytes.subarray(0, opening.length)).toEqual(opening);
});
