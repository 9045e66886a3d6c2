/**
 * Whether a disk is so quick that waiting for a write costs less than handing it to another thread and
 * being woken when it is done: two changes of threads cost 0.1 to 0.3 ms, a flush of a small write to an
 * SSD about as much.
 *
 * After a stall writes go through the thread pool, until they have been quick again for a while. A file
 * of which nothing is known yet is taken for quick.
 */

/** Milliseconds that an event loop may be blocked by a write. */
const QUICK_MS = 1;
/** What one write counts for in the mean: a stall of 100 ms is forgotten after some ten writes. */
const WEIGHT = 1 / 4;

export class WritePace {
  #meanMs = 0;

  get isQuick(): boolean {
    return this.#meanMs <= QUICK_MS;
  }

  /** @param durationMs of a write, whichever way it went */
  took(durationMs: number): void {
    this.#meanMs += (durationMs - this.#meanMs) * WEIGHT;
  }
}
