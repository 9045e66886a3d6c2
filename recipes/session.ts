/** A session with the recipes at hand. */
import { defer } from 'rxjs';
import type { Client } from '../sdk/client.ts';
import { ConclaveError, isConclaveError } from '../sdk/errors.ts';
import type { Session, SessionState, SessionTerms, SuspendPolicy } from '../sdk/session.ts';
import { Barrier, type BarrierOptions } from './barriers/barrier.ts';
import { CyclicBarrier, type CyclicBarrierOptions } from './barriers/cyclic-barrier.ts';
import { DoubleBarrier, type DoubleBarrierOptions } from './barriers/double-barrier.ts';
import { Latch, type LatchOptions } from './barriers/latch.ts';
import { BackgroundParts } from './common/background-parts.ts';
import type { RecipeContext } from './common/context.ts';
import { measureSession } from './common/session-metrics.ts';
import { eventView, stateView, type View } from './common/view.ts';
import { Discovery, type DiscoveryOptions } from './discovery/registry.ts';
import { Election } from './election/election.ts';
import type { ElectionOptions } from './election/election-options.ts';
import type { Migration } from './election/migration-run.ts';
import { Migrations, type MigrationsOptions } from './election/migrations.ts';
import { Config, type ConfigOptions } from './group/config.ts';
import { Group, type GroupOptions } from './group/group.ts';
import { type CacheOptions, PrefixCache } from './group/prefix-cache.ts';
import { CustomLine, type CustomLineOptions } from './locks/custom-line.ts';
import type { LockOptions } from './locks/lock-options.ts';
import { MultiLock } from './locks/multi-lock.ts';
import { Mutex, type MutexOptions } from './locks/mutex.ts';
import { RwLock } from './locks/rw-lock.ts';
import { Semaphore, type SemaphoreOptions } from './locks/semaphore.ts';
import { harmless, type RecipeMetrics } from './metrics.ts';
import type { BatchHandler } from './queue/batch.ts';
import { Cron, type CronOptions } from './queue/cron.ts';
import type { Handler, WorkerEvent } from './queue/job.ts';
import { type ProcessOptions, type Processor, processor } from './queue/process.ts';
import { Queue, type QueueOptions } from './queue/queue.ts';
import { type ConsumerOptions, QueueConsumer } from './queue/queue-consumer.ts';
import { type BatchOptions, batchWorker, Worker, type WorkerOptions } from './queue/worker.ts';
import { RateLimiter, type RateOptions } from './rate/rate-limiter.ts';
import { runStm, type StmFunction, type StmOptions } from './stm/stm.ts';
import { Topic, type TopicOptions } from './topic/topic.ts';
import { Adder, type AdderOptions } from './values/adder.ts';
import type { AdditionOptions } from './values/additions.ts';
import { Counter } from './values/counter.ts';
import { IdAllocator, type IdOptions } from './values/id-allocator.ts';
import { SharedValue, type ValueOptions } from './values/shared-value.ts';

/**
 * Makes recipes that live by one session. Locks and leaderships end with it; workers, registrations
 * and leader loops replace a lost session by a new one and end when this one is closed.
 *
 * Once it has been closed every one of them is refused with ConclaveError CLOSED.
 */
export class RecipeSession implements Session {
  readonly #session: Session;
  readonly #context: RecipeContext;
  readonly #background = new BackgroundParts();
  readonly #onClosed: () => void;
  #closed: Promise<void> | undefined;
  #isOver = false;

  constructor(session: Session, metrics: RecipeMetrics, onClosed: () => void = () => undefined) {
    this.#session = session;
    this.#onClosed = onClosed;
    this.#context = {
      session,
      metrics: harmless(metrics),
      background: this.#background,
    };
    measureSession(session, this.#context.metrics);
  }

  /** Mutual exclusion. @throws ConclaveError INVALID_ARGUMENT */
  mutex(name: string, options?: MutexOptions): Mutex {
    return new Mutex(this.#open, name, options);
  }

  /** Several mutexes at once, all or none. @throws ConclaveError INVALID_ARGUMENT */
  multi(names: readonly string[], options?: LockOptions): MultiLock {
    return new MultiLock(this.#open, names, options);
  }

  /** Many readers or one writer, first come, first served. @throws ConclaveError INVALID_ARGUMENT */
  rw(name: string, options?: LockOptions): RwLock {
    return new RwLock(this.#open, name, options);
  }

  /** A number of permits, first come, first served. @throws ConclaveError INVALID_ARGUMENT */
  semaphore(name: string, options?: SemaphoreOptions): Semaphore {
    return new Semaphore(this.#open, name, options);
  }

  /** A rate that all clients share, with bursts. @throws ConclaveError INVALID_ARGUMENT */
  rateLimit(name: string, options: RateOptions): RateLimiter {
    return new RateLimiter(this.#open, name, options);
  }

  /** A lock whose rule the program gives. @throws ConclaveError INVALID_ARGUMENT */
  line(name: string, options: CustomLineOptions): CustomLine {
    return new CustomLine(this.#open, name, options);
  }

  /** Whoever comes while it is raised waits. @throws ConclaveError INVALID_ARGUMENT */
  barrier(name: string, options?: BarrierOptions): Barrier {
    return new Barrier(this.#open, name, options);
  }

  /** Parties enter together and leave together. @throws ConclaveError INVALID_ARGUMENT */
  doubleBarrier(name: string, options: DoubleBarrierOptions): DoubleBarrier {
    return new DoubleBarrier(this.#open, name, options);
  }

  /** Parties wait for each other, again and again. @throws ConclaveError INVALID_ARGUMENT */
  cyclicBarrier(name: string, options: CyclicBarrierOptions): CyclicBarrier {
    return new CyclicBarrier(this.#open, name, options);
  }

  /** Opens once so many have arrived. @throws ConclaveError INVALID_ARGUMENT */
  latch(name: string, options: LatchOptions): Latch {
    return new Latch(this.#open, name, options);
  }

  /** A number that all clients add to; each addition counts once. @throws ConclaveError INVALID_ARGUMENT */
  counter(name: string, options?: AdditionOptions): Counter {
    return new Counter(this.#open, name, options);
  }

  /** A counter for many writers at a time. @throws ConclaveError INVALID_ARGUMENT */
  adder(name: string, options?: AdderOptions): Adder {
    return new Adder(this.#open, name, options);
  }

  /** Ids that no other client gets. @throws ConclaveError INVALID_ARGUMENT */
  ids(name: string, options?: IdOptions): IdAllocator {
    return new IdAllocator(this.#open, name, options);
  }

  /** A value that clients change by compare-and-set. @throws ConclaveError INVALID_ARGUMENT */
  value<T>(name: string, options?: ValueOptions<T>): SharedValue<T> {
    return new SharedValue<T>(this.#open, name, options);
  }

  /**
   * Reads and writes any keys in one step: all or nothing, and as if nobody else did anything
   * meanwhile. The function may run several times.
   *
   * @throws ConclaveError CONFLICT, TOO_MANY_OPERATIONS, NOT_HELD, SESSION_LOST, ABORTED, TIMEOUT,
   *   CODEC, INVALID_ARGUMENT, and what the function throws: nothing is written then
   */
  async stm<R>(body: StmFunction<R>, options?: StmOptions): Promise<R> {
    return runStm(this.#open, body, options);
  }

  /** Leader election: first come, first served, or by priority. @throws ConclaveError INVALID_ARGUMENT */
  election<T>(name: string, options?: ElectionOptions<T>): Election<T> {
    return new Election<T>(this.#open, name, options);
  }

  /** Steps that run once, in order, by one process at a time. @throws ConclaveError INVALID_ARGUMENT */
  migrations(name: string, list: readonly Migration[], options?: MigrationsOptions): Migrations {
    return new Migrations(this.#open, name, list, options);
  }

  /** A work queue, to push to and to look into. @throws ConclaveError INVALID_ARGUMENT */
  queue<T>(name: string, options?: QueueOptions<T>): Queue<T> {
    return new Queue<T>(this.#open, name, options);
  }

  /** Handles the jobs of a queue until it is closed. @throws ConclaveError INVALID_ARGUMENT */
  worker<T, R = void>(
    name: string,
    handler: Handler<T, R>,
    options?: WorkerOptions<T>,
  ): Worker<T, R> {
    return new Worker<T, R>(this.#open, name, handler, options);
  }

  /**
   * Handles the jobs of a queue in batches, up to `size` (1 to 32) claimed at a time; a batch is what
   * is ready, and never waits for more. @throws ConclaveError INVALID_ARGUMENT
   */
  batchWorker<T, R = void>(
    name: string,
    handler: BatchHandler<T, R>,
    options: BatchOptions<T>,
  ): Worker<T, R> {
    return batchWorker<T, R>(this.#open, name, handler, options);
  }

  /**
   * A worker that lives as long as it is subscribed to, and handles each job by an Observable.
   * Errors INVALID_ARGUMENT and CLOSED reach the subscriber.
   */
  process$<T, R = unknown>(
    name: string,
    project: Processor<T, R>,
    options?: ProcessOptions<T>,
  ): View<WorkerEvent<T, R | undefined>> {
    return eventView(defer(() => processor<T, R>(this.#open, name, project, options)));
  }

  /**
   * Pushes a job at each slot of a cron pattern, once, together with all others that keep the same
   * schedule. @throws ConclaveError INVALID_ARGUMENT, MISMATCH
   */
  async cron<T>(name: string, options: CronOptions<T>): Promise<Cron<T>> {
    return Cron.start<T>(this.#open, name, options);
  }

  /** Claims jobs of a queue one by one. @throws ConclaveError INVALID_ARGUMENT */
  consumer<T>(name: string, options?: ConsumerOptions<T>): QueueConsumer<T> {
    return new QueueConsumer<T>(this.#open, name, options);
  }

  /** Processes that see who else is there. @throws ConclaveError INVALID_ARGUMENT */
  group<T>(name: string, options?: GroupOptions<T>): Group<T> {
    return new Group<T>(this.#open, name, options);
  }

  /**
   * Everything under a prefix of the program's own keys, at hand. The prefix ends in '/'.
   * @throws ConclaveError INVALID_ARGUMENT
   */
  cache<V>(prefix: string, options?: CacheOptions<V>): PrefixCache<V> {
    return new PrefixCache<V>(this.#open, prefix, options);
  }

  /** Messages that any number of subscribers read. @throws ConclaveError INVALID_ARGUMENT, MISMATCH */
  topic<T>(name: string, options?: TopicOptions<T>): Topic<T> {
    return new Topic<T>(this.#open, name, options);
  }

  /**
   * A document that all clients follow, validated: resolves when it has been read.
   * @throws ConclaveError what `Config.open` throws
   */
  async config<Output, Input = Output>(
    name: string,
    options: ConfigOptions<Output, Input> = {},
  ): Promise<Config<Output, Input>> {
    return Config.open<Output, Input>(this.#open, name, options);
  }

  /** A service to register in, or to find instances of. @throws ConclaveError INVALID_ARGUMENT */
  discovery<M>(service: string, options?: DiscoveryOptions<M>): Discovery<M> {
    return new Discovery<M>(this.#open, service, options);
  }

  /**
   * Ends workers, which may take their grace period, registrations and pools; then revokes the lease.
   * Idempotent; never rejects. Functions that lead are waited for. Apart from those, and when the
   * store does not answer, it takes at most the grace period, the client's `requestTimeout` and a few
   * seconds.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await this.#background.close();
    await this.#session.close();
    this.#isOver = true;
    this.#onClosed();
  }

  /**
   * What recipes are made over. A lost session still makes them, as some replace it; one that its
   * owner closed does not, because nothing would ever end them.
   */
  get #open(): RecipeContext {
    if (this.#isOver || isConclaveError(this.#session.signal.reason, 'CLOSED')) {
      throw new ConclaveError('CLOSED', `Session ${this.id} was closed`);
    }
    return this.#context;
  }

  get client(): Client {
    return this.#session.client;
  }
  get lease(): bigint {
    return this.#session.lease;
  }
  get id(): string {
    return this.#session.id;
  }
  get ttlMs(): number {
    return this.#session.ttlMs;
  }
  get onSuspend(): SuspendPolicy {
    return this.#session.onSuspend;
  }
  get terms(): SessionTerms {
    return this.#session.terms;
  }
  get meta(): Readonly<Record<string, string>> {
    return this.#session.meta;
  }
  get state(): SessionState {
    return this.#session.state;
  }
  get state$(): View<SessionState> {
    return stateView(this.#session.state$);
  }
  get validUntilMs(): number {
    return this.#session.validUntilMs;
  }
  get signal(): AbortSignal {
    return this.#session.signal;
  }
  get errors$(): View<ConclaveError> {
    return eventView(this.#session.errors$);
  }
  assertLive(): void {
    this.#session.assertLive();
  }
  reap(release: () => Promise<boolean>): void {
    this.#session.reap(release);
  }
}
