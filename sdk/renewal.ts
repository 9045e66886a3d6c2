/**
 * Renewing one lease, as often as it takes. Runs wherever there is a connection: on the event loop of
 * the program, or in a thread of its own.
 */
import type { Cancel, Clock } from './clock.ts';
import type { Connection } from './connection.ts';
import { type ConclaveError, isConclaveError } from './errors.ts';
import { judge } from './failures.ts';
import { backoffMs } from './retry.ts';
import { type Deadline, elapsedMs, type Instant, instantOf } from './session-deadline.ts';

export type RenewalOptions = {
  readonly connection: Pick<
    Connection,
    'link' | 'endpoints' | 'random' | 'retry' | 'suspect' | 'abandon'
  >;
  readonly clock: Clock;
  readonly lease: bigint;
  /** By how much the lease outlives the deadline. */
  readonly lockDelayMs: number;
  /** Moved by each success. */
  readonly deadline: Deadline;
  /** Asked before each attempt; while it says no, nothing is sent. @default always yes */
  readonly mayRenew?: () => boolean;
  readonly onRenewed: (sentAt: Instant) => void;
  readonly onFailed: (error: ConclaveError | undefined) => void;
  /** The last call: the store does not know the lease, or the deadline has passed. */
  readonly onOver: (why: 'gone' | 'late') => void;
};

/** How soon it asks again whether it may renew. */
const restMs = 250;

export class Renewal {
  readonly #options: RenewalOptions;
  readonly #stop = new AbortController();
  /** Attempts that failed since the last that succeeded. */
  #failures = 0;
  #wake: (() => void) | undefined;

  constructor(options: RenewalOptions) {
    this.#options = options;
  }

  /** Ends when the lease is over, or on `stop`; never rejects. */
  async run(start: 'at once' | 'in due time'): Promise<void> {
    const { mayRenew = () => true } = this.#options;
    let delayMs = start === 'at once' ? 0 : this.#delayMs();
    for (;;) {
      await this.#sleep(delayMs);
      if (this.#isOver()) return;
      if (mayRenew()) {
        await this.#attempt();
        if (this.#isOver()) return;
        delayMs = this.#delayMs();
      } else {
        delayMs = Math.min(restMs, this.#options.deadline.ttlMs / 3);
      }
    }
  }

  /** Nothing is reported after this call. */
  stop(): void {
    this.#stop.abort();
    this.#wake?.();
  }

  #isOver(): boolean {
    if (this.#stop.signal.aborted) return true;
    if (this.#options.deadline.remainingMs > 0) return false;
    this.#end('late');
    return true;
  }

  #end(why: 'gone' | 'late'): void {
    this.stop();
    this.#options.onOver(why);
  }

  #delayMs(): number {
    const { deadline, connection } = this.#options;
    const third = deadline.ttlMs / 3;
    if (this.#failures === 0) return third * (0.8 + 0.2 * connection.random());
    return Math.min(third, backoffMs(connection.retry, this.#failures, connection.random));
  }

  /**
   * One attempt. It is given a third of the TTL, the wait for a link included, so that another one
   * fits in before the deadline.
   */
  async #attempt(): Promise<void> {
    const { connection, clock, lease, lockDelayMs, deadline } = this.#options;
    const { signal } = this.#stop;
    const limitMs = Math.max(1, Math.min(deadline.ttlMs / 3, deadline.remainingMs));
    const startedAt = instantOf(clock);
    try {
      const link = await connection.link(limitMs, signal);
      const sentAt = instantOf(clock);
      const timeoutMs = Math.max(1, limitMs - elapsedMs(clock, startedAt));
      let response: { readonly TTL: bigint };
      try {
        response = await link.unary('leaseKeepAlive', { ID: lease }, { signal, timeoutMs });
      } catch (failure) {
        const { error, elsewhere } = judge(failure, 'read', signal);
        // A link that does not answer in this time is no use to a session. One that came late had
        // less: it is asked again.
        const wasPatient = timeoutMs >= limitMs / 2;
        if (wasPatient && isConclaveError(error, 'TIMEOUT')) connection.suspect(link, error);
        else if (elsewhere && connection.endpoints.length > 1) connection.abandon(link, error);
        throw error;
      }
      if (!signal.aborted) this.#renewed(sentAt, Number(response.TTL) * 1_000 - lockDelayMs);
    } catch (error) {
      if (signal.aborted) return;
      this.#failures += 1;
      this.#options.onFailed(isConclaveError(error) ? error : undefined);
    }
  }

  #renewed(sentAt: Instant, ttlMs: number): void {
    if (ttlMs <= 0) {
      this.#end('gone');
      return;
    }
    this.#failures = 0;
    this.#options.deadline.renewed(sentAt, ttlMs);
    this.#options.onRenewed(sentAt);
  }

  /** Ends early on `stop`. */
  #sleep(delayMs: number): Promise<void> {
    if (this.#stop.signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      let cancel: Cancel = () => {};
      const done = () => {
        this.#wake = undefined;
        cancel();
        resolve();
      };
      this.#wake = done;
      cancel = this.#options.clock.setTimer(delayMs, done);
    });
  }
}
