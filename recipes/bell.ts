/** Wakes waiters: each ring wakes one, and a ring that nobody waits for is kept for the next. */
import { onAbort } from './signals.ts';

export class Bell {
  readonly #waiters = new Set<() => void>();
  #kept = false;

  ring(times = 1): void {
    for (let rung = 0; rung < times; rung++) {
      const [waiter] = this.#waiters;
      if (waiter === undefined) {
        this.#kept = true;
        return;
      }
      this.#waiters.delete(waiter);
      waiter();
    }
  }

  /** Resolves at the next ring, or when the signal aborts. */
  heard(signal: AbortSignal): Promise<void> {
    if (this.#kept || signal.aborted) {
      this.#kept = false;
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
