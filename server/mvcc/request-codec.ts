/**
 * The binary form of puts, deletes, reads and transactions, which nest. Sizes first, then one
 * allocation by the caller, then writing: the hot path of every write.
 */
import {
  type BinaryReader,
  bytesSize,
  DecodeError,
  EMPTY,
  signedSize,
  unsignedSize,
  writeBytes,
  writeId,
  writeSigned,
  writeUnsigned,
} from './binary.ts';
import {
  type Compare,
  type CompareResult,
  type DeleteRangeRequest,
  NO_LEASE,
  type Operation,
  type PutRequest,
  type RangeRequest,
  type SortOrder,
  type SortTarget,
  type TxnRequest,
} from './types.ts';
import { MAX_TXN_DEPTH } from './validate.ts';

export const requestTags = { range: 1, put: 2, deleteRange: 3, txn: 4 } as const;

const sortOrders: readonly SortOrder[] = ['none', 'ascend', 'descend'];
const sortTargets: readonly SortTarget[] = ['key', 'version', 'create', 'mod', 'value'];
const compareResults: readonly CompareResult[] = ['equal', 'greater', 'less', 'not-equal'];
const compareTargets: readonly Compare['target'][] = ['version', 'create', 'mod', 'value', 'lease'];

/** Bytes of an operation with its tag. */
export function operationSize(operation: Operation): number {
  switch (operation.kind) {
    case 'put':
      return (
        2 +
        (operation.lease === NO_LEASE ? 0 : 8) +
        bytesSize(operation.key) +
        bytesSize(operation.value)
      );
    case 'delete-range':
      return 2 + bytesSize(operation.key) + bytesSize(operation.rangeEnd);
    case 'range': {
      let size = 3 + bytesSize(operation.key) + bytesSize(operation.rangeEnd);
      for (const value of rangeNumbers(operation)) size += value === 0 ? 0 : signedSize(value);
      return size;
    }
    case 'txn': {
      const { compare, success, failure } = operation;
      let size =
        1 +
        unsignedSize(compare.length) +
        unsignedSize(success.length) +
        unsignedSize(failure.length);
      for (const condition of compare) size += compareSize(condition);
      for (const inner of success) size += operationSize(inner);
      for (const inner of failure) size += operationSize(inner);
      return size;
    }
  }
}

/** Writes tag and content, and returns the offset after it. */
export function encodeOperation(target: Uint8Array, offset: number, operation: Operation): number {
  switch (operation.kind) {
    case 'put':
      return encodePut(target, offset, operation);
    case 'delete-range': {
      target[offset] = requestTags.deleteRange;
      target[offset + 1] = operation.prevKv ? 1 : 0;
      return writeBytes(target, writeBytes(target, offset + 2, operation.key), operation.rangeEnd);
    }
    case 'range':
      return encodeRange(target, offset, operation);
    case 'txn': {
      const { compare, success, failure } = operation;
      target[offset] = requestTags.txn;
      let at = writeUnsigned(target, offset + 1, compare.length);
      at = writeUnsigned(target, at, success.length);
      at = writeUnsigned(target, at, failure.length);
      for (const condition of compare) at = encodeCompare(target, at, condition);
      for (const inner of success) at = encodeOperation(target, at, inner);
      for (const inner of failure) at = encodeOperation(target, at, inner);
      return at;
    }
  }
}

/** Reads the content after a tag. */
export function decodeOperation(reader: BinaryReader, tag: number, depth = 0): Operation {
  switch (tag) {
    case requestTags.put:
      return decodePut(reader);
    case requestTags.deleteRange:
      return decodeDeleteRange(reader);
    case requestTags.range:
      return decodeRange(reader);
    case requestTags.txn:
      return decodeTxn(reader, depth);
    default:
      throw new DecodeError(`unknown operation ${tag}`);
  }
}

const PUT_PREV_KV = 1;
const PUT_IGNORE_VALUE = 2;
const PUT_IGNORE_LEASE = 4;
const PUT_LEASED = 8;

function encodePut(target: Uint8Array, offset: number, request: PutRequest): number {
  const leased = request.lease !== NO_LEASE;
  target[offset] = requestTags.put;
  target[offset + 1] =
    (request.prevKv ? PUT_PREV_KV : 0) |
    (request.ignoreValue ? PUT_IGNORE_VALUE : 0) |
    (request.ignoreLease ? PUT_IGNORE_LEASE : 0) |
    (leased ? PUT_LEASED : 0);
  let at = offset + 2;
  if (leased) at = writeId(target, at, request.lease);
  at = writeBytes(target, at, request.key);
  return writeBytes(target, at, request.value);
}

function decodePut(reader: BinaryReader): PutRequest {
  const flags = reader.flags(0xf);
  const lease = (flags & PUT_LEASED) === 0 ? NO_LEASE : reader.signedId();
  return {
    kind: 'put',
    key: reader.bytes(),
    value: reader.bytes(),
    lease,
    prevKv: (flags & PUT_PREV_KV) !== 0,
    ignoreValue: (flags & PUT_IGNORE_VALUE) !== 0,
    ignoreLease: (flags & PUT_IGNORE_LEASE) !== 0,
  };
}

function decodeDeleteRange(reader: BinaryReader): DeleteRangeRequest {
  const prevKv = reader.flags(1) === 1;
  return { kind: 'delete-range', key: reader.bytes(), rangeEnd: reader.bytes(), prevKv };
}

/** Those that are 0, as most are, take one bit. */
const rangeNumbers = (request: RangeRequest): readonly number[] => [
  request.limit,
  request.revision,
  request.minModRevision,
  request.maxModRevision,
  request.minCreateRevision,
  request.maxCreateRevision,
];

const RANGE_KEYS_ONLY = 0x40;
const RANGE_COUNT_ONLY = 0x80;
/** In the byte of the sort, where there was room. */
const RANGE_UNCOUNTED = 0x80;

function encodeRange(target: Uint8Array, offset: number, request: RangeRequest): number {
  target[offset] = requestTags.range;
  target[offset + 1] =
    (request.uncounted ? RANGE_UNCOUNTED : 0) |
    (sortOrders.indexOf(request.sortOrder) * sortTargets.length +
      sortTargets.indexOf(request.sortTarget));
  let at = writeBytes(target, offset + 2, request.key);
  at = writeBytes(target, at, request.rangeEnd);
  const flagsAt = at++;
  let flags = (request.keysOnly ? RANGE_KEYS_ONLY : 0) | (request.countOnly ? RANGE_COUNT_ONLY : 0);
  for (const [index, value] of rangeNumbers(request).entries()) {
    if (value === 0) continue;
    flags |= 1 << index;
    at = writeSigned(target, at, value);
  }
  target[flagsAt] = flags;
  return at;
}

function decodeRange(reader: BinaryReader): RangeRequest {
  const first = reader.byte();
  const sort = first & ~RANGE_UNCOUNTED;
  const sortOrder = sortOrders[Math.floor(sort / sortTargets.length)];
  const sortTarget = sortTargets[sort % sortTargets.length];
  if (sortOrder === undefined || sortTarget === undefined) throw new DecodeError('unknown sort');
  const key = reader.bytes();
  const rangeEnd = reader.bytes();
  const flags = reader.byte();
  const number = (index: number): number => ((flags & (1 << index)) === 0 ? 0 : reader.signed());
  return {
    kind: 'range',
    key,
    rangeEnd,
    limit: number(0),
    revision: number(1),
    sortOrder,
    sortTarget,
    keysOnly: (flags & RANGE_KEYS_ONLY) !== 0,
    countOnly: (flags & RANGE_COUNT_ONLY) !== 0,
    uncounted: (first & RANGE_UNCOUNTED) !== 0,
    minModRevision: number(2),
    maxModRevision: number(3),
    minCreateRevision: number(4),
    maxCreateRevision: number(5),
  };
}

const COMPARE_RANGE = 0x80;

function compareSize(compare: Compare): number {
  const span =
    1 + bytesSize(compare.key) + (compare.rangeEnd.length === 0 ? 0 : bytesSize(compare.rangeEnd));
  switch (compare.target) {
    case 'value':
      return span + bytesSize(compare.operand);
    case 'lease':
      return span + 8;
    default:
      return span + signedSize(compare.operand);
  }
}

function encodeCompare(target: Uint8Array, offset: number, compare: Compare): number {
  const isRange = compare.rangeEnd.length > 0;
  target[offset] =
    compareResults.indexOf(compare.result) * compareTargets.length +
    compareTargets.indexOf(compare.target) +
    (isRange ? COMPARE_RANGE : 0);
  let at = writeBytes(target, offset + 1, compare.key);
  if (isRange) at = writeBytes(target, at, compare.rangeEnd);
  switch (compare.target) {
    case 'value':
      return writeBytes(target, at, compare.operand);
    case 'lease':
      return writeId(target, at, compare.operand);
    default:
      return writeSigned(target, at, compare.operand);
  }
}

function decodeCompare(reader: BinaryReader): Compare {
  const head = reader.byte();
  const code = head & ~COMPARE_RANGE;
  const result = compareResults[Math.floor(code / compareTargets.length)];
  const target = compareTargets[code % compareTargets.length];
  if (result === undefined || target === undefined) throw new DecodeError('unknown compare');
  const key = reader.bytes();
  const rangeEnd = (head & COMPARE_RANGE) === 0 ? EMPTY : reader.bytes();
  switch (target) {
    case 'value':
      return { key, rangeEnd, result, target, operand: reader.bytes() };
    case 'lease':
      return { key, rangeEnd, result, target, operand: reader.signedId() };
    default:
      return { key, rangeEnd, result, target, operand: reader.signed() };
  }
}

function decodeTxn(reader: BinaryReader, depth: number): TxnRequest {
  if (depth >= MAX_TXN_DEPTH) throw new DecodeError('transactions are nested too deep');
  const counts = [reader.unsigned(), reader.unsigned(), reader.unsigned()] as const;
  // Each takes a byte at least: a wrong count must not allocate before the data ends.
  if (counts[0] + counts[1] + counts[2] > reader.remaining) {
    throw new DecodeError('unexpected end of data');
  }
  const operation = (): Operation => decodeOperation(reader, reader.byte(), depth + 1);
  return {
    kind: 'txn',
    compare: Array.from({ length: counts[0] }, () => decodeCompare(reader)),
    success: Array.from({ length: counts[1] }, operation),
    failure: Array.from({ length: counts[2] }, operation),
  };
}
