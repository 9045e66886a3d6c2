/**
 * One worker's hold on one job. Everything it does is fenced by the claim's create revision, so a
 * worker that lost its claim can change nothing: neither the job nor another worker's claim.
 *
 * The deadline needs no common clock: whoever sweeps counts from when it saw the claim's last change,
 * which is later than when this worker sent it.
 */

import type { Codec } from '../../sdk/codec.ts';
import {
  ConclaveError,
  type ErrorCode,
  invalidArgument,
  isConclaveError,
  throwIfAborted,
} from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type CallOptions, type Duration, parseDuration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, type Operations, op, type Txn, type TxnResult } from '../../sdk/txn.ts';
import { checkOptions, timeLimits } from '../common/option-checks.ts';
import { closingPatienceMs, fullJitterMs, mayRepeat, pause } from '../common/repeat.ts';
import { onAbort } from '../common/signals.ts';
import { type QueueKeys, unescapeName } from '../names.ts';
import { checkCall, checkText } from './checks.ts';
import { type ChildResult, childResults } from './child-results.ts';
import {
  acknowledged,
  type ClaimAndOrder,
  dead,
  discarded,
  type Ending,
  type KeptResult,
  leaving,
  putBack,
  stopped,
} from './claim-endings.ts';
import { overdue, passedOn, settledBefore } from './claim-errors.ts';
import { endedWithoutJob } from './claim-history.ts';
import { JobStoppedError } from './job.ts';
import { availableMs, type ClaimState, encodeState } from './job-record.ts';
import { keyMemory } from './key-memory.ts';
import { passOn } from './pass-on.ts';
import { settlingPatience } from './settling-patience.ts';
import { readOrder, type StopOrder } from './stop-order.ts';

export type { KeptResult } from './claim-endings.ts';

export type NackOptions = CallOptions & {
  /** Not again before this much later. @default 0 */
  readonly delay?: Duration;
  /** What went wrong, for people. */
  readonly error?: string;
};

export type ClaimGrant = {
  readonly id: string;
  readonly createRevision: bigint;
  readonly state: ClaimState;
  /** On the client's monotonic clock: when the transaction that claimed was first sent. */
  readonly sentMs: number;
};

type PreparedEnding = (signal: AbortSignal) => Promise<Ending>;

/** Bounds calls that would otherwise repeat until the store answers or the claim is over. */
type Limits = Pick<CallOptions, 'signal' | 'timeout'>;

const knownNack = { ...timeLimits, delay: true, error: true } as const;
const knownAck = { ...timeLimits, forParent: true } as const;
const knownDead = { ...timeLimits, error: true } as const;
const knownDiscard = { ...timeLimits, reason: true } as const;
const knownResult = { bytes: true, lease: true } as const;

/**
 * With `await using`, a job that is not settled at the end of the block goes back as if its claim had
 * run out, only at once.
 */
export class Claim<T> implements AsyncDisposable {
  readonly id: string;
  /** Which claim of this job it is: 1 for the first. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly pushedAt: Date;
  /** Fencing token: rises with each claim of the job. */
  readonly token: bigint;
  /**
   * Aborts when the claim is lost (CLAIM_LOST, SESSION_LOST), and when the job is to stop: with a
   * JobStoppedError, whose claim is still to be settled.
   */
  readonly signal: AbortSignal;
  readonly #session: Session;
  readonly #keys: QueueKeys;
  readonly #key: string;
  readonly #decode: () => T;
  /** Called once, when the claim is settled or lost. */
  #ended: (lost?: ErrorCode) => void;
  readonly #over = new AbortController();
  /** Why the claim was lost. */
  #loss: ConclaveError | undefined;
  #order: StopOrder | undefined;
  #unfollow: () => void = () => undefined;
  #state: ClaimState;
  #validUntilMs: number;
  #cancelDeadline: () => void = () => undefined;
  #settled = false;
  /** Whether an attempt to settle may have taken effect unnoticed. */
  #answerLost = false;

  /** @param ended hears once that the claim is settled, or why it was lost */
  constructor(
    session: Session,
    keys: QueueKeys,
    grant: ClaimGrant,
    decode: () => T,
    ended: (lost?: ErrorCode) => void,
  ) {
    const { state } = grant;
    this.id = grant.id;
    this.attempt = state.attempts;
    this.maxAttempts = state.attemptsMax;
    this.pushedAt = new Date(state.pushedMs);
    this.token = grant.createRevision;
    this.signal = this.#over.signal;
    this.#session = session;
    this.#keys = keys;
    this.#key = keys.claim + grant.id;
    this.#decode = decode;
    this.#ended = ended;
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

  /** Whether it was an order to stop that aborted the signal: the job is dropped when it is settled. */
  get order(): StopOrder | undefined {
    return this.#order;
  }

  get isLost(): boolean {
    return this.#loss !== undefined;
  }

  /** How long an attempt may take, if the producer said so. */
  get timeoutMs(): number | undefined {
    return this.#state.timeoutMs;
  }

  /** The name of its group. */
  get group(): string | undefined {
    const { group } = this.#state;
    return group === undefined ? undefined : unescapeName(group);
  }

  get priority(): number {
    return this.#state.priority ?? 0;
  }

  /** Whether another job waits for this one's result. */
  get hasParent(): boolean {
    return this.#state.parent !== undefined;
  }

  /** When the job became available, by the wall clocks of those who pushed or delayed it. */
  get availableMs(): number {
    return availableMs(this.#state);
  }

  /** @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED; looks at the clock, not the store */
  assertHeld(): void {
    if (this.#settled) throw settledBefore(this.id);
    if (this.#session.client.clock.monotonicMs() >= this.#validUntilMs)
      this.#lose(overdue(this.id));
    this.signal.throwIfAborted();
    if (this.#session.state === 'lost') this.#session.assertLive();
  }

  /**
   * Finishes the job: removes it and frees its dedup key, or lets that be remembered. Repeated until the store answers, but not
   * beyond the claim's deadline (or two seconds, if that passed before).
   *
   * @throws ConclaveError CLAIM_LOST when the job passed to another worker or the deadline passed,
   *   SESSION_LOST; RELEASED when this claim was settled before, OUTCOME_UNKNOWN when history that
   *   could tell was compacted; INVALID_ARGUMENT. `outcome` is 'unknown' if it may have taken effect
   */
  async ack(
    kept?: KeptResult,
    limits: Limits & { readonly forParent?: string } = {},
  ): Promise<void> {
    if (kept !== undefined) checkOptions<KeptResult>(kept, knownResult, 'kept');
    checkOptions(limits, knownAck);
    const { dedup, keyForMs } = this.#state;
    if (dedup === undefined || keyForMs === undefined) {
      return this.#acknowledge(acknowledged(kept, limits.forParent), limits);
    }
    const memory = keyMemory(this.#session.client, keyForMs);
    for (let repeated = false; ; repeated = true) {
      let lease: bigint | undefined;
      try {
        return await this.#acknowledge(async (signal) => {
          lease = await memory.current(signal);
          return acknowledged(kept, limits.forParent, lease);
        }, limits);
      } catch (error) {
        // At the second time it is the lease of the result that is gone, which is the caller's.
        if (lease === undefined || repeated || !isConclaveError(error, 'LEASE_NOT_FOUND'))
          throw error;
        memory.forget(lease);
      }
    }
  }

  #acknowledge(ending: Ending | PreparedEnding, limits: Limits): Promise<void> {
    return this.#settle(ending, limits, (signal) =>
      endedWithoutJob(this.#session.client.kv, this.#keys, this, signal),
    );
  }

  /**
   * Puts the job back, now or after a delay. The attempt stays counted. Like all that puts a job
   * back, it drops the job instead if that was ordered to stop.
   *
   * @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED, INVALID_ARGUMENT
   */
  async nack(options: NackOptions = {}): Promise<void> {
    checkOptions<NackOptions>(options, knownNack);
    checkText(options.error, 'error');
    const delayMs = options.delay === undefined ? 0 : parseDuration(options.delay, 'delay');
    const dueMs = delayMs === 0 ? undefined : this.#session.client.clock.wallMs() + delayMs;
    const { error } = options;
    const failed = error === undefined ? {} : { error };
    const ending = putBack(this.token, dueMs, (state) => ({ ...state, ...failed }));
    return this.#settle(ending, options, itIsBack);
  }

  /** Puts the job back as if it had not been claimed: its handler did not fail. */
  async giveBack(limits: Limits = {}): Promise<void> {
    checkCall(limits);
    const ending = putBack(this.token, undefined, (state) => ({
      ...state,
      attempts: Math.max(0, state.attempts - 1),
    }));
    return this.#settle(ending, limits, itIsBack);
  }

  /**
   * Gives the job up: makes it a dead letter.
   *
   * @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED, INVALID_ARGUMENT
   */
  async dead(
    reason: string,
    options: CallOptions & { readonly error?: string } = {},
  ): Promise<void> {
    checkOptions(options, knownDead);
    const { error, ...limits } = options;
    if (typeof reason !== 'string') throw invalidArgument('reason', reason, 'a text');
    checkText(error, 'error');
    const { clock, kv } = this.#session.client;
    const why = { reason, deadMs: clock.wallMs(), ...(error === undefined ? {} : { error }) };
    return this.#settle(
      dead(why),
      limits,
      async (signal) =>
        (await kv.get(this.#keys.dead + this.id, { signal })) !== null ||
        (await endedWithoutJob(this.#session.client.kv, this.#keys, this, signal)),
    );
  }

  /** Drops the job for good, payload and all, because it failed. */
  async discard(limits: Limits & { readonly reason?: string } = {}): Promise<void> {
    checkOptions(limits, knownDiscard);
    checkText(limits.reason, 'reason');
    const ending = discarded(limits.reason ?? 'discarded');
    return this.#settle(ending, limits, (signal) =>
      endedWithoutJob(this.#session.client.kv, this.#keys, this, signal),
    );
  }

  /**
   * Unless the job is settled or lost, puts it back with its attempt counted, or, after its last
   * attempt, makes it a dead letter. Idempotent; never rejects: if the store does not answer, the
   * claim runs out.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#settled || this.isLost) return;
    const error = 'its consumer left it unsettled';
    const limits = { timeout: closingPatienceMs, error };
    const reason = `attempt ${this.attempt} of ${this.maxAttempts} failed: ${error}`;
    const left = this.attempt < this.maxAttempts ? this.nack(limits) : this.dead(reason, limits);
    await left.catch(() => undefined);
  }

  /** Drops a job that was ordered to stop. @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED */
  async stop(limits: Limits = {}): Promise<void> {
    checkCall(limits);
    return this.#settle(stopped, limits, (signal) =>
      endedWithoutJob(this.#session.client.kv, this.#keys, this, signal),
    );
  }

  /** How the children ended that this job has waited for. One exchange. @throws ConclaveError CODEC */
  children<R>(codec?: Codec<R>, options?: CallOptions): Promise<readonly ChildResult<R>[]> {
    return childResults(this.#session.client, this.#keys, this.id, codec, options);
  }

  /** Looks whether the job was ordered to stop; aborts the signal then. One exchange. */
  async look(limits: Limits = {}): Promise<void> {
    checkCall(limits);
    this.#heed(await this.#session.client.kv.get(this.#keys.cancel + this.id, limits));
  }

  /**
   * Starts the visibility period anew, with a new progress note if given.
   *
   * @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED, INVALID_ARGUMENT
   */
  async extend(progress?: unknown, limits: Limits = {}): Promise<void> {
    checkCall(limits);
    if (this.#settled) throw settledBefore(this.id);
    if (this.isLost) this.signal.throwIfAborted();
    const { clock, kv } = this.#session.client;
    if (progress !== undefined) this.#state = { ...this.#state, progress };
    const sentMs = clock.monotonicMs();
    const result = await kv
      .txn()
      .if(this.#fence)
      .then(op.put(this.#key, encodeState(this.#state)), op.get(this.#keys.cancel + this.id))
      .commit(limits);
    // Settled meanwhile: then it is no loss that the claim is gone.
    if (this.#settled) return;
    if (!result.succeeded) throw this.#lose(passedOn(this.id));
    this.#validUntilMs = Math.max(this.#validUntilMs, sentMs + this.#state.visibilityMs);
    this.#armDeadline();
    this.#heed(result.responses[1]);
  }

  get #fence() {
    return compare.createRevision(this.#key, '==', this.token);
  }

  /** Takes note of an order to stop. */
  #heed(kv: KeyValue | null): void {
    if (kv === null || this.#order !== undefined) return;
    this.#order = readOrder(kv);
    if (!this.signal.aborted) this.#over.abort(new JobStoppedError(this.id, this.#order));
  }

  /**
   * Removes the claim with what goes along, if it still is this one.
   *
   * @param how what goes along, or what gets that ready in the time there is
   * @param wasMine asked when an answer was lost and the claim is gone now: whether it was this call
   *   that removed it
   */
  async #settle(
    how: Ending | PreparedEnding,
    limits: Limits,
    wasMine: (signal: AbortSignal) => Promise<boolean>,
  ): Promise<void> {
    if (this.#settled) throw settledBefore(this.id);
    const { signal, unlink } = settlingPatience(this.#session, this.id, this.#validUntilMs, limits);
    this.#settled = true;
    this.#cancelDeadline();
    const { kv } = this.#session.client;
    const leaver = { kv, keys: this.#keys, id: this.id, state: this.#state, token: this.token };
    try {
      const ending = typeof how === 'function' ? await how(signal) : how;
      for (let order: KeyValue | null = null; ; ) {
        const result: TxnResult<Operations, ClaimAndOrder> = await this.#commit(
          leaving(ending, leaver, order),
          signal,
        );
        if (result.succeeded) {
          if (ending.finishes || order !== null) {
            await passOn(this.#session.client, leaver, result.responses, signal);
          }
          break;
        }
        const [claim, given]: readonly (KeyValue | null)[] = result.responses;
        if (claim?.createRevision === this.token) {
          // Somebody gave, changed or withdrew an order meanwhile.
          order = given ?? null;
          this.#heed(order);
          continue;
        }
        if (this.#answerLost && (await wasMine(signal))) break;
        throw passedOn(this.id);
      }
      this.#unfollow();
      this.#end();
    } catch (error) {
      throw this.#unsettled(error, signal, limits.signal);
    } finally {
      unlink();
    }
  }

  async #commit<Then extends Operations, Else extends Operations>(
    txn: Txn<Then, Else>,
    signal: AbortSignal,
  ): Promise<TxnResult<Then, Else>> {
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
    if (this.#loss) this.#lose(this.#loss);
    else this.#armDeadline();
    const reason: unknown = ended.reason;
    const byCaller = !ended.aborted || callers?.aborted;
    if (byCaller || !isConclaveError(error) || !isConclaveError(reason)) return error;
    const outcome = this.#answerLost ? 'unknown' : 'not-applied';
    const why = new ConclaveError(reason.code, reason.message, { cause: error, outcome });
    return reason.code === 'CLAIM_LOST' ? this.#lose(why) : why;
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
    this.#loss ??= reason;
    // Being settled, it may be settled all the same: whether it is lost is known when that has ended.
    if (!this.#settled || reason.code === 'CLAIM_LOST') this.#end(reason.code);
    if (!this.signal.aborted) this.#over.abort(reason);
    return reason;
  }

  #end(lost?: ErrorCode): void {
    const ended = this.#ended;
    this.#ended = () => undefined;
    ended(lost);
  }
}

/** A job that left by nack is back in the queue, whether this call or a sweep put it there. */
const itIsBack = () => Promise.resolve(true);
