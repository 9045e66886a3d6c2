/** How connections are limited, kept and ended. */
import { expect, test } from 'vitest';
import {
  ACK,
  begin,
  CODE,
  frame,
  message,
  NOTHING,
  PREFACE,
  RawClient,
  Type,
  uint32,
} from './raw-client.ts';
import { ECHO, HANG, Rig } from './rig.ts';

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
  ['settings', () => frame(Type.SETTINGS, 0, 0, NOTHING)],
  ['priorities', () => frame(Type.PRIORITY, 0, 1, Buffer.alloc(5))],
  [
    'calls and resets',
    (n) => Buffer.concat([begin(2 * n + 3, ECHO), frame(Type.RST_STREAM, 0, 2 * n + 3, uint32(8))]),
  ],
  ['empty data', () => frame(Type.DATA, 0, 1, NOTHING)],
])('a flood of %s ends the connection; a good number does not', async (_, make) => {
  await using rig = await Rig.open();
  using client = await RawClient.open(rig.port);
  client.send(begin(1, HANG));
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
