/** Everything a program needs: the recipes, and the SDK they stand on. */

export type {
  Cancel,
  Client,
  ClientEvent,
  Clock,
  ClusterApi,
  ClusterMember,
  ConnectOptions,
  Logger,
  MemberStatus,
  RetryOptions,
  TlsOptions,
} from '../sdk/index.ts';
export {
  bytes,
  type CallOptions,
  type Codec,
  type Compare,
  ConclaveError,
  type ConclaveErrorOptions,
  compare,
  type Duration,
  type ErrorCode,
  isConclaveError,
  json,
  type Key,
  type KeyRange,
  type KeyValue,
  type Kv,
  type LeaseGrant,
  type LeaseInfo,
  type Leases,
  type ListOptions,
  type ListResult,
  type Operation,
  type Operations,
  type Outcome,
  op,
  type PutOptions,
  type PutResult,
  parseDuration,
  type Session,
  type SessionOptions,
  type SessionState,
  type Txn,
  type TxnResult,
  text,
  type Watch,
  type WatchEvent,
  type WatchNotice,
  type WatchOptions,
} from '../sdk/index.ts';
export type { Adder, AdderOptions } from './adder.ts';
export type { AdditionOptions, AddOptions } from './additions.ts';
export { type Backoff, constant, type ExponentialOptions, exponential } from './backoff.ts';
export type { BatchHandler, BatchJob } from './batch.ts';
export type { Cancelled } from './cancellation.ts';
export type { ChildResult } from './child-results.ts';
export type { Claim, KeptResult, NackOptions } from './claim.ts';
export { Conclave, type ConclaveOptions, connect } from './connect.ts';
export type { Counter } from './counter.ts';
export type { Cron, CronEvent, CronOptions } from './cron.ts';
export type { CustomLine, CustomLineOptions, LineRule, Neighbour } from './custom-line.ts';
export type {
  DeadLetter,
  DeadLetterFilter,
  DeadLetterPage,
  DeadLetters,
} from './dead-letters.ts';
export type {
  CampaignOptions,
  Candidate,
  Election,
  ElectionOptions,
  Leader,
  LeadOptions,
} from './election.ts';
export type { FlowChild, FlowIds, FlowNode } from './flow.ts';
export type { HoldState } from './holding.ts';
export type { IdAllocator, IdOptions } from './id-allocator.ts';
export type { Instance, InstanceStatus } from './instance.ts';
export type { Handler, Job, JobContext, WorkerEvent } from './job.ts';
export { JobStoppedError, type StopReason, UnrecoverableJobError } from './job.ts';
export type { ChildFailurePolicy } from './job-record.ts';
export type { JobView } from './job-view.ts';
export type { LeadContext, Leadership } from './leadership.ts';
export type { LineEntry, Meta } from './line-record.ts';
export type { LockHandle } from './lock-handle.ts';
export type { LockOptions, TryLockOptions, WaitLockOptions } from './lock-options.ts';
export { type Measured, noMetrics, type RecipeKind, type RecipeMetrics } from './metrics.ts';
export type { MultiLockHandle } from './multi-handle.ts';
export type { MultiLock } from './multi-lock.ts';
export type {
  AcquireOptions,
  LineUp,
  Mutex,
  MutexOptions,
  TryAcquireOptions,
} from './mutex.ts';
export type { LockProgress, MutexHandle } from './mutex-handle.ts';
export { escapeName, unescapeName } from './names.ts';
export type { Picked, Pool, PoolEvent, PoolOptions } from './pool.ts';
export type { ProcessOptions, Processor } from './process.ts';
export type { Pushed } from './producer.ts';
export type { JobOptions, JobToPush, ManyOptions, PushOptions } from './push-options.ts';
export type { Queue, QueuedJob, QueueOptions, QueueStats } from './queue.ts';
export type { ConsumerOptions, QueueConsumer } from './queue-consumer.ts';
export type { Place, QueueEvent, QueueGap } from './queue-events.ts';
export type { QueueLimits, QueueRate } from './queue-limits.ts';
export type { RateLimiter, RateLineUp, RateOptions, TakeOptions } from './rate-limiter.ts';
export type { InstanceData, Registration, RegistrationState } from './registration.ts';
export type { Discovery, RegisterOptions } from './registry.ts';
export type { Revocation } from './revocation.ts';
export type { RwHandle, UpgradeOptions } from './rw-handle.ts';
export type { RwEntry, RwLineUp, RwLock } from './rw-lock.ts';
export type { PlaceMode, RwMode } from './rw-rules.ts';
export type { MissedPolicy } from './schedule.ts';
export type {
  Permit,
  PermitEntry,
  Semaphore,
  SemaphoreOptions,
  SemaphoreState,
  TryPermitOptions,
  WaitPermitOptions,
} from './semaphore.ts';
export { parseSequencer, type Sequencer, verifySequencer } from './sequencer.ts';
export { RecipeSession } from './session.ts';
export type { SharedValue, UpdateOptions, ValueOptions, Versioned } from './shared-value.ts';
export {
  type Load,
  leastLoaded,
  powerOfTwoChoices,
  random,
  roundRobin,
  type Strategy,
  weighted,
} from './strategies.ts';
export type { Swept } from './sweep.ts';
export type { CloseOptions, Worker, WorkerOptions } from './worker.ts';
