/**
 * How long a lease certainly lives, as far as this process can know: from the moment the last
 * successful renewal was *sent*, not when its answer came. Elapsed time is the larger of what two
 * clocks say: the monotonic one may stand still while a machine sleeps, the wall clock may be set back.
 */
import type { Clock } from './clock.ts';

/** A point in time on both clocks. */
export type Instant = { readonly monotonicMs: number; readonly wallMs: number };

export const instantOf = (clock: Clock): Instant => ({
  monotonicMs: clock.monotonicMs(),
  wallMs: clock.wallMs(),
});

export const elapsedMs = (clock: Clock, since: Instant): number =>
  Math.max(clock.monotonicMs() - since.monotonicMs, clock.wallMs() - since.wallMs);

/** Kept back from the TTL for clocks that run at different rates. */
const marginMs = (ttlMs: number): number => Math.min(1_000, ttlMs / 10);

export class Deadline {
  readonly #clock: Clock;
  #sentAt: Instant;
  #ttlMs: number;

  constructor(clock: Clock, sentAt: Instant, ttlMs: number) {
    this.#clock = clock;
    this.#sentAt = sentAt;
    this.#ttlMs = ttlMs;
  }

  get ttlMs(): number {
    return this.#ttlMs;
  }

  /** A renewal sent at `sentAt` has succeeded. Answers may overtake each other: the latest counts. */
  renewed(sentAt: Instant, ttlMs: number): void {
    if (sentAt.monotonicMs < this.#sentAt.monotonicMs) return;
    this.#sentAt = sentAt;
    this.#ttlMs = ttlMs;
  }

  /** On the monotonic clock. */
  get validUntilMs(): number {
    return this.#sentAt.monotonicMs + this.#ttlMs - marginMs(this.#ttlMs);
  }

  /** Since the last successful renewal was sent. */
  get ageMs(): number {
    return elapsedMs(this.#clock, this.#sentAt);
  }

  get remainingMs(): number {
    return this.#ttlMs - marginMs(this.#ttlMs) - this.ageMs;
  }

  /** Two renewals in a row should have succeeded by now. */
  get overdue(): boolean {
    return this.ageMs > (this.#ttlMs * 2) / 3;
  }
}
