/** Both directions of flow control, and what a client can make the server hold. */
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  block,
  callFields,
  END_HEADERS,
  END_STREAM,
  frame,
  message,
  RawClient,
  setting,
  Type,
  uint32,
} from './raw-client.ts';
import { DOWN, ECHO, HOLD, PIPE, Rig, SPLIT } from './rig.ts';

const INITIAL_WINDOW = 4;
const FLOW_CONTROL_ERROR = 3;

const open = (stream: number, path: string): Buffer =>
  frame(Type.HEADERS, END_HEADERS, stream, block(callFields(path)));
const update = (stream: number, bytes: number): Buffer =>
  frame(Type.WINDOW_UPDATE, 0, stream, uint32(bytes));
const down = (messages: number, bytes: number): Buffer =>
  Buffer.concat([uint32(messages), uint32(bytes)]);

test('not a byte is sent that the client gave no room for, in whatever portions it does', async () => {
  const portions = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 30 });
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 0, max: 30 }),
      portions,
      fc.integer({ min: 0, max: 120 }),
      async (window, updates, bytes) => {
        await using rig = await Rig.open();
        using client = await RawClient.open(rig.port, setting(INITIAL_WINDOW, window));
        const request = Buffer.alloc(bytes, 'r');
        client.call(1, ECHO, request);
        client.call(3, PIPE, request);
        client.call(5, SPLIT, request);
        const streams = [1, 3, 5];
        let room = window;
        const expected = message(request);
        for (const more of updates) {
          await client.settled();
          for (const stream of streams) {
            expect(client.body(stream)).toEqual(expected.subarray(0, room));
          }
          client.send(...streams.map((stream) => update(stream, more)));
          room += more;
        }
        client.send(...streams.map((stream) => update(stream, 200)));
        for (const stream of streams) {
          expect(await client.answer(stream)).toEqual({ status: '0', body: expected });
        }
      },
    ),
    { numRuns: 25 },
  );
});

test('the window of the connection is shared, and streams take turns at it', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port, setting(INITIAL_WINDOW, 2 ** 31 - 1));
  for (const stream of [1, 3, 5]) client.call(stream, DOWN, down(10, 100_000));
  const received = () => [1, 3, 5].map((stream) => client.body(stream).length);
  const total = () => received().reduce((sum, bytes) => sum + bytes, 0);
  const reaches = async (bytes: number) => {
    await client.until(() => (total() >= bytes ? true : undefined));
    await client.settled();
    expect(total()).toBe(bytes);
  };
  await reaches(65_535);
  for (let more = 1; more <= 20; more += 1) {
    client.send(update(0, 60_000));
    await reaches(65_535 + more * 60_000);
  }
  expect(Math.max(...received()) - Math.min(...received())).toBeLessThan(70_000);
  client.send(update(0, 10_000_000));
  for (const stream of [1, 3, 5]) {
    expect((await client.answer(stream)).body.length).toBe(10 * 100_005);
  }
});

test('many small answers have that window together, too', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  const calls = 100;
  const request = Buffer.alloc(995, 's');
  for (let call = 0; call < calls; call += 1) client.call(2 * call + 1, ECHO, request);
  const total = () =>
    client.frames.reduce(
      (sum, { type, payload }) => sum + (type === Type.DATA ? payload.length : 0),
      0,
    );
  await client.until(() => (total() >= 65_535 ? true : undefined));
  await client.settled();
  expect(total()).toBe(65_535);
  client.send(update(0, 100_000));
  for (let call = 0; call < calls; call += 1) {
    expect((await client.answer(2 * call + 1)).body).toEqual(message(request));
  }
});

test('a smaller initial window counts for open streams too, and may leave less than nothing', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port, setting(INITIAL_WINDOW, 1_000));
  client.call(1, DOWN, down(1, 5_000));
  await client.settled();
  expect(client.body(1).length).toBe(1_000);
  client.send(frame(Type.SETTINGS, 0, 0, setting(INITIAL_WINDOW, 400)), update(1, 500));
  await client.settled();
  expect(client.body(1).length).toBe(1_000);
  client.send(update(1, 101));
  await client.settled();
  expect(client.body(1).length).toBe(1_001);
  client.send(frame(Type.SETTINGS, 0, 0, setting(INITIAL_WINDOW, 100_000)));
  expect((await client.answer(1)).body.length).toBe(5_005);
});

test('frames are no longer than the client allows', async () => {
  await using rig = await Rig.open();
  const wide = Buffer.concat([setting(INITIAL_WINDOW, 2 ** 31 - 1), setting(5, 100_000)]);
  using client = await RawClient.open(rig.port, wide);
  using other = await RawClient.open(rig.port, setting(INITIAL_WINDOW, 2 ** 31 - 1));
  const longest = async (one: RawClient) => {
    one.send(update(0, 10_000_000));
    one.call(1, DOWN, down(3, 300_000));
    expect((await one.answer(1)).body.length).toBe(3 * 300_005);
    return Math.max(...one.of(1, Type.DATA).map(({ payload }) => payload.length));
  };
  expect(await longest(client)).toBe(64 * 1024);
  expect(await longest(other)).toBe(16_384);
});

test('a client that sends more than it was given room for is stopped', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.send(open(1, HOLD));
  // A megabyte on a stream that nobody reads, then a byte.
  const full = message(Buffer.alloc(16_379));
  for (let sent = 0; sent < 64; sent += 1) client.send(frame(Type.DATA, 0, 1, full));
  await client.settled();
  expect(client.of(1)).toEqual([]);
  client.send(frame(Type.DATA, 0, 1, Buffer.alloc(1)));
  expect(await client.resetCode(1)).toBe(FLOW_CONTROL_ERROR);
});

test('one that waits for its handler gets room when that reads on; others have theirs', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.send(open(1, HOLD));
  const full = message(Buffer.alloc(16_379));
  for (let sent = 0; sent < 64; sent += 1) client.send(frame(Type.DATA, 0, 1, full));
  const granted = (stream: number) =>
    client
      .of(stream, Type.WINDOW_UPDATE)
      .reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
  client.call(3, ECHO, Buffer.alloc(10));
  await client.answer(3);
  expect(granted(1)).toBe(0);
  let read = 0;
  rig.held[0]?.on('data', (bytes: Buffer) => {
    read += bytes.length;
  });
  rig.held[0]?.resume();
  await client.settled();
  expect([read, granted(1)]).toEqual([64 * 16_379, 1024 * 1024]);
});

test('that a message is on its way is told once, when all of it is', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port, setting(INITIAL_WINDOW, 10));
  client.send(open(1, HOLD));
  await client.settled();
  let told = 0;
  rig.held[0]?.write(Buffer.alloc(100), () => {
    told += 1;
  });
  for (const [room, expected] of [
    [90, 0],
    [4, 0],
    [1, 1],
    [50, 1],
  ] as const) {
    client.send(update(1, room));
    await client.settled();
    expect(told).toBe(expected);
  }
});

test('a large request gets the room it needs, on its stream and on the connection', async () => {
  await using rig = await Rig.open({ maxMessageBytes: 40_000_000 });
  using client = await RawClient.open(rig.port, setting(INITIAL_WINDOW, 2 ** 31 - 1));
  client.send(update(0, 100_000_000));
  const request = Buffer.alloc(30_000_000, 'L');
  const bytes = message(request);
  client.send(open(1, ECHO));
  const granted = (stream: number, initial: number) =>
    client
      .of(stream, Type.WINDOW_UPDATE)
      .reduce((sum, { payload }) => sum + payload.readUInt32BE(0), initial);
  for (let at = 0; at < bytes.length; ) {
    await client.until(() =>
      granted(1, 1024 * 1024) > at && granted(0, 65_535) > at ? true : undefined,
    );
    const room = Math.min(granted(1, 1024 * 1024), granted(0, 65_535)) - at;
    const part = bytes.subarray(at, at + Math.min(room, 16_384));
    at += part.length;
    client.send(frame(Type.DATA, at === bytes.length ? END_STREAM : 0, 1, part));
  }
  expect((await client.answer(1)).body.equals(bytes)).toBe(true);
});

test.each([
  ['that are never complete', ECHO, 4_000_000],
  ['that never end', ECHO, 16_000],
  ['for streams that never end', DOWN, 16_000],
])('large requests %s are refused before they fill the memory', async (_, path, length) => {
  await using rig = await Rig.open({ maxMessageBytes: 4_000_000 });
  using client = await RawClient.open(rig.port);
  const half = Buffer.concat([Buffer.of(0), uint32(length), Buffer.alloc(16_000)]);
  let stream = 1;
  const refused = () =>
    client.frames.find(({ fields }) => fields['grpc-status'] === '8') === undefined;
  while (refused() && stream < 20_000) {
    for (let more = 0; more < 50; more += 1, stream += 2) {
      client.send(open(stream, path), frame(Type.DATA, 0, stream, half));
    }
    await client.settled();
  }
  expect(refused()).toBe(false);
  expect(stream).toBeGreaterThan(2_000);
});

test('so are messages that nobody takes; when they are taken there is room again', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  const full = message(Buffer.alloc(16_379));
  const fill = async (stream: number) => {
    client.send(open(stream, HOLD));
    for (let sent = 0; sent < 60; sent += 1) client.send(frame(Type.DATA, 0, stream, full));
    await client.settled();
    return client.of(stream, Type.HEADERS)[0]?.fields['grpc-status'];
  };
  let stream = 1;
  while ((await fill(stream)) === undefined && stream < 1_000) stream += 2;
  expect(await fill(stream + 2)).toBe('8');
  expect(stream).toBeGreaterThan(100);
  expect(stream).toBeLessThan(150);
  rig.held[0]?.resume();
  rig.held[1]?.emit('error', { code: 9, details: 'enough' });
  expect(await fill(stream + 4)).toBe(undefined);
  expect(await fill(stream + 6)).toBe(undefined);
  expect(await fill(stream + 8)).toBe('8');
});

test('a client that does not read is held what it asked for, and its stream waits', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port, setting(INITIAL_WINDOW, 2 ** 31 - 1));
  client.send(update(0, 2 ** 31 - 1 - 65_535));
  await client.settled();
  client.socket.pause();
  const before = process.memoryUsage().arrayBuffers;
  client.call(1, DOWN, down(20_000, 50_000));
  const socket = rig.sockets[0];
  await expect.poll(() => socket?.writableLength ?? 0).toBeGreaterThan(0);
  // A gigabyte was asked for; as long as nobody reads nothing of it comes into being.
  for (let turn = 0; turn < 5; turn += 1) {
    await sleep(20);
    expect(socket?.writableLength).toBeLessThan(1_000_000);
  }
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
});

test('a client that calls what there is not, and reads no answers, is cut off', async () => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  await client.settled();
  client.socket.pause();
  const socket = rig.sockets[0];
  const path = `/${'n'.repeat(3_000)}`;
  let stream = 1;
  for (let round = 0; round < 500 && socket?.destroyed === false; round += 1) {
    const calls = Array.from({ length: 200 }, (_, index) =>
      frame(Type.HEADERS, END_HEADERS | END_STREAM, stream + 2 * index, block(callFields(path))),
    );
    stream += 2 * calls.length;
    client.send(...calls);
    await new Promise((resolve) => setImmediate(resolve));
    expect(socket.writableLength).toBeLessThan(8_000_000);
  }
  await expect.poll(() => socket?.destroyed, { timeout: 5_000 }).toBe(true);
});
