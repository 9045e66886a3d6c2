/** How often something happens in each turn of the event loop in which it happens at all. */
export class CountByTurn {
  readonly counts: number[] = [];
  readonly #afterTurn: (run: () => void) => void;
  #isCounting = false;

  /** @param afterTurn on virtual time turns follow one another as microtasks */
  constructor(afterTurn: (run: () => void) => void = setImmediate) {
    this.#afterTurn = afterTurn;
  }

  count(): void {
    if (!this.#isCounting) {
      this.#isCounting = true;
      this.counts.push(0);
      this.#afterTurn(() => {
        this.#isCounting = false;
      });
    }
    this.counts.push((this.counts.pop() ?? 0) + 1);
  }
}
