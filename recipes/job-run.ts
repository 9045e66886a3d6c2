/** One job from claim to settlement. */
import { type Codec, encodeWith } from '../sdk/codec.ts';
import { ConclaveError, type ErrorCode, isConclaveError } from '../sdk/errors.ts';
import type { Backoff } from './backoff.ts';
import type { Claim } from './claim.ts';
import {
  type Handler,
  isUnrecoverable,
  type Job,
  type JobContext,
  type WorkerEvent,
} from './job.ts';
import { closingPatienceMs, fullJitterMs, type Pace } from './repeat.ts';
import type { ResultLease } from './result-lease.ts';
import { linkedSignal, onAbort } from './signals.ts';

export type JobRunOptions<T, R> = {
  readonly handler: Handler<T, R>;
  readonly backoff: Backoff;
  readonly deadLetter: 'keep' | 'discard';
  readonly results: ResultLease | undefined;
  readonly resultCodec: Codec<unknown>;
  readonly pace: Pace;
  /** The worker takes no more jobs. */
  readonly stopping: AbortSignal;
  /** The worker waits no longer: unfinished jobs are given back. */
  readonly graceOver: AbortSignal;
  readonly emit: (event: WorkerEvent<T, R>) => void;
};

type Outcome<R> =
  | { readonly kind: 'returned'; readonly result: R }
  | { readonly kind: 'threw'; readonly error: unknown }
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
    switch (outcome.kind) {
      case 'returned':
        await acknowledge(claim, outcome.result, options);
        emit({ type: 'done', id, job, result: outcome.result });
        return;
      case 'threw':
        await fail(claim, job, outcome.error, options);
        return;
      case 'cut-short':
        await claim.giveBack({ timeout: closingPatienceMs });
        emit({ type: 'returned', id });
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
    const { id, data, attempt, maxAttempts, pushedAt, token } = claim;
    return { id, data, attempt, maxAttempts, pushedAt, token };
  } catch (error) {
    if (isConclaveError(error, 'CODEC')) return error;
    throw error;
  }
}

/** Runs the handler with its claim kept alive; stops waiting for it when the grace period ends. */
async function runHandler<T, R>(
  claim: Claim<T>,
  job: Job<T>,
  { handler, pace, graceOver, emit }: JobRunOptions<T, R>,
): Promise<Outcome<R>> {
  const { signal, unlink } = linkedSignal(claim.signal, graceOver);
  let stopWaiting: () => void = () => undefined;
  const cutShort = new Promise<Outcome<R>>((resolve) => {
    stopWaiting = onAbort(graceOver, () => resolve({ kind: 'cut-short' }));
  });
  const stopExtending = keepExtending(claim, pace);
  const context: JobContext = {
    signal,
    progress: async (note) => {
      await claim.extend(note);
      emit({ type: 'progress', id: job.id, job, note });
    },
  };
  const handled = (async (): Promise<Outcome<R>> => {
    try {
      return { kind: 'returned', result: await handler(job, context) };
    } catch (error) {
      return { kind: 'threw', error };
    }
  })();
  try {
    return await Promise.race([handled, cutShort]);
  } finally {
    stopExtending();
    stopWaiting();
    unlink();
  }
}

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
  const afterSuccess = () => arm((claim.visibilityMs / 3) * (0.9 + 0.2 * random()), 0);
  const extend = async (failures: number) => {
    const extended = await claim.extend(undefined, { timeout }).then(
      () => true,
      () => false,
    );
    // A lost claim aborts its own signal.
    if (stopped || claim.signal.aborted) return;
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
  if (results !== undefined && result !== undefined) {
    try {
      await acknowledgeWith(claim, encodeWith(resultCodec, result), results, graceOver);
      return;
    } catch (error) {
      if (!(isConclaveError(error) && unkeepable.has(error.code))) throw error;
      // The work is done: that its result cannot be kept is no reason to do it again.
      emit({ type: 'error', error });
    }
  }
  await claim.ack(undefined, { signal: graceOver });
}

/** Why a result cannot be kept, though its job can be acknowledged. */
const unkeepable: ReadonlySet<ErrorCode> = new Set<ErrorCode>(['CODEC', 'TOO_LARGE', 'NO_SPACE']);

async function acknowledgeWith<T>(
  claim: Claim<T>,
  bytes: Uint8Array,
  results: ResultLease,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const lease = await results.current(signal);
    try {
      await claim.ack({ bytes, lease }, { signal });
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
  if (claim.signal.aborted) throw lossOf(claim);
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
  emit({ type: 'retry', id, job, delayMs, error });
}

async function bury<T, R>(
  claim: Claim<T>,
  reason: string,
  error: string,
  { deadLetter, graceOver, emit }: JobRunOptions<T, R>,
): Promise<void> {
  if (deadLetter === 'keep') await claim.dead(reason, { signal: graceOver, error });
  else await claim.discard({ signal: graceOver });
  emit({ type: 'dead', id: claim.id, reason });
}

function lossOf<T>(claim: Claim<T>): ConclaveError {
  const reason: unknown = claim.signal.reason;
  return isConclaveError(reason)
    ? reason
    : new ConclaveError('CLAIM_LOST', `The claim on job ${claim.id} was lost`);
}
