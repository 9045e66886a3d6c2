/** The server's clock and timers, standing still until a test lets time pass. */
import type { Clock, Timers } from '../../server/ports.ts';

type Due = { readonly atMs: number; readonly order: number; readonly run: () => void };

export class VirtualTime implements Clock, Timers {
  #nowMs = 1_000;
  #order = 0;
  readonly #due = new Set<Due>();

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }

  after(delayMs: number, run: () => void): () => void {
    const due = { atMs: this.#nowMs + delayMs, order: this.#order++, run };
    this.#due.add(due);
    return () => this.#due.delete(due);
  }

  every(intervalMs: number, run: () => void): () => void {
    let cancel = () => {};
    const again = () => {
      cancel = this.after(intervalMs, () => {
        again();
        run();
      });
    };
    again();
    return () => cancel();
  }

  soon(run: () => void): void {
    this.after(0, run);
  }

  /** What runs now takes so long. */
  spend(ms: number): void {
    this.#nowMs += ms;
  }

  /** Everything due within the time runs, each at its moment, and what follows from it. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      await settled();
      const next = [...this.#due].sort((a, b) => a.atMs - b.atMs || a.order - b.order)[0];
      if (next === undefined || next.atMs > untilMs) break;
      this.#due.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.run();
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
    await settled();
  }
}

/** Promises that are resolved already have told whoever waits for them. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
