/** Between the public shapes of keys and values and the messages on the wire. */
import {
  type DeleteRangeRequest,
  type DeleteRangeResponse,
  type PutRequest,
  type PutResponse,
  type RangeRequest,
  RangeRequest_SortOrder,
  RangeRequest_SortTarget,
  type RangeResponse,
  type ResponseHeader,
} from '../server/wire/etcdserverpb/rpc.ts';
import type { KeyValue as WireKeyValue } from '../server/wire/mvccpb/kv.ts';
import { ConclaveError, invalidArgument } from './errors.ts';
import { type Key, type KeyRange, type Keyspace, toBuffer } from './keys.ts';
import type {
  DeleteFields,
  DeleteResult,
  KeyValue,
  ListFields,
  ListResult,
  PutFields,
  PutResult,
} from './kv.ts';

const sortTargets = {
  key: RangeRequest_SortTarget.KEY,
  version: RangeRequest_SortTarget.VERSION,
  create: RangeRequest_SortTarget.CREATE,
  mod: RangeRequest_SortTarget.MOD,
  value: RangeRequest_SortTarget.VALUE,
} as const;

/** @throws ConclaveError INVALID_ARGUMENT */
export const toRangeRequest = (
  keyspace: Keyspace,
  range: Key | KeyRange,
  fields: ListFields & { readonly countOnly?: boolean } = {},
): RangeRequest => {
  const order = fields.order ?? 'key';
  const target = sortTargets[order];
  if (target === undefined) {
    throw invalidArgument('order', order, `one of ${Object.keys(sortTargets).join(', ')}`);
  }
  // Order NONE with a limit lets the server stop early; with another target it would cut by key.
  const plain = order === 'key' && fields.descending !== true;
  const sorted = fields.descending ? RangeRequest_SortOrder.DESCEND : RangeRequest_SortOrder.ASCEND;
  // Named one by one: a spread here costs more than all the rest of a small read.
  const { key, rangeEnd } = keyspace.span(range);
  return {
    key,
    rangeEnd,
    limit: limitOf(fields.limit),
    revision: revisionOf(fields.revision, 'revision'),
    sortOrder: plain ? RangeRequest_SortOrder.NONE : sorted,
    sortTarget: target,
    serializable: fields.serializable ?? false,
    keysOnly: fields.keysOnly ?? false,
    countOnly: fields.countOnly ?? false,
    uncounted: fields.uncounted ?? false,
    minModRevision: revisionOf(fields.minModRevision, 'minModRevision'),
    maxModRevision: revisionOf(fields.maxModRevision, 'maxModRevision'),
    minCreateRevision: revisionOf(fields.minCreateRevision, 'minCreateRevision'),
    maxCreateRevision: revisionOf(fields.maxCreateRevision, 'maxCreateRevision'),
  };
};

/** @throws ConclaveError INVALID_ARGUMENT */
export const toPutRequest = (
  keyspace: Keyspace,
  key: Key,
  value: string | Uint8Array,
  fields: PutFields = {},
): PutRequest => {
  if (typeof value !== 'string' && !(value instanceof Uint8Array)) {
    throw invalidArgument('value', value, 'a text or bytes');
  }
  if (fields.ignoreValue && value.length > 0) {
    throw invalidArgument('value', value, "'' together with ignoreValue");
  }
  if (fields.ignoreLease && fields.lease) {
    throw invalidArgument('lease', fields.lease, 'absent together with ignoreLease');
  }
  return {
    key: keyspace.key(key),
    value: toBuffer(value),
    lease: fields.lease ?? 0n,
    prevKv: fields.prevKv ?? false,
    ignoreValue: fields.ignoreValue ?? false,
    ignoreLease: fields.ignoreLease ?? false,
  };
};

/** @throws ConclaveError INVALID_ARGUMENT */
export const toDeleteRequest = (
  keyspace: Keyspace,
  range: Key | KeyRange,
  fields: DeleteFields = {},
): DeleteRangeRequest => {
  const { key, rangeEnd } = keyspace.span(range);
  return { key, rangeEnd, prevKv: fields.prevKv ?? false };
};

export const fromKeyValue = (keyspace: Keyspace, kv: WireKeyValue): KeyValue => {
  const keyBytes = keyspace.strip(kv.key);
  return {
    key: keyBytes.toString('utf8'),
    keyBytes,
    value: kv.value,
    createRevision: kv.createRevision,
    modRevision: kv.modRevision,
    version: kv.version,
    lease: kv.lease,
  };
};

export const fromRangeResponse = (keyspace: Keyspace, response: RangeResponse): ListResult => ({
  kvs: response.kvs.map((kv) => fromKeyValue(keyspace, kv)),
  count: response.count,
  more: response.more,
  revision: revisionIn(response.header),
});

export const fromPutResponse = (keyspace: Keyspace, response: PutResponse): PutResult => {
  const revision = revisionIn(response.header);
  return response.prevKv === undefined
    ? { revision }
    : { revision, previous: fromKeyValue(keyspace, response.prevKv) };
};

export const fromDeleteResponse = (
  keyspace: Keyspace,
  response: DeleteRangeResponse,
): DeleteResult => ({
  revision: revisionIn(response.header),
  deleted: response.deleted,
  previous: response.prevKvs.map((kv) => fromKeyValue(keyspace, kv)),
});

export const revisionIn = (header: ResponseHeader | undefined): bigint => {
  if (header === undefined) throw new ConclaveError('INTERNAL', 'The answer lacks its header');
  return header.revision;
};

const limitOf = (limit: number | undefined): bigint => {
  if (limit === undefined) return 0n;
  if (!Number.isSafeInteger(limit) || limit < 1) {
    throw invalidArgument('limit', limit, 'a whole number from 1');
  }
  return BigInt(limit);
};

/** @throws ConclaveError INVALID_ARGUMENT unless it is a positive revision or absent */
export const revisionOf = (revision: bigint | undefined, field: string): bigint => {
  if (revision === undefined) return 0n;
  if (typeof revision !== 'bigint' || revision < 0n) {
    throw invalidArgument(field, revision, 'a bigint from 0n (0n: as if absent)');
  }
  return revision;
};
