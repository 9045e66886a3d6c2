/** Time as an argument, so that tests can move it by hand. */

/** Stops a timer. Doing so twice, or after it fired, has no effect. */
export type Cancel = () => void;

export interface Clock {
  /** Milliseconds since an arbitrary start; never goes backward, may stand still while suspended. */
  monotonicMs(): number;
  /** Milliseconds since 1970; may be set forward and backward. */
  wallMs(): number;
  /** Runs `callback` once, `delayMs` from now. Does not keep the process alive. */
  setTimer(delayMs: number, callback: () => void): Cancel;
}

/** Node's longest timer; a longer one would fire at once. */
const longestTimerMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, callback) {
    const timer = setTimeout(callback, Math.min(delayMs, longestTimerMs));
    timer.unref();
    return () => clearTimeout(timer);
  },
};
