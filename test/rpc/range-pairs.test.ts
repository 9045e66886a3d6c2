import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bytesOf, joined, piecesOf } from '../../server/http2/message.ts';
import type { KeyValue, RangeResult } from '../../server/mvcc/types.ts';
import { rangeResponse } from '../../server/rpc/convert.ts';
import { RangePairs } from '../../server/rpc/range-pairs.ts';
import { RangeResponse } from '../../server/wire/etcdserverpb/rpc.ts';

const header = { clusterId: 2n ** 64n - 1n, memberId: 1n, revision: 9n, raftTerm: 3n };
const result = (kvs: readonly KeyValue[]): RangeResult => ({
  kind: 'range',
  kvs,
  more: true,
  count: kvs.length,
  revision: 9,
});

const number = fc.oneof(fc.nat(300), fc.maxSafeNat());
const length = fc.oneof(fc.nat(200), fc.constantFrom(0, 127, 128, 2_000, 65_535, 65_536, 300_000));
const bytes = length.map((size) => Buffer.alloc(size, size));
const pair: fc.Arbitrary<KeyValue> = fc.record({
  key: bytes,
  value: bytes,
  createRevision: number,
  modRevision: number,
  version: number,
  lease: fc.oneof(fc.constantFrom(0n, 7n), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n })),
});

test('an answer of pairs that came one by one is that of pairs that were collected', () => {
  fc.assert(
    fc.property(fc.array(pair, { maxLength: 30 }), (kvs) => {
      const expected = RangeResponse.encode(rangeResponse(header, result(kvs))).finish();
      const pairs = new RangePairs();
      for (const kv of kvs) pairs.add(kv);
      const answer = pairs.answer(header, { ...result(kvs), kvs: [] });
      expect(bytesOf(answer)).toBe(expected.length);
      expect(joined(answer).equals(expected)).toBe(true);
    }),
    { numRuns: 200 },
  );
});

const small: KeyValue = {
  key: Buffer.alloc(10, 'k'),
  value: Buffer.alloc(256, 'v'),
  createRevision: 5,
  modRevision: 6,
  version: 1,
  lease: 0n,
};

function piecesFor(kv: KeyValue, count: number): readonly Buffer[] {
  const pairs = new RangePairs();
  for (let done = 0; done < count; done += 1) pairs.add(kv);
  return piecesOf(pairs.answer(header, result([])));
}

test('a short answer is one piece, a long one is in pieces that waste little', () => {
  expect(piecesFor(small, 100)).toHaveLength(1);
  for (const kv of [small, { ...small, value: Buffer.alloc(100_000) }]) {
    const pieces = piecesFor(kv, 2_000_000 / kv.value.length);
    expect(pieces.length).toBeGreaterThan(5);
    const memory = new Set(pieces.slice(1, -1).map(({ buffer }) => buffer));
    const held = [...memory].reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(held).toBeLessThan(1.25 * pieces.reduce((sum, piece) => sum + piece.length, 0));
  }
});
