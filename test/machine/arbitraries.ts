/** Generated commands and requests over few keys, so that they meet often. */
import fc from 'fast-check';
import type { Command } from '../../server/command.ts';
import type {
  Compare,
  DeleteRangeRequest,
  Operation,
  PutRequest,
  RangeRequest,
  TxnRequest,
} from '../../server/mvcc/types.ts';
import { bytes } from '../support/plain.ts';

/** Neighbours in every way that matters: prefixes, zero and 0xff bytes. */
const keys = ['a', 'a\0', 'aa', 'ab', 'b', 'b\xff', '\0', '\xff', '\xff\xff', 'k'];

export const key = fc.constantFrom(...keys).map(bytes);
const rangeEnd = fc.oneof(
  { weight: 3, arbitrary: fc.constant(bytes('')) },
  { weight: 2, arbitrary: fc.constant(bytes('\0')) },
  { weight: 3, arbitrary: key },
);
const value = fc.constantFrom('', 'v', 'w', 'wide value', '\0\xff').map(bytes);
/** 9n is never granted. */
const leaseId = fc.constantFrom(1n, 2n, -3n, 9n);
const revision = fc.integer({ min: -2, max: 30 });
const rareRevision = fc.oneof({ weight: 4, arbitrary: fc.constant(0) }, revision);
const rarely = fc.integer({ min: 0, max: 4 }).map((n) => n === 0);

export const put: fc.Arbitrary<PutRequest> = fc
  .record({
    kind: fc.constant('put' as const),
    key,
    value,
    lease: fc.oneof({ weight: 2, arbitrary: fc.constant(0n) }, leaseId),
    prevKv: fc.boolean(),
    ignoreValue: rarely,
    ignoreLease: rarely,
  })
  .map((request) => ({
    ...request,
    value: request.ignoreValue ? bytes('') : request.value,
    lease: request.ignoreLease ? 0n : request.lease,
  }));

export const deleteRange: fc.Arbitrary<DeleteRangeRequest> = fc.record({
  kind: fc.constant('delete-range' as const),
  key,
  rangeEnd,
  prevKv: fc.boolean(),
});

export const range: fc.Arbitrary<RangeRequest> = fc.record({
  kind: fc.constant('range' as const),
  key,
  rangeEnd,
  limit: fc.integer({ min: -1, max: 6 }),
  revision: fc.oneof(fc.constant(0), revision),
  sortOrder: fc.constantFrom('none' as const, 'ascend' as const, 'descend' as const),
  sortTarget: fc.constantFrom(
    'key' as const,
    'version' as const,
    'create' as const,
    'mod' as const,
    'value' as const,
  ),
  keysOnly: rarely,
  countOnly: rarely,
  uncounted: rarely,
  minModRevision: rareRevision,
  maxModRevision: rareRevision,
  minCreateRevision: rareRevision,
  maxCreateRevision: rareRevision,
});

const compare: fc.Arbitrary<Compare> = fc
  .tuple(
    key,
    rangeEnd,
    fc.constantFrom('equal' as const, 'greater' as const, 'less' as const, 'not-equal' as const),
    fc.oneof(
      fc.record({
        target: fc.constantFrom('version' as const, 'create' as const, 'mod' as const),
        operand: fc.integer({ min: -1, max: 12 }),
      }),
      fc.record({ target: fc.constant('value' as const), operand: value }),
      fc.record({
        target: fc.constant('lease' as const),
        operand: fc.oneof(fc.constant(0n), leaseId),
      }),
    ),
  )
  .map(([first, end, result, rest]) => ({ key: first, rangeEnd: end, result, ...rest }));

/** A range in a transaction mostly reads now: any other revision makes most of them fail. */
const innerRange = fc
  .tuple(range, rareRevision)
  .map(([request, at]): RangeRequest => ({ ...request, revision: at }));

export const { txn } = fc.letrec<{ txn: TxnRequest; operations: Operation[] }>((tie) => ({
  operations: fc.array(
    fc.oneof(
      { maxDepth: 3, depthIdentifier: 'txn' },
      fc.oneof(put, innerRange, deleteRange) as fc.Arbitrary<Operation>,
      tie('txn'),
    ),
    { maxLength: 4 },
  ),
  txn: fc.record({
    kind: fc.constant('txn' as const),
    compare: fc.array(compare, { maxLength: 2 }),
    success: tie('operations'),
    failure: tie('operations'),
  }),
}));

const readOperation: fc.Arbitrary<Operation> = innerRange;
export const readOnlyTxn: fc.Arbitrary<TxnRequest> = fc.record({
  kind: fc.constant('txn' as const),
  compare: fc.array(compare, { maxLength: 2 }),
  success: fc.array(readOperation, { maxLength: 3 }),
  failure: fc.array(readOperation, { maxLength: 3 }),
});

/** Entries are applied in terms 1 and 2. */
export const term = fc.integer({ min: 1, max: 2 });

const urls = fc.array(fc.string({ maxLength: 8 }), { maxLength: 2 });

export const command: fc.Arbitrary<Command> = fc.oneof(
  { weight: 8, arbitrary: put },
  { weight: 3, arbitrary: deleteRange },
  { weight: 6, arbitrary: txn },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('compact' as const),
      revision: fc.integer({ min: -1, max: 30 }),
      physical: fc.boolean(),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('lease-grant' as const),
      id: fc.constantFrom(0n, 1n, 2n, -3n),
      ttlSeconds: fc.constantFrom(-1, 0, 1, 60, 9_000_000_000, 9_000_000_001),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('lease-revoke' as const), id: leaseId }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('lease-expire' as const), id: leaseId, term }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('alarm' as const),
      action: fc.constantFrom('activate' as const, 'deactivate' as const),
      memberId: fc.constantFrom(1n, 0xffff_ffff_ffff_ffffn),
      alarm: fc.constantFrom('no-space' as const, 'corrupt' as const),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('member' as const),
      memberId: fc.constantFrom(1n, 2n, 0xffff_ffff_ffff_ffffn),
      name: fc.string({ maxLength: 8 }),
      peerUrls: urls,
      clientUrls: urls,
    }),
  },
);
