/** Pings on a silent connection, and its end when they are not answered. */

export type KeepAliveOptions = {
  /** Silence after which the peer is asked. */
  readonly intervalMs: number;
  /** How long it may take to say anything. */
  readonly timeoutMs: number;
  readonly ping: () => void;
  readonly onDead: () => void;
};

export class KeepAlive {
  readonly #options: KeepAliveOptions;
  #timer: NodeJS.Timeout;
  #isHeard = false;

  constructor(options: KeepAliveOptions) {
    this.#options = options;
    this.#timer = this.#after(options.intervalMs, this.#ask);
  }

  /** Something came from the peer. */
  heard(): void {
    this.#isHeard = true;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #after(delayMs: number, run: () => void): NodeJS.Timeout {
    return setTimeout(run, delayMs).unref();
  }

  readonly #ask = (): void => {
    const { intervalMs, timeoutMs, ping } = this.#options;
    const wasHeard = this.#isHeard;
    this.#isHeard = false;
    if (wasHeard) {
      this.#timer = this.#after(intervalMs, this.#ask);
      return;
    }
    ping();
    this.#timer = this.#after(timeoutMs, this.#judge);
  };

  readonly #judge = (): void => {
    if (this.#isHeard) this.#ask();
    else this.#options.onDead();
  };
}
