/**
 * Between wire messages and the store's plain values.
 *
 * Revisions, versions and limits beyond 2^53 are clamped: nothing the store counts comes near, so
 * every comparison has the same answer as with the full number.
 */
import { Fault, Status } from '../faults.ts';
import type {
  Compare,
  CompareResult,
  DeleteRangeRequest,
  DeleteRangeResult,
  KeyValue,
  Operation,
  OperationResult,
  PutRequest,
  PutResult,
  RangeRequest,
  RangeResult,
  SortOrder,
  SortTarget,
  TxnRequest,
  TxnResult,
} from '../mvcc/types.ts';
import { emptyBytes } from '../wire/binary.ts';
import type * as wire from '../wire/etcdserverpb/rpc.ts';
import type { KeyValue as WireKeyValue } from '../wire/mvccpb/kv.ts';
import { Rejection } from './status.ts';

const MAX = BigInt(Number.MAX_SAFE_INTEGER);

export function toNumber(value: bigint): number {
  if (value > MAX) return Number.MAX_SAFE_INTEGER;
  return value < -MAX ? -Number.MAX_SAFE_INTEGER : Number(value);
}

const sortOrders: readonly SortOrder[] = ['none', 'ascend', 'descend'];
const sortTargets: readonly SortTarget[] = ['key', 'version', 'create', 'mod', 'value'];
const compareResults: readonly CompareResult[] = ['equal', 'greater', 'less', 'not-equal'];

export function rangeRequest(request: wire.RangeRequest): RangeRequest {
  const sortOrder = sortOrders[request.sortOrder];
  const sortTarget = sortTargets[request.sortTarget];
  if (sortOrder === undefined || sortTarget === undefined) throw new Fault('invalid-sort-option');
  return {
    kind: 'range',
    key: request.key,
    rangeEnd: request.rangeEnd,
    limit: toNumber(request.limit),
    revision: toNumber(request.revision),
    sortOrder,
    sortTarget,
    keysOnly: request.keysOnly,
    countOnly: request.countOnly,
    uncounted: request.uncounted,
    minModRevision: toNumber(request.minModRevision),
    maxModRevision: toNumber(request.maxModRevision),
    minCreateRevision: toNumber(request.minCreateRevision),
    maxCreateRevision: toNumber(request.maxCreateRevision),
  };
}

// Named one by one: to spread an object behind other fields costs more than all the rest of it.
export const putRequest = (request: wire.PutRequest): PutRequest => ({
  kind: 'put',
  key: request.key,
  value: request.value,
  lease: request.lease,
  prevKv: request.prevKv,
  ignoreValue: request.ignoreValue,
  ignoreLease: request.ignoreLease,
});

export const deleteRangeRequest = (request: wire.DeleteRangeRequest): DeleteRangeRequest => ({
  kind: 'delete-range',
  key: request.key,
  rangeEnd: request.rangeEnd,
  prevKv: request.prevKv,
});

export const txnRequest = (request: wire.TxnRequest): TxnRequest => ({
  kind: 'txn',
  compare: request.compare.map(compare),
  success: request.success.map(operation),
  failure: request.failure.map(operation),
});

/** etcd says `key not found` of an operation without content. */
function operation({ request }: wire.RequestOp): Operation {
  switch (request?.$case) {
    case 'requestRange':
      return rangeRequest(request.value);
    case 'requestPut':
      return putRequest(request.value);
    case 'requestDeleteRange':
      return deleteRangeRequest(request.value);
    case 'requestTxn':
      return txnRequest(request.value);
    case undefined:
      throw new Fault('key-not-found');
  }
}

/** An operand of another type than the target's counts as absent, that is zero or empty, as in etcd. */
function compare(message: wire.Compare): Compare {
  const result = compareResults[message.result];
  if (result === undefined) {
    throw new Rejection(
      Status.INVALID_ARGUMENT,
      `compare.result is ${message.result}: allowed are 0 to ${compareResults.length - 1}`,
    );
  }
  const { key, rangeEnd, targetUnion: operand } = message;
  const target: number = message.target;
  switch (target) {
    case 0:
      return {
        key,
        rangeEnd,
        result,
        target: 'version',
        operand: operand?.$case === 'version' ? toNumber(operand.value) : 0,
      };
    case 1:
      return {
        key,
        rangeEnd,
        result,
        target: 'create',
        operand: operand?.$case === 'createRevision' ? toNumber(operand.value) : 0,
      };
    case 2:
      return {
        key,
        rangeEnd,
        result,
        target: 'mod',
        operand: operand?.$case === 'modRevision' ? toNumber(operand.value) : 0,
      };
    case 3:
      return {
        key,
        rangeEnd,
        result,
        target: 'value',
        operand: operand?.$case === 'value' ? operand.value : emptyBytes,
      };
    case 4:
      return {
        key,
        rangeEnd,
        result,
        target: 'lease',
        operand: operand?.$case === 'lease' ? operand.value : 0n,
      };
    default:
      throw new Rejection(
        Status.INVALID_ARGUMENT,
        `compare.target is ${target}: allowed are 0 to 4`,
      );
  }
}

const asBuffer = (bytes: Uint8Array): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export const keyValue = (kv: KeyValue): WireKeyValue => ({
  key: asBuffer(kv.key),
  value: asBuffer(kv.value),
  createRevision: BigInt(kv.createRevision),
  modRevision: BigInt(kv.modRevision),
  version: BigInt(kv.version),
  lease: kv.lease,
});

type Header = wire.ResponseHeader | undefined;

export const rangeResponse = (header: Header, result: RangeResult): wire.RangeResponse => ({
  header,
  kvs: result.kvs.map(keyValue),
  more: result.more,
  count: BigInt(result.count),
});

export const putResponse = (header: Header, result: PutResult): wire.PutResponse => ({
  header,
  prevKv: result.prevKv && keyValue(result.prevKv),
});

export const deleteRangeResponse = (
  header: Header,
  result: DeleteRangeResult,
): wire.DeleteRangeResponse => ({
  header,
  deleted: BigInt(result.deleted),
  prevKvs: result.prevKvs.map(keyValue),
});

export const txnResponse = (header: Header, result: TxnResult): wire.TxnResponse => ({
  header,
  succeeded: result.succeeded,
  responses: result.responses.map(operationResponse),
});

/** Inside a transaction a header holds only the revision, and that of a nested one nothing at all. */
function operationResponse(result: OperationResult): wire.ResponseOp {
  const header = innerHeader(BigInt(result.revision));
  switch (result.kind) {
    case 'range':
      return { response: { $case: 'responseRange', value: rangeResponse(header, result) } };
    case 'put':
      return { response: { $case: 'responsePut', value: putResponse(header, result) } };
    case 'delete-range':
      return {
        response: { $case: 'responseDeleteRange', value: deleteRangeResponse(header, result) },
      };
    case 'txn':
      return { response: { $case: 'responseTxn', value: txnResponse(innerHeader(0n), result) } };
  }
}

const innerHeader = (revision: bigint): wire.ResponseHeader => ({
  clusterId: 0n,
  memberId: 0n,
  revision,
  raftTerm: 0n,
});
