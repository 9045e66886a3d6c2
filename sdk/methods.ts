/** Every unary method in use: its messages, what it does to the store, and its number in a batch. */
import {
  ClientForgetRequest,
  ClientForgetResponse,
  ClientRegisterRequest,
  ClientRegisterResponse,
  LeaseKeepAliveManyRequest,
  LeaseKeepAliveManyResponse,
  Method,
  PingRequest,
  PingResponse,
} from '../server/wire/conclave/v1/batch.ts';
import { ReplaceRequest, ReplaceResponse } from '../server/wire/conclave/v1/membership.ts';
import {
  AlarmRequest,
  AlarmResponse,
  CompactionRequest,
  CompactionResponse,
  DefragmentRequest,
  DefragmentResponse,
  DeleteRangeRequest,
  DeleteRangeResponse,
  HashKVRequest,
  HashKVResponse,
  LeaseGrantRequest,
  LeaseGrantResponse,
  LeaseKeepAliveRequest,
  LeaseKeepAliveResponse,
  LeaseLeasesRequest,
  LeaseLeasesResponse,
  LeaseRevokeRequest,
  LeaseRevokeResponse,
  LeaseTimeToLiveRequest,
  LeaseTimeToLiveResponse,
  MemberAddRequest,
  MemberAddResponse,
  MemberListRequest,
  MemberListResponse,
  MemberPromoteRequest,
  MemberPromoteResponse,
  MemberRemoveRequest,
  MemberRemoveResponse,
  MemberUpdateRequest,
  MemberUpdateResponse,
  type MessageFns,
  MoveLeaderRequest,
  MoveLeaderResponse,
  PutRequest,
  PutResponse,
  RangeRequest,
  RangeResponse,
  StatusRequest,
  StatusResponse,
  TxnRequest,
  TxnResponse,
} from '../server/wire/etcdserverpb/rpc.ts';

/**
 * - `read`: may be repeated at will.
 * - `repeatable`: a write whose second application changes nothing more; repeated like a read, but
 *   when it finally fails its outcome may be unknown.
 * - `numbered`: a write that the server applies once however often it is sent; repeated like a read,
 *   and like `repeatable` when it finally fails. No method is by itself: a call becomes it.
 * - `write`: repeated only when it certainly had no effect.
 */
export type Effect = 'read' | 'repeatable' | 'numbered' | 'write';

type MethodRow<Request, Response> = {
  readonly effect: Effect;
  /** UNSPECIFIED: not served in batches. */
  readonly batch: Method;
  readonly request: MessageFns<Request>;
  readonly response: MessageFns<Response>;
};

const row = <Request, Response>(
  effect: Effect,
  batch: Method,
  request: MessageFns<Request>,
  response: MessageFns<Response>,
): MethodRow<Request, Response> => ({ effect, batch, request, response });

export const methods = {
  range: row('read', Method.RANGE, RangeRequest, RangeResponse),
  put: row('write', Method.PUT, PutRequest, PutResponse),
  deleteRange: row('write', Method.DELETE_RANGE, DeleteRangeRequest, DeleteRangeResponse),
  txn: row('write', Method.TXN, TxnRequest, TxnResponse),
  txnWhenFalse: row('read', Method.TXN_WHEN_FALSE, TxnRequest, TxnResponse),
  compact: row('repeatable', Method.COMPACT, CompactionRequest, CompactionResponse),
  leaseGrant: row('repeatable', Method.LEASE_GRANT, LeaseGrantRequest, LeaseGrantResponse),
  leaseRevoke: row('repeatable', Method.LEASE_REVOKE, LeaseRevokeRequest, LeaseRevokeResponse),
  leaseKeepAlive: row(
    'read',
    Method.LEASE_KEEP_ALIVE,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
  ),
  leaseKeepAliveMany: row(
    'read',
    Method.LEASE_KEEP_ALIVE_MANY,
    LeaseKeepAliveManyRequest,
    LeaseKeepAliveManyResponse,
  ),
  leaseTimeToLive: row(
    'read',
    Method.LEASE_TIME_TO_LIVE,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
  ),
  leaseLeases: row('read', Method.LEASE_LEASES, LeaseLeasesRequest, LeaseLeasesResponse),
  status: row('read', Method.STATUS, StatusRequest, StatusResponse),
  memberList: row('read', Method.MEMBER_LIST, MemberListRequest, MemberListResponse),
  memberAdd: row('write', Method.UNSPECIFIED, MemberAddRequest, MemberAddResponse),
  memberRemove: row('write', Method.UNSPECIFIED, MemberRemoveRequest, MemberRemoveResponse),
  memberUpdate: row('repeatable', Method.UNSPECIFIED, MemberUpdateRequest, MemberUpdateResponse),
  memberPromote: row('write', Method.UNSPECIFIED, MemberPromoteRequest, MemberPromoteResponse),
  alarm: row('repeatable', Method.UNSPECIFIED, AlarmRequest, AlarmResponse),
  defragment: row('repeatable', Method.UNSPECIFIED, DefragmentRequest, DefragmentResponse),
  hashKV: row('read', Method.UNSPECIFIED, HashKVRequest, HashKVResponse),
  moveLeader: row('write', Method.UNSPECIFIED, MoveLeaderRequest, MoveLeaderResponse),
  memberReplace: row('write', Method.UNSPECIFIED, ReplaceRequest, ReplaceResponse),
  /** A lost registration is one more record that ends with its time. */
  clientRegister: row(
    'read',
    Method.CLIENT_REGISTER,
    ClientRegisterRequest,
    ClientRegisterResponse,
  ),
  clientForget: row('read', Method.CLIENT_FORGET, ClientForgetRequest, ClientForgetResponse),
  /** Says only that the member is alive. */
  ping: row('read', Method.PING, PingRequest, PingResponse),
} as const;

export type MethodName = keyof typeof methods;

/** Whether a call that writes can be numbered, so that the server applies it once however often it is sent. */
export const isNumbered = (method: MethodName): boolean =>
  methods[method].batch !== Method.UNSPECIFIED;

export type RequestOf<M extends MethodName> =
  (typeof methods)[M] extends MethodRow<infer Request, infer _> ? Request : never;

export type ResponseOf<M extends MethodName> =
  (typeof methods)[M] extends MethodRow<infer _, infer Response> ? Response : never;
