/**
 * What can be refused by looking at a request alone. The API asks before it proposes; apply asks
 * again, so that an entry from anywhere has a defined result.
 */
import type { FaultCode } from '../faults.ts';
import { limits } from '../limits.ts';
import { writesKeyTwice } from './overlap.ts';
import {
  type DeleteRangeRequest,
  NO_LEASE,
  type Operation,
  type PutRequest,
  type RangeRequest,
  type SortOrder,
  type SortTarget,
  type TxnRequest,
} from './types.ts';

/** Nested transactions deeper than this are refused whatever the limit on operations. */
export const MAX_TXN_DEPTH = 256;

const sortOrders: ReadonlySet<SortOrder> = new Set(['none', 'ascend', 'descend']);
const sortTargets: ReadonlySet<SortTarget> = new Set(['key', 'version', 'create', 'mod', 'value']);

export function validateRange(request: RangeRequest): FaultCode | undefined {
  if (request.key.length === 0) return 'empty-key';
  if (!sortOrders.has(request.sortOrder) || !sortTargets.has(request.sortTarget)) {
    return 'invalid-sort-option';
  }
  return undefined;
}

export function validatePut(request: PutRequest): FaultCode | undefined {
  if (request.key.length === 0) return 'empty-key';
  if (request.ignoreValue && request.value.length !== 0) return 'value-provided';
  if (request.ignoreLease && request.lease !== NO_LEASE) return 'lease-provided';
  return undefined;
}

export function validateDeleteRange(request: DeleteRangeRequest): FaultCode | undefined {
  return request.key.length === 0 ? 'empty-key' : undefined;
}

/**
 * `maxOperations` bounds each of the three lists; a nested transaction gets what the longest list
 * of the one around it left over.
 */
export function validateTxn(request: TxnRequest, maxOperations: number): FaultCode | undefined {
  const fault = validateLevel(request, maxOperations, 1);
  if (fault !== undefined) return fault;
  return writesKeyTwice(request.success) || writesKeyTwice(request.failure)
    ? 'duplicate-key'
    : undefined;
}

function validateLevel(
  request: TxnRequest,
  maxOperations: number,
  depth: number,
): FaultCode | undefined {
  const { compare, success, failure } = request;
  const longest = Math.max(compare.length, success.length, failure.length);
  if (longest > maxOperations || depth > MAX_TXN_DEPTH) return 'too-many-operations';
  for (const { key } of compare) {
    if (key.length === 0) return 'empty-key';
  }
  for (const branch of [success, failure]) {
    for (const operation of branch) {
      const fault = validateOperation(operation, maxOperations - longest, depth);
      if (fault !== undefined) return fault;
    }
  }
  return undefined;
}

function validateOperation(
  operation: Operation,
  maxOperations: number,
  depth: number,
): FaultCode | undefined {
  switch (operation.kind) {
    case 'range':
      return validateRange(operation);
    case 'put':
      return validatePut(operation);
    case 'delete-range':
      return validateDeleteRange(operation);
    case 'txn':
      return validateLevel(operation, maxOperations, depth + 1);
  }
}

/** Whether a transaction writes nothing on any path, so that it needs no log entry. */
export function isReadOnly(request: TxnRequest): boolean {
  return request.success.every(reads) && request.failure.every(reads);
}

const reads = (operation: Operation): boolean =>
  operation.kind === 'range' || (operation.kind === 'txn' && isReadOnly(operation));

export function validateLeaseTtl(ttlSeconds: number): FaultCode | undefined {
  return ttlSeconds > limits.leaseTtlSeconds ? 'lease-ttl-too-large' : undefined;
}
