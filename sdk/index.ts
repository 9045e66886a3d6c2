/** Everything a program needs to talk to a store, without the recipes. */

export type {
  Client,
  ClientEvent,
  ConnectOptions,
  Logger,
  RetryOptions,
  TlsOptions,
} from './client.ts';
export type { Cancel, Clock } from './clock.ts';
export type {
  Alarm,
  AlarmKind,
  ClusterApi,
  ClusterMember,
  HashKv,
  MemberCallOptions,
  MemberStatus,
} from './cluster.ts';
export { bytes, type Codec, decodeWith, encodeWith, json, text } from './codec.ts';
export { connect } from './connect.ts';
export {
  aborted,
  ConclaveError,
  type ConclaveErrorOptions,
  type ErrorCode,
  invalidArgument,
  isConclaveError,
  type Outcome,
  throwIfAborted,
} from './errors.ts';
export type { Key, KeyRange } from './keys.ts';
export type {
  DeleteFields,
  DeleteOptions,
  DeleteResult,
  GetOptions,
  IterateOptions,
  KeyValue,
  Kv,
  ListFields,
  ListOptions,
  ListResult,
  PutFields,
  PutOptions,
  PutResult,
  ReadOptions,
} from './kv.ts';
export type { LeaseGrant, LeaseInfo, LeaseRenewal, Leases } from './lease.ts';
export { type CallOptions, type Duration, parseDuration } from './options.ts';
export type {
  Session,
  SessionHealth,
  SessionOptions,
  SessionState,
  SessionTerms,
  SuspendPolicy,
  Suspension,
} from './session.ts';
export {
  type Compare,
  type CompareOperator,
  compare,
  type Operation,
  type Operations,
  op,
  type Txn,
  type TxnParts,
  type TxnRefusal,
  type TxnResult,
} from './txn.ts';
export type { Watch, WatchEvent, WatchNotice, WatchOptions } from './watch.ts';
