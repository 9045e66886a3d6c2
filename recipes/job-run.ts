/** One job from claim to settlement. */
import { type Codec, encodeWith } from '../sdk/codec.ts';
import { ConclaveError, isConclaveError } from '../sdk/errors.ts';
import type { Backoff } from './backoff.ts';
import type { Claim, KeptResult } from './claim.ts';
import { type Handler, isUnrecoverable, type JobContext, type WorkerEvent } from './job.ts';
import type { ResultLease } from './result-lease.ts';
import type { Pace } from './retry.ts';

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
  readonly emit: (event: WorkerEvent<R>) => void;
};

type Outcome<R> =
  | { readonly kind: 'returned'; readonly result: R }
  | { readonly kind: 'threw'; readonly error: unknown }
  | { readonly kind: 'cut-short' };

/** Never rejects: what goes wrong becomes an event. */
export async function runJob<T, R>(claim: Claim<T>, options: JobRunOptions<T, R>): Promise<void> {
  const { emit, stopping, graceOver } = options;
  const { id, attempt } = claim;
  try {
    if (stopping.aborted) {
      await claim.giveBack();
      emit({ type: 'returned', id });
      return;
    }
    emit({ type: 'claimed', id, attempt });
    const outcome = await runHandler(claim, options);
    switch (outcome.kind) {
      case 'returned':
        await acknowledge(claim, outcome.result, options);
        emit({ type: 'done', id, result: outcome.result });
        return;
      case 'threw':
        await fail(claim, outcome.error, options);
        return;
      case 'cut-short':
        await claim.giveBack();
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

/** Runs the handler with its claim kept alive; stops waiting for it when the grace period ends. */
async function runHandler<T, R>(
  claim: Claim<T>,
  { handler, pace, graceOver, emit }: JobRunOptions<T, R>,
): Promise<Outcome<R>> {
  const ended = new AbortController();
  const onLost = () => ended.abort(claim.signal.reason);
  let onGraceOver: () => void = () => undefined;
  const cutShort = new Promise<Outcome<R>>((resolve) => {
    onGraceOver = () => {
      ended.abort(graceOver.reason);
      resolve({ kind: 'cut-short' });
    };
  });
  if (claim.signal.aborted) onLost();
  claim.signal.addEventListener('abort', onLost, { once: true });
  graceOver.addEventListener('abort', onGraceOver, { once: true });
  const stopExtending = keepExtending(claim, pace);
  const context: JobContext = {
    signal: ended.signal,
    progress: async (note) => {
      await claim.extend(note);
      emit({ type: 'progress', id: claim.id, note });
    },
  };
  const handled = (async (): Promise<Outcome<R>> => {
    try {
      const { id, attempt, maxAttempts, pushedAt, token } = claim;
      const job = { id, data: claim.data, attempt, maxAttempts, pushedAt, token };
      return { kind: 'returned', result: await handler(job, context) };
    } catch (error) {
      return { kind: 'threw', error };
    }
  })();
  try {
    return await Promise.race([handled, cutShort]);
  } finally {
    stopExtending();
    claim.signal.removeEventListener('abort', onLost);
    graceOver.removeEventListener('abort', onGraceOver);
  }
}

/** Extends at a third of the visibility period, so that two extensions may fail. */
function keepExtending<T>(claim: Claim<T>, { clock, random }: Pace): () => void {
  let stopped = false;
  let cancel: () => void = () => undefined;
  const arm = () => {
    const delayMs = (claim.visibilityMs / 3) * (0.9 + 0.2 * random());
    cancel = clock.setTimer(delayMs, () => {
      // A failed extension is tried again at the next turn; a lost claim aborts its own signal.
      claim
        .extend(undefined, { timeout: claim.visibilityMs / 3 })
        .catch(() => undefined)
        .finally(() => {
          if (!stopped && !claim.signal.aborted) arm();
        });
    });
  };
  arm();
  return () => {
    stopped = true;
    cancel();
  };
}

async function acknowledge<T, R>(
  claim: Claim<T>,
  result: R,
  { results, resultCodec, graceOver }: JobRunOptions<T, R>,
): Promise<void> {
  if (results === undefined || result === undefined) {
    await claim.ack(undefined, { signal: graceOver });
    return;
  }
  const bytes = encodeWith(resultCodec, result);
  for (;;) {
    const lease = await results.current(graceOver);
    const kept: KeptResult = { bytes, lease };
    try {
      await claim.ack(kept, { signal: graceOver });
      return;
    } catch (error) {
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
      results.forget(lease);
    }
  }
}

async function fail<T, R>(
  claim: Claim<T>,
  error: unknown,
  { backoff, deadLetter, pace, graceOver, emit }: JobRunOptions<T, R>,
): Promise<void> {
  const { id, attempt, maxAttempts } = claim;
  // A handler that stops because its claim is gone has not failed.
  if (claim.signal.aborted) throw lossOf(claim);
  const message = error instanceof Error ? error.message : String(error);
  const hopeless = isUnrecoverable(error) || isConclaveError(error, 'CODEC');
  const limits = { signal: graceOver };
  if (hopeless || attempt >= maxAttempts) {
    const reason = hopeless
      ? `unrecoverable: ${message}`
      : `attempt ${attempt} of ${maxAttempts} failed: ${message}`;
    if (deadLetter === 'keep') await claim.dead(reason, { ...limits, error: message });
    else await claim.discard(limits);
    emit({ type: 'dead', id, reason });
    return;
  }
  const delayMs = Math.round(backoff(attempt, pace.random));
  await claim.nack({ ...limits, delay: delayMs, error: message });
  emit({ type: 'retry', id, attempt, delayMs, error });
}

function lossOf<T>(claim: Claim<T>): ConclaveError {
  const reason: unknown = claim.signal.reason;
  return isConclaveError(reason)
    ? reason
    : new ConclaveError('CLAIM_LOST', `The claim on job ${claim.id} was lost`);
}
