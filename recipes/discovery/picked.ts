/** An instance in use, and what came of it. */
import type { Instance } from './instance.ts';

/**
 * End it when the work is done, by whichever fits: strategies count what is in flight, and outliers
 * are found by what failed. The first end counts; later ones do nothing, so that `done()` followed by
 * `fail()` in a handler for errors is harmless.
 */
export interface Picked<M> extends Disposable {
  readonly instance: Instance<M>;
  readonly isEnded: boolean;
  /** The instance did what it was asked. */
  done(): void;
  /** It did not, and it may be its own fault. */
  fail(error?: unknown): void;
  /** The work is over, and nothing is said of how it went; so does leaving a `using` scope. */
  release(): void;
}

export type Verdict = 'done' | 'failed' | 'unknown';

export class Pick<M> implements Picked<M> {
  readonly instance: Instance<M>;
  readonly #onEnd: (verdict: Verdict) => void;
  #isEnded = false;

  constructor(instance: Instance<M>, onEnd: (verdict: Verdict) => void) {
    this.instance = instance;
    this.#onEnd = onEnd;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  done(): void {
    this.#end('done');
  }

  fail(): void {
    this.#end('failed');
  }

  release(): void {
    this.#end('unknown');
  }

  [Symbol.dispose](): void {
    this.#end('unknown');
  }

  #end(verdict: Verdict): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#onEnd(verdict);
  }
}
