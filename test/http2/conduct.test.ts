/** What the server does with frames, allowed or not: RFC 9113 and gRPC over HTTP/2. */
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import {
  ACK,
  block,
  callFields,
  END_HEADERS,
  END_STREAM,
  frame,
  message,
  PADDED,
  PREFACE,
  RawClient,
  setting,
  Type,
  uint32,
} from './raw-client.ts';
import { DOWN, ECHO, HANG, HOLD, PIPE, REFUSE, Rig } from './rig.ts';

const CODE = {
  NO_ERROR: 0,
  PROTOCOL_ERROR: 1,
  FLOW_CONTROL_ERROR: 3,
  STREAM_CLOSED: 5,
  FRAME_SIZE_ERROR: 6,
  REFUSED_STREAM: 7,
  COMPRESSION_ERROR: 9,
  ENHANCE_YOUR_CALM: 11,
};

const NOTHING = Buffer.alloc(0);
const head = (stream: number, path: string, flags = END_HEADERS): Buffer =>
  frame(Type.HEADERS, flags, stream, block(callFields(path)));

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
  client.send(head(1, ECHO));
  for (const byte of request) {
    client.send(frame(Type.DATA, PADDED, 1, Buffer.of(3, byte, 0, 0, 0)));
  }
  client.send(frame(Type.DATA, END_STREAM | PADDED, 1, Buffer.of(0)));
  expect((await client.answer(1)).body).toEqual(request);
  // The same, each byte in a packet of its own.
  const bytes = Buffer.concat([head(3, ECHO), frame(Type.DATA, END_STREAM, 3, request)]);
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

const without = (name: string) => callFields(ECHO).filter(([key]) => key !== name);
test.each([
  ['no path', without(':path')],
  ['no method', without(':method')],
  ['no scheme', without(':scheme')],
  ['an empty path', callFields('')],
  ['a path twice', [[':path', '/'] as const, ...callFields(ECHO)]],
  ['a pseudo-header behind a field', [...without(':path'), [':path', ECHO] as const]],
  ['an unknown pseudo-header', [[':protocol', 'x'] as const, ...callFields(ECHO)]],
  ['a status', [[':status', '200'] as const, ...callFields(ECHO)]],
  ['a name in upper case', callFields(ECHO, [['X-Y', 'z']])],
  ['a name with a space', callFields(ECHO, [['x y', 'z']])],
  ['an empty name', callFields(ECHO, [['', 'z']])],
  ['a line break in a value', callFields(ECHO, [['x', 'a\nb']])],
  ['a zero in a value', callFields(ECHO, [['x', 'a\0b']])],
  ['a connection field', callFields(ECHO, [['connection', 'close']])],
  ['te for something else', callFields(ECHO, [['te', 'gzip']])],
])('a request with %s is malformed', async (_, fields) => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.send(frame(Type.HEADERS, END_HEADERS, 1, block(fields)));
  expect(await client.resetCode(1)).toBe(CODE.PROTOCOL_ERROR);
  client.call(3, ECHO, NOTHING);
  expect((await client.answer(3)).status).toBe('0');
});

const settings = frame(Type.SETTINGS, 0, 0, NOTHING);
const begin = Buffer.concat([PREFACE, settings]);
test.each<[string, Buffer, number]>([
  ['another preface', Buffer.from('PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n'), CODE.PROTOCOL_ERROR],
  ['no settings first', Buffer.concat([PREFACE, head(1, ECHO)]), CODE.PROTOCOL_ERROR],
  [
    'an acknowledgement first',
    Buffer.concat([PREFACE, frame(Type.SETTINGS, ACK, 0, NOTHING)]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a frame that is too long',
    Buffer.concat([begin, frame(Type.DATA, 0, 1, Buffer.alloc(16_385))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'settings on a stream',
    Buffer.concat([begin, frame(Type.SETTINGS, 0, 1, NOTHING)]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'half a setting',
    Buffer.concat([begin, frame(Type.SETTINGS, 0, 0, Buffer.alloc(5))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'an acknowledgement with content',
    Buffer.concat([begin, frame(Type.SETTINGS, ACK, 0, Buffer.alloc(6))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'a push setting of 2',
    Buffer.concat([begin, frame(Type.SETTINGS, 0, 0, setting(2, 2))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a window that is too large',
    Buffer.concat([begin, frame(Type.SETTINGS, 0, 0, setting(4, 2 ** 31))]),
    CODE.FLOW_CONTROL_ERROR,
  ],
  [
    'a frame size that is too small',
    Buffer.concat([begin, frame(Type.SETTINGS, 0, 0, setting(5, 16_383))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a ping on a stream',
    Buffer.concat([begin, frame(Type.PING, 0, 1, Buffer.alloc(8))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a short ping',
    Buffer.concat([begin, frame(Type.PING, 0, 0, Buffer.alloc(7))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'data on no stream',
    Buffer.concat([begin, frame(Type.DATA, 0, 0, NOTHING)]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'data on a stream not begun',
    Buffer.concat([begin, frame(Type.DATA, 0, 1, NOTHING)]),
    CODE.PROTOCOL_ERROR,
  ],
  ['headers on no stream', Buffer.concat([begin, head(0, ECHO)]), CODE.PROTOCOL_ERROR],
  ['headers on a stream of ours', Buffer.concat([begin, head(2, ECHO)]), CODE.PROTOCOL_ERROR],
  [
    'a stream below another',
    Buffer.concat([begin, head(5, ECHO), head(3, ECHO)]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a reset of a stream not begun',
    Buffer.concat([begin, frame(Type.RST_STREAM, 0, 1, uint32(8))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a short reset',
    Buffer.concat([begin, head(1, HANG), frame(Type.RST_STREAM, 0, 1, Buffer.alloc(3))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'a window update of a stream not begun',
    Buffer.concat([begin, frame(Type.WINDOW_UPDATE, 0, 1, uint32(1))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a window update by nothing',
    Buffer.concat([begin, frame(Type.WINDOW_UPDATE, 0, 0, uint32(0))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a short window update',
    Buffer.concat([begin, frame(Type.WINDOW_UPDATE, 0, 0, Buffer.alloc(3))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'a window beyond all bounds',
    Buffer.concat([begin, frame(Type.WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1))]),
    CODE.FLOW_CONTROL_ERROR,
  ],
  [
    'a priority of no stream',
    Buffer.concat([begin, frame(Type.PRIORITY, 0, 0, Buffer.alloc(5))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a short priority',
    Buffer.concat([begin, frame(Type.PRIORITY, 0, 1, Buffer.alloc(4))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'a push',
    Buffer.concat([begin, frame(Type.PUSH_PROMISE, END_HEADERS, 1, Buffer.alloc(4))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a continuation of nothing',
    Buffer.concat([begin, frame(Type.CONTINUATION, END_HEADERS, 1, NOTHING)]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a block that is interrupted',
    Buffer.concat([begin, head(1, ECHO, 0), frame(Type.PING, 0, 0, Buffer.alloc(8))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a block that continues elsewhere',
    Buffer.concat([begin, head(1, ECHO, 0), frame(Type.CONTINUATION, END_HEADERS, 3, NOTHING)]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a block that is none',
    Buffer.concat([begin, frame(Type.HEADERS, END_HEADERS, 1, Buffer.of(0x80))]),
    CODE.COMPRESSION_ERROR,
  ],
  [
    'more padding than bytes',
    Buffer.concat([begin, head(1, HANG), frame(Type.DATA, PADDED, 1, Buffer.of(1))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'padding without its length',
    Buffer.concat([begin, head(1, HANG), frame(Type.DATA, PADDED, 1, NOTHING)]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'a priority field that is cut off',
    Buffer.concat([begin, frame(Type.HEADERS, END_HEADERS | 0x20, 1, Buffer.alloc(4))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'a goodbye on a stream',
    Buffer.concat([begin, frame(Type.GOAWAY, 0, 1, Buffer.alloc(8))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a short goodbye',
    Buffer.concat([begin, frame(Type.GOAWAY, 0, 0, Buffer.alloc(7))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'twenty continuations',
    Buffer.concat([
      begin,
      head(1, ECHO, 0),
      ...Array.from({ length: 20 }, () => frame(Type.CONTINUATION, 0, 1, NOTHING)),
    ]),
    CODE.ENHANCE_YOUR_CALM,
  ],
  [
    'a block of 80 KiB',
    Buffer.concat([
      begin,
      head(1, ECHO, 0),
      ...Array.from({ length: 5 }, () => frame(Type.CONTINUATION, 0, 1, Buffer.alloc(16_384))),
    ]),
    CODE.ENHANCE_YOUR_CALM,
  ],
])('%s ends the connection, with the reason', async (_, bytes, code) => {
  await using rig = await Rig.open();
  using other = await RawClient.open(rig.port);
  using client = await RawClient.connect(rig.port);
  client.send(bytes);
  expect(await client.goAwayCode()).toBe(code);
  other.call(1, ECHO, Buffer.of(1));
  expect((await other.answer(1)).status).toBe('0');
  expect(rig.errors).toEqual([]);
});

test.each<[string, Buffer, number]>([
  ['data behind its end', frame(Type.DATA, END_STREAM, 1, message(NOTHING)), CODE.STREAM_CLOSED],
  ['trailers behind its end', head(1, ECHO, END_HEADERS | END_STREAM), CODE.STREAM_CLOSED],
  ['a window update by nothing', frame(Type.WINDOW_UPDATE, 0, 1, uint32(0)), CODE.PROTOCOL_ERROR],
  [
    'a window beyond all bounds',
    frame(Type.WINDOW_UPDATE, 0, 1, uint32(2 ** 31 - 1)),
    CODE.FLOW_CONTROL_ERROR,
  ],
])('%s ends a call alone', async (_, bytes, code) => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.call(1, HANG, NOTHING);
  client.call(3, HANG, NOTHING);
  client.send(bytes);
  expect(await client.resetCode(1)).toBe(code);
  expect(rig.hanging[0]?.signal.aborted).toBe(true);
  rig.hanging[0]?.respond(NOTHING);
  rig.hanging[1]?.respond(Buffer.from('y'));
  expect((await client.answer(3)).body).toEqual(message(Buffer.from('y')));
  expect(client.of(1, Type.DATA)).toEqual([]);
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
  client.send(head(1, ECHO), frame(Type.DATA, 0, 1, message(Buffer.from('t'))), trailers(1));
  expect(await client.answer(1)).toEqual({ status: '0', body: message(Buffer.from('t')) });
  client.send(head(3, ECHO, END_HEADERS | END_STREAM));
  expect((await client.answer(3)).status).toBe('12');
  const two = Buffer.concat([message(NOTHING), message(NOTHING)]);
  client.send(head(5, ECHO), frame(Type.DATA, END_STREAM, 5, two));
  expect((await client.answer(5)).status).toBe('12');
  client.send(head(7, ECHO), frame(Type.DATA, END_STREAM, 7, Buffer.of(0, 0, 0, 0, 9, 1)));
  expect((await client.answer(7)).status).toBe('13');
  client.send(head(9, DOWN, END_HEADERS | END_STREAM));
  expect((await client.answer(9)).status).toBe('12');
  client.send(head(11, ECHO), head(11, ECHO));
  expect(await client.resetCode(11)).toBe(CODE.PROTOCOL_ERROR);
});

test('a message larger than allowed is refused by its head', async () => {
  await using rig = await Rig.open({ maxMessageBytes: 1_000 });
  using client = await RawClient.open(rig.port);
  client.send(head(1, ECHO), frame(Type.DATA, 0, 1, Buffer.of(0, 0, 0, 3, 0xe9, 1, 2)));
  expect((await client.answer(1)).status).toBe('8');
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
  client.send(head(3, HOLD));
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

test('streams beyond the maximum are refused, those whose handlers still run among them', async () => {
  await using rig = await Rig.open({ maxConcurrentStreams: 2 });
  using client = await RawClient.open(rig.port);
  for (const stream of [1, 3, 5]) client.call(stream, HANG, NOTHING);
  expect(await client.resetCode(5)).toBe(CODE.REFUSED_STREAM);
  client.send(frame(Type.RST_STREAM, 0, 1, uint32(8)));
  client.call(7, HANG, NOTHING);
  expect(await client.resetCode(7)).toBe(CODE.REFUSED_STREAM);
  rig.hanging[0]?.respond(NOTHING);
  client.call(9, ECHO, NOTHING);
  expect((await client.answer(9)).status).toBe('0');
});

test.each<[string, (stream: number) => Buffer]>([
  ['pings', () => frame(Type.PING, 0, 0, Buffer.alloc(8))],
  ['settings', () => settings],
  ['priorities', () => frame(Type.PRIORITY, 0, 1, Buffer.alloc(5))],
  [
    'calls and resets',
    (n) => Buffer.concat([head(2 * n + 3, ECHO), frame(Type.RST_STREAM, 0, 2 * n + 3, uint32(8))]),
  ],
  ['empty data', () => frame(Type.DATA, 0, 1, NOTHING)],
])('a flood of %s ends the connection; a good number does not', async (_, make) => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.send(head(1, HANG));
  let count = 0;
  const flood = (frames: number) => {
    const parts = Array.from({ length: frames }, (__, index) => make(count + index));
    count += frames;
    client.send(...parts);
  };
  flood(5_000);
  await client.settled();
  while (!client.isClosed && count < 400_000) {
    flood(20_000);
    await new Promise((resolve) => setImmediate(resolve));
  }
  expect(await client.goAwayCode()).toBe(CODE.ENHANCE_YOUR_CALM);
});

test('a client that never says its settings is cut off', async () => {
  await using rig = await Rig.open({ silenceMs: 50 });
  using client = await RawClient.connect(rig.port);
  client.send(PREFACE);
  await client.closed();
});

test('a silent client is asked whether it is there, and cut off when it is not', async () => {
  await using rig = await Rig.open({ keepaliveIntervalMs: 30, keepaliveTimeoutMs: 60 });
  using dead = await RawClient.open(rig.port);
  await dead.closed();
  expect(dead.frames.some(({ type, flags }) => type === Type.PING && flags === 0)).toBe(true);
  using alive = await RawClient.open(rig.port);
  for (let answered = 0; answered < 4; answered += 1) {
    const ping = await alive.until(
      (frames) => frames.filter(({ type, flags }) => type === Type.PING && flags === 0)[answered],
    );
    alive.send(frame(Type.PING, ACK, 0, ping.payload));
  }
  expect(alive.isClosed).toBe(false);
});

test('when the server stops, calls on their way are served, and the client knows the last', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  using silent = await RawClient.open(rig.port);
  client.call(1, HANG, NOTHING);
  await client.settled();
  await silent.settled();
  const stopped = rig.server.stop(60_000);
  const goAways = () => client.frames.filter(({ type }) => type === Type.GOAWAY);
  await client.until(() => goAways()[0]);
  expect(goAways()[0]?.payload.readUInt32BE(0)).toBe(2 ** 31 - 1);
  // It began this one before it could know.
  client.call(3, ECHO, NOTHING);
  expect((await client.answer(3)).status).toBe('0');
  client.send(frame(Type.PING, ACK, 0, Buffer.from('draining')));
  await client.until(() => goAways()[1]);
  expect(goAways()[1]?.payload.readUInt32BE(0)).toBe(3);
  client.call(5, ECHO, NOTHING);
  await client.settled();
  rig.hanging[0]?.respond(Buffer.from('last'));
  expect((await client.answer(1)).body).toEqual(message(Buffer.from('last')));
  await client.closed();
  expect(client.of(5)).toEqual([]);
  // One that does not answer is let go after a while.
  await silent.closed();
  await stopped;
});

test('a client that says goodbye gets the answers it waits for', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.call(1, HANG, NOTHING);
  client.send(frame(Type.GOAWAY, 0, 0, Buffer.alloc(8)));
  await client.settled();
  rig.hanging[0]?.respond(NOTHING);
  expect((await client.answer(1)).status).toBe('0');
  await client.closed();
});
