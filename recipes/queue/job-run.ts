/** One job from claim to settlement. */
import { type Codec, encodeWith } from '../../sdk/codec.ts';
import { ConclaveError, type ErrorCode, isConclaveError } from '../../sdk/errors.ts';
import { LazyEnd } from '../common/lazy-end.ts';
import { closingPatienceMs, fullJitterMs, type Pace } from '../common/repeat.ts';
import type { ResultLease } from '../common/result-lease.ts';
import { onAbort } from '../common/signals.ts';
import type { Backoff } from './backoff.ts';
import type { Claim } from './claim.ts';
import {
  type Handler,
  isUnrecoverable,
  type Job,
  type JobContext,
  JobStoppedError,
  type WorkerEvent,
} from './job.ts';

export type JobRunOptions<T, R> = {
  readonly handler: Handler<T, R>;
  readonly backoff: Backoff;
  readonly deadLetter: 'keep' | 'discard';
  readonly results: ResultLease | undefined;
  readonly resultCodec: Codec<unknown>;
  /** How long an attempt may take, unless the job says otherwise. */
  readonly attemptTimeoutMs: number | undefined;
  readonly pace: Pace;
  /** The worker takes no more jobs. */
  readonly stopping: AbortSignal;
  /** The worker waits no longer: unfinished jobs are given back. */
  readonly graceOver: AbortSignal;
  /** The handler is done: the job has only to be settled. */
  readonly onHandled: () => void;
  readonly emit: (event: WorkerEvent<T, R>) => void;
};

type Outcome<R> =
  | { readonly kind: 'returned'; readonly result: R }
  | { readonly kind: 'threw'; readonly error: unknown }
  /** Ordered to stop, and it has, or is left behind. */
  | { readonly kind: 'stopped' }
  | { readonly kind: 'cut-short' };

/** Never rejects: what goes wrong becomes an event. */
export async function runJob<T, R>(claim: Claim<T>, options: JobRunOptions<T, R>): Promise<void> {
  const { emit, stopping, graceOver } = options;
  const { id } = claim;
  try {
    if (stopping.aborted) {
      await claim.giveBack({ timeout: closingPatienceMs });
      emit({ type: 'returned', id });
      return;
    }
    const job = readJob(claim);
    if (isConclaveError(job)) {
      await bury(claim, `unreadable: ${job.message}`, job.message, options);
      return;
    }
    emit({ type: 'claimed', id, job });
    const outcome = await runHandler(claim, job, options);
    options.onHandled();
    switch (outcome.kind) {
      case 'stopped':
        await claim.stop({ signal: graceOver });
        emit({ type: 'cancelled', id, ...orderOf(claim) });
        return;
      case 'returned':
        await acknowledge(claim, outcome.result, options);
        emit({ type: 'done', id, job, result: outcome.result });
        return;
      case 'threw':
        await fail(claim, job, outcome.error, options);
        return;
      case 'cut-short':
        await claim.giveBack({ timeout: closingPatienceMs });
        if (claim.order === undefined) emit({ type: 'returned', id });
        else emit({ type: 'cancelled', id, ...orderOf(claim) });
        return;
    }
  } catch (error) {
    if (isConclaveError(error, 'CLAIM_LOST') || isConclaveError(error, 'SESSION_LOST')) {
      emit({ type: 'claim-lost', id, reason: error.code });
    } else if (!(graceOver.aborted && isConclaveError(error))) {
      // Not settled: the claim runs out, and a sweep returns the job.
      emit({ type: 'error', error });
    }
  }
}

/** The job for the handler, or why its payload cannot be read: no attempt would change that. */
function readJob<T>(claim: Claim<T>): Job<T> | ConclaveError {
  try {
    const { id, data, attempt, maxAttempts, pushedAt, priority, group, token } = claim;
    const grouped = group === undefined ? {} : { group };
    return { id, data, attempt, maxAttempts, pushedAt, priority, ...grouped, token };
  } catch (error) {
    if (isConclaveError(error, 'CODEC')) return error;
    throw error;
  }
}

/**
 * Runs the handler with its claim kept alive. Stops waiting for it when the grace period ends, and one
 * visibility period after it was told to stop: a job may run again then though its handler, deaf to
 * its signal, still runs.
 */
async function runHandler<T, R>(
  claim: Claim<T>,
  job: Job<T>,
  options: JobRunOptions<T, R>,
): Promise<Outcome<R>> {
  const { handler, pace, graceOver, emit, attemptTimeoutMs } = options;
  const stop = new LazyEnd();
  let conclude: (outcome: Outcome<R>) => void = () => undefined;
  const concluded = new Promise<Outcome<R>>((resolve) => {
    conclude = resolve;
  });
  const stopExtending = keepExtending(claim, pace);
  const timeout = startTimeout(claim, attemptTimeoutMs, pace, (error) => {
    stop.end(() => error);
    return () => conclude({ kind: 'threw', error });
  });
  const stopWaiting = onAbort(graceOver, () => {
    stop.end(() => graceOver.reason);
    conclude({ kind: 'cut-short' });
  });
  let isOver = false;
  let cancelPatience: () => void = () => undefined;
  claim.onStop(() => {
    if (isOver) return;
    stop.end(() => claim.stopReason);
    const leaveBehind = () => conclude({ kind: 'stopped' });
    if (!claim.isLost) cancelPatience = pace.clock.setTimer(claim.visibilityMs, leaveBehind);
  });
  const context: JobContext = {
    get signal() {
      return stop.signal;
    },
    progress: async (note) => {
      await claim.extend(note);
      emit({ type: 'progress', id: job.id, job, note });
    },
    children: (codec) => claim.children(codec, { signal: stop.signal }),
  };
  const handled = (async (): Promise<Outcome<R>> => {
    try {
      return { kind: 'returned', result: await handler(job, context) };
    } catch (error) {
      if (claim.order !== undefined && !claim.isLost) return { kind: 'stopped' };
      return { kind: 'threw', error: timeout.error ?? error };
    }
  })();
  try {
    return await Promise.race([handled, concluded]);
  } finally {
    timeout.cancel();
    cancelPatience();
    stopExtending();
    stopWaiting();
    isOver = true;
  }
}

/** Tells when the attempt's time is over, and, one visibility period later, what `expire` returned. */
function startTimeout<T>(
  claim: Claim<T>,
  workersMs: number | undefined,
  { clock }: Pace,
  expire: (error: JobStoppedError) => () => void,
): { readonly error: JobStoppedError | undefined; readonly cancel: () => void } {
  const limitMs = claim.timeoutMs ?? workersMs;
  if (limitMs === undefined) return { error: undefined, cancel: () => undefined };
  let error: JobStoppedError | undefined;
  let cancel = clock.setTimer(limitMs, () => {
    const reason = `the attempt took longer than ${limitMs} ms`;
    error = new JobStoppedError(claim.id, { why: 'timeout', reason });
    cancel = clock.setTimer(claim.visibilityMs, expire(error));
  });
  return {
    get error() {
      return error;
    },
    cancel: () => cancel(),
  };
}

const orderOf = <T>({ order }: Claim<T>) => ({
  why: order?.why ?? ('cancelled' as const),
  reason: order?.reason ?? '',
});

/**
 * Extends at a third of the visibility period. Each attempt has a sixth of it, and is repeated soon
 * when it fails, so that two may fail, however slowly, before the claim is over.
 */
function keepExtending<T>(claim: Claim<T>, { clock, random }: Pace): () => void {
  let stopped = false;
  let cancel: () => void = () => undefined;
  const timeout = claim.visibilityMs / 6;
  const arm = (delayMs: number, failures: number) => {
    cancel = clock.setTimer(delayMs, () => void extend(failures));
  };
  // One of few periods: a timer costs the less the more others have the same length.
  const afterSuccess = () =>
    arm((claim.visibilityMs / 3) * (0.9 + 0.05 * Math.floor(5 * random())), 0);
  const extend = async (failures: number) => {
    const extended = await claim.extend(undefined, { timeout }).then(
      () => true,
      () => false,
    );
    // A lost claim aborts its own signal.
    if (stopped || claim.isLost) return;
    if (extended) afterSuccess();
    else arm(Math.min(timeout, fullJitterMs(failures, random)), failures + 1);
  };
  afterSuccess();
  return () => {
    stopped = true;
    cancel();
  };
}

async function acknowledge<T, R>(
  claim: Claim<T>,
  result: R,
  options: JobRunOptions<T, R>,
): Promise<void> {
  const { results, resultCodec, graceOver, emit } = options;
  if (result !== undefined && (results !== undefined || claim.hasParent)) {
    try {
      const bytes = encodeWith(resultCodec, result);
      const forParent = claim.hasParent ? Buffer.from(bytes).toString('base64') : undefined;
      const parent = forParent === undefined ? {} : { forParent };
      if (results === undefined) await claim.ack(undefined, { patience: graceOver, ...parent });
      else await acknowledgeWith(claim, bytes, results, { patience: graceOver, ...parent });
      return;
    } catch (error) {
      if (!(isConclaveError(error) && unkeepable.has(error.code))) throw error;
      // The work is done: that its result cannot be kept is no reason to do it again.
      emit({ type: 'error', error });
    }
  }
  await claim.ack(undefined, { patience: graceOver });
}

/** Why a result cannot be kept, though its job can be acknowledged. */
const unkeepable: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['CODEC', 'TOO_LARGE', 'NO_SPACE']);

async function acknowledgeWith<T>(
  claim: Claim<T>,
  bytes: Uint8Array,
  results: ResultLease,
  limits: { readonly patience: AbortSignal; readonly forParent?: string },
): Promise<void> {
  for (;;) {
    const lease = await results.current(limits.patience);
    try {
      await claim.ack({ bytes, lease }, limits);
      return;
    } catch (error) {
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
      results.forget(lease);
    }
  }
}

async function fail<T, R>(
  claim: Claim<T>,
  job: Job<T>,
  error: unknown,
  options: JobRunOptions<T, R>,
): Promise<void> {
  const { backoff, pace, graceOver, emit } = options;
  const { id, attempt, maxAttempts } = job;
  // A handler that stops because its claim is gone has not failed.
  if (claim.isLost) throw lossOf(claim);
  const message = error instanceof Error ? error.message : String(error);
  if (isUnrecoverable(error)) {
    await bury(claim, `unrecoverable: ${message}`, message, options);
    return;
  }
  if (attempt >= maxAttempts) {
    const reason = `attempt ${attempt} of ${maxAttempts} failed: ${message}`;
    await bury(claim, reason, message, options);
    return;
  }
  const delayMs = Math.round(backoff(attempt, pace.random));
  await claim.nack({ signal: graceOver, delay: delayMs, error: message });
  if (claim.order === undefined) emit({ type: 'retry', id, job, delayMs, error });
  else emit({ type: 'cancelled', id, ...orderOf(claim) });
}

async function bury<T, R>(
  claim: Claim<T>,
  reason: string,
  error: string,
  { deadLetter, graceOver, emit }: JobRunOptions<T, R>,
): Promise<void> {
  if (deadLetter === 'keep') await claim.dead(reason, { signal: graceOver, error });
  else await claim.discard({ signal: graceOver, reason });
  if (claim.order === undefined) emit({ type: 'dead', id: claim.id, reason });
  else emit({ type: 'cancelled', id: claim.id, ...orderOf(claim) });
}

function lossOf<T>(claim: Claim<T>): ConclaveError {
  const reason = claim.stopReason;
  return isConclaveError(reason)
    ? reason
    : new ConclaveError('CLAIM_LOST', `The claim on job ${claim.id} was lost`);
}
