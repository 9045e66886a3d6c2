/** What a loop yields while its consumer is busy, up to a number, so that it can be taken together. */
import { Bell } from '../common/bell.ts';

export class ReadAhead<E> {
  readonly #source: AsyncGenerator<E>;
  readonly #most: number;
  readonly #signal: AbortSignal;
  readonly #items: E[] = [];
  /** Either the reader waits for room or the taker for items, never both. */
  readonly #changed = new Bell(1);
  readonly #reading: Promise<void>;
  #isOver = false;
  #failure: { readonly error: unknown } | undefined;

  /** @param signal ends the source as well */
  constructor(source: AsyncGenerator<E>, most: number, signal: AbortSignal) {
    this.#source = source;
    this.#most = most;
    this.#signal = signal;
    this.#reading = this.#read();
  }

  /** The next ones, the first and those that fit with it; none when the source or the signal ended. */
  async take(fits: (item: E) => boolean): Promise<readonly E[]> {
    while (this.#items.length === 0 && !this.#isOver && !this.#signal.aborted) {
      await this.#changed.heard(this.#signal);
    }
    if (this.#failure !== undefined) throw this.#failure.error;
    const taken: E[] = [];
    for (let item = this.#items[0]; item !== undefined; item = this.#items[0]) {
      if (!fits(item) && taken.length > 0) break;
      taken.push(item);
      this.#items.shift();
    }
    this.#changed.ring();
    return taken;
  }

  /** Resolves when the source has ended, which the signal makes it do. */
  ended(): Promise<void> {
    return this.#reading;
  }

  async #read(): Promise<void> {
    try {
      for await (const item of this.#source) {
        this.#items.push(item);
        this.#changed.ring();
        while (this.#items.length >= this.#most && !this.#signal.aborted) {
          await this.#changed.heard(this.#signal);
        }
        if (this.#signal.aborted) break;
      }
    } catch (error) {
      this.#failure = { error };
    }
    this.#isOver = true;
    this.#changed.ring();
  }
}
