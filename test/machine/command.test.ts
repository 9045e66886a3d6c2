import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeCommand, encodeCommand } from '../../server/command.ts';
import { DecodeError } from '../../server/mvcc/binary.ts';
import type { TxnRequest } from '../../server/mvcc/types.ts';
import { MAX_TXN_DEPTH } from '../../server/mvcc/validate.ts';
import { plain } from '../support/plain.ts';
import { txn as anyTxn, command, deleteRange, put, range } from './arbitraries.ts';
import { get, put as putRequest, txn, when, whenLease } from './requests.ts';

const wide = fc.uint8Array({ maxLength: 300 });
const number = fc.oneof(
  fc.maxSafeInteger(),
  fc.constantFrom(0, 63, 64, -64, 127, 128, 2 ** 31, 2 ** 32, Number.MAX_SAFE_INTEGER),
);
const id = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });

const anyCommand = fc.oneof(
  command,
  anyTxn,
  fc.tuple(put, wide, wide, id).map(([request, key, value, lease]) => ({
    ...request,
    key,
    value,
    lease,
  })),
  fc
    .tuple(deleteRange, wide, wide)
    .map(([request, key, rangeEnd]) => ({ ...request, key, rangeEnd })),
  fc
    .tuple(range, fc.tuple(number, number, number, number, number, number))
    .map(([request, [limit, revision, a, b, c, d]]) =>
      txn(
        [when('mod', 'k', 'less', limit), whenLease('k', 'greater', -(2n ** 63n))],
        [
          {
            ...request,
            limit,
            revision,
            minModRevision: a,
            maxModRevision: b,
            minCreateRevision: c,
            maxCreateRevision: d,
          },
        ],
      ),
    ),
);

test('decoding gives back what was encoded', () => {
  fc.assert(
    fc.property(anyCommand, (given) => {
      expect(plain(decodeCommand(encodeCommand(given)))).toEqual(plain(given));
    }),
    { numRuns: 2000 },
  );
});

test('any bytes decode or are refused with a typed error', () => {
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 200 }), behind), (data) => {
      try {
        const decoded = decodeCommand(data);
        expect(plain(decodeCommand(encodeCommand(decoded)))).toEqual(plain(decoded));
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    }),
    { numRuns: 5000 },
  );
});

/** Random bytes that get past the first checks. */
const behind = fc
  .tuple(fc.integer({ min: 1, max: 22 }), fc.uint8Array({ maxLength: 60 }))
  .map(([tag, rest]) => Uint8Array.of(1, tag, ...rest));

test('damaged commands decode or are refused with a typed error', () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(anyCommand, damage, fc.nat({ max: 3 }), (given, changes, cut) => {
      const data = Buffer.from(encodeCommand(given));
      for (const [at, value] of changes) data[at % data.length] = value;
      try {
        decodeCommand(data.subarray(0, data.length - cut));
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    }),
    { numRuns: 3000 },
  );
});

test('every proper beginning of a command is refused', () => {
  const data = encodeCommand(
    txn([when('mod', 'k', 'equal', 5)], [putRequest('key', 'value'), get('k')]),
  );
  for (let length = 0; length < data.length; length += 1) {
    expect(() => decodeCommand(data.subarray(0, length))).toThrow(DecodeError);
  }
  expect(() => decodeCommand(Buffer.concat([data, Buffer.of(0)]))).toThrow('1 bytes after');
});

test('another format is refused by its number', () => {
  const data = Buffer.from(encodeCommand(putRequest('a')));
  data[0] = 2;
  expect(() => decodeCommand(data)).toThrow('format 2');
});

test('nesting as deep as is valid can be replicated; deeper is refused, not a stack overflow', () => {
  const nest = (depth: number): TxnRequest => txn([], depth === 1 ? [] : [nest(depth - 1)]);
  const deepest = nest(MAX_TXN_DEPTH);
  expect(decodeCommand(encodeCommand(deepest))).toEqual(deepest);
  expect(() => decodeCommand(encodeCommand(nest(MAX_TXN_DEPTH + 1)))).toThrow(DecodeError);
  const marker = [4, 0, 1, 0];
  const endless = Buffer.from([1, ...Array.from({ length: 200_000 }, () => marker).flat()]);
  expect(() => decodeCommand(endless)).toThrow(DecodeError);
});

test('a put costs a few bytes more than its key and value', () => {
  expect(encodeCommand(putRequest('key', 'value')).length).toBe(5 + 8);
});
