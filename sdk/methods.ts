/** Every unary method in use: its messages, what it does to the store, and its number in a batch. */
import { Method } from '../server/wire/conclave/v1/batch.ts';
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
 * - `write`: repeated only when it certainly had no effect.
 */
export type Effect = 'read' | 'repeatable' | 'write';

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
  compact: row('repeatable', Method.COMPACT, CompactionRequest, CompactionResponse),
  leaseGrant: row('repeatable', Method.LEASE_GRANT, LeaseGrantRequest, LeaseGrantResponse),
  leaseRevoke: row('repeatable', Method.LEASE_REVOKE, LeaseRevokeRequest, LeaseRevokeResponse),
  leaseKeepAlive: row(
    'read',
    Method.LEASE_KEEP_ALIVE,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
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
} as const;

export type MethodName = keyof typeof methods;

export type RequestOf<M extends MethodName> =
  (typeof methods)[M] extends MethodRow<infer Request, infer _> ? Request : never;

export type ResponseOf<M extends MethodName> =
  (typeof methods)[M] extends MethodRow<infer _, infer Response> ? Response : never;
