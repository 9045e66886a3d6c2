/** Actions of the checkers' vocabulary as requests to a real store, and the answers back. */
import { ClientError } from 'nice-grpc-common';
import type {
  Compare,
  DeepPartial,
  LeaseKeepAliveRequest,
  RangeResponse,
  RequestOp,
  ResponseHeader,
  ResponseOp,
} from '../../../server/wire/etcdserverpb/rpc.ts';
import {
  Compare_CompareResult,
  Compare_CompareTarget,
} from '../../../server/wire/etcdserverpb/rpc.ts';
import type { KeyValue } from '../../../server/wire/mvccpb/kv.ts';
import type { Outcome } from '../../lin/history.ts';
import type {
  Condition,
  Entry,
  Step,
  StepResult,
  StoreAction,
  StoreAnswer,
  StoreTxn,
} from '../../lin/store.ts';
import type { WireClient } from '../../support/wire-client.ts';

/** gRPC codes after which a request may have been carried out all the same. */
const openCodes: ReadonlySet<number> = new Set([1, 2, 4, 10, 13, 14, 15]);
/** Said by the client itself: there was no connection, so nothing was sent. */
const neverSent = /No connection established|ECONNREFUSED|EHOSTUNREACH/;
export const everything = { key: Buffer.from([0]), rangeEnd: Buffer.from([0]) };
const bytes = (text: string): Buffer => Buffer.from(text);

/** Carries the action out. Never rejects: a failure is an outcome. */
export async function perform(
  client: WireClient,
  action: StoreAction,
  signal: AbortSignal,
): Promise<Outcome<StoreAnswer>> {
  try {
    const answer = await send(client, action, signal);
    if (action.kind === 'renew' && answer === undefined)
      return { kind: 'fail', reason: 'the lease is gone' };
    if (answer === undefined) return { kind: 'unknown', reason: 'no answer' };
    return { kind: 'ok', answer };
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const isOpen = !(error instanceof ClientError) || openCodes.has(error.code);
    return isOpen && !neverSent.test(reason)
      ? { kind: 'unknown', reason }
      : { kind: 'fail', reason };
  }
}

async function send(
  { kv, lease }: WireClient,
  action: StoreAction,
  signal: AbortSignal,
): Promise<StoreAnswer | undefined> {
  switch (action.kind) {
    case 'txn':
      return await sendTxn(kv, action, signal);
    case 'read-at': {
      const revision = BigInt(action.revision);
      const response = await kv.range({ key: bytes(action.key), revision }, { signal });
      return { ...headerOf(response.header), results: [found(response)] };
    }
    case 'list': {
      const { serializable = false } = action;
      const response = await kv.range({ ...everything, serializable }, { signal });
      const entries = response.kvs.map((one) => [one.key.toString(), entryOf(one)] as const);
      return { ...headerOf(response.header), entries: new Map(entries) };
    }
    case 'grant': {
      const request = { ID: action.lease, TTL: BigInt(action.ttlSeconds) };
      return headerOf((await lease.leaseGrant(request, { signal })).header);
    }
    case 'revoke':
      return headerOf((await lease.leaseRevoke({ ID: action.lease }, { signal })).header);
    case 'renew':
      return await renew(lease, action.lease, signal);
  }
}

/** Nothing when the lease does not exist any more. */
async function renew(
  lease: WireClient['lease'],
  id: bigint,
  signal: AbortSignal,
): Promise<StoreAnswer | undefined> {
  async function* requests(): AsyncIterable<DeepPartial<LeaseKeepAliveRequest>> {
    yield { ID: id };
  }
  for await (const response of lease.leaseKeepAlive(requests(), { signal }))
    return response.TTL > 0n ? headerOf(response.header) : undefined;
  throw new Error('the stream of renewals ended without an answer');
}

async function sendTxn(
  kv: WireClient['kv'],
  txn: StoreTxn,
  signal: AbortSignal,
): Promise<StoreAnswer> {
  const [step] = txn.success;
  if (txn.conditions.length === 0 && txn.success.length === 1 && step !== undefined)
    return await sendStep(kv, step, txn.serializable === true, signal);
  const { header, succeeded, responses } = await kv.txn(
    {
      compare: txn.conditions.map(compareOf),
      success: txn.success.map(requestOf),
      failure: txn.failure.map(requestOf),
    },
    { signal },
  );
  return { ...headerOf(header), succeeded, results: responses.map(resultOf) };
}

async function sendStep(
  kv: WireClient['kv'],
  step: Step,
  serializable: boolean,
  signal: AbortSignal,
): Promise<StoreAnswer> {
  const key = bytes(step.key);
  switch (step.kind) {
    case 'put': {
      const request = { key, value: bytes(step.value), lease: step.lease ?? 0n };
      const { header } = await kv.put(request, { signal });
      return { ...headerOf(header), results: [{ kind: 'put' }] };
    }
    case 'delete': {
      const { header, deleted } = await kv.deleteRange({ key }, { signal });
      return { ...headerOf(header), results: [{ kind: 'delete', deleted: Number(deleted) }] };
    }
    case 'read': {
      const response = await kv.range({ key, serializable }, { signal });
      return { ...headerOf(response.header), results: [found(response)] };
    }
  }
}

function headerOf(header: ResponseHeader | undefined): { readonly revision: number } {
  return { revision: Number(header?.revision ?? 0n) };
}

export function entryOf(one: KeyValue): Entry {
  return {
    value: one.value.toString(),
    createRevision: Number(one.createRevision),
    modRevision: Number(one.modRevision),
    version: Number(one.version),
    lease: one.lease,
  };
}

function found({ kvs }: RangeResponse): StepResult {
  const [one] = kvs;
  return { kind: 'read', entry: one === undefined ? undefined : entryOf(one) };
}

function compareOf(condition: Condition): DeepPartial<Compare> {
  const key = bytes(condition.key);
  const result = Compare_CompareResult.EQUAL;
  return 'value' in condition
    ? {
        ...{ key, result, target: Compare_CompareTarget.VALUE },
        targetUnion: { $case: 'value', value: bytes(condition.value) },
      }
    : {
        ...{ key, result, target: Compare_CompareTarget.MOD },
        targetUnion: { $case: 'modRevision', value: BigInt(condition.modRevision) },
      };
}

function requestOf(step: Step): DeepPartial<RequestOp> {
  const key = bytes(step.key);
  switch (step.kind) {
    case 'put': {
      const value = { key, value: bytes(step.value), lease: step.lease ?? 0n };
      return { request: { $case: 'requestPut', value } };
    }
    case 'delete':
      return { request: { $case: 'requestDeleteRange', value: { key } } };
    case 'read':
      return { request: { $case: 'requestRange', value: { key } } };
  }
}

function resultOf({ response }: ResponseOp): StepResult {
  switch (response?.$case) {
    case 'responsePut':
      return { kind: 'put' };
    case 'responseDeleteRange':
      return { kind: 'delete', deleted: Number(response.value.deleted) };
    case 'responseRange':
      return found(response.value);
    default:
      throw new Error(`the answer to a step is ${response?.$case}`);
  }
}
