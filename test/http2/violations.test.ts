/** What is no HTTP/2, or not allowed there, and what it ends: RFC 9113. */
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
  PREFACE,
  RawClient,
  setting,
  Type,
  uint32,
} from './raw-client.ts';
import { ECHO, HANG, Rig } from './rig.ts';

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

test.each<[string, Buffer, number]>([
  ['another preface', Buffer.from('PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n'), CODE.PROTOCOL_ERROR],
  ['no settings first', Buffer.concat([PREFACE, begin(1, ECHO)]), CODE.PROTOCOL_ERROR],
  [
    'an acknowledgement first',
    Buffer.concat([PREFACE, frame(Type.SETTINGS, ACK, 0, NOTHING)]),
    CODE.PROTOCOL_ERROR,
  ],
])('a connection that begins with %s is ended, with the reason', async (_, bytes, code) => {
  await using rig = await Rig.open();
  using client = await RawClient.connect(rig.port);
  client.send(bytes);
  expect(await client.goAwayCode()).toBe(code);
});

test.each<[string, Buffer, number]>([
  ['a frame that is too long', frame(Type.DATA, 0, 1, Buffer.alloc(16_385)), CODE.FRAME_SIZE_ERROR],
  ['settings on a stream', frame(Type.SETTINGS, 0, 1, NOTHING), CODE.PROTOCOL_ERROR],
  ['half a setting', frame(Type.SETTINGS, 0, 0, Buffer.alloc(5)), CODE.FRAME_SIZE_ERROR],
  [
    'an acknowledgement with content',
    frame(Type.SETTINGS, ACK, 0, Buffer.alloc(6)),
    CODE.FRAME_SIZE_ERROR,
  ],
  ['a push setting of 2', frame(Type.SETTINGS, 0, 0, setting(2, 2)), CODE.PROTOCOL_ERROR],
  [
    'a window that is too large',
    frame(Type.SETTINGS, 0, 0, setting(4, 2 ** 31)),
    CODE.FLOW_CONTROL_ERROR,
  ],
  [
    'a frame size that is too small',
    frame(Type.SETTINGS, 0, 0, setting(5, 16_383)),
    CODE.PROTOCOL_ERROR,
  ],
  ['a ping on a stream', frame(Type.PING, 0, 1, Buffer.alloc(8)), CODE.PROTOCOL_ERROR],
  ['a short ping', frame(Type.PING, 0, 0, Buffer.alloc(7)), CODE.FRAME_SIZE_ERROR],
  ['data on no stream', frame(Type.DATA, 0, 0, NOTHING), CODE.PROTOCOL_ERROR],
  ['data on a stream not begun', frame(Type.DATA, 0, 1, NOTHING), CODE.PROTOCOL_ERROR],
  ['headers on no stream', begin(0, ECHO), CODE.PROTOCOL_ERROR],
  ['headers on a stream of ours', begin(2, ECHO), CODE.PROTOCOL_ERROR],
  ['a stream below another', Buffer.concat([begin(5, ECHO), begin(3, ECHO)]), CODE.PROTOCOL_ERROR],
  ['a reset of a stream not begun', frame(Type.RST_STREAM, 0, 1, uint32(8)), CODE.PROTOCOL_ERROR],
  [
    'a short reset',
    Buffer.concat([begin(1, HANG), frame(Type.RST_STREAM, 0, 1, Buffer.alloc(3))]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'a window update of a stream not begun',
    frame(Type.WINDOW_UPDATE, 0, 1, uint32(1)),
    CODE.PROTOCOL_ERROR,
  ],
  ['a window update by nothing', frame(Type.WINDOW_UPDATE, 0, 0, uint32(0)), CODE.PROTOCOL_ERROR],
  [
    'a short window update',
    frame(Type.WINDOW_UPDATE, 0, 0, Buffer.alloc(3)),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'a window beyond all bounds',
    frame(Type.WINDOW_UPDATE, 0, 0, uint32(2 ** 31 - 1)),
    CODE.FLOW_CONTROL_ERROR,
  ],
  ['a priority of no stream', frame(Type.PRIORITY, 0, 0, Buffer.alloc(5)), CODE.PROTOCOL_ERROR],
  ['a short priority', frame(Type.PRIORITY, 0, 1, Buffer.alloc(4)), CODE.FRAME_SIZE_ERROR],
  ['a push', frame(Type.PUSH_PROMISE, END_HEADERS, 1, Buffer.alloc(4)), CODE.PROTOCOL_ERROR],
  [
    'a continuation of nothing',
    frame(Type.CONTINUATION, END_HEADERS, 1, NOTHING),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a block that is interrupted',
    Buffer.concat([begin(1, ECHO, 0), frame(Type.PING, 0, 0, Buffer.alloc(8))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a block that continues elsewhere',
    Buffer.concat([begin(1, ECHO, 0), frame(Type.CONTINUATION, END_HEADERS, 3, NOTHING)]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'a block that is none',
    frame(Type.HEADERS, END_HEADERS, 1, Buffer.of(0x80)),
    CODE.COMPRESSION_ERROR,
  ],
  [
    'more padding than bytes',
    Buffer.concat([begin(1, HANG), frame(Type.DATA, PADDED, 1, Buffer.of(1))]),
    CODE.PROTOCOL_ERROR,
  ],
  [
    'padding without its length',
    Buffer.concat([begin(1, HANG), frame(Type.DATA, PADDED, 1, NOTHING)]),
    CODE.FRAME_SIZE_ERROR,
  ],
  [
    'a priority field that is cut off',
    frame(Type.HEADERS, END_HEADERS | 0x20, 1, Buffer.alloc(4)),
    CODE.FRAME_SIZE_ERROR,
  ],
  ['a goodbye on a stream', frame(Type.GOAWAY, 0, 1, Buffer.alloc(8)), CODE.PROTOCOL_ERROR],
  ['a short goodbye', frame(Type.GOAWAY, 0, 0, Buffer.alloc(7)), CODE.FRAME_SIZE_ERROR],
  [
    'twenty continuations',
    Buffer.concat([
      begin(1, ECHO, 0),
      ...Array.from({ length: 20 }, () => frame(Type.CONTINUATION, 0, 1, NOTHING)),
    ]),
    CODE.ENHANCE_YOUR_CALM,
  ],
  [
    'a block of 80 KiB',
    Buffer.concat([
      begin(1, ECHO, 0),
      ...Array.from({ length: 5 }, () => frame(Type.CONTINUATION, 0, 1, Buffer.alloc(16_384))),
    ]),
    CODE.ENHANCE_YOUR_CALM,
  ],
])('%s ends the connection, with the reason', async (_, bytes, code) => {
  await using rig = await Rig.open();
  using other = await RawClient.open(rig.port);
  using client = await RawClient.open(rig.port);
  client.send(bytes);
  expect(await client.goAwayCode()).toBe(code);
  other.call(1, ECHO, Buffer.of(1));
  expect((await other.answer(1)).status).toBe('0');
  expect(rig.errors).toEqual([]);
});

test.each<[string, Buffer, number]>([
  ['data behind its end', frame(Type.DATA, END_STREAM, 1, message(NOTHING)), CODE.STREAM_CLOSED],
  ['trailers behind its end', begin(1, ECHO, END_HEADERS | END_STREAM), CODE.STREAM_CLOSED],
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
