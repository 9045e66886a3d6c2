/**
 * Claiming jobs one at a time: what a worker is built on, for programs that want to decide
 * themselves when to claim, acknowledge and sweep.
 */

import type { Client } from '../../sdk/client.ts';
import { type Codec, decodeWith, json } from '../../sdk/codec.ts';
import { type ErrorCode, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import type { Duration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import { op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { durationOfAtLeast } from '../common/durations.ts';
import { measureHold } from '../common/measured-hold.ts';
import { checkOptions, checkSignal } from '../common/option-checks.ts';
import { closingPatienceMs, mayRepeat, pause, untilAnswered } from '../common/repeat.ts';
import { SessionKeeper } from '../common/session-keeper.ts';
import { delayedSignal, linkedSignal, unlessAborted } from '../common/signals.ts';
import { TxnsTogether } from '../common/txns-together.ts';
import { type QueueKeys, queueKeys, randomId } from '../names.ts';
import { checkCodec } from './checks.ts';
import { Claim } from './claim.ts';
import { type Attempt, claimAttempt } from './claim-attempt.ts';
import { ClaimRate } from './claim-rate.ts';
import { availableMs, type ClaimState } from './job-record.ts';
import { KnownLimits, type QueueLimits } from './queue-limits.ts';
import { ReadyWindow } from './ready-window.ts';
import { SlotBoard } from './slot-board.ts';
import { Sweeper, type Swept } from './sweep.ts';

export type ConsumerOptions<T> = {
  /** How payloads are written. @default JSON */
  readonly codec?: Codec<T>;
  /** How long a claim may stay without being extended before others may take the job. @default '30s' */
  readonly visibility?: Duration;
  /** Claims of a job before it becomes a dead letter, unless its producer said otherwise. @default 5 */
  readonly maxAttempts?: number;
  /** What all clients of the queue keep to, stored once. @default those that are stored */
  readonly limits?: QueueLimits;
};

const knownOptions = { codec: true, visibility: true, maxAttempts: true, limits: true } as const;

/** Jobs claimed in one exchange at most. */
export const claimsAtOnce = 32;

/** The key that says a worker lives; claims are taken and kept only while it is there. */
type Enlisted = { readonly session: Session; readonly worker: string };

export class QueueConsumer<T> implements AsyncDisposable {
  readonly name: string;
  readonly visibilityMs: number;
  readonly maxAttempts: number;
  readonly keys: QueueKeys;
  readonly window: ReadyWindow;
  readonly slots: SlotBoard;
  readonly #limits: KnownLimits;
  readonly #rate: ClaimRate;
  readonly #context: RecipeContext;
  readonly #codec: Codec<T>;
  readonly #keeper: SessionKeeper;
  readonly #sweeper: Sweeper;
  readonly #together: TxnsTogether;
  readonly #closing = new AbortController();
  #enlisted: Enlisted | undefined;
  #enlisting: Promise<Enlisted> | undefined;
  #closed: Promise<void> | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: ConsumerOptions<T> = {}) {
    checkOptions<ConsumerOptions<T>>(options, knownOptions);
    checkCodec(options.codec);
    const { client } = context.session;
    this.name = name;
    this.keys = queueKeys(name);
    this.visibilityMs = durationOfAtLeast(options.visibility ?? '30s', 'visibility', '100ms');
    this.maxAttempts = options.maxAttempts ?? 5;
    if (!(Number.isInteger(this.maxAttempts) && this.maxAttempts > 0)) {
      throw invalidArgument('maxAttempts', options.maxAttempts, 'a whole number of at least 1');
    }
    this.window = new ReadyWindow(client, this.keys.ready);
    this.slots = new SlotBoard(client, this.keys.slot);
    this.#rate = new ClaimRate(client, this.keys);
    this.#limits = new KnownLimits(client, this.keys, options.limits);
    this.#context = context;
    this.#codec = options.codec ?? json<T>();
    this.#keeper = new SessionKeeper(context.session, 'shared');
    this.#sweeper = new Sweeper(client, this.keys);
    this.#together = new TxnsTogether(client, closingPatienceMs);
    context.background.add(this);
  }

  /**
   * The next job that can be had, or null when none is ready or as many run as may. Counts as an
   * attempt.
   *
   * @throws ConclaveError INVALID_ARGUMENT, CLOSED, ABORTED, MISMATCH, or what the store refuses for
   *   good
   */
  async claim(signal: AbortSignal = this.#closing.signal): Promise<Claim<T> | null> {
    const [claim] = await this.claimMany(1, signal);
    return claim ?? null;
  }

  /**
   * Up to so many of the next jobs, in one exchange if they are listed already; none when none is
   * ready.
   *
   * @param count 1 to 32
   * @throws ConclaveError INVALID_ARGUMENT, CLOSED, ABORTED, MISMATCH, or what the store refuses for
   *   good
   */
  async claimMany(
    count: number,
    signal: AbortSignal = this.#closing.signal,
  ): Promise<readonly Claim<T>[]> {
    if (!(Number.isInteger(count) && count >= 1 && count <= claimsAtOnce)) {
      throw invalidArgument('count', count, `a whole number from 1 to ${claimsAtOnce}`);
    }
    checkSignal(signal);
    await this.#limits.agree(signal);
    for (;;) {
      const enlisted = await this.#enlist(signal);
      const { concurrency, rate } = this.#limits.current;
      const paced = rate === undefined ? count : this.#rate.permits(rate, count);
      if (paced === 0) return [];
      const slots = concurrency === undefined ? undefined : this.slots.ask(paced, concurrency);
      try {
        if (slots?.length === 0) {
          if (await this.#slotsAreTaken(signal)) return [];
          continue;
        }
        const entries = await this.window.nextOf(slots?.length ?? paced, signal);
        if (entries.length === 0) return [];
        const claims = await this.#take(entries, slots, enlisted, signal);
        if (claims.length > 0) return claims;
      } finally {
        if (slots) this.slots.giveBack(slots);
      }
    }
  }

  /**
   * Returns abandoned jobs and makes due ones ready; the next claim may list anew. Workers do it by
   * themselves.
   *
   * @throws ConclaveError INVALID_ARGUMENT, ABORTED, or what the store refuses for good
   */
  async sweep(signal: AbortSignal = this.#closing.signal): Promise<Swept> {
    checkSignal(signal);
    this.window.mistrust();
    this.slots.mistrust();
    return this.#sweeper.sweep(signal);
  }

  /**
   * Ends the worker's enlistment: jobs it still has return to the line. Settle them before.
   * Idempotent; never rejects. Takes at most five seconds, also when the store does not answer.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    await this.#enlisting?.catch(() => undefined);
    const enlisted = this.#enlisted;
    if (enlisted && enlisted.session.state !== 'lost') {
      const key = this.keys.worker + enlisted.worker;
      // The key has this consumer's name: nobody else's can be there.
      const remove = async () => {
        await enlisted.session.client.kv.delete(key, { timeout: closingPatienceMs });
        return true;
      };
      await remove().catch(() => enlisted.session.reap(remove));
    }
    await this.#keeper.close();
    this.#context.background.delete(this);
  }

  async #enlist(signal: AbortSignal): Promise<Enlisted> {
    const session = await this.#keeper.live(signal);
    if (this.#enlisted?.session === session) return this.#enlisted;
    this.#enlisting ??= this.#enlistIn(session).finally(() => {
      this.#enlisting = undefined;
    });
    return unlessAborted(this.#enlisting, signal);
  }

  async #enlistIn(session: Session): Promise<Enlisted> {
    const { client, lease } = session;
    const worker = `${session.id}-${randomId(client.random)}`;
    const record = JSON.stringify({ v: 1, sinceMs: client.clock.wallMs(), meta: session.meta });
    const { signal } = this.#closing;
    await untilAnswered(
      client,
      () => client.kv.put(this.keys.worker + worker, record, { lease, signal }),
      signal,
    );
    this.#enlisted = { session, worker };
    return this.#enlisted;
  }

  /** How long the queue's rate lets nobody claim, as far as is known; 0 when it does not hold back. */
  get pausedMs(): number {
    const { rate } = this.#limits.current;
    return rate === undefined ? 0 : this.#rate.waitMs(rate);
  }

  /** Whether the queue's concurrency is limited, as far as is known. */
  get hasSlots(): boolean {
    return this.#limits.current.concurrency !== undefined;
  }

  /** Whether claims of the same consumer get in each other's way. */
  get isNarrow(): boolean {
    const { concurrency, rate } = this.#limits.current;
    return concurrency !== undefined || rate !== undefined;
  }

  /** Whether there is no slot for another job, as of now. */
  async #slotsAreTaken(signal: AbortSignal): Promise<boolean> {
    const { concurrency } = this.#limits.current;
    if (this.slots.isFresh || concurrency === undefined) return concurrency !== undefined;
    const { client } = this.#keeper;
    const read = client.kv
      .txn()
      .then(op.list({ prefix: this.keys.slot }, { keysOnly: true }), op.get(this.keys.limits));
    const { responses } = await untilAnswered(client, () => read.commit({ signal }), signal);
    const [taken, limits] = responses as readonly [ListResult, KeyValue | null];
    this.slots.see(taken.kvs);
    this.#limits.see(limits);
    return taken.kvs.length >= (this.#limits.current.concurrency ?? Number.POSITIVE_INFINITY);
  }

  /** Tries to claim these jobs; those that somebody else got are left out. */
  async #take(
    entries: readonly KeyValue[],
    slots: readonly number[] | undefined,
    { session, worker }: Enlisted,
    stop: AbortSignal,
  ): Promise<readonly Claim<T>[]> {
    const { client } = session;
    const { visibilityMs, maxAttempts } = this;
    const attempt = claimAttempt(client, this.keys, entries, {
      slots,
      limits: this.#limits,
      rate: this.#rate,
      claimedBy: { worker, visibilityMs, maxAttempts },
    });
    const sentMs = client.clock.monotonicMs();
    let outcome: Awaited<ReturnType<Attempt['commit']>>;
    try {
      outcome = await this.#untilTold(attempt, session, stop);
    } catch (error) {
      // Whatever became of them, the next try finds out.
      for (const entry of entries) this.window.putBack(entry);
      throw error;
    }
    if (outcome.slots) this.slots.see(outcome.slots);
    for (const entry of outcome.untried) this.window.putBack(entry);
    if (outcome.notEnlisted) {
      if (this.#enlisted?.worker === worker) this.#enlisted = undefined;
      // The session, too, will find out that its lease is gone; not in a tight loop.
      await pause(this.#keeper.client.clock, 50, stop);
      return [];
    }
    if (outcome.limits !== undefined) this.#limits.see(outcome.limits);
    if (outcome.rate !== undefined) this.#rate.see(outcome.rate);
    for (let lost = 0; lost < outcome.lost; lost++) {
      this.window.tried(false);
      this.#context.metrics.contended({ recipe: 'queue', name: this.name, kind: 'conflict' });
    }
    const claims: Claim<T>[] = [];
    for (const { id, createRevision, state, payload } of outcome.granted) {
      this.window.tried(true);
      const grant = { id, createRevision, state, sentMs };
      const decode = () => this.#decode(payload ?? new Uint8Array(), id);
      const ended = payload ? this.#measure(client, state) : () => undefined;
      const claim = new Claim<T>(session, this.#together, this.keys, grant, decode, ended);
      if (payload) claims.push(claim);
      // Somebody removed the payload by hand: there is nothing to work on.
      else await claim.discard();
    }
    return claims;
  }

  /**
   * Repeated only while the claim would be of use: a claim of a lost session is swept. Whoever stops
   * still waits a little for the answer, to give the job back rather than leave it claimed.
   */
  async #untilTold(attempt: Attempt, session: Session, stop: AbortSignal) {
    const { client } = session;
    try {
      return await attempt.commit((txn) => this.#together.commit(txn), stop);
    } catch (error) {
      if (!mayRepeat(error)) throw error;
    }
    const patience = delayedSignal(client.clock, stop, closingPatienceMs);
    const { signal, unlink } = linkedSignal(session.signal, patience.signal);
    try {
      return await untilAnswered(
        client,
        () => attempt.commit((txn) => txn.commit({ signal }), signal),
        signal,
      );
    } finally {
      unlink();
      patience.unlink();
    }
  }

  /** Reports a claim, and, when the result is called, its end. */
  #measure({ clock }: Client, state: ClaimState): (lost?: ErrorCode) => void {
    const { metrics } = this.#context;
    const measured = { recipe: 'queue', name: this.name } as const;
    const measureEnd = measureHold(metrics, clock, measured);
    const waitedMs = Math.max(0, clock.wallMs() - availableMs(state));
    metrics.waited({ ...measured, ms: waitedMs, outcome: 'acquired' });
    return (lost) => {
      // A session that is closed gives its jobs back, and loses none.
      if (lost === 'CLAIM_LOST' || lost === 'SESSION_LOST') {
        metrics.lost({ ...measured, reason: lost });
      }
      measureEnd();
    };
  }

  #decode(payload: Uint8Array, id: string): T {
    return decodeWith(this.#codec, payload, this.keys.job + id);
  }
}
