/**
 * A worker: claims jobs of a queue, runs a handler on each, and settles them.
 *
 * - While the handler runs, its claim is extended; the handler's signal aborts as soon as the claim
 *   or the session is lost, or the worker is closed.
 * - A handler that returns acknowledges; one that throws sends the job back with back-off, or to the
 *   dead letters when its attempts are used up or it throws an UnrecoverableJobError.
 * - A worker that dies gives its jobs back through the others' sweeps, at once when its session ends.
 * - Workers learn of new jobs, of dead workers and of delays by watching, and sweep slowly besides.
 */

import { json } from '../../sdk/codec.ts';
import { ConclaveError, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import { EventSource } from '../../sdk/observe.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { Background, RecipeContext } from '../common/context.ts';
import { durationOfAtLeast, parsePeriod } from '../common/durations.ts';
import { checkFunction, checkOptions } from '../common/option-checks.ts';
import { fullJitterMs, pause } from '../common/repeat.ts';
import { ResultLease } from '../common/result-lease.ts';
import { expectManyListeners } from '../common/signals.ts';
import { eventView, type View } from '../common/view.ts';
import { type Backoff, exponential } from './backoff.ts';
import { Batch, type BatchHandler } from './batch.ts';
import type { Claim } from './claim.ts';
import type { Handler, WorkerEvent } from './job.ts';
import { runJob } from './job-run.ts';
import { QueueAttention } from './queue-attention.ts';
import { type ConsumerOptions, QueueConsumer } from './queue-consumer.ts';
import { SharedClaims } from './shared-claims.ts';
import type { Swept } from './sweep.ts';

export type WorkerOptions<T> = ConsumerOptions<T> & {
  /** Jobs handled at a time; one whose handler is done, and that is being settled, is not counted. @default 1 */
  readonly concurrency?: number;
  /** The wait before another attempt. @default exponential() */
  readonly backoff?: Backoff;
  /**
   * How long an attempt may take, unless the job's producer said otherwise: '1ms' or more. Then the
   * handler's signal aborts with a JobStoppedError, and the attempt has failed. A handler that is deaf
   * to its signal is left behind after another visibility period. @default no limit
   */
  readonly attemptTimeout?: Duration;
  /** Whether jobs out of attempts are kept for inspection and replay. @default 'keep' */
  readonly deadLetter?: 'keep' | 'discard';
  /**
   * Keep what handlers return, for `queue.result(id)`, at least this long: '1s' or more. A result
   * that cannot be encoded, or that the store has no room for, is dropped with an 'error' event.
   * @default not kept
   */
  readonly keepResults?: Duration;
  /**
   * How often to sweep even if no watch reports anything: '10ms' or more. @default half the
   * visibility, at most '15s'
   */
  readonly sweepEvery?: Duration;
};

export const knownWorker = {
  codec: true,
  visibility: true,
  maxAttempts: true,
  limits: true,
  concurrency: true,
  backoff: true,
  attemptTimeout: true,
  deadLetter: true,
  keepResults: true,
  sweepEvery: true,
} as const;

export type BatchOptions<T> = WorkerOptions<T> & {
  /** Jobs in a batch at most: 1 to 32. */
  readonly size: number;
};

export type CloseOptions = {
  /** How long running handlers may take to finish before their jobs are given back. @default '30s' */
  readonly grace?: Duration;
};

/** A handler of several jobs at a time. */
export type Batching<T, R> = {
  /** Jobs in a batch at most: 1 to 32. */
  readonly size: number;
  readonly handleBatch: BatchHandler<T, R>;
};

const knownClose = { grace: true } as const;

const largestBatch = 32;
const defaultGrace = '30s';

export class Worker<T, R> implements AsyncDisposable {
  readonly name: string;
  readonly events$: View<WorkerEvent<T, R>>;
  readonly #context: RecipeContext;
  readonly #consumer: QueueConsumer<T>;
  readonly #sharedClaims: SharedClaims<T>;
  readonly #handler: Handler<T, R> | Batching<T, R>;
  readonly #backoff: Backoff;
  readonly #deadLetter: 'keep' | 'discard';
  readonly #results: ResultLease | undefined;
  readonly #attemptTimeoutMs: number | undefined;
  /** What runs, by job. */
  readonly #claims = new Map<string, Claim<T>>();
  readonly #events = new EventSource<WorkerEvent<T, R>>();
  readonly #attention: QueueAttention;
  /** No more claims. */
  readonly #stopping = new AbortController();
  /** No more patience with handlers. */
  readonly #graceOver = new AbortController();
  readonly #running: Promise<unknown>;
  #closed: Promise<void> | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(
    context: RecipeContext,
    name: string,
    handler: Handler<T, R> | Batching<T, R>,
    options: WorkerOptions<T> = {},
  ) {
    checkHandler(handler);
    checkOptions<WorkerOptions<T>>(options, knownWorker);
    const {
      concurrency = 1,
      backoff = exponential(),
      deadLetter = 'keep',
      attemptTimeout,
      keepResults,
      sweepEvery,
      ...claiming
    } = options;
    checkFunction(backoff, 'backoff', 'a function of the attempt, such as exponential()');
    if (!(Number.isInteger(concurrency) && concurrency >= 1 && concurrency <= 1_000)) {
      throw invalidArgument('concurrency', concurrency, 'a whole number from 1 to 1000');
    }
    if (deadLetter !== 'keep' && deadLetter !== 'discard') {
      throw invalidArgument('deadLetter', deadLetter, "'keep' or 'discard'");
    }
    const attemptTimeoutMs =
      attemptTimeout === undefined
        ? undefined
        : durationOfAtLeast(attemptTimeout, 'attemptTimeout', '1ms');
    const { client } = context.session;
    const keepMs =
      keepResults === undefined ? undefined : durationOfAtLeast(keepResults, 'keepResults', '1s');
    // The worker itself ends its consumer, after its last job.
    const own = { ...context, background: new Set<Background>() };
    this.#consumer = new QueueConsumer<T>(own, name, claiming);
    this.#sharedClaims = new SharedClaims<T>(this.#consumer, this.#stopping.signal);
    this.name = name;
    this.#attention = new QueueAttention(client, this.#consumer, {
      slots: concurrency,
      sweepEveryMs: sweepEvery === undefined ? undefined : parsePeriod(sweepEvery, 'sweepEvery'),
      onSwept: (swept) => this.#tell(swept),
      onError: (error) => this.#events.emit({ type: 'error', error }),
      // An extension would find out as well, later.
      onOrder: (id) =>
        void this.#claims
          .get(id)
          ?.look()
          .catch(() => undefined),
    });
    this.#attemptTimeoutMs = attemptTimeoutMs;
    this.events$ = eventView(this.#events.observable);
    this.#context = context;
    this.#handler = handler;
    this.#backoff = backoff;
    this.#deadLetter = deadLetter;
    this.#results = keepMs === undefined ? undefined : new ResultLease(client, keepMs);
    expectManyListeners(this.#stopping.signal);
    expectManyListeners(this.#graceOver.signal);
    context.background.add(this);
    const slots = Array.from({ length: concurrency }, () => this.#slot());
    this.#running = Promise.all([...slots, this.#attention.run(this.#stopping.signal)]);
  }

  /**
   * Stops claiming, waits for running handlers, gives back what they do not finish in time, and ends.
   * Idempotent; never rejects. Takes at most ten seconds longer than the grace period, also when the
   * store does not answer; what could not be given back then returns when the session's lease ends.
   *
   * @throws ConclaveError INVALID_ARGUMENT, at once
   */
  close(options: CloseOptions = {}): Promise<void> {
    checkOptions<CloseOptions>(options, knownClose);
    const graceMs = parseDuration(options.grace ?? defaultGrace, 'grace');
    this.#closed ??= this.#close(graceMs);
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(graceMs: number): Promise<void> {
    const reason = new ConclaveError('CLOSED', 'The worker was closed');
    this.#stopping.abort(reason);
    const { clock } = this.#context.session.client;
    const cancelGrace = clock.setTimer(graceMs, () => this.#graceOver.abort(reason));
    await this.#running;
    cancelGrace();
    this.#graceOver.abort(reason);
    await this.#consumer.close();
    // Not before: a session that is closed meanwhile waits for the end of this.
    this.#context.background.delete(this);
    this.#events.complete();
  }

  /**
   * One job after another, until the worker closes. While one is settled the next is asked for already,
   * so that one exchange does both.
   */
  async #slot(): Promise<void> {
    const { signal } = this.#stopping;
    const { clock, random } = this.#context.session.client;
    let settled: Promise<void> = Promise.resolve();
    for (let failures = 0; !signal.aborted; ) {
      let claims: readonly Claim<T>[];
      try {
        claims = await this.#nextOf(this.#handler);
        failures = 0;
      } catch (error) {
        if (signal.aborted) break;
        if (isConclaveError(error, 'CLOSED')) {
          // The session was closed on purpose; a lost one would have been replaced.
          this.#stopping.abort(error);
          break;
        }
        this.#events.emit({ type: 'error', error });
        failures += 1;
        await pause(clock, fullJitterMs(failures, random), signal).catch(() => undefined);
        continue;
      }
      if (claims.length === 0) await this.#attention.mayBeJob(signal);
      else {
        const before = settled;
        const running = this.#begin(claims, this.#handler);
        settled = running.settled;
        await running.handled;
        // A slot of the queue's own concurrency is free when its job is settled.
        await (this.#consumer.hasSlots ? settled : before);
      }
    }
    await settled;
  }

  /** `handled`: the handlers are done; `settled`: so are their jobs. Neither rejects. */
  #begin(
    claims: readonly Claim<T>[],
    handler: Handler<T, R> | Batching<T, R>,
  ): { readonly handled: Promise<void>; readonly settled: Promise<void> } {
    let tell: () => void = () => undefined;
    const handled = new Promise<void>((resolve) => {
      tell = resolve;
    });
    let running = claims.length;
    const onHandled = () => {
      running -= 1;
      if (running === 0) tell();
    };
    return { handled, settled: this.#handleAll(claims, handler, onHandled).then(tell) };
  }

  async #nextOf(handler: Handler<T, R> | Batching<T, R>): Promise<readonly Claim<T>[]> {
    if (typeof handler === 'object') {
      return this.#consumer.claimMany(handler.size, this.#stopping.signal);
    }
    const claim = await this.#sharedClaims.next();
    return claim === null ? [] : [claim];
  }

  async #handleAll(
    claims: readonly Claim<T>[],
    handler: Handler<T, R> | Batching<T, R>,
    onHandled: () => void,
  ): Promise<void> {
    if (typeof handler === 'function') {
      await Promise.all(claims.map((claim) => this.#handle(claim, handler, onHandled)));
      return;
    }
    const batch = new Batch<T, R>(handler.handleBatch, claims.length);
    const handleOne = async (claim: Claim<T>) => {
      let arrived = false;
      const handle: Handler<T, R> = (job, context) => {
        arrived = true;
        // A batch handler that returns nothing has no results to tell.
        return batch.handle(job, context) as Promise<R>;
      };
      await this.#handle(claim, handle, onHandled);
      if (!arrived) batch.withoutOne();
    };
    await Promise.all(claims.map(handleOne));
  }

  async #handle(claim: Claim<T>, handler: Handler<T, R>, onHandled: () => void): Promise<void> {
    this.#claims.set(claim.id, claim);
    await runJob<T, R>(claim, {
      handler,
      backoff: this.#backoff,
      deadLetter: this.#deadLetter,
      results: this.#results,
      resultCodec: json<unknown>(),
      attemptTimeoutMs: this.#attemptTimeoutMs,
      pace: this.#context.session.client,
      stopping: this.#stopping.signal,
      graceOver: this.#graceOver.signal,
      onHandled,
      emit: (event) => {
        // Becomes ready when nobody else may be around to see it.
        if (event.type === 'retry') this.#attention.sweepSoon();
        this.#events.emit(event);
      },
    });
    // Given back, it may have been claimed again by another slot.
    if (this.#claims.get(claim.id) === claim) this.#claims.delete(claim.id);
  }

  #tell({ returned, dead }: Swept): void {
    for (const { id, reason } of returned) this.#events.emit({ type: 'recovered', id, reason });
    for (const { id, reason } of dead) this.#events.emit({ type: 'dead', id, reason });
  }
}

/** @throws ConclaveError INVALID_ARGUMENT */
export function batchWorker<T, R>(
  context: RecipeContext,
  name: string,
  handleBatch: BatchHandler<T, R>,
  options: BatchOptions<T>,
): Worker<T, R> {
  checkOptions<BatchOptions<T>>(options, { ...knownWorker, size: true });
  const { size, ...others } = options;
  return new Worker<T, R>(context, name, { size, handleBatch }, others);
}

function checkHandler<T, R>(handler: Handler<T, R> | Batching<T, R>): void {
  if (typeof handler === 'object' && handler !== null) {
    checkBatch(handler.size);
    checkFunction(handler.handleBatch, 'handler', 'a function of the jobs of a batch');
  } else checkFunction(handler, 'handler', 'a function of the job');
}

function checkBatch(size: number): void {
  if (Number.isInteger(size) && size >= 1 && size <= largestBatch) return;
  throw invalidArgument('size', size, `a whole number from 1 to ${largestBatch}`);
}
