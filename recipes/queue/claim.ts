/**
 * One worker's hold on one job: what it may do with it, and the ways to settle it. Everything is
 * fenced by the claim's create revision, so a worker that lost its claim can change nothing: neither
 * the job nor another worker's claim. See `claim-tenure.ts`.
 */
import type { Codec } from '../../sdk/codec.ts';
import { type ErrorCode, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import { type CallOptions, type Duration, parseDuration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import { checkOptions, timeLimits } from '../common/option-checks.ts';
import { closingPatienceMs } from '../common/repeat.ts';
import type { TxnsTogether } from '../common/txns-together.ts';
import { type QueueKeys, unescapeName } from '../names.ts';
import { checkCall, checkText } from './checks.ts';
import { type ChildResult, childResults } from './child-results.ts';
import {
  acknowledged,
  dead,
  discarded,
  type Ending,
  type KeptResult,
  putBack,
  stopped,
} from './claim-endings.ts';
import { endedWithoutJob } from './claim-history.ts';
import {
  type ClaimGrant,
  ClaimTenure,
  type Limits,
  type PreparedEnding,
  type SettlingLimits,
} from './claim-tenure.ts';
import { availableMs } from './job-record.ts';
import { keyMemory } from './key-memory.ts';
import type { StopOrder } from './stop-order.ts';

export type { KeptResult } from './claim-endings.ts';

export type NackOptions = CallOptions & {
  /** Not again before this much later. @default 0 */
  readonly delay?: Duration;
  /** What went wrong, for people. */
  readonly error?: string;
};

const knownNack = { ...timeLimits, delay: true, error: true } as const;
const knownAck = { ...timeLimits, forParent: true, patience: true } as const;
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
  readonly #session: Session;
  readonly #keys: QueueKeys;
  readonly #decode: () => T;
  readonly #tenure: ClaimTenure;

  /** @param ended hears once that the claim is settled, or why it was lost */
  constructor(
    session: Session,
    together: TxnsTogether,
    keys: QueueKeys,
    grant: ClaimGrant,
    decode: () => T,
    ended: (lost?: ErrorCode) => void,
  ) {
    const { state } = grant;
    this.#session = session;
    this.#keys = keys;
    this.#decode = decode;
    this.#tenure = new ClaimTenure(session, together, keys, grant, ended);
    this.id = grant.id;
    this.attempt = state.attempts;
    this.maxAttempts = state.attemptsMax;
    this.pushedAt = new Date(state.pushedMs);
    this.token = grant.createRevision;
  }

  /**
   * Aborts when the claim is lost (CLAIM_LOST, SESSION_LOST), and when the job is to stop: with a
   * JobStoppedError, whose claim is still to be settled.
   */
  get signal(): AbortSignal {
    return this.#tenure.over.signal;
  }

  /** Runs `listener` when the signal aborts, or at once when it has. */
  onStop(listener: () => void): void {
    this.#tenure.over.onEnd(listener);
  }

  /** Why the signal aborted, if it did. */
  get stopReason(): unknown {
    return this.#tenure.over.reason;
  }

  /** @throws ConclaveError CODEC */
  get data(): T {
    return this.#decode();
  }

  get visibilityMs(): number {
    return this.#tenure.state.visibilityMs;
  }

  /** Whether it was an order to stop that aborted the signal: the job is dropped when it is settled. */
  get order(): StopOrder | undefined {
    return this.#tenure.order;
  }

  get isLost(): boolean {
    return this.#tenure.isLost;
  }

  /** How long an attempt may take, if the producer said so. */
  get timeoutMs(): number | undefined {
    return this.#tenure.state.timeoutMs;
  }

  /** The name of its group. */
  get group(): string | undefined {
    const { group } = this.#tenure.state;
    return group === undefined ? undefined : unescapeName(group);
  }

  get priority(): number {
    return this.#tenure.state.priority ?? 0;
  }

  /** Whether another job waits for this one's result. */
  get hasParent(): boolean {
    return this.#tenure.state.parent !== undefined;
  }

  /** When the job became available, by the wall clocks of those who pushed or delayed it. */
  get availableMs(): number {
    return availableMs(this.#tenure.state);
  }

  /** @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED; looks at the clock, not the store */
  assertHeld(): void {
    this.#tenure.assertHeld();
  }

  /**
   * Finishes the job: removes it and frees its dedup key, or lets that be remembered. Repeated until
   * the store answers, but not beyond the claim's deadline (or two seconds, if that passed before).
   *
   * @throws ConclaveError CLAIM_LOST when the job passed to another worker or the deadline passed,
   *   SESSION_LOST; RELEASED when this claim was settled before, OUTCOME_UNKNOWN when history that
   *   could tell was compacted; INVALID_ARGUMENT. `outcome` is 'unknown' if it may have taken effect
   */
  async ack(
    kept?: KeptResult,
    limits: SettlingLimits & { readonly forParent?: string } = {},
  ): Promise<void> {
    if (kept !== undefined) checkOptions<KeptResult>(kept, knownResult, 'kept');
    checkOptions(limits, knownAck);
    const { dedup, keyForMs } = this.#tenure.state;
    if (dedup === undefined || keyForMs === undefined) {
      return this.#finish(acknowledged(kept, limits.forParent), limits);
    }
    const memory = keyMemory(this.#session.client, keyForMs);
    for (let repeated = false; ; repeated = true) {
      let lease: bigint | undefined;
      try {
        return await this.#finish(async (signal) => {
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
    return this.#tenure.settle(ending, options, itIsBack);
  }

  /** Puts the job back as if it had not been claimed: its handler did not fail. */
  async giveBack(limits: Limits = {}): Promise<void> {
    checkCall(limits);
    const ending = putBack(this.token, undefined, (state) => ({
      ...state,
      attempts: Math.max(0, state.attempts - 1),
    }));
    return this.#tenure.settle(ending, limits, itIsBack);
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
    return this.#tenure.settle(
      dead(why),
      limits,
      async (signal) =>
        (await kv.get(this.#keys.dead + this.id, { signal })) !== null ||
        (await this.#endedWithoutJob(signal)),
    );
  }

  /** Drops the job for good, payload and all, because it failed. */
  async discard(limits: Limits & { readonly reason?: string } = {}): Promise<void> {
    checkOptions(limits, knownDiscard);
    checkText(limits.reason, 'reason');
    return this.#finish(discarded(limits.reason ?? 'discarded'), limits);
  }

  /**
   * Unless the job is settled or lost, puts it back with its attempt counted, or, after its last
   * attempt, makes it a dead letter. Idempotent; never rejects: if the store does not answer, the
   * claim runs out.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#tenure.isSettled || this.isLost) return;
    const error = 'its consumer left it unsettled';
    const limits = { timeout: closingPatienceMs, error };
    const reason = `attempt ${this.attempt} of ${this.maxAttempts} failed: ${error}`;
    const left = this.attempt < this.maxAttempts ? this.nack(limits) : this.dead(reason, limits);
    await left.catch(() => undefined);
  }

  /** Drops a job that was ordered to stop. @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED */
  async stop(limits: Limits = {}): Promise<void> {
    checkCall(limits);
    return this.#finish(stopped, limits);
  }

  /** How the children ended that this job has waited for. One exchange. @throws ConclaveError CODEC */
  children<R>(codec?: Codec<R>, options?: CallOptions): Promise<readonly ChildResult<R>[]> {
    return childResults(this.#session.client, this.#keys, this.id, codec, options);
  }

  /** Looks whether the job was ordered to stop; aborts the signal then. One exchange. */
  async look(limits: Limits = {}): Promise<void> {
    checkCall(limits);
    await this.#tenure.look(limits);
  }

  /**
   * Starts the visibility period anew, with a new progress note if given.
   *
   * @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED, INVALID_ARGUMENT
   */
  async extend(progress?: unknown, limits: Limits = {}): Promise<void> {
    checkCall(limits);
    await this.#tenure.extend(progress, limits);
  }

  /** Settles by what leaves no job behind, so that the job is what tells after a lost answer. */
  #finish(ending: Ending | PreparedEnding, limits: SettlingLimits): Promise<void> {
    return this.#tenure.settle(ending, limits, (signal) => this.#endedWithoutJob(signal));
  }

  #endedWithoutJob(signal: AbortSignal): Promise<boolean> {
    return endedWithoutJob(this.#session.client.kv, this.#keys, this, signal);
  }
}

/** A job that left by nack is back in the queue, whether this call or a sweep put it there. */
const itIsBack = () => Promise.resolve(true);
