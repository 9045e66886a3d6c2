/** Calls over frames as any client may send them: gRPC over HTTP/2. */
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import {
  ACK,
  begin,
  block,
  CODE,
  callFields,
  END_HEADERS,
  END_STREAM,
  frame,
  message,
  NOTHING,
  PADDED,
  RawClient,
  setting,
  Type,
  uint32,
} from './raw-client.ts';
import { DOWN, ECHO, HANG, HOLD, PIPE, REFUSE, Rig } from './rig.ts';

test('a call is answered, whatever authority it names, and others behind it', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  for (let stream = 1; stream < 40; stream += 2) client.call(stream, ECHO, Buffer.of(stream));
  for (let stream = 1; stream < 40; stream += 2) {
    const expected = { status: '0', body: message(Buffer.of(stream)) };
    expect(await client.answer(stream)).toEqual(expected);
  }
  expect(client.of(1, Type.HEADERS)[0]?.fields).toEqual({
    ':status': '200',
    'content-type': 'application/grpc',
  });
});

test('a message comes as it likes: in pieces, padded, each byte in a frame of its own', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  const request = message(Buffer.from('a message in pieces'));
  client.send(begin(1, ECHO));
  for (const byte of request) {
    client.send(frame(Type.DATA, PADDED, 1, Buffer.of(3, byte, 0, 0, 0)));
  }
  client.send(frame(Type.DATA, END_STREAM | PADDED, 1, Buffer.of(0)));
  expect((await client.answer(1)).body).toEqual(request);
  // The same, each byte in a packet of its own.
  const bytes = Buffer.concat([begin(3, ECHO), frame(Type.DATA, END_STREAM, 3, request)]);
  for (const byte of bytes) client.socket.write(Buffer.of(byte));
  expect((await client.answer(3)).body).toEqual(request);
  client.call(5, ECHO, NOTHING);
  expect((await client.answer(5)).body).toEqual(message(NOTHING));
});

test('a header block in many frames, with padding, priority and fields unknown here', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  const fields = block(callFields(ECHO, [['x-something', 'v'.repeat(400)]]));
  const first = Buffer.concat([
    Buffer.of(2),
    Buffer.alloc(5),
    fields.subarray(0, 30),
    Buffer.alloc(2),
  ]);
  client.send(
    frame(Type.HEADERS, PADDED | 0x20, 1, first),
    frame(Type.CONTINUATION, 0, 1, fields.subarray(30, 31)),
    frame(Type.CONTINUATION, 0, 1, NOTHING),
    frame(Type.CONTINUATION, END_HEADERS, 1, fields.subarray(31)),
    frame(Type.DATA, END_STREAM, 1, message(Buffer.from('x'))),
  );
  expect((await client.answer(1)).status).toBe('0');
});

test('a failure has its status and its text, percent-encoded, and no body', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.call(1, REFUSE, NOTHING);
  expect(await client.answer(1)).toEqual({ status: '9', body: NOTHING });
  expect(client.of(1)[0]?.fields['grpc-message']).toBe('not now: 100 %25 %C2%ABsure%C2%BB%0A');
});

test.each([
  ['an unknown method', callFields('/test.Test/None'), '12', 'does not implement'],
  ['a timeout that is none', callFields(ECHO, [['grpc-timeout', '5x']]), '13', 'grpc-timeout'],
] as const)('%s is refused before its request has come', async (_, fields, status, text) => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.send(frame(Type.HEADERS, END_HEADERS, 1, block(fields)));
  expect((await client.answer(1)).status).toBe(status);
  expect(client.of(1)[0]?.fields['grpc-message']).toContain(text);
  expect(await client.resetCode(1)).toBe(CODE.NO_ERROR);
  // What was on its way does no harm.
  client.send(frame(Type.DATA, END_STREAM, 1, message(NOTHING)));
  client.call(3, ECHO, NOTHING);
  expect((await client.answer(3)).status).toBe('0');
});

test.each([
  ['no content type', callFields(ECHO).filter(([name]) => name !== 'content-type'), '415'],
  ['a GET', callFields(ECHO).map(([n, v]) => [n, n === ':method' ? 'GET' : v] as const), '405'],
  [
    '64 KiB of fields',
    callFields(
      ECHO,
      Array.from({ length: 46 }, (__, n) => [`x-${n}`, 'x'.repeat(1_400)] as const),
    ),
    '431',
  ],
] as const)('a request with %s is no call', async (_, fields, status) => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  const bytes = block(fields).subarray(0);
  const parts = [];
  for (let at = 0; at < bytes.length; at += 16_384) {
    const part = bytes.subarray(at, at + 16_384);
    const flags = at + 16_384 >= bytes.length ? END_HEADERS : 0;
    parts.push(frame(at === 0 ? Type.HEADERS : Type.CONTINUATION, flags, 1, part));
  }
  client.send(...parts);
  const answer = await client.until((frames) => frames.find(({ stream }) => stream === 1));
  expect(answer.fields[':status']).toBe(status);
});

test('frames unknown here, priorities and pings do no harm', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.send(
    frame(0x42, 0xff, 7, Buffer.alloc(20)),
    frame(Type.PRIORITY, 0, 9, Buffer.alloc(5)),
    frame(Type.PING, 0, 0, Buffer.from('12345678')),
    frame(Type.PING, ACK, 0, Buffer.from('draining')),
    frame(Type.SETTINGS, 0, 0, setting(0xf00, 7)),
    frame(Type.SETTINGS, ACK, 0, NOTHING),
  );
  client.call(1, ECHO, NOTHING);
  expect((await client.answer(1)).status).toBe('0');
  const pong = client.frames.find(({ type }) => type === Type.PING);
  expect([pong?.flags, String(pong?.payload)]).toEqual([ACK, '12345678']);
});

test('a request may end with trailers; without a message, with two or half of one it is refused', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  const trailers = (stream: number) =>
    frame(Type.HEADERS, END_HEADERS | END_STREAM, stream, block([['x', 'y']]));
  client.send(begin(1, ECHO), frame(Type.DATA, 0, 1, message(Buffer.from('t'))), trailers(1));
  expect(await client.answer(1)).toEqual({ status: '0', body: message(Buffer.from('t')) });
  client.send(begin(3, ECHO, END_HEADERS | END_STREAM));
  expect((await client.answer(3)).status).toBe('12');
  const two = Buffer.concat([message(NOTHING), message(NOTHING)]);
  client.send(begin(5, ECHO), frame(Type.DATA, END_STREAM, 5, two));
  expect((await client.answer(5)).status).toBe('12');
  client.send(begin(7, ECHO), frame(Type.DATA, END_STREAM, 7, Buffer.of(0, 0, 0, 0, 9, 1)));
  expect((await client.answer(7)).status).toBe('13');
  client.send(begin(9, DOWN, END_HEADERS | END_STREAM));
  expect((await client.answer(9)).status).toBe('12');
  client.send(begin(11, ECHO), begin(11, ECHO));
  expect(await client.resetCode(11)).toBe(CODE.PROTOCOL_ERROR);
});

test('a message larger than allowed is refused by its head', async () => {
  await using rig = await Rig.open({ maxMessageBytes: 1_000 });
  using client = await RawClient.open(rig.port);
  client.send(begin(1, ECHO), frame(Type.DATA, 0, 1, Buffer.of(0, 0, 0, 3, 0xe9, 1, 2)));
  expect((await client.answer(1)).status).toBe('8');
  expect(await client.resetCode(1)).toBe(CODE.NO_ERROR);
  client.send(frame(Type.DATA, 0, 1, Buffer.alloc(100)));
  await client.settled();
  expect(client.of(1, Type.RST_STREAM).at(-1)?.payload).toEqual(uint32(CODE.STREAM_CLOSED));
  client.call(3, ECHO, Buffer.alloc(1_000));
  expect((await client.answer(3)).status).toBe('0');
});

test('compressed requests are read; what cannot be is refused, and says what could', async () => {
  await using rig = await Rig.open({ maxMessageBytes: 10_000 });
  using client = await RawClient.open(rig.port);
  let stream = -1;
  const send = (encoding: string | undefined, bytes: Buffer, path = ECHO) => {
    stream += 2;
    const fields = callFields(path, encoding === undefined ? [] : [['grpc-encoding', encoding]]);
    client.send(
      frame(Type.HEADERS, END_HEADERS, stream, block(fields)),
      frame(Type.DATA, END_STREAM, stream, bytes),
    );
    return client.answer(stream);
  };
  const text = Buffer.from('compressed '.repeat(50));
  expect((await send('gzip', message(gzipSync(text), true))).body).toEqual(message(text));
  expect((await send('gzip', message(text))).body).toEqual(message(text));
  const mixed = [
    message(gzipSync(text), true),
    message(Buffer.from('plain')),
    message(gzipSync(text), true),
  ];
  expect((await send('gzip', Buffer.concat(mixed), PIPE)).body).toEqual(
    Buffer.concat([message(text), message(Buffer.from('plain')), message(text)]),
  );
  expect((await send('gzip', message(gzipSync(Buffer.alloc(10_001)), true))).status).toBe('8');
  expect((await send('gzip', message(Buffer.from('no gzip'), true))).status).toBe('13');
  expect((await send(undefined, message(text, true))).status).toBe('13');
  expect((await send('zstd', message(text, true))).status).toBe('12');
  expect(client.of(stream)[0]?.fields['grpc-accept-encoding']).toBe('identity,deflate,gzip');
});

test('a deadline ends the call and tells its handler; one that is met does not', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  const send = (stream: number, path: string, timeout: string) =>
    client.send(
      frame(
        Type.HEADERS,
        END_HEADERS,
        stream,
        block(callFields(path, [['grpc-timeout', timeout]])),
      ),
      frame(Type.DATA, END_STREAM, stream, message(NOTHING)),
    );
  send(1, HANG, '30m');
  send(3, ECHO, '30m');
  send(5, HOLD, '1000u');
  send(7, HANG, '99999999H');
  expect((await client.answer(3)).status).toBe('0');
  expect((await client.answer(1)).status).toBe('4');
  expect((await client.answer(5)).status).toBe('4');
  expect(rig.held[0]?.cancelled).toBe(true);
  expect(rig.hanging.map(({ signal }) => signal.aborted)).toEqual([true, false]);
  for (const call of rig.hanging) call.respond(NOTHING);
  expect((await client.answer(7)).status).toBe('0');
  expect(client.of(1, Type.HEADERS)).toHaveLength(1);
});

test('calls that the client gives up are cancelled, by reset and by hanging up', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.call(1, HANG, NOTHING);
  client.send(begin(3, HOLD));
  await client.settled();
  let ends = 0;
  rig.held[0]?.on('cancelled', () => {
    ends += 1;
  });
  const signal = rig.hanging[0]?.signal;
  client.send(frame(Type.RST_STREAM, 0, 1, uint32(8)), frame(Type.RST_STREAM, 0, 3, uint32(8)));
  await client.settled();
  expect([signal?.aborted, ends]).toEqual([true, 1]);
  client.call(5, HANG, NOTHING);
  await client.settled();
  const other = rig.hanging[1]?.signal;
  client.socket.destroy();
  await expect.poll(() => other?.aborted).toBe(true);
});
