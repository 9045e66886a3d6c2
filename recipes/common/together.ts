/**
 * Does together what is asked for one by one: an exchange with the store costs the same for one and for
 * fifty. What is asked for in one turn goes along, and so does what comes while others are under way. What
 * is too much for one is dealt out evenly to two.
 */
import { afterPromises } from '../../sdk/clock.ts';

export class Together<Item> {
  readonly #most: number;
  readonly #work: (items: readonly Item[]) => Promise<void>;
  #waiting: Item[] = [];
  #underWay = 0;
  #isScheduled = false;

  /**
   * @param most so many at a time
   * @param work must not reject: it tells each item how it went
   */
  constructor(most: number, work: (items: readonly Item[]) => Promise<void>) {
    this.#most = most;
    this.#work = work;
  }

  add(item: Item): void {
    this.#waiting.push(item);
    if (this.#isScheduled || this.#underWay >= underWayMost) return;
    this.#isScheduled = true;
    void this.#beginSoon();
  }

  async #beginSoon(): Promise<void> {
    await new Promise<void>(afterPromises);
    // What is asked for may itself have come together first.
    await new Promise<void>(afterPromises);
    this.#isScheduled = false;
    this.#begin();
  }

  /** Takes back what waits, for who does not want to wait for what is under way. */
  takeWaiting(): readonly Item[] {
    return this.#waiting.splice(0);
  }

  #begin(): void {
    const free = underWayMost - this.#underWay;
    const parts = Math.min(free, Math.ceil(this.#waiting.length / this.#most));
    if (parts === 0) return;
    const items = this.#waiting.splice(0, parts * this.#most);
    for (let part = 0; part < parts; part++) {
      this.#underWay += 1;
      void this.#work(items.filter((_, index) => index % parts === part)).finally(() => {
        this.#underWay -= 1;
        this.#begin();
      });
    }
  }
}

/** Exchanges at a time: while the store works on one, the answer to the other is dealt with. */
export const underWayMost = 2;
