/**
 * Numbers from 0, handed out lowest first and given back in any order. Which number comes next
 * depends only on which are taken, so members that agree on the one agree on the other.
 */
export class Slots {
  /** A bit for each number, set while it is taken. */
  readonly #words: number[] = [];
  #lowestFree = 0;
  #end = 0;

  /** One above the highest number ever taken. */
  get end(): number {
    return this.#end;
  }

  /** Takes the lowest free number. */
  take(): number {
    const slot = this.#lowestFree;
    this.occupy(slot);
    return slot;
  }

  /** Takes a number that is known to be free. */
  occupy(slot: number): void {
    const word = slot >>> 5;
    while (this.#words.length <= word) this.#words.push(0);
    this.#words[word] = (this.#words[word] ?? 0) | (1 << (slot & 31));
    this.#end = Math.max(this.#end, slot + 1);
    if (slot === this.#lowestFree) this.#lowestFree = this.#nextFree(word);
  }

  release(slot: number): void {
    const word = slot >>> 5;
    this.#words[word] = (this.#words[word] ?? 0) & ~(1 << (slot & 31));
    this.#lowestFree = Math.min(this.#lowestFree, slot);
  }

  /** A number that was taken before, but is not now. */
  note(slot: number): void {
    this.#end = Math.max(this.#end, slot + 1);
  }

  #nextFree(from: number): number {
    for (let word = from; word < this.#words.length; word += 1) {
      const free = ~(this.#words[word] ?? 0);
      if (free !== 0) return word * 32 + 31 - Math.clz32(free & -free);
    }
    return this.#words.length * 32;
  }
}
