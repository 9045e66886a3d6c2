/** Transactions as messages, and answers as typed results. */
import {
  Compare_CompareResult,
  Compare_CompareTarget,
  type RequestOp,
  type ResponseOp,
  type TxnRequest,
  type TxnResponse,
  type Compare as WireCompare,
} from '../server/wire/etcdserverpb/rpc.ts';
import { ConclaveError, invalidArgument } from './errors.ts';
import { type Keyspace, toBuffer } from './keys.ts';
import type { Compare, Operation, Operations, TxnParts } from './txn.ts';
import {
  fromDeleteResponse,
  fromPutResponse,
  fromRangeResponse,
  revisionIn,
  toDeleteRequest,
  toPutRequest,
  toRangeRequest,
} from './wire-kv.ts';

const operators = {
  '==': Compare_CompareResult.EQUAL,
  '!=': Compare_CompareResult.NOT_EQUAL,
  '<': Compare_CompareResult.LESS,
  '>': Compare_CompareResult.GREATER,
} as const;

const targets = {
  createRevision: Compare_CompareTarget.CREATE,
  modRevision: Compare_CompareTarget.MOD,
  version: Compare_CompareTarget.VERSION,
  lease: Compare_CompareTarget.LEASE,
  value: Compare_CompareTarget.VALUE,
} as const;

/** What a result looks like before its type is known. */
export type UntypedResult = {
  readonly succeeded: boolean;
  readonly revision: bigint;
  readonly responses: readonly unknown[];
};

/**
 * The message of a whole transaction. etcd takes one without operations for a serializable read and
 * answers it from the member's own copy, however old that is (`isTxnSerializable` of its server holds
 * for nothing at all); a read on both branches, not told to the caller, makes its conditions
 * linearizable.
 *
 * @throws ConclaveError INVALID_ARGUMENT
 */
export const toRootRequest = (keyspace: Keyspace, parts: TxnParts): TxnRequest => {
  const request = toTxnRequest(keyspace, parts);
  const [first] = parts.compares;
  if (first === undefined || !onlyCompares(parts)) return request;
  const read = rangeOp(toRangeRequest(keyspace, first.range, { countOnly: true }));
  return { ...request, success: [read], failure: [read] };
};

const onlyCompares = ({ success, failure }: TxnParts): boolean =>
  success.length === 0 && failure.length === 0;

/** @throws ConclaveError INVALID_ARGUMENT */
export const toTxnRequest = (keyspace: Keyspace, parts: TxnParts): TxnRequest => ({
  compare: parts.compares.map((compare) => toCompare(keyspace, compare)),
  success: parts.success.map((operation) => toRequestOp(keyspace, operation)),
  failure: parts.failure.map((operation) => toRequestOp(keyspace, operation)),
});

/** Whether the transaction reads only, on both branches: it may then be repeated like a read. */
export const readsOnly = (parts: TxnParts): boolean =>
  [...parts.success, ...parts.failure].every((operation) =>
    operation.kind === 'txn'
      ? readsOnly(operation.txn.parts)
      : operation.kind !== 'put' && operation.kind !== 'delete',
  );

/** The result of a whole transaction. */
export const fromRootResponse = (
  keyspace: Keyspace,
  parts: TxnParts,
  response: TxnResponse,
): UntypedResult => {
  const revision = revisionIn(response.header);
  return onlyCompares(parts)
    ? { succeeded: response.succeeded, revision, responses: [] }
    : fromTxnResponse(keyspace, parts, response, revision);
};

/** @param revision of the outermost answer; nested ones carry none */
const fromTxnResponse = (
  keyspace: Keyspace,
  parts: TxnParts,
  response: TxnResponse,
  revision: bigint,
): UntypedResult => {
  const branch: Operations = response.succeeded ? parts.success : parts.failure;
  if (branch.length !== response.responses.length) {
    throw new ConclaveError('INTERNAL', 'The answer does not match the transaction', {
      outcome: 'applied',
    });
  }
  return {
    succeeded: response.succeeded,
    revision,
    responses: response.responses.map((answer, index) =>
      fromResponseOp(keyspace, branch[index] as Operation, answer, revision),
    ),
  };
};

const toCompare = (keyspace: Keyspace, compare: Compare): WireCompare => {
  const { target, operand, operator, range } = compare;
  const result = operators[operator];
  if (result === undefined) {
    throw invalidArgument('operator', operator, `one of ${Object.keys(operators).join(' ')}`);
  }
  const { key, rangeEnd } = keyspace.span(range);
  return {
    key,
    rangeEnd,
    result,
    target: targets[target],
    targetUnion: toOperand(target, operand),
  };
};

const toOperand = (
  target: Compare['target'],
  operand: Compare['operand'],
): WireCompare['targetUnion'] => {
  if (target === 'value') {
    if (typeof operand === 'bigint') throw invalidArgument('value', operand, 'a text or bytes');
    return { $case: 'value', value: toBuffer(operand) };
  }
  if (typeof operand !== 'bigint') throw invalidArgument(target, operand, 'a bigint');
  return { $case: target, value: operand };
};

const toRequestOp = (keyspace: Keyspace, operation: Operation): RequestOp => {
  switch (operation.kind) {
    case 'put': {
      const { key, value, options } = operation;
      return {
        request: { $case: 'requestPut', value: toPutRequest(keyspace, key, value, options) },
      };
    }
    case 'get':
      return rangeOp(toRangeRequest(keyspace, keyOnly(operation.key), operation.options));
    case 'list':
      return rangeOp(toRangeRequest(keyspace, operation.range, operation.options));
    case 'count':
      return rangeOp(
        toRangeRequest(keyspace, operation.range, { ...operation.options, countOnly: true }),
      );
    case 'delete': {
      const value = toDeleteRequest(keyspace, operation.range, operation.options);
      return { request: { $case: 'requestDeleteRange', value } };
    }
    case 'txn':
      return {
        request: { $case: 'requestTxn', value: toTxnRequest(keyspace, operation.txn.parts) },
      };
    default:
      throw invalidArgument('operation', operation, 'made by op.put, op.get, op.list, …');
  }
};

const rangeOp = (value: ReturnType<typeof toRangeRequest>): RequestOp => ({
  request: { $case: 'requestRange', value },
});

/** A range in place of a key would silently read its first key only. */
export const keyOnly = <K>(key: K): K => {
  if (typeof key === 'string' || key instanceof Uint8Array) return key;
  throw invalidArgument('key', key, 'a key; use list for a range');
};

const fromResponseOp = (
  keyspace: Keyspace,
  operation: Operation,
  { response }: ResponseOp,
  revision: bigint,
): unknown => {
  const header = { clusterId: 0n, memberId: 0n, raftTerm: 0n, revision };
  switch (response?.$case) {
    case 'responsePut':
      return fromPutResponse(keyspace, { ...response.value, header });
    case 'responseDeleteRange':
      return fromDeleteResponse(keyspace, { ...response.value, header });
    case 'responseTxn':
      if (operation.kind !== 'txn') break;
      return fromTxnResponse(keyspace, operation.txn.parts, response.value, revision);
    case 'responseRange': {
      const result = fromRangeResponse(keyspace, { ...response.value, header });
      if (operation.kind === 'get') return result.kvs[0] ?? null;
      return operation.kind === 'count' ? result.count : result;
    }
    case undefined:
      break;
  }
  throw new ConclaveError('INTERNAL', 'The answer does not match the transaction', {
    outcome: 'applied',
  });
};
