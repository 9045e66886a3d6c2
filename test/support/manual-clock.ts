/** A clock that stands still until a test moves it. */
import type { Cancel, Clock } from '../../sdk/clock.ts';

type Timer = { readonly dueMs: number; readonly callback: () => void };

export class ManualClock implements Clock {
  #monotonicMs = 1_000;
  #wallMs = 1_700_000_000_000;
  readonly #timers = new Set<Timer>();

  monotonicMs(): number {
    return this.#monotonicMs;
  }

  wallMs(): number {
    return this.#wallMs;
  }

  setTimer(delayMs: number, callback: () => void): Cancel {
    const timer = { dueMs: this.#monotonicMs + delayMs, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  get timers(): number {
    return this.#timers.size;
  }

  /** Time passes; timers fire in their order, each at its time. */
  advance(ms: number): void {
    const untilMs = this.#monotonicMs + ms;
    for (;;) {
      const due = [...this.#timers]
        .filter(({ dueMs }) => dueMs <= untilMs)
        .sort((a, b) => a.dueMs - b.dueMs)[0];
      if (due === undefined) break;
      this.#timers.delete(due);
      this.freeze(Math.max(0, due.dueMs - this.#monotonicMs));
      due.callback();
    }
    this.freeze(untilMs - this.#monotonicMs);
  }

  /** Time passes and no timer fires, as for a process that is stopped or blocked. */
  freeze(ms: number): void {
    this.#monotonicMs += ms;
    this.#wallMs += ms;
  }

  /** The machine sleeps: only the wall clock goes on. */
  sleep(ms: number): void {
    this.#wallMs += ms;
  }
}
