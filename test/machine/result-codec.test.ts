import fc from 'fast-check';
import { expect, test } from 'vitest';
import { decodeResult, encodeResult } from '../../server/clients/result-codec.ts';
import type { CommandResult } from '../../server/command.ts';
import { type FaultCode, faults } from '../../server/faults.ts';
import { DecodeError } from '../../server/mvcc/binary.ts';
import type { KeyValue, OperationResult } from '../../server/mvcc/types.ts';
import { plain } from '../support/plain.ts';

const bytes = fc.uint8Array({ maxLength: 40 });
const revision = fc.maxSafeNat();
const id = fc.bigInt(1n, 2n ** 63n - 1n);
const kv: fc.Arbitrary<KeyValue> = fc.record({
  key: bytes,
  value: bytes,
  createRevision: revision,
  modRevision: revision,
  version: revision,
  lease: fc.oneof(fc.constant(0n), fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n)),
});
const kvs = fc.array(kv, { maxLength: 3 });

const { operation } = fc.letrec<{ operation: OperationResult }>((tie) => ({
  operation: fc.oneof(
    { maxDepth: 3 },
    fc.record({
      kind: fc.constant('put' as const),
      prevKv: fc.option(kv, { nil: undefined }),
      revision,
    }),
    fc.record({
      kind: fc.constant('delete-range' as const),
      deleted: revision,
      prevKvs: kvs,
      revision,
    }),
    fc.record({
      kind: fc.constant('range' as const),
      kvs,
      more: fc.boolean(),
      count: revision,
      revision,
    }),
    fc.record({
      kind: fc.constant('txn' as const),
      succeeded: fc.boolean(),
      responses: fc.array(tie('operation'), { maxLength: 3 }),
      revision,
    }),
  ),
}));

const member = fc.record({
  id,
  name: fc.string(),
  peerUrls: fc.array(fc.string(), { maxLength: 2 }),
  clientUrls: fc.array(fc.string(), { maxLength: 2 }),
  isLearner: fc.boolean(),
  incarnation: fc.oneof(fc.constant(0n), id),
});

const result: fc.Arbitrary<CommandResult> = fc.oneof(
  operation.filter((one) => one.kind !== 'range') as fc.Arbitrary<CommandResult>,
  fc.record({
    kind: fc.constantFrom(
      'compact' as const,
      'lease-revoke' as const,
      'lease-expire' as const,
      'alarm' as const,
      'member' as const,
      'introduce' as const,
      'client-forget' as const,
      'client-expire' as const,
    ),
    revision,
  }),
  fc.record({
    kind: fc.constant('lease-grant' as const),
    id: fc.bigInt(-(2n ** 63n), 2n ** 63n - 1n),
    ttlSeconds: fc.maxSafeInteger(),
    revision,
  }),
  fc.record({ kind: fc.constant('client-register' as const), id, revision }),
  fc.record({
    kind: fc.constantFrom(
      'bootstrap' as const,
      'member-add' as const,
      'member-remove' as const,
      'member-promote' as const,
      'member-replace' as const,
      'member-leave' as const,
      'member-update' as const,
    ),
    index: revision,
    members: fc.array(member, { maxLength: 3 }),
    revision,
  }),
  fc.record({
    kind: fc.constant('fault' as const),
    code: fc.constantFrom(...(Object.keys(faults) as FaultCode[])),
    revision,
  }),
);

test('a kept result is the result', () => {
  fc.assert(
    fc.property(result, (given) => {
      expect(plain(decodeResult(encodeResult(given, 1 << 20)))).toEqual(plain(given));
    }),
    { numRuns: 2000 },
  );
});

test('a result is kept whole or not at all', () => {
  fc.assert(
    fc.property(result, (given) => {
      const { length } = encodeResult(given, 1 << 20);
      expect(plain(decodeResult(encodeResult(given, length)))).toEqual(plain(given));
      if (given.kind === 'fault') return;
      expect(decodeResult(encodeResult(given, length - 1))).toEqual({
        kind: 'fault',
        code: 'result-forgotten',
        revision: given.revision,
      });
    }),
  );
});

test('damaged results are read or refused with a typed error', () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 });
  fc.assert(
    fc.property(result, damage, fc.nat({ max: 3 }), (given, changes, cut) => {
      const data = Buffer.from(encodeResult(given, 1 << 20));
      for (const [at, value] of changes) data[at % data.length] = value;
      try {
        decodeResult(data.subarray(0, data.length - cut));
      } catch (error) {
        expect(error).toBeInstanceOf(DecodeError);
      }
    }),
    { numRuns: 2000 },
  );
});
