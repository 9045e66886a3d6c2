/**
 * Time as an argument, so that tests can move it by hand and simulations can make it up. Only this file
 * asks the system for it.
 */

/** Stops a timer. Doing so twice, or after it fired, has no effect. */
export type Cancel = () => void;

export interface Clock {
  /** Milliseconds since an arbitrary start; never goes backward, may stand still while suspended. */
  monotonicMs(): number;
  /** Milliseconds since 1970; may be set forward and backward. */
  wallMs(): number;
  /**
   * Runs `callback` once, `delayMs` from now.
   *
   * @param holdsProcess whether the process stays alive for it; by default it may end before
   */
  setTimer(delayMs: number, callback: () => void, holdsProcess?: boolean): Cancel;
}

/** Node's longest timer, of 24.8 days; a longer one would fire at once. */
const longestTimerMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  monotonicMs: () => performance.now(),
  wallMs: () => Date.now(),
  setTimer(delayMs, callback, holdsProcess = false) {
    let timer: NodeJS.Timeout;
    const arm = (leftMs: number): void => {
      const isLast = leftMs <= longestTimerMs;
      timer = isLast
        ? setTimeout(callback, leftMs)
        : setTimeout(() => arm(leftMs - longestTimerMs), longestTimerMs);
      if (!holdsProcess) timer.unref();
    };
    arm(delayMs);
    return () => clearTimeout(timer);
  },
};

/** Nanoseconds that count alike in all threads of this process, as `monotonicMs` of one does not. */
export const threadNs = (): bigint => process.hrtime.bigint();

/**
 * Runs `callback` when all has run that promises settled by now have set going; called by a timer or from
 * outside rather than by a promise, it runs before that.
 */
export const afterPromises = (callback: () => void): void => {
  process.nextTick(callback);
};

/** Runs `callback` when all that is ready in this turn of the event loop has run. */
export const afterThisTurn = (callback: () => void): void => {
  setImmediate(callback);
};
