/** Other implementations as clients: grpc-js and Node's HTTP/2. */
import { once } from 'node:events';
import { connect } from 'node:http2';
import { Client, credentials, Metadata } from '@grpc/grpc-js';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ByteStream, refusal, unary } from '../rpc/calls.ts';
import { message } from './raw-client.ts';
import { DOWN, ECHO, HANG, HOLD, PIPE, REFUSE, Rig } from './rig.ts';

const identity = (bytes: Buffer): Buffer => bytes;

function clientOf(rig: Rig, options = {}): Client & Disposable {
  const client = new Client(rig.url.replace('http://', ''), credentials.createInsecure(), {
    'grpc.max_receive_message_length': -1,
    'grpc.use_local_subchannel_pool': 1,
    ...options,
  });
  return Object.assign(client, { [Symbol.dispose]: () => client.close() });
}

test('grpc-js: messages of any size come back as they were, a thousand calls side by side', async () => {
  await using rig = await Rig.open();
  using client = clientOf(rig);
  await fc.assert(
    fc.asyncProperty(
      fc.array(
        fc.oneof(
          fc.uint8Array({ maxLength: 100 }),
          fc.uint8Array({ minLength: 16_000, maxLength: 200_000, size: 'max' }),
        ),
        { minLength: 1, maxLength: 5 },
      ),
      async (requests) => {
        const sent = requests.map((request) => Buffer.from(request));
        const answers = await Promise.all(sent.map((request) => unary(client, ECHO, request)));
        expect(
          answers.every((answer, index) => answer.equals(sent[index] ?? Buffer.alloc(0))),
        ).toBe(true);
      },
    ),
    { numRuns: 10 },
  );
  const requests = Array.from({ length: 1_000 }, (_, index) => Buffer.from(`request ${index}`));
  expect(await Promise.all(requests.map((request) => unary(client, ECHO, request)))).toEqual(
    requests,
  );
});

test('grpc-js: refusals, deadlines, cancellation, compression', async () => {
  await using rig = await Rig.open();
  using client = clientOf(rig);
  expect(await refusal(unary(client, REFUSE, Buffer.alloc(1)))).toEqual({
    code: 9,
    details: 'not now: 100 % «sure»\n',
  });
  expect((await refusal(unary(client, '/no/Such', Buffer.alloc(1)))).code).toBe(12);
  const late = new Promise<number | undefined>((resolve) => {
    client.makeUnaryRequest(
      HANG,
      identity,
      identity,
      Buffer.alloc(1),
      new Metadata(),
      { deadline: Date.now() + 100 },
      (error) => resolve(error?.code),
    );
  });
  expect(await late).toBe(4);
  const stream = new ByteStream(client, HOLD);
  await expect.poll(() => rig.held.length).toBe(1);
  stream.call.cancel();
  await expect.poll(() => rig.held[0]?.cancelled).toBe(true);
  using gzip = clientOf(rig, { 'grpc.default_compression_algorithm': 2 });
  const text = Buffer.from('again and again '.repeat(10_000));
  expect((await unary(gzip, ECHO, text)).equals(text)).toBe(true);
});

test('grpc-js: streams carry a lot in both directions at once, and end', async () => {
  await using rig = await Rig.open();
  using client = clientOf(rig);
  const stream = new ByteStream(client, PIPE).read();
  const messages = Array.from({ length: 300 }, (_, index) => Buffer.alloc(index * 100, index));
  for (const each of messages) stream.call.write(each);
  stream.call.end();
  expect(await stream.ended).toMatchObject({ code: 0 });
  expect(Buffer.concat(stream.received).equals(Buffer.concat(messages))).toBe(true);
  const request = Buffer.alloc(8);
  request.writeUInt32BE(500, 0);
  request.writeUInt32BE(40_000, 4);
  const down = client.makeServerStreamRequest(DOWN, identity, identity, request);
  let bytes = 0;
  down.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
  });
  await once(down, 'end');
  expect(bytes).toBe(20_000_000);
});

test.each([0, 60, 4_096, 65_536])(
  "Node's HTTP/2 with a header table of %i bytes reads all answers, also when it changes",
  async (headerTableSize) => {
    await using rig = await Rig.open();
    const session = connect(rig.url, { settings: { headerTableSize, initialWindowSize: 1_000 } });
    const call = async (path: string) => {
      const stream = session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': 'application/grpc',
        te: 'trailers',
      });
      let status: string | undefined;
      const note = (fields: Record<string, unknown>) => {
        status = fields['grpc-status'] === undefined ? status : String(fields['grpc-status']);
      };
      stream.on('response', note);
      stream.on('trailers', note);
      stream.end(message(Buffer.alloc(3_000, 'n')));
      const chunks: Buffer[] = [];
      for await (const chunk of stream) chunks.push(chunk);
      return [status, Buffer.concat(chunks).length];
    };
    for (let round = 0; round < 3; round += 1) {
      expect(await Promise.all([call(ECHO), call(REFUSE), call(PIPE)])).toEqual([
        ['0', 3_005],
        ['9', 0],
        ['0', 3_005],
      ]);
      session.settings({ headerTableSize: round === 0 ? 100 : 4_096 });
      await once(session, 'localSettings');
    }
    session.close();
    await once(session, 'close');
  },
);

test('a stopping server lets grpc-js finish what it has begun', async () => {
  await using rig = await Rig.open();
  using client = clientOf(rig);
  const answer = unary(client, HANG, Buffer.alloc(1));
  await expect.poll(() => rig.hanging.length).toBe(1);
  const stopped = rig.server.stop(60_000);
  rig.hanging[0]?.respond(Buffer.from('in time'));
  expect(String(await answer)).toBe('in time');
  await stopped;
});
