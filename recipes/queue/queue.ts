/**
 * A durable work queue: the producer's side. Workers are in `worker.ts`.
 *
 * Guarantee: a pushed job is handled at least once and acknowledged exactly once; it is never lost,
 * whatever crashes. A handler may run twice (its worker froze, say), so let its effects be
 * idempotent, or fence them by the claim's token.
 *
 * Order: a job's id starts with a store revision that the producer knew when it pushed, so no
 * counter is contended. Jobs that are pushed in one session are offered in the order of the calls.
 * Between producers the order is that of the store to within one second: a job may be offered before
 * another that was pushed earlier only if the two pushes were less than that apart. Jobs that come
 * back (retries, delays) keep their place, so the oldest are offered first. Workers that compete for
 * the same job move on to one of the next few.
 *
 * Priorities come before age. Jobs of a group are run in their order, and groups take turns.
 *
 * Payloads live in the store's memory and log: keep them small (kilobytes) and refer to the rest.
 */

import type { Client } from '../../sdk/client.ts';
import { type Codec, decodeWith, json } from '../../sdk/codec.ts';
import { ConclaveError, invalidArgument, throwIfAborted } from '../../sdk/errors.ts';
import { type CallOptions, parseDuration } from '../../sdk/options.ts';
import { op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkOptions, timeLimits } from '../common/option-checks.ts';
import { abortable, observe } from '../common/streams.ts';
import type { View } from '../common/view.ts';
import type { QueueKeys } from '../names.ts';
import { type Cancelled, cancelJob } from './cancellation.ts';
import { checkCall, checkCodec, checkId, checkList } from './checks.ts';
import { DeadLetters } from './dead-letters.ts';
import { type FlowIds, type FlowNode, flowIds, flowJobs } from './flow.ts';
import { type ActiveJob, type QueueWorker, readActive, readWorkers } from './inspection.ts';
import { idOfEntry } from './job-places.ts';
import { readJobState } from './job-record.ts';
import { followJob, type JobView, outcomeOf } from './job-view.ts';
import { payloadOf } from './light-jobs.ts';
import { type NewJob, Producer, type Pushed } from './producer.ts';
import {
  type JobToPush,
  knownJob,
  knownMany,
  knownPush,
  type ManyOptions,
  newJob,
  type PushOptions,
} from './push-options.ts';
import { followEvents, type QueueEvent, type QueueGap } from './queue-events.ts';
import {
  type KnownLimits,
  type QueueLimits,
  readLimits,
  shownLimits,
  storeLimits,
} from './queue-limits.ts';

/** Jobs pushed in one transaction at most: an operation each, of the 128 that servers allow. */
const batchMax = 100;

export type QueueOptions<T> = {
  /** How payloads are written. @default JSON */
  readonly codec?: Codec<T>;
  /** What all clients of the queue keep to, stored once. @default those that are stored */
  readonly limits?: QueueLimits;
};

export type QueueStats = {
  readonly ready: number;
  readonly delayed: number;
  /** Claimed by workers. */
  readonly active: number;
  /** Waiting for a turn of their group. */
  readonly lined: number;
  /** Waiting for their children. */
  readonly blocked: number;
  readonly dead: number;
  readonly workers: number;
};

type EventsOptions = {
  /** The first revision to tell of. @default from now on */
  readonly from?: bigint;
  readonly signal?: AbortSignal;
};

type FinishedOptions<R> = {
  readonly signal?: AbortSignal;
  /** How the worker wrote the result. @default JSON */
  readonly codec?: Codec<R>;
};

type CancelOptions = CallOptions & {
  /** For people, and for the handler. */
  readonly reason?: string;
};

export type QueuedJob<T> = {
  readonly id: string;
  /** Decoded at each look. @throws ConclaveError CODEC when the payload cannot be read */
  readonly data: T;
  readonly attempts: number;
  readonly pushedAt: Date;
  readonly lastError?: string;
};

export class Queue<T> {
  readonly name: string;
  /** Jobs that ran out of attempts. */
  readonly dead: DeadLetters<T>;
  readonly #context: RecipeContext;
  readonly #client: Client;
  readonly #keys: QueueKeys;
  readonly #codec: Codec<T>;
  readonly #producer: Producer;
  readonly #limits: KnownLimits;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: QueueOptions<T> = {}) {
    checkOptions<QueueOptions<T>>(options, { codec: true, limits: true });
    checkCodec(options.codec);
    this.name = name;
    this.#context = context;
    this.#client = context.session.client;
    this.#codec = options.codec ?? json<T>();
    this.#producer = Producer.of(context, name);
    this.#keys = this.#producer.keys;
    this.#limits = this.#producer.limits(options.limits);
    this.dead = new DeadLetters(this.#client, this.#keys, this.#codec);
  }

  /**
   * Adds a job. One exchange; two after a second without any. Repeated until the store answers, and
   * applied exactly once.
   *
   * @throws ConclaveError INVALID_ARGUMENT, CODEC, TOO_LARGE, NO_SPACE, FULL, MISMATCH, and ABORTED,
   *   TIMEOUT, SESSION_LOST with `outcome` 'unknown' when an answer was lost
   */
  async push(data: T, options: PushOptions = {}): Promise<Pushed> {
    checkOptions<PushOptions>(options, knownPush);
    const job = newJob(data, this.#codec, options, this.#client.clock.wallMs());
    const [pushed] = await this.#push([job], options);
    if (pushed === undefined) throw new ConclaveError('INTERNAL', 'A push came to nothing');
    return pushed;
  }

  /**
   * Adds up to 100 jobs in one transaction: all or none, except for those whose key is taken, as
   * `push` does.
   *
   * @returns what became of each, in their order
   * @throws ConclaveError as `push` does
   */
  async pushMany(
    jobs: readonly JobToPush<T>[],
    options: ManyOptions = {},
  ): Promise<readonly Pushed[]> {
    checkList(jobs, 'jobs', 'jobs to push');
    checkOptions<ManyOptions>(options, knownMany);
    for (const job of jobs) checkOptions<JobToPush<T>>(job, { ...knownJob, data: true }, 'jobs');
    if (jobs.length > batchMax) {
      throw invalidArgument('jobs', jobs.length, `at most ${batchMax} jobs`);
    }
    if (jobs.length === 0) return [];
    const nowMs = this.#client.clock.wallMs();
    const many = jobs.map(({ data, ...job }) => newJob(data, this.#codec, job, nowMs));
    return this.#push(many, options);
  }

  /**
   * Adds a job and its children, and theirs, in one transaction: up to 100 jobs. A job is offered when
   * its children are finished; its handler reads `context.children()`.
   *
   * @throws ConclaveError as `push` does
   */
  async pushFlow(flow: FlowNode<T>, options: ManyOptions = {}): Promise<FlowIds> {
    checkOptions<ManyOptions>(options, knownMany);
    const jobs = flowJobs(flow, this.#codec, this.#client.clock.wallMs());
    if (jobs.length > batchMax) {
      throw invalidArgument('flow', `${jobs.length} jobs`, `at most ${batchMax} jobs`);
    }
    const pushed = await this.#push(jobs, options);
    return flowIds(
      flow,
      pushed.map(({ id }) => id),
    );
  }

  /**
   * What happens in the queue, told by the store's own history: nothing is missed and nothing told
   * twice. A 'gap' says that history was compacted before it could be read. Ends when the session is
   * closed; outlives lost sessions.
   *
   * @throws ConclaveError INVALID_ARGUMENT
   */
  events(options: EventsOptions = {}): AsyncIterable<QueueEvent | QueueGap> {
    checkOptions<EventsOptions>(options, { from: true, signal: true });
    const { from, signal } = options;
    if (from !== undefined && typeof from !== 'bigint') {
      throw invalidArgument('from', from, 'a revision: a bigint');
    }
    return abortable((ends) => followEvents(this.#context, this.#keys, from, ends), signal);
  }

  /** `events` from the moment of subscribing. */
  get events$(): View<QueueEvent | QueueGap> {
    return observe((signal) => followEvents(this.#context, this.#keys, undefined, signal));
  }

  /**
   * One job as it is, and each time that it changes, with its progress, until it is finished.
   *
   * @param codec how the worker wrote the result. @default JSON
   */
  job$<R = unknown>(id: string, codec: Codec<R> = json<R>()): View<JobView<R>> {
    return observe((signal) => followJob(this.#client, this.#keys, id, codec, signal));
  }

  /**
   * Waits for a job and returns what its handler did, if the workers keep results.
   *
   * @throws ConclaveError FAILED_PRECONDITION when it is or becomes a dead letter, NOT_FOUND when no
   *   job has this id and no result is kept, ABORTED, CODEC, INVALID_ARGUMENT
   */
  async finished<R = unknown>(
    id: string,
    options: FinishedOptions<R> = {},
  ): Promise<R | undefined> {
    checkId(id);
    checkOptions<FinishedOptions<R>>(options, { signal: true, codec: true });
    checkCodec(options.codec);
    const { signal, codec = json<R>() } = options;
    throwIfAborted(signal);
    const views = abortable((ends) => followJob(this.#client, this.#keys, id, codec, ends), signal);
    try {
      return await outcomeOf(views, id);
    } catch (error) {
      throwIfAborted(signal);
      throw error;
    }
  }

  /**
   * Cancels a job. One that waits is gone at once; one that runs is told by its signal, whose reason
   * is a JobStoppedError, and is dropped when its handler has ended, instead of being tried again. A
   * handler that ends well all the same has done the job.
   *
   * @throws ConclaveError INVALID_ARGUMENT, UNREACHABLE, TIMEOUT, ABORTED
   */
  async cancel(id: string, options: CancelOptions = {}): Promise<Cancelled> {
    checkId(id);
    checkOptions<CancelOptions>(options, { ...timeLimits, reason: true });
    const { reason = '', ...call } = options;
    return cancelJob(this.#client, this.#keys, id, reason, call);
  }

  /** The limits that are stored; an empty object when there are none. One exchange. */
  async limits(options: CallOptions = {}): Promise<QueueLimits> {
    checkCall(options);
    return shownLimits(readLimits(await this.#client.kv.get(this.#keys.limits, options)));
  }

  /**
   * Changes the limits for all clients, whatever they asked for. What is beyond a smaller limit goes
   * on until it ends.
   *
   * @throws ConclaveError INVALID_ARGUMENT
   */
  async setLimits(limits: QueueLimits, options: CallOptions = {}): Promise<void> {
    checkCall(options);
    return storeLimits(this.#client, this.#keys, limits, options);
  }

  /** How many jobs are where. One exchange. */
  async stats(options: CallOptions = {}): Promise<QueueStats> {
    checkCall(options);
    const { ready, at, claim, line, blocked, dead, worker } = this.#keys;
    const { responses } = await this.#client.kv
      .txn()
      .then(
        op.count({ prefix: ready }),
        op.count({ prefix: at }),
        op.count({ prefix: claim }),
        op.count({ prefix: dead }),
        op.count({ prefix: worker }),
        op.count({ prefix: line }),
        op.count({ prefix: blocked }),
      )
      .commit(options);
    const [readyCount, delayed, active, deadCount, workers, lined, blockedCount] =
      responses.map(Number);
    return {
      ready: readyCount ?? 0,
      delayed: delayed ?? 0,
      active: active ?? 0,
      lined: lined ?? 0,
      blocked: blockedCount ?? 0,
      dead: deadCount ?? 0,
      workers: workers ?? 0,
    };
  }

  /**
   * The jobs that run: who has each, since when, and for the how manieth time. Oldest job first. One
   * exchange.
   */
  async active(options: CallOptions = {}): Promise<readonly ActiveJob[]> {
    checkCall(options);
    return readActive(this.#client, this.#keys, options);
  }

  /** Who takes jobs of this queue, and since when. One exchange. */
  async workers(options: CallOptions = {}): Promise<readonly QueueWorker[]> {
    checkCall(options);
    return readWorkers(this.#client, this.#keys, options);
  }

  /**
   * The next jobs in order, without claiming them. One exchange, or two.
   *
   * @param limit 1 to 100
   */
  async peek(limit = 1, options: CallOptions = {}): Promise<readonly QueuedJob<T>[]> {
    if (!(Number.isInteger(limit) && limit >= 1 && limit <= 100)) {
      throw invalidArgument('limit', limit, 'a whole number from 1 to 100');
    }
    checkCall(options);
    const { kv } = this.#client;
    const keys = this.#keys;
    const codec = this.#codec;
    const listed = await kv.list({ prefix: keys.ready }, { ...options, limit });
    if (listed.kvs.length === 0) return [];
    const jobs = listed.kvs.map((entry) => ({
      id: idOfEntry(entry.key),
      state: readJobState(entry),
    }));
    const reads = jobs.flatMap(({ id, state }) => payloadOf(keys, id, state));
    const read = kv.txn().then(...reads);
    const { responses } = reads.length === 0 ? { responses: [] } : await read.commit(options);
    const records = responses.values();
    return jobs.flatMap(({ id, state }) => {
      const { data } = state;
      const payload = data === undefined ? records.next().value?.value : Buffer.from(data);
      if (payload === undefined) return [];
      return [
        {
          id,
          get data() {
            return decodeWith(codec, payload, keys.job + id);
          },
          attempts: state.attempts,
          pushedAt: new Date(state.pushedMs),
          ...(state.error === undefined ? {} : { lastError: state.error }),
        },
      ];
    });
  }

  /**
   * What the handler of a finished job returned; undefined while there is nothing, and again once
   * the workers' `keepResults` time is over.
   *
   * @param codec how the worker wrote it. @default JSON
   */
  async result<R>(
    id: string,
    codec: Codec<R> = json<R>(),
    options: CallOptions = {},
  ): Promise<R | undefined> {
    checkId(id);
    checkCodec(codec);
    checkCall(options);
    const kv = await this.#client.kv.get(this.#keys.result + id, options);
    return kv === null ? undefined : decodeWith(codec, kv.value, kv.key);
  }

  #push(jobs: readonly NewJob[], options: ManyOptions): Promise<readonly Pushed[]> {
    const { signal, timeout, whenFull = 'wait' } = options;
    if (whenFull !== 'wait' && whenFull !== 'fail') {
      throw invalidArgument('whenFull', whenFull, "'wait' or 'fail'");
    }
    const timeoutMs = timeout === undefined ? undefined : parseDuration(timeout, 'timeout');
    return this.#producer.push(jobs, { signal, timeoutMs, whenFull, agreed: this.#limits });
  }
}
