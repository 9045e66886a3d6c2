/** HPACK against the examples of RFC 7541 and against Node's implementation. */
import { once } from 'node:events';
import { connect, type IncomingHttpHeaders } from 'node:http2';
import { type AddressInfo, createServer } from 'node:net';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { HpackDecoder } from '../../server/http2/hpack-decoder.ts';
import { HpackEncoder, KEPT } from '../../server/http2/hpack-encoder.ts';

type Pair = readonly [string, string];

function decode(decoder: HpackDecoder, bytes: Uint8Array): Pair[] {
  const pairs: Pair[] = [];
  const buffer = Buffer.from(bytes);
  decoder.decode(buffer, 0, buffer.length, {
    field: ({ name, value }) => {
      pairs.push([name, value]);
    },
  });
  return pairs;
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

const requests: readonly (readonly Pair[])[] = [
  [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
  ],
  [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
    ['cache-control', 'no-cache'],
  ],
  [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':path', '/index.html'],
    [':authority', 'www.example.com'],
    ['custom-key', 'custom-value'],
  ],
];

const response = (status: string, date: string): readonly Pair[] => [
  [':status', status],
  ['cache-control', 'private'],
  ['date', date],
  ['location', 'https://www.example.com'],
];
const responses: readonly (readonly Pair[])[] = [
  response('302', 'Mon, 21 Oct 2013 20:13:21 GMT'),
  response('307', 'Mon, 21 Oct 2013 20:13:21 GMT'),
  [
    ...response('200', 'Mon, 21 Oct 2013 20:13:22 GMT'),
    ['content-encoding', 'gzip'],
    ['set-cookie', 'foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1'],
  ],
];

/** A table of 256 bytes, which the examples of responses have, is announced like this. */
const SMALL_TABLE = '3fe101';

test.each([
  [
    'C.2.1',
    ['400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572'],
    [[['custom-key', 'custom-header']]],
  ],
  ['C.2.2', ['040c 2f73 616d 706c 652f 7061 7468'], [[[':path', '/sample/path']]]],
  ['C.2.3', ['1008 7061 7373 776f 7264 0673 6563 7265 74'], [[['password', 'secret']]]],
  ['C.2.4', ['82'], [[[':method', 'GET']]]],
  [
    'C.3',
    [
      '8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d',
      '8286 84be 5808 6e6f 2d63 6163 6865',
      '8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65',
    ],
    requests,
  ],
  [
    'C.4',
    [
      '8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff',
      '8286 84be 5886 a8eb 1064 9cbf',
      '8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf',
    ],
    requests,
  ],
  [
    'C.5',
    [
      `${SMALL_TABLE} 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
      '4803 3330 37c1 c0bf',
      '88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31',
    ],
    responses,
  ],
  [
    'C.6',
    [
      `${SMALL_TABLE} 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
      '4883 640e ffc1 c0bf',
      '88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07',
    ],
    responses,
  ],
] as const)('the examples of RFC 7541 %s are understood', (_, blocks, expected) => {
  const decoder = new HpackDecoder();
  expect(blocks.map((block) => decode(decoder, hex(block)))).toEqual(expected);
});

test.each([
  ['index 0', '80'],
  ['an index behind the static table', 'be'],
  ['a name that nothing has', '7f00 0161'],
  ['an end in an integer', 'ff'],
  ['an end in a name', '4005 6161'],
  ['an end behind a name', '4001 61'],
  ['a number without end', 'ffff ffff ffff ffff ffff ff01'],
  ['a number beyond every length', '7fff ffff ff7f'],
  ['a table larger than allowed', '3fe2 1f'],
  ['a table size behind a field', '8220'],
  ['the end-of-string symbol', '4001 6184 ffff ffff'],
  ['padding of more than seven bits', '4001 6182 1fff'],
  ['padding that is not of ones', '4001 6181 18'],
])('%s is a compression error', (_, block) => {
  expect(() => decode(new HpackDecoder(), hex(block))).toThrow(
    expect.objectContaining({ name: 'ConnectionError', code: 9 }),
  );
});

test('a field larger than the table empties it', () => {
  const decoder = new HpackDecoder();
  decode(decoder, hex('4001 6101 62'));
  expect(decode(decoder, hex('be'))).toEqual([['a', 'b']]);
  decode(decoder, Buffer.concat([hex('4001 61 7f81 1f'), Buffer.alloc(4_096, 'x')]));
  expect(() => decode(decoder, hex('be'))).toThrow();
});

/** The header blocks that Node's client sends for requests with these fields. */
async function blocksOfNode(all: readonly (readonly Pair[])[]): Promise<Buffer[]> {
  const server = createServer((socket) => socket.write(Buffer.from('000000040000000000', 'hex')));
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  const received = new Promise<Buffer[]>((resolve) => {
    server.on('connection', (socket) => {
      let bytes: Buffer = Buffer.alloc(0);
      socket.on('error', () => undefined);
      socket.on('data', (chunk: Buffer) => {
        bytes = Buffer.concat([bytes, chunk]);
        const blocks: Buffer[] = [];
        for (let at = 24; at + 9 <= bytes.length; ) {
          const end = at + 9 + bytes.readUIntBE(at, 3);
          if (bytes[at + 3] === 1 && end <= bytes.length) blocks.push(bytes.subarray(at + 9, end));
          at = end;
        }
        if (blocks.length === all.length) resolve(blocks);
      });
    });
  });
  const session = connect(`http://127.0.0.1:${port}`);
  session.on('error', () => undefined);
  for (const fields of all) {
    const headers: IncomingHttpHeaders = {};
    for (const [name, value] of fields) headers[name] = value;
    session.request(headers, { endStream: true }).on('error', () => undefined);
  }
  const blocks = await received;
  session.destroy();
  server.close();
  return blocks;
}

test('what Node encodes is decoded to the same, however its table changes', async () => {
  const name = fc.stringMatching(/^x-[a-z0-9]{1,12}$/);
  const value = fc.oneof(
    fc.stringMatching(/^[!-~]([ -~]{0,60}[!-~])?$/),
    fc.stringMatching(/^[a-f0-9]{1,3000}$/),
    // Every byte that a value may have, so that every code of theirs is met.
    fc
      .array(
        fc.integer({ min: 0x21, max: 0xff }).filter((code) => code !== 0x7f),
        {
          minLength: 1,
          maxLength: 80,
        },
      )
      .map((codes) => String.fromCharCode(...codes)),
  );
  const fields = fc.uniqueArray(fc.tuple(name, value), { maxLength: 12, selector: ([key]) => key });
  await fc.assert(
    fc.asyncProperty(fc.array(fields, { minLength: 1, maxLength: 20 }), async (all) => {
      const decoder = new HpackDecoder();
      const blocks = await blocksOfNode(all);
      blocks.forEach((block, index) => {
        const own = decode(decoder, block).filter(([key]) => key.startsWith('x-'));
        expect(own).toEqual(all[index]);
      });
    }),
    { numRuns: 40 },
  );
});

test('the encoder obeys the table that the peer allows, whatever it says when', () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.oneof(
          fc.record({ limit: fc.constantFrom(0, 1, 60, 103, 104, 128, 4_096, 65_536) }),
          fc.record({ which: fc.constantFrom(KEPT.CONTENT_TYPE, KEPT.STATUS_OK) }),
        ),
        { maxLength: 40 },
      ),
      (steps) => {
        const encoder = new HpackEncoder();
        const decoder = new HpackDecoder();
        const out = Buffer.alloc(256);
        for (const step of steps) {
          if ('limit' in step) {
            encoder.limitTable(step.limit);
            continue;
          }
          const start = encoder.begin(out, 0);
          const end = encoder.kept(out, encoder.status(out, start, 200), step.which);
          expect(decode(decoder, out.subarray(0, end))).toEqual([
            [':status', '200'],
            step.which === KEPT.STATUS_OK
              ? ['grpc-status', '0']
              : ['content-type', 'application/grpc'],
          ]);
        }
      },
    ),
  );
});

test('kept fields are a byte from the second time on; a table of nothing is announced first', () => {
  const encoder = new HpackEncoder();
  const out = Buffer.alloc(256);
  const encode = () => encoder.kept(out, encoder.begin(out, 0), KEPT.CONTENT_TYPE);
  expect(encode()).toBeGreaterThan(10);
  expect(encode()).toBe(1);
  encoder.limitTable(10);
  expect(encode()).toBeGreaterThan(10);
  expect(out[0]).toBe(0x20);
  expect(encode()).toBeGreaterThan(10);
  expect(out[0]).toBe(0);
});
