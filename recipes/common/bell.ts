/** Wakes waiters: each ring wakes one, and rings that nobody waits for are kept for the next ones. */
import { onAbort } from './signals.ts';

export class Bell {
  readonly #waiters = new Set<() => void>();
  readonly #keepAtMost: number;
  #kept = 0;

  constructor(keepAtMost: number) {
    this.#keepAtMost = keepAtMost;
  }

  ring(times = 1): void {
    for (let rung = 0; rung < times; rung++) {
      const [waiter] = this.#waiters;
      if (waiter === undefined) {
        this.#kept = Math.min(this.#keepAtMost, this.#kept + times - rung);
        return;
      }
      this.#waiters.delete(waiter);
      waiter();
    }
  }

  /** Resolves at the next ring, or when the signal aborts. */
  heard(signal: AbortSignal): Promise<void> {
    if (this.#kept > 0 || signal.aborted) {
      this.#kept = Math.max(0, this.#kept - 1);
      return Promise.resolve();
    }
    return new Promise((resolve) => {
      const wake = () => {
        stopListening();
        resolve();
      };
      this.#waiters.add(wake);
      const stopListening = onAbort(signal, () => {
        this.#waiters.delete(wake);
        resolve();
      });
    });
  }
}
