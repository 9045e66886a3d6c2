/** Those who wait until a write, or a later one, is confirmed. */
export class Confirmations {
  #waiters: { readonly sequence: number; settle(error?: unknown): void }[] = [];

  /** Resolves once the write with this sequence is confirmed; rejects with what `fail` is given. */
  wait(sequence: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiters.push({
        sequence,
        settle: (error) => (error === undefined ? resolve() : reject(error)),
      });
    });
  }

  /** Every write up to this sequence is confirmed. */
  confirm(sequence: number): void {
    const done = this.#waiters.filter((waiter) => waiter.sequence <= sequence);
    this.#waiters = this.#waiters.filter((waiter) => waiter.sequence > sequence);
    for (const waiter of done) waiter.settle();
  }

  /** No more writes will be. */
  fail(error: unknown): void {
    for (const waiter of this.#waiters.splice(0)) waiter.settle(error);
  }
}
