/**
 * One step of a generated sequence: a request whose revisions and lease ids are symbols, resolved
 * for each server when the step runs. A sequence therefore means the same after steps were removed
 * from it, and on servers whose revision does not start at 1.
 */
import type {
  CompactionRequest,
  DeepPartial,
  DeleteRangeRequest,
  HashKVRequest,
  LeaseGrantRequest,
  LeaseKeepAliveRequest,
  LeaseLeasesRequest,
  LeaseRevokeRequest,
  LeaseTimeToLiveRequest,
  MemberAddRequest,
  MemberListRequest,
  MemberPromoteRequest,
  MemberRemoveRequest,
  MemberUpdateRequest,
  MoveLeaderRequest,
  PutRequest,
  RangeRequest,
  StatusRequest,
  TxnRequest,
  WatchRequest,
} from '../../../server/wire/etcdserverpb/rpc.ts';

/** What the symbols of a sequence stand for on one server at one moment. */
export type Symbols = {
  /** Revision at the start of the sequence; also the compacted revision then. */
  readonly base: bigint;
  /** Newest revision seen. */
  readonly current: bigint;
  /** Revision of the last successful compaction. */
  readonly compacted: bigint;
  /** The id behind a lease slot: the one asked for, or the one this server chose. */
  lease(slot: number): bigint;
};

export type CallRequests = {
  range: RangeRequest;
  put: PutRequest;
  deleteRange: DeleteRangeRequest;
  txn: TxnRequest;
  compact: CompactionRequest;
  leaseGrant: LeaseGrantRequest;
  leaseRevoke: LeaseRevokeRequest;
  leaseTimeToLive: LeaseTimeToLiveRequest;
  leaseKeepAlive: LeaseKeepAliveRequest;
  leaseLeases: LeaseLeasesRequest;
  hashKv: HashKVRequest;
  status: StatusRequest;
  memberList: MemberListRequest;
  memberAdd: MemberAddRequest;
  memberRemove: MemberRemoveRequest;
  memberUpdate: MemberUpdateRequest;
  memberPromote: MemberPromoteRequest;
  moveLeader: MoveLeaderRequest;
};
export type CallName = keyof CallRequests;

export type Refusal = { readonly code: number; readonly message: string };

export type CallStep = {
  [Name in CallName]: {
    readonly kind: 'call';
    readonly call: Name;
    readonly request: (symbols: Symbols) => DeepPartial<CallRequests[Name]>;
    /** The slot whose id this grant sets. */
    readonly grants?: number;
    /**
     * What conclave must answer where the installed etcd is not asked: because the request would
     * crash it, or because conclave refuses on purpose what etcd carries out.
     */
    readonly expected?: Refusal;
  };
}[CallName];

export type WatchStep = {
  readonly kind: 'watch';
  /** Index of the stream; the first use opens it. */
  readonly stream: number;
  readonly request: (symbols: Symbols) => DeepPartial<WatchRequest>;
  readonly action: 'create' | 'cancel' | 'progress';
  /** The watcher starts in the past, so that the server must read history for it. */
  readonly historic: boolean;
  /** The watcher starts in the future. */
  readonly future: boolean;
};

export type Step = CallStep | WatchStep;
