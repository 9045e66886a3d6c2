/**
 * The many short-lived listeners of a signal that lives long: a place in a set for each, where adding
 * and removing listeners of the signal itself takes a time that grows with their number.
 */
import { onAbort } from './signals.ts';

const crowds = new WeakMap<AbortSignal, AbortCrowd>();

export class AbortCrowd {
  readonly #signal: AbortSignal;
  readonly #listeners = new Set<() => void>();
  /** While there are any. */
  #stopListening: () => void = () => undefined;

  private constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  static of(signal: AbortSignal): AbortCrowd {
    const known = crowds.get(signal);
    if (known) return known;
    const crowd = new AbortCrowd(signal);
    crowds.set(signal, crowd);
    return crowd;
  }

  /**
   * Runs `listener` once the signal aborts, or at once when it has.
   *
   * @param listener not one that listens already
   * @returns stops listening; calling it again does nothing
   */
  add(listener: () => void): () => void {
    if (this.#signal.aborted) {
      listener();
      return () => undefined;
    }
    this.#listeners.add(listener);
    if (this.#listeners.size === 1) this.#stopListening = onAbort(this.#signal, () => this.#tell());
    return () => {
      if (this.#listeners.delete(listener) && this.#listeners.size === 0) this.#stopListening();
    };
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) listener();
    this.#listeners.clear();
  }
}
