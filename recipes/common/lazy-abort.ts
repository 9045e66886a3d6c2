/**
 * What may be aborted and mostly ends well: its AbortSignal, which costs more than all else about a small
 * job, is made when somebody looks at it.
 */
import { expectManyListeners } from './signals.ts';

export class LazyAbort {
  #controller: AbortController | undefined;
  #aborted = false;
  #reason: unknown;
  #listeners: (() => void)[] = [];

  get aborted(): boolean {
    return this.#aborted;
  }

  get reason(): unknown {
    return this.#reason;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      expectManyListeners(this.#controller.signal);
      if (this.#aborted) this.#controller.abort(this.#reason);
    }
    return this.#controller.signal;
  }

  /** The first reason counts. */
  abort(reason: unknown): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#reason = reason;
    this.#controller?.abort(reason);
    for (const listener of this.#listeners.splice(0)) listener();
  }

  /** Runs `listener` once it aborts, or at once when it has. */
  heard(listener: () => void): void {
    if (this.#aborted) listener();
    else this.#listeners.push(listener);
  }
}
