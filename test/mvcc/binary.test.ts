import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  BinaryReader,
  DecodeError,
  signedSize,
  unsignedSize,
  writeId,
  writeSigned,
  writeUnsigned,
} from '../../server/mvcc/binary.ts';
import { historyKey, positionOfHistory } from '../../server/mvcc/keys.ts';

const edges = [7, 14, 21, 28, 31, 32, 35, 42, 49, 53].flatMap((bits) => [
  2 ** bits - 1,
  ...(bits === 53 ? [] : [2 ** bits, 2 ** bits + 1]),
]);
const unsigned = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.constantFrom(0, 1, ...edges));
const signed = fc.tuple(unsigned, fc.boolean()).map(([n, minus]) => (minus && n > 0 ? -n : n));

test('numbers come back as written, in the size foretold', () => {
  fc.assert(
    fc.property(unsigned, signed, (a, b) => {
      const data = Buffer.alloc(unsignedSize(a) + signedSize(b));
      expect(writeSigned(data, writeUnsigned(data, 0, a), b)).toBe(data.length);
      const reader = new BinaryReader(data);
      expect([reader.unsigned(), reader.signed()]).toEqual([a, b]);
      expect(reader.atEnd).toBe(true);
    }),
    { numRuns: 3000 },
  );
});

test('numbers that do not fit are refused', () => {
  const tooLarge = Buffer.from([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
  expect(() => new BinaryReader(tooLarge).unsigned()).toThrow(DecodeError);
  expect(() => new BinaryReader(tooLarge).signed()).toThrow(DecodeError);
  expect(() => new BinaryReader(Buffer.alloc(20, 0x80)).unsigned()).toThrow(DecodeError);
});

test('ids come back as written, signed or not', () => {
  fc.assert(
    fc.property(fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (id) => {
      const data = Buffer.alloc(8);
      writeId(data, 0, id);
      expect(new BinaryReader(data).signedId()).toBe(id);
      expect(new BinaryReader(data).unsignedId()).toBe(BigInt.asUintN(64, id));
    }),
  );
});

test('positions in history sort as their keys', () => {
  const position = fc.record({ revision: unsigned, sub: fc.nat({ max: 2 ** 31 }) });
  fc.assert(
    fc.property(position, position, (a, b) => {
      expect(positionOfHistory(historyKey(a.revision, a.sub))).toEqual(a);
      const order = Math.sign(a.revision - b.revision || a.sub - b.sub);
      expect(Buffer.compare(historyKey(a.revision, a.sub), historyKey(b.revision, b.sub))).toBe(
        order,
      );
    }),
  );
});
