/** A binary heap of leases by expiry. Each lease knows its place, so moving one is O(log n). */
export type Scheduled = {
  expiresAtMs: number;
  /** Place in the heap; -1 while not in it. */
  place: number;
};

export class ExpiryHeap<Item extends Scheduled> {
  readonly #items: Item[] = [];

  /** The item that expires first. */
  get first(): Item | undefined {
    return this.#items[0];
  }

  /** Adds an item, or moves it after its expiry changed. */
  schedule(item: Item): void {
    if (item.place === -1) {
      item.place = this.#items.length;
      this.#items.push(item);
    }
    this.#up(item);
    this.#down(item);
  }

  /** Takes an item out; one that is not in stays out. */
  remove(item: Item): void {
    const { place } = item;
    if (place === -1) return;
    item.place = -1;
    const last = this.#items.pop();
    if (last === undefined || last === item) return;
    this.#set(last, place);
    this.#up(last);
    this.#down(last);
  }

  #set(item: Item, place: number): void {
    this.#items[place] = item;
    item.place = place;
  }

  #up(item: Item): void {
    let { place } = item;
    while (place > 0) {
      const parentPlace = (place - 1) >> 1;
      const parent = this.#items[parentPlace];
      if (parent === undefined || parent.expiresAtMs <= item.expiresAtMs) break;
      this.#set(parent, place);
      place = parentPlace;
    }
    this.#set(item, place);
  }

  #down(item: Item): void {
    let { place } = item;
    for (;;) {
      const leftPlace = 2 * place + 1;
      const left = this.#items[leftPlace];
      if (left === undefined) break;
      const right = this.#items[leftPlace + 1];
      const isRight = right !== undefined && right.expiresAtMs < left.expiresAtMs;
      const child = isRight ? right : left;
      if (child.expiresAtMs >= item.expiresAtMs) break;
      const childPlace = child.place;
      this.#set(child, place);
      place = childPlace;
    }
    this.#set(item, place);
  }
}
