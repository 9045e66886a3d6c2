/** The wire format, held against `@bufbuild/protobuf`, which does the same by other means. */
import { BinaryReader as OtherReader, BinaryWriter as OtherWriter } from '@bufbuild/protobuf/wire';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BinaryReader, BinaryWriter } from '../../server/wire/binary.ts';
import { Answers, Calls } from '../../server/wire/conclave/v1/batch.ts';
import { RangeResponse } from '../../server/wire/etcdserverpb/rpc.ts';

type Field =
  | { readonly kind: 'uint32' | 'int32' | 'fixed32'; readonly value: number }
  | { readonly kind: 'uint64' | 'int64' | 'fixed64'; readonly value: bigint }
  | { readonly kind: 'bool'; readonly value: boolean }
  | { readonly kind: 'bytes'; readonly value: Uint8Array }
  | { readonly kind: 'string'; readonly value: string }
  | { readonly kind: 'message'; readonly value: readonly Field[] };

const uint32 = fc.oneof(fc.nat(300), fc.integer({ min: 0, max: 0xffff_ffff }));
const uint64 = fc.oneof(fc.bigInt(0n, 300n), fc.bigInt(0n, (1n << 64n) - 1n), edges(0n, 64n));
const int64 = fc.oneof(fc.bigInt(-300n, 300n), fc.bigInt(-(1n << 63n), (1n << 63n) - 1n));

/** Numbers around the powers of two. */
function edges(least: bigint, bits: bigint): fc.Arbitrary<bigint> {
  return fc
    .tuple(fc.bigInt(0n, bits - 1n), fc.constantFrom(-1n, 0n, 1n))
    .map(([bit, by]) => (1n << bit) + by)
    .filter((value) => value >= least);
}

const { fields } = fc.letrec<{ fields: readonly Field[]; field: Field }>((tie) => ({
  fields: fc.array(tie('field'), { maxLength: 6 }),
  field: fc.oneof(
    { maxDepth: 3 },
    fc.record({ kind: fc.constantFrom('uint32' as const, 'fixed32' as const), value: uint32 }),
    fc.record({ kind: fc.constant('int32' as const), value: fc.integer() }),
    fc.record({ kind: fc.constantFrom('uint64' as const, 'fixed64' as const), value: uint64 }),
    fc.record({ kind: fc.constant('int64' as const), value: int64 }),
    fc.record({ kind: fc.constant('bool' as const), value: fc.boolean() }),
    fc.record({ kind: fc.constant('bytes' as const), value: fc.uint8Array({ maxLength: 300 }) }),
    fc.record({ kind: fc.constant('string' as const), value: fc.string({ unit: 'binary' }) }),
    fc.record({ kind: fc.constant('message' as const), value: tie('fields') }),
  ),
}));

type Writer = BinaryWriter | OtherWriter;

function write(writer: Writer, list: readonly Field[]): Writer {
  for (const field of list) {
    switch (field.kind) {
      case 'message':
        write(writer.fork(), field.value).join();
        break;
      case 'bool':
        writer.bool(field.value);
        break;
      case 'bytes':
        writer.bytes(field.value);
        break;
      case 'string':
        writer.string(field.value);
        break;
      case 'uint64':
      case 'int64':
      case 'fixed64':
        writer[field.kind](field.value);
        break;
      default:
        writer[field.kind](field.value);
    }
  }
  return writer;
}

function check(reader: BinaryReader, list: readonly Field[]): void {
  for (const field of list) {
    if (field.kind === 'message') {
      const end = reader.uint32() + reader.pos;
      check(reader, field.value);
      expect(reader.pos).toBe(end);
    } else if (field.kind === 'bytes') {
      expect(reader.bytes().equals(field.value)).toBe(true);
    } else {
      expect(reader[field.kind]()).toStrictEqual(field.value);
    }
  }
}

describe('writing and reading', () => {
  test('makes the same bytes as the other library, and reads them back', () => {
    fc.assert(
      fc.property(fields, (list) => {
        const own = write(new BinaryWriter(), list).finish();
        const other = write(new OtherWriter(), list).finish();
        expect(Buffer.compare(own, other)).toBe(0);
        const reader = new BinaryReader(own);
        check(reader, list);
        expect(reader.pos).toBe(reader.len);
      }),
      { numRuns: 2_000 },
    );
  });

  test('what is finished is not touched by what is written later, in whatever order they end', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fields, fc.nat({ max: 3 }), fc.nat({ max: 40_000 })), {
          maxLength: 20,
        }),
        (plans) => {
          const open: { writer: BinaryWriter; expected: Uint8Array }[] = [];
          const done: { message: Uint8Array; expected: Uint8Array }[] = [];
          const end = (at: number) => {
            for (const { writer, expected } of open.splice(at, 1)) {
              done.push({ message: writer.finish(), expected });
            }
          };
          for (const [list, at, size] of plans) {
            const content: readonly Field[] = [
              ...list,
              { kind: 'bytes', value: new Uint8Array(size).fill(size) },
            ];
            const writer = new BinaryWriter();
            write(writer, content);
            open.push({ writer, expected: write(new OtherWriter(), content).finish() });
            end(at);
          }
          while (open.length > 0) end(0);
          for (const { message, expected } of done) {
            expect(Buffer.compare(message, expected)).toBe(0);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  test('a message that failed half-way leaves the next ones alone', () => {
    const answer = { id: 1, response: Buffer.from('answer'), code: 0, error: '', more: false };
    const call = { id: 1, method: 1, request: Buffer.from('call'), timeoutMs: 0, cancel: false };
    const tooLarge = { ...call, clientId: 1n << 64n, sequence: 0n } as const;
    expect(() => Calls.encode({ calls: [tooLarge as never], floor: 0n })).toThrow('too large');
    const message = Answers.encode({ answers: [answer] }).finish();
    Answers.encode({ answers: [{ ...answer, id: 2 }] }).finish();
    expect(Answers.decode(message)).toStrictEqual({ answers: [answer] });
  });

  test('what is read of a message does not change with it', () => {
    const kvs = [
      {
        key: Buffer.from('key'),
        value: Buffer.from('value'),
        createRevision: 1n,
        modRevision: 2n,
        version: 3n,
        lease: 4n,
      },
    ];
    const response = { header: undefined, kvs, more: false, count: 1n };
    const message = RangeResponse.encode(response).finish();
    const read = RangeResponse.decode(message);
    message.fill(0);
    expect(read).toStrictEqual(response);
  });
});

describe('what cannot be read', () => {
  test('every message that ends early is refused', () => {
    fc.assert(
      fc.property(fields, fc.nat(), (list, seed) => {
        const whole = write(new BinaryWriter(), list).finish();
        if (whole.length === 0) return;
        const reader = new BinaryReader(whole.subarray(0, seed % whole.length));
        expect(() => check(reader, list)).toThrow('the message ends early');
      }),
      { numRuns: 500 },
    );
  });

  test('any bytes at all are read as the other library reads them, or refused', () => {
    const kinds = ['uint32', 'int32', 'uint64', 'int64', 'bool', 'fixed32', 'fixed64'] as const;
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 1, maxLength: 12 }),
        fc.constantFrom(...kinds),
        (bytes, kind) => {
          const reader = new BinaryReader(bytes);
          const other = new OtherReader(bytes);
          let expected: unknown;
          try {
            expected = other[kind]();
          } catch {
            expect(() => reader[kind]()).toThrow(RangeError);
            return;
          }
          expect(reader[kind]()).toStrictEqual(expected);
          expect(reader.pos).toBe(other.pos);
        },
      ),
      { numRuns: 5_000 },
    );
  });

  test('a varint of more than ten bytes, and a group', () => {
    const endless = Buffer.alloc(20, 0xff);
    expect(() => new BinaryReader(endless).uint32()).toThrow('more than ten bytes');
    expect(() => new BinaryReader(endless).uint64()).toThrow('more than ten bytes');
    expect(() => new BinaryReader(endless).skip(3)).toThrow('wire type 3');
  });

  test.each([
    [0, [0x96, 0x01], 2],
    [1, [1, 2, 3, 4, 5, 6, 7, 8], 8],
    [2, [2, 7, 7], 3],
    [5, [1, 2, 3, 4], 4],
  ])('a field of wire type %i that is not known is left out', (wireType, bytes, length) => {
    const reader = new BinaryReader(Uint8Array.from([...bytes, 9]));
    reader.skip(wireType);
    expect(reader.pos).toBe(length);
  });
});

test('a message may end at any of the last bytes of the buffer that messages share', () => {
  const inner = Buffer.alloc(200, 7);
  const write = () => new BinaryWriter().uint32(10).fork().uint32(10).bytes(inner).join().finish();
  const { length } = write();
  const room = () => {
    const { buffer, byteOffset } = new BinaryWriter().finish();
    return buffer.byteLength - byteOffset;
  };
  for (let missing = 0; missing < 8; missing += 1) {
    // The message finds so many bytes less than it needs.
    while (room() < 1_000) write();
    while (room() > length - missing) new BinaryWriter().bool(true).finish();
    const reader = new BinaryReader(write());
    expect(reader.uint32()).toBe(10);
    expect(reader.uint32()).toBe(203);
    expect(reader.uint32()).toBe(10);
    expect(reader.bytes().equals(inner)).toBe(true);
  }
});

test('small messages keep no large buffer, whatever was written before them', () => {
  const small = () => new BinaryWriter().uint32(7).finish();
  for (const size of [1_000, 30_000, 70_000, 5_000_000]) {
    const value = Buffer.alloc(size, 1);
    const large = new BinaryWriter().bytes(value).finish();
    const after = small();
    expect(after.buffer.byteLength).toBeLessThanOrEqual(64 * 1024);
    expect(large.buffer.byteLength).toBeLessThanOrEqual(Math.max(64 * 1024, 2 * large.length));
    expect(new BinaryReader(large).bytes().equals(value)).toBe(true);
    expect([...after]).toEqual([7]);
  }
});
