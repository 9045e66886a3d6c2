/**
 * The end of something that most often nobody waits for. The AbortSignal is made for the first who asks:
 * making one, and the error that is its reason, costs more than all the rest of a short hold.
 */
import { expectManyListeners, tellAll } from './signals.ts';

export class LazyEnd {
  /** Set at the end. */
  #reason: (() => unknown) | undefined;
  #controller: AbortController | undefined;
  readonly #listeners: (() => void)[] = [];

  get isOver(): boolean {
    return this.#reason !== undefined;
  }

  /** Of the end; undefined before it. */
  get reason(): unknown {
    return this.isOver ? this.signal.reason : undefined;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      expectManyListeners(this.#controller.signal);
      if (this.#reason !== undefined) this.#controller.abort(this.#reason());
    }
    return this.#controller.signal;
  }

  /** Only the first call counts. @param reason called when somebody asks for it */
  end(reason: () => unknown): void {
    if (this.#reason !== undefined) return;
    this.#reason = reason;
    this.#controller?.abort(reason());
    tellAll(this.#listeners.splice(0));
  }

  /** Runs the listener at the end, or now if that has come. */
  onEnd(listener: () => void): void {
    if (this.isOver) listener();
    else this.#listeners.push(listener);
  }

  /** @throws the reason, once it is over */
  throwIfOver(): void {
    if (this.isOver) this.signal.throwIfAborted();
  }
}
