/**
 * One call of the user, made as often as is safe and its time allows: on whichever link is there, under
 * one number where the server takes numbers.
 */
import type { Clock } from './clock.ts';
import { ConclaveError, closedError, isConclaveError } from './errors.ts';
import { isUnknownClient, judge } from './failures.ts';
import type { Link } from './link.ts';
import {
  type Effect,
  isNumbered,
  type MethodName,
  methods,
  type RequestOf,
  type ResponseOf,
} from './methods.ts';
import { type RetryPolicy, repeat } from './retry.ts';
import { TransportFailure } from './transport.ts';
import { type HeldNumber, memoryMs, type WriteNumbers } from './write-numbers.ts';

/** The connection, as far as a call needs it. */
export type Carrier = {
  readonly clock: Clock;
  readonly random: () => number;
  readonly retry: RetryPolicy;
  readonly requestTimeoutMs: number;
  readonly endpoints: readonly unknown[];
  /** The link in use, if one stands. */
  readonly active: Link | undefined;
  readonly closed: boolean;
  link(timeoutMs: number, signal?: AbortSignal): Promise<Link>;
  abandon(link: Link, error?: ConclaveError): void;
};

export type CallSettings = {
  readonly signal?: AbortSignal | undefined;
  /** @default the connection's request timeout */
  readonly timeoutMs?: number | undefined;
  /** @default by method */
  readonly effect?: Effect | undefined;
  /**
   * Told when an attempt that may have taken effect is about to be repeated, and its first answer will
   * not come back.
   */
  readonly onAmbiguous?: () => void;
};

export class PersistentCall<M extends MethodName> {
  readonly #connection: Carrier;
  readonly #numbers: WriteNumbers;
  readonly #method: M;
  readonly #request: RequestOf<M>;
  readonly #settings: CallSettings;
  readonly #effect: Effect;
  readonly #startedMs: number;
  readonly #deadlineMs: number;
  #wantsNumber: boolean;
  #number: HeldNumber | undefined;
  /** The last attempt failed in a way that allows another. */
  #again = false;
  /** An attempt may have taken effect. */
  #ambiguous = false;
  /** Why the attempt before the last failed. */
  #earlier: ConclaveError | undefined;

  constructor(
    connection: Carrier,
    numbers: WriteNumbers,
    method: M,
    request: RequestOf<M>,
    settings: CallSettings,
  ) {
    this.#connection = connection;
    this.#numbers = numbers;
    this.#method = method;
    this.#request = request;
    this.#settings = settings;
    this.#effect = settings.effect ?? methods[method].effect;
    this.#startedMs = connection.clock.monotonicMs();
    this.#deadlineMs = this.#startedMs + (settings.timeoutMs ?? connection.requestTimeoutMs);
    this.#wantsNumber = this.#effect !== 'read' && isNumbered(method);
  }

  /** Nearly every call is done with its first attempt, which needs no frame of an async function. */
  run(): Promise<ResponseOf<M>> {
    const link = this.#connection.active;
    if (link === undefined || !this.#hasNumberFor(link)) return this.#persist(this.#attempt());
    return this.#send(link).then(
      (response) => {
        this.#dropNumber();
        return response;
      },
      (failure) => this.#persist(Promise.reject(this.#failed(link, failure))),
    );
  }

  async #persist(first: Promise<ResponseOf<M>>): Promise<ResponseOf<M>> {
    try {
      try {
        return await first;
      } catch (error) {
        if (!this.#again) throw error;
      }
      const { retry: policy, clock, random } = this.#connection;
      return await repeat(() => this.#attempt(), {
        policy,
        clock,
        random,
        again: () => this.#again,
        remainingMs: () => this.#remainingMs,
        signal: this.#settings.signal,
      });
    } catch (error) {
      throw this.#explained(this.#honest(error));
    } finally {
      this.#dropNumber();
    }
  }

  get #remainingMs(): number {
    return Math.max(0, this.#deadlineMs - this.#connection.clock.monotonicMs());
  }

  async #attempt(): Promise<ResponseOf<M>> {
    this.#again = false;
    const { signal } = this.#settings;
    const connection = this.#connection;
    const link = connection.active ?? (await connection.link(this.#remainingMs, signal));
    try {
      if (!this.#hasNumberFor(link)) {
        this.#number = await this.#numbers.take(link, { timeoutMs: this.#remainingMs, signal });
      }
      return await this.#send(link);
    } catch (failure) {
      throw this.#failed(link, failure);
    }
  }

  /** Takes one, if one is wanted and can be had without waiting. */
  #hasNumberFor(link: Link): boolean {
    if (this.#wantsNumber) this.#number ??= this.#numbers.takeNow(link);
    return !this.#wantsNumber || this.#number !== undefined;
  }

  #send(link: Link): Promise<ResponseOf<M>> {
    return link.unary(this.#method, this.#request, {
      signal: this.#settings.signal,
      timeoutMs: this.#remainingMs,
      number: this.#number,
      movable: this.#currentEffect !== 'write',
    });
  }

  get #currentEffect(): Effect {
    return this.#number === undefined ? this.#effect : 'numbered';
  }

  #failed(link: Link, failure: unknown): ConclaveError {
    const connection = this.#connection;
    const effect = this.#currentEffect;
    const verdict = judge(failure, effect, this.#settings.signal, this.#ambiguous);
    if (connection.closed) return closedError(verdict.error);
    if (this.#number !== undefined && this.#isNumberRefused(failure))
      return this.#withoutThisNumber(verdict.error);
    const remembered = connection.clock.monotonicMs() - this.#startedMs < memoryMs;
    this.#again = verdict.again && (effect !== 'numbered' || remembered || !verdict.unsure);
    if (verdict.unsure) this.#ambiguous = true;
    if (this.#again) this.#earlier = verdict.error;
    if (this.#again && verdict.unsure && effect === 'repeatable') this.#settings.onAmbiguous?.();
    if (verdict.elsewhere && connection.endpoints.length > 1) {
      connection.abandon(link, verdict.error);
    }
    return verdict.error;
  }

  /** The number was refused: this attempt was not applied. */
  #isNumberRefused(failure: unknown): boolean {
    if (failure instanceof TransportFailure && failure.kind === 'unnumbered') {
      this.#wantsNumber = false;
      return true;
    }
    if (!isUnknownClient(failure) || this.#number === undefined) return false;
    this.#numbers.forget(this.#number.client);
    return true;
  }

  /** Under another number, or none, an earlier attempt that was applied would be applied again. */
  #withoutThisNumber(error: ConclaveError): ConclaveError {
    this.#dropNumber();
    this.#again = !this.#ambiguous;
    return this.#ambiguous ? unknownOutcome(error) : error;
  }

  /** Errors that come from between two attempts know nothing of the attempts before. */
  #honest(error: unknown): unknown {
    const mayBeApplied = this.#ambiguous && this.#effect !== 'read';
    if (!mayBeApplied || !isConclaveError(error) || error.cause instanceof TransportFailure) {
      return error;
    }
    if (error.outcome !== 'not-applied') return error;
    if (error.code === 'UNREACHABLE') return unknownOutcome(error);
    return new ConclaveError(error.code, error.message, { cause: error.cause, outcome: 'unknown' });
  }

  /** That the time is over says less than what used it up. */
  #explained(error: unknown): unknown {
    const earlier = this.#earlier;
    if (earlier === undefined || earlier === error || !isConclaveError(error, 'TIMEOUT')) {
      return error;
    }
    const limitMs = Math.round(this.#deadlineMs - this.#startedMs);
    return new ConclaveError(
      'TIMEOUT',
      `No success of ${this.#method} within ${limitMs} ms; it failed with: ${earlier.message}`,
      { cause: error, outcome: error.outcome },
    );
  }

  #dropNumber(): void {
    this.#number?.release();
    this.#number = undefined;
  }
}

const unknownOutcome = (cause: ConclaveError): ConclaveError =>
  new ConclaveError(
    'OUTCOME_UNKNOWN',
    `The write was sent but its answer was lost: ${cause.message}`,
    { cause },
  );
