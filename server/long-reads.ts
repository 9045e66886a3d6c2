/**
 * Reads that take longer than a moment: one slice of one of them in each turn of the event loop, however
 * many there are, so that requests, ticks and heartbeats keep their time.
 *
 * A few take turns, so that none waits for a very long one; the others wait, first come, first served.
 * If all took turns, all of many would be late.
 */
import type { Clock, Timers } from './ports.ts';
import { SLICE_MS } from './time-slice.ts';

const TAKING_TURNS = 4;

/** Runs a read for a slice at most. Returns whether it is over. */
type Slice = (endMs: number) => boolean;

export class LongReads {
  readonly #clock: Clock;
  readonly #timers: Timers;
  readonly #waiting: Slice[] = [];
  /** Whose turn is next is the first. */
  readonly #running: Slice[] = [];
  #isScheduled = false;

  constructor({ clock, timers }: { readonly clock: Clock; readonly timers: Timers }) {
    this.#clock = clock;
    this.#timers = timers;
  }

  /**
   * Runs a read to its end. Rejects with what it throws.
   *
   * @param next the next step of the read
   * @param check called before each slice; gives the read up by throwing
   */
  run<T>(next: () => IteratorResult<void, T>, check: () => void): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.push((endMs) => {
        try {
          check();
          do {
            const step = next();
            if (step.done === true) {
              resolve(step.value);
              return true;
            }
          } while (this.#clock.nowMs() < endMs);
          return false;
        } catch (error) {
          reject(error);
          return true;
        }
      });
      this.#goOn();
    });
  }

  #goOn(): void {
    while (this.#running.length < TAKING_TURNS) {
      const read = this.#waiting.shift();
      if (read === undefined) break;
      this.#running.push(read);
    }
    if (this.#isScheduled || this.#running.length === 0) return;
    this.#isScheduled = true;
    this.#timers.soon(() => {
      this.#isScheduled = false;
      this.#turn();
    });
  }

  #turn(): void {
    const read = this.#running.shift();
    if (read === undefined) return;
    const isOver = read(this.#clock.nowMs() + SLICE_MS);
    if (!isOver) this.#running.push(read);
    this.#goOn();
  }
}
