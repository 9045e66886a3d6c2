/**
 * One worker's hold on one job. Everything it does is fenced by the claim's create revision, so a
 * worker that lost its claim can change nothing: neither the job nor another worker's claim.
 *
 * The deadline needs no common clock: whoever sweeps counts from when it saw the claim's last change,
 * which is later than when this worker sent it.
 */
import { ConclaveError, isConclaveError, throwIfAborted } from '../sdk/errors.ts';
import { type CallOptions, type Duration, parseDuration } from '../sdk/options.ts';
import type { Session } from '../sdk/session.ts';
import { compare, type Operation, type Operations, op, type Txn } from '../sdk/txn.ts';
import { freeDedup, waitingEntry } from './job-moves.ts';
import { type ClaimState, type DeadState, encodeState, withoutClaim } from './job-record.ts';
import type { QueueKeys } from './names.ts';
import { fullJitterMs, mayRepeat, pause } from './repeat.ts';
import { type LinkedSignal, linkedSignal, onAbort } from './signals.ts';

export type NackOptions = CallOptions & {
  /** Not again before this much later. @default 0 */
  readonly delay?: Duration;
  /** What went wrong, for people. */
  readonly error?: string;
};

/** What to keep of a finished job: its result under a lease that ends it. */
export type KeptResult = { readonly bytes: Uint8Array | string; readonly lease: bigint };

export type ClaimGrant = {
  readonly id: string;
  readonly createRevision: bigint;
  readonly state: ClaimState;
  /** On the client's monotonic clock: when the transaction that claimed was first sent. */
  readonly sentMs: number;
};

/** Bounds calls that would otherwise repeat until the store answers or the claim is over. */
type Limits = Pick<CallOptions, 'signal' | 'timeout'>;

/** Settling starts late (the process was blocked, say) and is still tried for this long. */
const settlingPatienceMs = 2_000;

export class Claim<T> {
  readonly id: string;
  /** Which claim of this job it is: 1 for the first. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly pushedAt: Date;
  /** Fencing token: rises with each claim of the job. */
  readonly token: bigint;
  /** Aborts when the claim is lost: CLAIM_LOST or SESSION_LOST. */
  readonly signal: AbortSignal;
  readonly #session: Session;
  readonly #keys: QueueKeys;
  readonly #key: string;
  readonly #decode: () => T;
  readonly #lost = new AbortController();
  #unfollow: () => void = () => undefined;
  #state: ClaimState;
  #validUntilMs: number;
  #cancelDeadline: () => void = () => undefined;
  #settled = false;
  /** Whether an attempt to settle may have taken effect unnoticed. */
  #answerLost = false;

  constructor(session: Session, keys: QueueKeys, grant: ClaimGrant, decode: () => T) {
    const { state } = grant;
    this.id = grant.id;
    this.attempt = state.attempts;
    this.maxAttempts = state.attemptsMax;
    this.pushedAt = new Date(state.pushedMs);
    this.token = grant.createRevision;
    this.signal = this.#lost.signal;
    this.#session = session;
    this.#keys = keys;
    this.#key = keys.claim + grant.id;
    this.#decode = decode;
    this.#state = state;
    this.#validUntilMs = grant.sentMs + state.visibilityMs;
    this.#armDeadline();
    this.#unfollow = onAbort(session.signal, () =>
      this.#lose(session.signal.reason as ConclaveError),
    );
  }

  /** @throws ConclaveError CODEC */
  get data(): T {
    return this.#decode();
  }

  get visibilityMs(): number {
    return this.#state.visibilityMs;
  }

  /** When the job became available, by the wall clocks of those who pushed or delayed it. */
  get availableMs(): number {
    return Math.max(this.#state.pushedMs, this.#state.dueMs ?? 0);
  }

  /** @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED; looks at the clock, not the store */
  assertHeld(): void {
    if (this.#settled) throw new ConclaveError('RELEASED', `Job ${this.id} was settled before`);
    if (this.#session.client.clock.monotonicMs() >= this.#validUntilMs)
      this.#lose(overdue(this.id));
    this.signal.throwIfAborted();
    if (this.#session.state === 'lost') this.#session.assertLive();
  }

  /**
   * Finishes the job: removes it and frees its dedup key. Repeated until the store answers, but not
   * beyond the claim's deadline (or two seconds, if that passed before).
   *
   * @throws ConclaveError CLAIM_LOST when the job passed to another worker or the deadline passed,
   *   SESSION_LOST; RELEASED when this claim was settled before, OUTCOME_UNKNOWN when history that
   *   could tell was compacted. `outcome` is 'unknown' if it may have taken effect
   */
  ack(kept?: KeptResult, limits: Limits = {}): Promise<void> {
    const { job, result } = this.#keys;
    const keep = kept ? [op.put(result + this.id, kept.bytes, { lease: kept.lease })] : [];
    return this.#settle(
      [op.delete(job + this.id), ...this.#freeDedup(), ...keep],
      limits,
      (signal) => this.#endedWithoutJob(signal),
    );
  }

  /**
   * Puts the job back, now or after a delay. The attempt stays counted.
   *
   * @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED
   */
  nack(options: NackOptions = {}): Promise<void> {
    const delayMs = options.delay === undefined ? 0 : parseDuration(options.delay, 'delay');
    const dueMs = delayMs === 0 ? undefined : this.#session.client.clock.wallMs() + delayMs;
    const { error } = options;
    const state = { ...withoutClaim(this.#state), ...(error === undefined ? {} : { error }) };
    return this.#settle([waitingEntry(this.#keys, this.id, state, dueMs)], options, itIsBack);
  }

  /** Puts the job back as if it had not been claimed: its handler did not fail. */
  giveBack(limits: Limits = {}): Promise<void> {
    const state = withoutClaim(this.#state);
    const uncounted = { ...state, attempts: Math.max(0, state.attempts - 1) };
    return this.#settle([waitingEntry(this.#keys, this.id, uncounted)], limits, itIsBack);
  }

  /**
   * Gives the job up: makes it a dead letter.
   *
   * @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED
   */
  dead(reason: string, options: CallOptions & { readonly error?: string } = {}): Promise<void> {
    const { dedup: _freed, ...state } = withoutClaim(this.#state);
    const { error, ...limits } = options;
    const { client } = this.#session;
    const dead: DeadState = {
      ...state,
      ...(error === undefined ? {} : { error }),
      reason,
      deadMs: client.clock.wallMs(),
    };
    const deadKey = this.#keys.dead + this.id;
    const operations = [op.put(deadKey, encodeState(dead)), ...this.#freeDedup()];
    return this.#settle(
      operations,
      limits,
      async (signal) => (await client.kv.get(deadKey, { signal })) !== null,
    );
  }

  /** Drops the job for good, payload and all, as `ack` does, without a result. */
  discard(limits: Limits = {}): Promise<void> {
    return this.ack(undefined, limits);
  }

  /**
   * Starts the visibility period anew, with a new progress note if given.
   *
   * @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED
   */
  async extend(progress?: unknown, limits: Limits = {}): Promise<void> {
    if (this.#settled) throw new ConclaveError('RELEASED', `Job ${this.id} was settled before`);
    this.signal.throwIfAborted();
    const { clock, kv } = this.#session.client;
    if (progress !== undefined) this.#state = { ...this.#state, progress };
    const sentMs = clock.monotonicMs();
    const result = await kv
      .txn()
      .if(this.#fence)
      .then(op.put(this.#key, encodeState(this.#state)))
      .commit(limits);
    // Settled meanwhile: then it is no loss that the claim is gone.
    if (this.#settled) return;
    if (!result.succeeded) throw this.#lose(passedOn(this.id));
    this.#validUntilMs = Math.max(this.#validUntilMs, sentMs + this.#state.visibilityMs);
    this.#armDeadline();
  }

  get #fence() {
    return compare.createRevision(this.#key, '==', this.token);
  }

  #freeDedup(): Operation[] {
    return freeDedup(this.#session.client.kv, this.#keys, this.id, this.#state);
  }

  /**
   * Removes the claim with what goes along, if it still is this one.
   *
   * @param wasMine asked when an answer was lost and the claim is gone now: whether it was this call
   *   that removed it
   */
  async #settle(
    operations: readonly Operation[],
    limits: Limits,
    wasMine: (signal: AbortSignal) => Promise<boolean>,
  ): Promise<void> {
    if (this.#settled) throw new ConclaveError('RELEASED', `Job ${this.id} was settled before`);
    const { signal, unlink } = this.#patience(limits);
    this.#settled = true;
    this.#cancelDeadline();
    const txn = this.#session.client.kv
      .txn()
      .if(this.#fence)
      .then(op.delete(this.#key), ...operations);
    try {
      const { succeeded } = await this.#commit(txn, signal);
      const mine = succeeded || (this.#answerLost && (await wasMine(signal)));
      if (!mine) throw passedOn(this.id);
      this.#unfollow();
    } catch (error) {
      throw this.#unsettled(error, signal, limits.signal);
    } finally {
      unlink();
    }
  }

  /** Aborts when settling is over: the caller's patience, the claim's time, or the session. */
  #patience({ signal, timeout }: Limits): LinkedSignal {
    const { client, state, signal: sessionEnds } = this.#session;
    const timeoutMs =
      timeout === undefined ? Number.POSITIVE_INFINITY : parseDuration(timeout, 'timeout');
    // A session that ended before does not make a fenced attempt wrong, only unlikely to succeed.
    const link = linkedSignal(signal, state === 'lost' ? undefined : sessionEnds);
    const leftMs = this.#validUntilMs - client.clock.monotonicMs();
    const claimMs = state === 'lost' ? settlingPatienceMs : Math.max(settlingPatienceMs, leftMs);
    const tooLate = () => link.abort(timeoutMs < claimMs ? timedOut(this.id) : overdue(this.id));
    const cancel = client.clock.setTimer(Math.min(timeoutMs, claimMs), tooLate);
    const unlink = () => {
      cancel();
      link.unlink();
    };
    return { ...link, unlink };
  }

  async #commit(
    txn: Txn<Operations>,
    signal: AbortSignal,
  ): Promise<{ readonly succeeded: boolean }> {
    const { clock, random } = this.#session.client;
    for (let attempt = 0; ; attempt++) {
      throwIfAborted(signal);
      try {
        return await txn.commit({ signal });
      } catch (error) {
        if (!isConclaveError(error) || error.outcome !== 'not-applied') this.#answerLost = true;
        if (signal.aborted || !mayRepeat(error)) throw error;
      }
      await pause(clock, fullJitterMs(attempt, random), signal);
    }
  }

  /** After a failure: what to throw. Unless the claim is lost, the caller may try again. */
  #unsettled(error: unknown, ended: AbortSignal, callers: AbortSignal | undefined): unknown {
    if (isConclaveError(error, 'CLAIM_LOST')) return this.#lose(error);
    this.#settled = false;
    if (!this.signal.aborted) this.#armDeadline();
    const reason: unknown = ended.reason;
    const byCaller = !ended.aborted || callers?.aborted;
    if (byCaller || !isConclaveError(error) || !isConclaveError(reason)) return error;
    const outcome = this.#answerLost ? 'unknown' : 'not-applied';
    const why = new ConclaveError(reason.code, reason.message, { cause: error, outcome });
    return reason.code === 'CLAIM_LOST' ? this.#lose(why) : why;
  }

  /**
   * Whether this claim ended together with its job. Only its owner can do that: the fence of anyone
   * else names another create revision. The store's history tells, as far as it is kept.
   */
  async #endedWithoutJob(signal: AbortSignal): Promise<boolean> {
    const { kv } = this.#session.client;
    await using watch = kv.watch(this.#key, { from: this.token + 1n, puts: false, signal });
    let reason = 'the client was closed';
    for await (const notice of watch) {
      if (notice.type === 'reset') {
        reason = 'history was compacted';
        break;
      }
      if (notice.type !== 'events') continue;
      const job = await kv.get(this.#keys.job + this.id, { revision: notice.revision, signal });
      return job === null;
    }
    const message = `Whether job ${this.id} was acknowledged cannot be told: ${reason}`;
    throw new ConclaveError('OUTCOME_UNKNOWN', message);
  }

  #armDeadline(): void {
    this.#cancelDeadline();
    const { clock } = this.#session.client;
    const leftMs = Math.max(0, this.#validUntilMs - clock.monotonicMs());
    this.#cancelDeadline = clock.setTimer(leftMs, () => this.#lose(overdue(this.id)));
  }

  #lose(reason: ConclaveError): ConclaveError {
    this.#cancelDeadline();
    this.#unfollow();
    if (!this.#lost.signal.aborted) this.#lost.abort(reason);
    return reason;
  }
}

/** A job that left by nack is back in the queue, whether this call or a sweep put it there. */
const itIsBack = () => Promise.resolve(true);

const passedOn = (id: string) =>
  new ConclaveError('CLAIM_LOST', `The claim on job ${id} ended before it was settled`);

const timedOut = (id: string) =>
  new ConclaveError('TIMEOUT', `Job ${id} could not be settled in the time given`);

const overdue = (id: string) =>
  new ConclaveError('CLAIM_LOST', `The claim on job ${id} was not extended in time`);
