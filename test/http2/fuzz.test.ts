/** Frames at random, right and wrong: the server survives, tells why, and others notice nothing. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  block,
  callFields,
  END_HEADERS,
  frame,
  message,
  PREFACE,
  RawClient,
  Type,
  uint32,
} from './raw-client.ts';
import { DOWN, ECHO, HANG, HOLD, PIPE, REFUSE, Rig } from './rig.ts';

const streams = fc.oneof(
  { weight: 8, arbitrary: fc.integer({ min: 0, max: 12 }).map((n) => 2 * n + 1) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: 2 ** 31 - 1 }) },
);
const flags = fc.oneof(fc.constantFrom(0, 1, 4, 5, 8, 9, 12, 0x20, 0x24), fc.nat(255));
const path = fc.constantFrom(ECHO, HANG, REFUSE, PIPE, DOWN, HOLD, '/no/Such', '');
const fields = fc.record({
  path,
  more: fc.array(
    fc.tuple(
      fc.constantFrom('grpc-timeout', 'grpc-encoding', 'te', 'x-y', 'X', ':path', 'content-type'),
      fc.string({ maxLength: 10 }),
    ),
    { maxLength: 2 },
  ),
});
const body = fc.oneof(
  fc.uint8Array({ maxLength: 40 }).map((bytes) => message(bytes)),
  fc.uint8Array({ maxLength: 40 }).map((bytes) => message(bytes, true)),
  fc.uint8Array({ maxLength: 40 }),
);

/** Mostly a sensible frame of each type, sometimes any bytes at all. */
const anyFrame = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(streams, fc.constantFrom(4, 4, 4, 5, 0), fields)
      .map(([stream, flag, { path: to, more }]) =>
        frame(Type.HEADERS, flag, stream, block(callFields(to, more))),
      ),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(streams, fc.constantFrom(0, 1, 1, 8, 9), body)
      .map(([stream, flag, bytes]) => frame(Type.DATA, flag, stream, bytes)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(streams, flags, fc.uint8Array({ maxLength: 30 }))
      .map(([stream, flag, bytes]) => frame(Type.CONTINUATION, flag, stream, bytes)),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(streams, fc.nat(20))
      .map(([stream, code]) => frame(Type.RST_STREAM, 0, stream, uint32(code))),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(streams, fc.oneof(fc.nat(100_000), fc.nat(2 ** 31 - 1)))
      .map(([stream, by]) => frame(Type.WINDOW_UPDATE, 0, stream, uint32(by))),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        fc.constantFrom(0, 1),
        fc.constantFrom(1, 2, 3, 4, 5, 6, 99),
        fc.oneof(fc.nat(100_000), fc.nat(2 ** 32 - 1)),
      )
      .map(([flag, id, value]) =>
        frame(
          Type.SETTINGS,
          flag,
          0,
          flag === 1 ? Buffer.alloc(0) : Buffer.concat([Buffer.of(0, id), uint32(value)]),
        ),
      ),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom(0, 1), fc.uint8Array({ minLength: 8, maxLength: 8 }))
      .map(([flag, bytes]) => frame(Type.PING, flag, 0, bytes)),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.nat(255), flags, streams, fc.uint8Array({ maxLength: 60 }))
      .map(([type, flag, stream, bytes]) => frame(type, flag, stream, bytes)),
  },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }) },
);

test('whatever a client sends, the server goes on and forgets it when it leaves', async () => {
  await using rig = await Rig.open({ maxConcurrentStreams: 8 });
  using other = await RawClient.open(rig.port);
  let stream = -1;
  const CODES = [1, 3, 5, 6, 9, 11];
  await fc.assert(
    fc.asyncProperty(
      fc.array(anyFrame, { maxLength: 25 }),
      fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 20 }),
      async (frames, cuts) => {
        using client = await RawClient.connect(rig.port);
        const bytes = Buffer.concat([
          PREFACE,
          frame(Type.SETTINGS, 0, 0, Buffer.alloc(0)),
          ...frames,
        ]);
        let at = 0;
        for (const cut of cuts) {
          client.socket.write(bytes.subarray(at, at + cut));
          at += cut;
        }
        client.send(bytes.subarray(at));
        stream += 2;
        other.call(stream, ECHO, Buffer.from(frames.length.toString()));
        expect((await other.answer(stream)).status).toBe('0');
        client.socket.end();
        const code = await client.goAwayCode();
        // 0: it was the client that said goodbye.
        if (code !== undefined && code !== 0) expect(CODES).toContain(code);
        for (const call of rig.hanging.splice(0)) call.respond(Buffer.from('late'));
        await expect
          .poll(() => rig.held.every(({ cancelled }) => cancelled), { interval: 1 })
          .toBe(true);
        rig.held.length = 0;
      },
    ),
    { numRuns: 400 },
  );
  expect(rig.errors).toEqual([]);
  await rig.stop(1_000);
});

test('a header block of any bytes is understood or is a compression error', async () => {
  await using rig = await Rig.open();
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), async (bytes) => {
      using client = await RawClient.open(rig.port);
      client.send(frame(Type.HEADERS, END_HEADERS, 1, bytes));
      const seen = await client.until((frames) =>
        frames.find(({ type, stream }) => type === Type.GOAWAY || stream === 1),
      );
      if (seen.type === Type.GOAWAY) expect(seen.payload.readUInt32BE(4)).toBe(9);
    }),
    { numRuns: 200 },
  );
  expect(rig.errors).toEqual([]);
});
