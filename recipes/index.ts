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
  type LeaseRenewal,
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
  type SessionHealth,
  type SessionOptions,
  type SessionState,
  type SessionTerms,
  type SuspendPolicy,
  type Suspension,
  type Txn,
  type TxnResult,
  text,
  type Watch,
  type WatchEvent,
  type WatchNotice,
  type WatchOptions,
} from '../sdk/index.ts';
export type {
  Barrier,
  BarrierOptions,
  BarrierState,
  BarrierWaitOptions,
  RaisedBarrier,
  RaiseOptions,
} from './barriers/barrier.ts';
export { type Break, type BreakReason, BrokenBarrierError } from './barriers/broken.ts';
export type {
  CyclicBarrier,
  CyclicBarrierOptions,
  CyclicBarrierState,
  CyclicWaitOptions,
  Passed,
} from './barriers/cyclic-barrier.ts';
export type { BarrierAction } from './barriers/cyclic-party.ts';
export type {
  DoubleBarrier,
  DoubleBarrierHandle,
  DoubleBarrierOptions,
  DoubleBarrierState,
  DoubleGeneration,
  EnterOptions,
} from './barriers/double-barrier.ts';
export type { LeaveOptions } from './barriers/double-member.ts';
export type { WaitBarrierOptions } from './barriers/key-wait.ts';
export type { Arrived, ArriveOptions, Latch, LatchOptions, LatchState } from './barriers/latch.ts';
export type { Arrival } from './barriers/latch-record.ts';
export type { SessionHealthOptions } from './common/session-health.ts';
export type { IterateOptions, View } from './common/view.ts';
export { Conclave, type ConclaveOptions, connect, type RecipeSessionOptions } from './connect.ts';
export {
  type HealthCheck,
  type HttpCheckOptions,
  httpCheck,
  tcpCheck,
} from './discovery/checks.ts';
export { type DampingOptions, type DampingRules, flapDamping } from './discovery/damping.ts';
export type { CheckTiming } from './discovery/health.ts';
export type { Instance, InstanceStatus } from './discovery/instance.ts';
export type { LocalityOptions } from './discovery/locality.ts';
export { type OutlierOptions, type OutlierRules, outliers } from './discovery/outliers.ts';
export type { Picked } from './discovery/picked.ts';
export type {
  AcquireOptions as PoolAcquireOptions,
  PickOptions,
  Pool,
  PoolEntry,
  PoolEvent,
} from './discovery/pool.ts';
export type { PoolOptions, ProbeOptions } from './discovery/pool-options.ts';
export type { InstanceData, RegisterOptions } from './discovery/register-options.ts';
export type { Registration, RegistrationState, RetireOptions } from './discovery/registration.ts';
export type { HealthOptions } from './discovery/registration-health.ts';
export type { Discovery, DiscoveryOptions } from './discovery/registry.ts';
export type { PanicOptions, Selection } from './discovery/selection.ts';
export type { HeldBack, Probe } from './discovery/standing.ts';
export {
  type Load,
  leastLoaded,
  powerOfTwoChoices,
  random,
  roundRobin,
  type Strategy,
  weighted,
} from './discovery/strategies.ts';
export type { Candidate, Leader } from './election/candidates.ts';
export type {
  CampaignOptions,
  Election,
  LeadOptions,
  ResumeTermOptions,
} from './election/election.ts';
export type { ElectionOptions } from './election/election-options.ts';
export type { CandidateRef, LeadContext, Leadership, Preemption } from './election/leadership.ts';
export type { MigrationStatus } from './election/migration-record.ts';
export type { Migration, MigrationContext } from './election/migration-run.ts';
export type {
  Migrated,
  MigrateOptions,
  Migrations,
  MigrationsOptions,
  MigrationsState,
} from './election/migrations.ts';
export type { CacheChange, CacheEntry, CacheEvent, CacheSnapshot } from './group/cache-entry.ts';
export type { Config, ConfigChange, ConfigOptions, ConfigRevision } from './group/config.ts';
export type { ConfigStatus, ConfigVersion } from './group/config-state.ts';
export type { Group, GroupOptions, JoinOptions } from './group/group.ts';
export type { GroupEvent, GroupSnapshot } from './group/group-view.ts';
export type { Member } from './group/member.ts';
export type { Membership, MembershipState, Share } from './group/membership.ts';
export type { CacheOptions, PrefixCache } from './group/prefix-cache.ts';
export type { SchemaIssue, SchemaResult, StandardSchema } from './group/standard-schema.ts';
export type { WaitOptions } from './group/waiting.ts';
export type { HoldState } from './line/holding.ts';
export type { LineEntry, Meta } from './line/line-record.ts';
export { parseSequencer, type Sequencer, verifySequencer } from './line/sequencer.ts';
export type { CustomLine, CustomLineOptions, LineRule, Neighbour } from './locks/custom-line.ts';
export type { LockHandle } from './locks/lock-handle.ts';
export type {
  LockOptions,
  ResumeLockOptions,
  TryLockOptions,
  WaitLockOptions,
} from './locks/lock-options.ts';
export type { MultiLockHandle } from './locks/multi-handle.ts';
export type { MultiLock } from './locks/multi-lock.ts';
export type {
  AcquireOptions,
  LineUp,
  Mutex,
  MutexOptions,
  ResumeOptions,
  TryAcquireOptions,
} from './locks/mutex.ts';
export type { LockProgress, MutexHandle } from './locks/mutex-handle.ts';
export type { Revocation } from './locks/revocation.ts';
export type { RwHandle, UpgradeOptions } from './locks/rw-handle.ts';
export type { RwEntry, RwLineUp, RwLock } from './locks/rw-lock.ts';
export type { PlaceMode, RwMode } from './locks/rw-rules.ts';
export type {
  Permit,
  PermitEntry,
  Semaphore,
  SemaphoreOptions,
  SemaphoreState,
  TryPermitOptions,
  WaitPermitOptions,
} from './locks/semaphore.ts';
export {
  type ContentionKind,
  type Measured,
  noMetrics,
  type RecipeKind,
  type RecipeMetrics,
} from './metrics.ts';
export { escapeName, unescapeName } from './names.ts';
export {
  type Meter,
  type MeterAttributes,
  type OpenTelemetryOptions,
  openTelemetry,
} from './open-telemetry.ts';
export { type Backoff, constant, type ExponentialOptions, exponential } from './queue/backoff.ts';
export type { BatchHandler, BatchJob } from './queue/batch.ts';
export type { Cancelled } from './queue/cancellation.ts';
export type { ChildResult } from './queue/child-results.ts';
export type { Claim, KeptResult, NackOptions } from './queue/claim.ts';
export type { Cron, CronEvent, CronInspection, CronOptions } from './queue/cron.ts';
export type {
  DeadLetter,
  DeadLetterFilter,
  DeadLetterPage,
  DeadLetters,
} from './queue/dead-letters.ts';
export type { FlowChild, FlowIds, FlowNode } from './queue/flow.ts';
export type { ActiveJob, QueueWorker } from './queue/inspection.ts';
export type { Handler, Job, JobContext, WorkerEvent } from './queue/job.ts';
export { JobStoppedError, type StopReason, UnrecoverableJobError } from './queue/job.ts';
export type { ChildFailurePolicy } from './queue/job-record.ts';
export type { JobView } from './queue/job-view.ts';
export type { ProcessOptions, Processor } from './queue/process.ts';
export type { Pushed } from './queue/producer.ts';
export type { JobOptions, JobToPush, ManyOptions, PushOptions } from './queue/push-options.ts';
export type { Queue, QueuedJob, QueueOptions, QueueStats } from './queue/queue.ts';
export type { ConsumerOptions, QueueConsumer } from './queue/queue-consumer.ts';
export type { Place, QueueEvent, QueueGap } from './queue/queue-events.ts';
export type { QueueLimits, QueueRate } from './queue/queue-limits.ts';
export type { MissedPolicy } from './queue/schedule.ts';
export type { Swept } from './queue/sweep.ts';
export type { BatchOptions, CloseOptions, Worker, WorkerOptions } from './queue/worker.ts';
export type { RateLimiter, RateLineUp, RateOptions, TakeOptions } from './rate/rate-limiter.ts';
export { RecipeSession } from './session.ts';
export type { StmFunction, StmOptions } from './stm/stm.ts';
export type { StmIsolation } from './stm/stm-commit.ts';
export type {
  StmEntry,
  StmGuard,
  StmPutOptions,
  StmRangeOptions,
  StmTransaction,
  StmValueOptions,
} from './stm/stm-transaction.ts';
export type { Dispatched } from './topic/dispatched.ts';
export type { SubscriptionInfo, TopicInfo } from './topic/inspection.ts';
export type { Message, NewMessage } from './topic/message.ts';
export type { Published, PublishOptions } from './topic/publisher.ts';
export type { Retention } from './topic/retention.ts';
export type { Start } from './topic/start.ts';
export type {
  DurableOptions,
  GroupOptions as TopicGroupOptions,
  SubscribeOptions,
} from './topic/subscribe-options.ts';
export type { Topic, TopicOptions } from './topic/topic.ts';
export type {
  DurableEvent,
  GroupDelivery,
  GroupEvent as TopicGroupEvent,
  TopicEvent,
  TopicGap,
  TopicMessages,
} from './topic/topic-events.ts';
export type { Trimmed } from './topic/trimmer.ts';
export type { Adder, AdderOptions } from './values/adder.ts';
export type { AdditionOptions, AddOptions } from './values/additions.ts';
export type { Counter } from './values/counter.ts';
export type { IdAllocator, IdOptions } from './values/id-allocator.ts';
export type { SharedValue, UpdateOptions, ValueOptions, Versioned } from './values/shared-value.ts';
