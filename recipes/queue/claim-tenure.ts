/**
 * The time of one claim, from its grant until it is settled or lost: when it runs out, what it hears
 * from the store, and the one way to settle it. Everything it does is fenced by the claim's create
 * revision.
 *
 * The deadline needs no common clock: whoever sweeps counts from when it saw the claim's last change,
 * which is later than when this worker sent it.
 */
import {
  ConclaveError,
  type ErrorCode,
  isConclaveError,
  throwIfAborted,
} from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { CallOptions } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, type Operations, op, type Txn, type TxnResult } from '../../sdk/txn.ts';
import { LazyEnd } from '../common/lazy-end.ts';
import { fullJitterMs, mayRepeat, pause } from '../common/repeat.ts';
import { onAbort } from '../common/signals.ts';
import type { TxnsTogether } from '../common/txns-together.ts';
import type { QueueKeys } from '../names.ts';
import { type ClaimAndOrder, type Ending, leaving, leavingBlindly } from './claim-endings.ts';
import { overdue, passedOn, settledBefore } from './claim-errors.ts';
import { JobStoppedError } from './job.ts';
import { type ClaimState, encodeState } from './job-record.ts';
import { passOn } from './pass-on.ts';
import { settlingPatience } from './settling-patience.ts';
import { readOrder, type StopOrder } from './stop-order.ts';

export type ClaimGrant = {
  readonly id: string;
  readonly createRevision: bigint;
  readonly state: ClaimState;
  /** On the client's monotonic clock: when the transaction that claimed was first sent. */
  readonly sentMs: number;
};

/** What gets an ending ready, in the time there is to settle. */
export type PreparedEnding = (signal: AbortSignal) => Promise<Ending>;

/** Bounds calls that would otherwise repeat until the store answers or the claim is over. */
export type Limits = Pick<CallOptions, 'signal' | 'timeout'>;

export type SettlingLimits = Limits & {
  /** Bounds the repetitions only: the first try is short, and may go together with others. */
  readonly patience?: AbortSignal;
};

export class ClaimTenure {
  readonly id: string;
  readonly token: bigint;
  readonly #session: Session;
  readonly #together: TxnsTogether;
  readonly #keys: QueueKeys;
  readonly #key: string;
  /** Called once, when the claim is settled or lost. */
  #ended: (lost?: ErrorCode) => void;
  /** Aborts when the claim is lost, and when the job is to stop: with a JobStoppedError. */
  readonly over = new LazyEnd();
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

  /**
   * @param together where claims of the same consumer are settled together
   * @param ended hears once that the claim is settled, or why it was lost
   */
  constructor(
    session: Session,
    together: TxnsTogether,
    keys: QueueKeys,
    { id, createRevision, state, sentMs }: ClaimGrant,
    ended: (lost?: ErrorCode) => void,
  ) {
    this.id = id;
    this.token = createRevision;
    this.#session = session;
    this.#together = together;
    this.#keys = keys;
    this.#key = keys.claim + id;
    this.#ended = ended;
    this.#state = state;
    this.#validUntilMs = sentMs + state.visibilityMs;
    this.#armDeadline();
    const { signal } = session;
    this.#unfollow = onAbort(signal, () => this.#lose(signal.reason as ConclaveError));
  }

  /** As far as this worker has written it. */
  get state(): ClaimState {
    return this.#state;
  }

  /** The order to stop that aborted the signal, if one did. */
  get order(): StopOrder | undefined {
    return this.#order;
  }

  get isLost(): boolean {
    return this.#loss !== undefined;
  }

  /** Settled, or being settled. */
  get isSettled(): boolean {
    return this.#settled;
  }

  /** @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED; looks at the clock, not the store */
  assertHeld(): void {
    if (this.#settled) throw settledBefore(this.id);
    if (this.#session.client.clock.monotonicMs() >= this.#validUntilMs)
      this.#lose(overdue(this.id));
    if (this.over.isOver) throw this.over.reason;
    if (this.#session.state === 'lost') this.#session.assertLive();
  }

  /** Looks whether the job was ordered to stop. One exchange. */
  async look(limits: Limits): Promise<void> {
    this.#heed(await this.#session.client.kv.get(this.#keys.cancel + this.id, limits));
  }

  /**
   * Starts the visibility period anew, with a new progress note if given.
   *
   * @throws ConclaveError CLAIM_LOST, SESSION_LOST, RELEASED
   */
  async extend(progress: unknown, limits: Limits): Promise<void> {
    if (this.#settled) throw settledBefore(this.id);
    if (this.isLost) throw this.over.reason;
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

  /**
   * Removes the claim with what goes along, if it still is this one.
   *
   * @param how what goes along, or what gets that ready in the time there is
   * @param wasMine asked when an answer was lost and the claim is gone now: whether it was this call
   *   that removed it
   */
  async settle(
    how: Ending | PreparedEnding,
    limits: SettlingLimits,
    wasMine: (signal: AbortSignal) => Promise<boolean>,
  ): Promise<void> {
    if (this.#settled) throw settledBefore(this.id);
    this.#settled = true;
    this.#cancelDeadline();
    const { kv } = this.#session.client;
    const leaver = { kv, keys: this.#keys, id: this.id, state: this.#state, token: this.token };
    if (
      typeof how !== 'function' &&
      (await this.#settleTogether(leavingBlindly(how, leaver, null), limits))
    ) {
      this.#unfollow();
      this.#end();
      return;
    }
    const { signal, unlink } = settlingPatience(this.#session, this.id, this.#validUntilMs, limits);
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
      throw this.#unsettled(error, signal, limits.signal ?? limits.patience);
    } finally {
      unlink();
    }
  }

  /**
   * Together with other claims, unless others wait for this job or somebody is impatient.
   *
   * @returns whether that has settled it; if not, it is settled alone
   */
  async #settleTogether(txn: Txn<Operations>, limits: SettlingLimits): Promise<boolean> {
    const { group, dedup, parent, isParent } = this.#state;
    const isOneOfMany = group === undefined && dedup === undefined && parent === undefined;
    const isPatient = limits.signal === undefined && limits.timeout === undefined;
    if (!(isOneOfMany && !isParent && isPatient && this.#session.state !== 'lost')) return false;
    if (bytesOf(txn) > sharedBytes) return false;
    try {
      return (await this.#together.commit(txn)).succeeded;
    } catch (error) {
      if (!isConclaveError(error) || error.outcome !== 'not-applied') this.#answerLost = true;
      return false;
    }
  }

  get #fence() {
    return compare.createRevision(this.#key, '==', this.token);
  }

  /** Takes note of an order to stop. */
  #heed(kv: KeyValue | null): void {
    if (kv === null || this.#order !== undefined) return;
    this.#order = readOrder(kv);
    const order = this.#order;
    this.over.end(() => new JobStoppedError(this.id, order));
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
    this.over.end(() => reason);
    return reason;
  }

  #end(lost?: ErrorCode): void {
    const ended = this.#ended;
    this.#ended = () => undefined;
    ended(lost);
  }
}

/** Larger ones go alone, so that those that go together stay far below what servers take. */
const sharedBytes = 4 * 1024;

/** Of the values that it writes. */
const bytesOf = ({ parts }: Txn<Operations>): number =>
  parts.success.reduce(
    (bytes, operation) => bytes + (operation.kind === 'put' ? operation.value.length : 0),
    0,
  );
