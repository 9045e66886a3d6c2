import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Message } from '../../server/raft/message.ts';
import { decodeFrame, decodeMessage } from '../../server/transport/decode.ts';
import { encodeFrame, encodeMessage } from '../../server/transport/encode.ts';
import { MalformedFrame, REFERENCE_BYTES } from '../../server/transport/protobuf.ts';
import { Frame } from '../../server/wire/conclave/v1/raft.ts';
import { FROM, message, TO } from './messages.ts';

const joined = (messages: readonly Message[], headBytes = 0) =>
  Buffer.concat(encodeFrame(messages, headBytes).pieces);

/** With content as text, as views and copies compare differently. */
const comparable = (messages: readonly Message[]) => {
  const texts = <T extends { readonly data: Uint8Array }>(list: readonly T[]) =>
    list.map((each) => ({ ...each, data: Buffer.from(each.data).toString('hex') }));
  return messages.map((each) => {
    if (each.kind === 'append') return { ...each, entries: texts(each.entries) };
    if (each.kind === 'propose') return { ...each, proposals: texts(each.proposals) };
    return each;
  });
};

test('what is encoded is decoded as it was', () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 8 }), (messages) => {
      const frame = joined(messages);
      expect(comparable(decodeFrame(frame, FROM, TO))).toEqual(comparable(messages));
    }),
    { numRuns: 1_500 },
  );
});

test('the frame has the length that was said, after the room left for its prefix', () => {
  fc.assert(
    fc.property(fc.array(message, { minLength: 1, maxLength: 4 }), (messages) => {
      const { pieces, bytes } = encodeFrame(messages, 5);
      expect(pieces[0]?.length).toBeGreaterThanOrEqual(5);
      expect(Buffer.concat(pieces).length).toBe(5 + bytes);
      expect(Buffer.concat(pieces).subarray(5)).toEqual(joined(messages));
    }),
    { numRuns: 300 },
  );
});

test('frames are the same bytes that the generated code writes', () => {
  fc.assert(
    fc.property(fc.array(message, { maxLength: 8 }), (messages) => {
      const frame = joined(messages);
      const wire = Frame.decode(frame);
      expect(wire.messages.length).toBe(messages.length);
      expect(Buffer.from(Frame.encode(wire).finish())).toEqual(frame);
    }),
    { numRuns: 500 },
  );
});

test('a message by itself is decoded as it was', () => {
  fc.assert(
    fc.property(message, (each) => {
      expect(comparable([decodeMessage(encodeMessage(each), FROM, TO)])).toEqual(
        comparable([each]),
      );
    }),
    { numRuns: 300 },
  );
});

test('the messages of a newer member with more fields are read without them', () => {
  const beat: Message = { kind: 'heartbeat', from: FROM, to: TO, term: 7, commit: 5, context: 3 };
  const unknown = Buffer.concat([
    Buffer.from([0x88, 0x02, 0x96, 0x01]), // field 33, number
    Buffer.from([0x91, 0x02, 1, 2, 3, 4, 5, 6, 7, 8]), // field 34, fixed64
    Buffer.from([0x9a, 0x02, 3, 1, 2, 3]), // field 35, bytes
    Buffer.from([0xa5, 0x02, 1, 2, 3, 4]), // field 36, fixed32
  ]);
  const inner = Buffer.concat([unknown, encodeMessage(beat), unknown]);
  const frame = Buffer.concat([
    unknown,
    Buffer.from([0x0a, inner.length]),
    inner,
    Buffer.from([0x10, 1]),
  ]);
  expect(decodeFrame(frame, FROM, TO)).toEqual([beat]);
});

test('long entries are passed on without a copy, and short ones are not held by reference', () => {
  const long = Buffer.alloc(REFERENCE_BYTES, 1);
  const short = Buffer.alloc(REFERENCE_BYTES - 1, 2);
  const entries = [long, short].map((data, at) => ({
    index: at + 1,
    term: 1,
    kind: 'command' as const,
    data,
  }));
  const head = { from: FROM, to: TO, term: 1, prevIndex: 0, prevTerm: 0, commit: 0 };
  const { pieces } = encodeFrame([{ kind: 'append', ...head, entries }]);
  const shares = (data: Buffer) =>
    pieces.some((piece) => piece.buffer === data.buffer && piece.byteOffset === data.byteOffset);
  expect(shares(long)).toBe(true);
  expect(shares(short)).toBe(false);

  const frame = Buffer.concat(pieces);
  const [decoded] = decodeFrame(frame, FROM, TO);
  if (decoded?.kind !== 'append') throw new Error('not an append');
  for (const { data } of decoded.entries) expect(data.buffer).toBe(frame.buffer);
});

const varint = (value: bigint): number[] => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return [...bytes, Number(rest)];
};
const field = (number: number, content: readonly number[]) => [
  ...varint(BigInt((number << 3) | 2)),
  ...varint(BigInt(content.length)),
  ...content,
];
const frameOf = (...content: number[]) => Buffer.from(field(1, content));
const TERM_3 = [0x08, 3];

test.each([
  ['a message without a term', frameOf(...field(9, [])), 'has no term'],
  ['a message without a body', frameOf(...TERM_3), 'no body'],
  [
    'a message with two bodies',
    frameOf(...TERM_3, ...field(9, []), ...field(11, [])),
    'two bodies',
  ],
  ['a term above 2^53', frameOf(0x08, ...varint(2n ** 53n), ...field(9, [])), '2^53'],
  ['a number of 11 bytes', frameOf(0x08, ...Array(10).fill(0xff), 1, ...field(9, [])), '2^53'],
  ['a field that reaches beyond its message', Buffer.from([0x0a, 5, 0x08, 3]), 'ends within'],
  ['a nested field that reaches beyond its parent', frameOf(...TERM_3, 0x4a, 9, 0x08, 1), 'ends'],
  ['a number where bytes belong', frameOf(...TERM_3, 0x48, 1), 'wire type 0 instead of 2'],
  ['a group', frameOf(...TERM_3, 0x9b, 0x02), 'wire type 3'],
  ['field 0', frameOf(0x00, 1), 'number 0'],
  ['an entry without a term', frameOf(...TERM_3, ...field(6, field(4, []))), 'entry has no term'],
  [
    'an entry of an unknown kind',
    frameOf(...TERM_3, ...field(6, field(4, [8, 1, 16, 3]))),
    'kind 3',
  ],
  [
    'entries whose terms fall',
    frameOf(...TERM_3, ...field(6, [...field(4, [8, 2]), ...field(4, [8, 1])])),
    'terms of an append fall',
  ],
  [
    'an entry below the term before',
    frameOf(...TERM_3, ...field(6, [16, 2, ...field(4, [8, 1])])),
    'fall',
  ],
  ['an entry younger than its message', frameOf(...TERM_3, ...field(6, field(4, [8, 4]))), 'older'],
  [
    'indexes beyond 2^53',
    frameOf(...TERM_3, ...field(6, [8, ...varint(2n ** 53n - 1n), ...field(4, [8, 1])])),
    'indexes',
  ],
  ['an unknown reason', frameOf(...TERM_3, ...field(16, [24, 9])), 'unknown reason 9'],
  ['no reason', frameOf(...TERM_3, ...field(16, [])), 'unknown reason 0'],
  ['a snapshot without a configuration', frameOf(...TERM_3, ...field(14, [8, 1, 16, 1])), 'lacks'],
  [
    'ids that do not ascend',
    frameOf(
      ...TERM_3,
      ...field(14, [
        ...[8, 1, 16, 1],
        ...field(3, field(1, [2, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0])),
      ]),
    ),
    'ascend',
  ],
  ['half an id', frameOf(...TERM_3, ...field(14, field(3, field(1, [1, 0, 0, 0])))), 'cut short'],
])('refuses %s', (_, bytes, sentence) => {
  expect(() => decodeFrame(bytes, FROM, TO)).toThrow(MalformedFrame);
  expect(() => decodeFrame(bytes, FROM, TO)).toThrow(sentence);
});

test('refuses more messages and entries than a frame is for', () => {
  const one = encodeFrame([
    { kind: 'timeout-now', from: FROM, to: TO, term: 1, lastIndex: 0 },
  ]).pieces;
  const piece = Buffer.concat(one);
  expect(decodeFrame(Buffer.alloc(4_096 * piece.length, piece), FROM, TO).length).toBe(4_096);
  expect(() => decodeFrame(Buffer.alloc(4_097 * piece.length, piece), FROM, TO)).toThrow(
    'too many messages',
  );
  const entry = [0x22, 2, 8, 1];
  const body = Buffer.alloc(262_145 * 4, Buffer.from(entry));
  const message = Buffer.concat([
    Buffer.from(TERM_3),
    Buffer.from([0x32, ...varint(BigInt(body.length))]),
    body,
  ]);
  const frame = Buffer.concat([Buffer.from([0x0a, ...varint(BigInt(message.length))]), message]);
  expect(() => decodeFrame(frame, FROM, TO)).toThrow('too many entries');
});

test('20,000 mutated frames give messages or a refusal, never anything else', () => {
  const frames = fc
    .sample(fc.array(message, { minLength: 1, maxLength: 4 }), { numRuns: 200, seed: 20_260 })
    .map((messages) => joined(messages));
  let state = 0x9e37_79b9;
  const below = (bound: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % bound;
  };
  const counts = { decoded: 0, refused: 0 };
  for (let run = 0; run < 20_000; run += 1) {
    let frame = Buffer.from(frames[run % frames.length] ?? []);
    for (let change = 0; change <= below(3); change += 1) {
      const at = below(frame.length + 1);
      const kind = below(5);
      if (kind === 0 && at < frame.length) frame[at] = below(256);
      else if (kind === 1 && at < frame.length) frame[at] = (frame[at] ?? 0) ^ (1 << below(8));
      else if (kind === 2) frame = frame.subarray(0, at);
      else if (kind === 3) {
        frame = Buffer.concat([
          frame.subarray(0, at),
          Buffer.from([below(256)]),
          frame.subarray(at),
        ]);
      } else {
        const other = frames[below(frames.length)] ?? frame;
        frame = Buffer.concat([frame.subarray(0, at), other.subarray(below(other.length + 1))]);
      }
    }
    try {
      const messages = decodeFrame(frame, FROM, TO);
      for (const each of messages) {
        expect(each.term).toBeGreaterThan(0);
        // What was let through can be sent on.
        if (each.kind !== 'append' || each.prevTerm <= each.term) encodeFrame([each]);
      }
      counts.decoded += 1;
    } catch (error) {
      if (!(error instanceof MalformedFrame)) throw error;
      counts.refused += 1;
    }
  }
  // Both happen often: the mutations are neither harmless nor blunt.
  expect(counts.decoded).toBeGreaterThan(1_000);
  expect(counts.refused).toBeGreaterThan(1_000);
});
