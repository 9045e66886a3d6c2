/** What runs in the background of one session and ends before it, also what comes too late. */
import type { Background } from './context.ts';

export class BackgroundParts extends Set<Background> {
  readonly #late = new Set<Promise<void>>();
  #isClosing = false;

  /** Once closing has begun the part is closed at once: nobody else would ever do it. */
  override add(part: Background): this {
    super.add(part);
    if (this.#isClosing) {
      // Not before its constructor has ended.
      const closing = Promise.resolve()
        .then(() => part.close())
        .catch(() => undefined)
        .finally(() => {
          this.delete(part);
          this.#late.delete(closing);
        });
      this.#late.add(closing);
    }
    return this;
  }

  /** Closes all, and what they or others add meanwhile. Never rejects. */
  async close(): Promise<void> {
    this.#isClosing = true;
    await Promise.allSettled([...this].map((part) => part.close()));
    while (this.#late.size > 0) await Promise.allSettled(this.#late);
  }
}
