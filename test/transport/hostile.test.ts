/** What comes to a peer port from something that is no member, or a broken one. */
import { once } from 'node:events';
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { createConnection } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { SnapshotTransferError } from '../../server/storage/errors.ts';
import { encodeFrame, encodeMessage } from '../../server/transport/encode.ts';
import { withPrefix } from '../../server/transport/grpc.ts';
import { helloHeaders } from '../../server/transport/hello.ts';
import { PROTOCOL_VERSION } from '../../server/transport/transport.ts';
import { SnapshotPart } from '../../server/wire/conclave/v1/raft.ts';
import { waitFor } from '../support/wait.ts';
import { appendOf, CLUSTER, heartbeat, openRig, type Rig } from './rig.ts';
import { snapshotOf } from './snapshots.ts';

const HEARTBEATS = '/conclave.v1.Peer/Heartbeats';
const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  await Promise.all(ends.splice(0).map((end) => end()));
});

/** Member 1, which knows a member 2 at an address where nobody is. */
async function member(): Promise<Rig> {
  const rig = await openRig(1n);
  ends.push(() => rig.transport.close());
  const peers = [{ id: 2n, urls: ['http://127.0.0.1:1'] }];
  rig.transport.setPeers({ index: 0, peers, removed: [] });
  return rig;
}

function session(rig: Rig): ClientHttp2Session {
  const client = connect(rig.url).on('error', () => {});
  // In a turn of its own: see `destroyLater`.
  ends.push(() => void setImmediate(() => client.destroy()));
  return client;
}

const HELLO = helloHeaders({
  protocolVersion: PROTOCOL_VERSION,
  clusterId: CLUSTER,
  from: 2n,
  to: 1n,
  incarnation: 5n,
  session: 50n,
  configurationIndex: 0,
  urls: [],
});

type Outcome = { readonly status: string; readonly message: string };

/** A call that sends these bytes and waits for how it ends. */
function call(
  client: ClientHttp2Session,
  path: string,
  headers: Record<string, string>,
  ...bytes: readonly Buffer[]
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const stream = client.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      ...headers,
    });
    const settle = (received: Readonly<Record<string, unknown>>) => {
      const status = received['grpc-status'];
      if (typeof status !== 'string') return;
      const message = decodeURIComponent(String(received['grpc-message'] ?? ''));
      resolve({ status, message });
      stream.close(constants.NGHTTP2_CANCEL);
    };
    stream.on('response', settle);
    stream.on('trailers', settle);
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('closed')));
    stream.resume();
    for (const each of bytes) stream.write(each);
  });
}

const frameOf = (...messages: Parameters<typeof encodeFrame>[0]) =>
  withPrefix(Buffer.concat(encodeFrame(messages).pieces));

test('a malformed frame ends its stream and is logged; the member goes on', async () => {
  const rig = await member();
  const client = session(rig);
  const good = frameOf(heartbeat(2n, 1n, 7));
  const outcome = await call(client, HEARTBEATS, HELLO, good, withPrefix(Buffer.from([0xff, 1])));
  expect(outcome).toEqual({
    status: '3',
    message: 'Cannot read a message: a field has wire type 7 instead of 2',
  });
  expect(rig.received).toEqual([heartbeat(2n, 1n, 7)]);
  expect(rig.warnings).toContain('a message of a member was malformed');
  // The same connection serves the next stream.
  void call(client, HEARTBEATS, HELLO, frameOf(heartbeat(2n, 1n, 8))).catch(() => {});
  await waitFor('a message', () => rig.received.length === 2 || undefined);
});

test('sender and receiver are those of the hello, whatever a message was made for', async () => {
  const rig = await member();
  void call(session(rig), HEARTBEATS, HELLO, frameOf(heartbeat(9n, 8n, 7))).catch(() => {});
  await waitFor('a message', () => rig.received[0]);
  expect(rig.received[0]).toEqual(heartbeat(2n, 1n, 7));
});

test('a snapshot without its bytes is refused', async () => {
  const rig = await member();
  const configuration = {
    voters: [1n],
    outgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  };
  const position = { index: 5, indexTerm: 1, configuration };
  const frame = frameOf({ kind: 'snapshot', from: 2n, to: 1n, term: 1, ...position });
  const outcome = await call(session(rig), HEARTBEATS, HELLO, frame);
  expect(outcome).toMatchObject({ status: '3' });
  expect(rig.received).toEqual([]);
});

test('a message that is too long is refused before it has come', async () => {
  const rig = await member();
  const prefix = Buffer.from([0, 0x01, 0x00, 0x00, 0x01]);
  const outcome = await call(session(rig), HEARTBEATS, HELLO, prefix);
  expect(outcome).toEqual({
    status: '8',
    message: 'a message of 16777217 bytes is longer than 16777216 bytes',
  });
});

test('compressed messages are refused', async () => {
  const rig = await member();
  const outcome = await call(session(rig), HEARTBEATS, HELLO, Buffer.from([1, 0, 0, 0, 1, 0]));
  expect(outcome).toMatchObject({ status: '12' });
});

test('without a hello nothing is served but the members', async () => {
  const rig = await member();
  const client = session(rig);
  const paths = ['Heartbeats', 'Appends', 'Ask', 'Snapshot'];
  for (const name of paths) {
    const outcome = await call(client, `/conclave.v1.Peer/${name}`, {});
    expect(outcome.status).toBe('3');
    expect(outcome.message).toContain('conclave-protocol');
  }
  expect(await call(client, '/conclave.v1.Peer/Members', {})).toMatchObject({ status: '0' });
  for (const path of [
    '/etcdserverpb.KV/Put',
    '/',
    'conclave.v1.Peer/Heartbeats',
    `${HEARTBEATS}/`,
  ]) {
    const outcome = await call(client, path, HELLO).catch(() => ({ status: '12' }));
    expect(outcome.status).toBe('12');
  }
});

test('one connection is for one member', async () => {
  const rig = await member();
  const client = session(rig);
  void call(client, HEARTBEATS, HELLO).catch(() => {});
  await waitFor('the first', () =>
    call(client, HEARTBEATS, { ...HELLO, 'conclave-session': '0'.repeat(15).concat('1') }).then(
      ({ message }) => message.includes('belongs to another member') || undefined,
    ),
  );
});

test('a member that connects again before its first connection ends is not lost with that', async () => {
  const rig = await openRig(1n);
  ends.push(() => rig.transport.close());
  // No URL: it is heard of by what it opens itself.
  rig.transport.setPeers({ index: 0, peers: [{ id: 2n, urls: [] }], removed: [] });
  const clients = [session(rig), session(rig)];
  for (const [at, client] of clients.entries()) {
    void call(client, HEARTBEATS, HELLO, frameOf(heartbeat(2n, 1n, at))).catch(() => {});
    await waitFor('a message', () => rig.received.length === at + 1 || undefined);
  }
  const [first, second] = clients as [ClientHttp2Session, ClientHttp2Session];
  setImmediate(() => first.destroy());
  await once(first, 'close');
  void call(second, HEARTBEATS, HELLO, frameOf(heartbeat(2n, 1n, 3))).catch(() => {});
  await waitFor('a message', () => rig.received.length === 3 || undefined);
  expect(rig.told).toEqual([]);
  setImmediate(() => second.destroy());
  await waitFor('the break', () => rig.told.length > 0 || undefined);
  expect(rig.told).toEqual(['unreachable 2']);
});

test('a malformed question and a malformed snapshot end their calls', async () => {
  const rig = await member();
  const client = session(rig);
  const bad = withPrefix(Buffer.from([0x0a, 50, 1]));
  for (const [name, bytes, sentence] of [
    ['Ask', bad, ''],
    ['Ask', withPrefix(Buffer.from([0x0a, 0])), 'kind that is not known'],
    ['Snapshot', bad, ''],
    ['Snapshot', withPrefix(Buffer.alloc(0)), 'unknown part'],
    ['Snapshot', withPrefix(Buffer.from([0x12, 0])), 'begins with a chunk'],
    ['Snapshot', withPrefix(Buffer.from([0x0a, 0])), 'no body'],
  ] as const) {
    const outcome = await call(client, `/conclave.v1.Peer/${name}`, HELLO, bytes);
    expect(outcome.status).toBe('3');
    expect(outcome.message).toContain(sentence);
  }
});

test('a chunk is handed on with the checksum it came with', async () => {
  const written: [number, string, number][] = [];
  const rig = await openRig(1n, {
    handlers: {
      openSnapshot: async () => ({
        offset: 0,
        write: async (offset, bytes, checksum) => {
          written.push([offset, Buffer.from(bytes).toString(), checksum]);
          throw new SnapshotTransferError('damaged-chunk', 'damaged on its way');
        },
        finish: () => Promise.reject(new Error('not finished')),
        suspend: async () => {},
      }),
    },
  });
  ends.push(() => rig.transport.close());
  rig.transport.setPeers({
    index: 0,
    peers: [{ id: 2n, urls: ['http://127.0.0.1:1'] }],
    removed: [],
  });
  const { configuration, sha256 } = snapshotOf(Buffer.from('bytes'));
  const message = encodeMessage({
    ...{ kind: 'snapshot', from: 2n, to: 1n, term: 1, index: 5, indexTerm: 1 },
    configuration,
  });
  const begin: SnapshotPart = {
    part: {
      $case: 'begin',
      value: { message, id: 'copy', sizeBytes: 5n, sha256: Buffer.from(sha256) },
    },
  };
  const chunk: SnapshotPart = {
    part: { $case: 'chunk', value: { offset: 0n, data: Buffer.from('bytes'), crc: 0xdead_beef } },
  };
  const parts = [begin, chunk].map((part) => withPrefix(SnapshotPart.encode(part).finish()));
  const outcome = await call(session(rig), '/conclave.v1.Peer/Snapshot', HELLO, ...parts);
  expect(outcome).toEqual({ status: '2', message: 'damaged on its way' });
  expect(written).toEqual([[0, 'bytes', 0xdead_beef]]);
});

test('other protocols, silence and noise cost nothing and disturb nobody', async () => {
  const rig = await member();
  const { hostname, port } = new URL(rig.url);
  const noises = [
    '',
    'GET / HTTP/1.1\r\n\r\n',
    '\0'.repeat(10_000),
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxxxxxxxxxx',
  ];
  const closed = noises.map(async (noise) => {
    const socket = createConnection(Number(port), hostname).on('error', () => {});
    ends.push(() => void socket.destroy());
    socket.resume().write(noise);
    await once(socket, 'close');
  });
  void call(session(rig), HEARTBEATS, HELLO, frameOf(heartbeat(2n, 1n, 1))).catch(() => {});
  await waitFor('a message', () => rig.received.length === 1 || undefined);
  // Silence too is cut, after an election timeout.
  await Promise.all(closed);
});

test('many strangers do not keep a member out', async () => {
  const rig = await member();
  const { hostname, port } = new URL(rig.url);
  let cut = 0;
  for (let count = 0; count < 300; count += 1) {
    const socket = createConnection(Number(port), hostname).on('error', () => {});
    ends.push(() => void socket.destroy());
    // Whoever is let in as far as to introduce itself gets settings first.
    socket.resume().on('close', () => {
      if (socket.bytesRead === 0) cut += 1;
    });
  }
  await waitFor('most to be cut', () => cut >= 100 || undefined);
  await waitFor('a message', async () => {
    void call(session(rig), HEARTBEATS, HELLO, frameOf(heartbeat(2n, 1n, 1))).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 100));
    return rig.received.length > 0 || undefined;
  });
});

test('a flood of appends is taken in at the pace of the member', async () => {
  let taken = 0;
  const rig = await openRig(1n, {
    handlers: {
      receive: () => {
        taken += 1;
        const endMs = performance.now() + 5;
        while (performance.now() < endMs);
      },
    },
  });
  ends.push(() => rig.transport.close());
  rig.transport.setPeers({
    index: 0,
    peers: [{ id: 2n, urls: ['http://127.0.0.1:1'] }],
    removed: [],
  });
  const frame = frameOf(appendOf(2n, 1n, 0, [Buffer.alloc(1_000)]));
  const COUNT = 300;
  const client = session(rig);
  void call(client, '/conclave.v1.Peer/Appends', HELLO, ...Array(COUNT).fill(frame)).catch(
    () => {},
  );
  // Timers run between the frames, though all of them lie in the same chunks.
  let turns = 0;
  const timer = setInterval(() => {
    turns += 1;
    if (turns % 20 === 0) client.ping(() => {});
  }, 1);
  try {
    await waitFor('all', () => taken === COUNT || undefined);
  } finally {
    clearInterval(timer);
  }
  expect(turns).toBeGreaterThan(COUNT / 4);
});
