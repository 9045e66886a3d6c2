/**
 * What the peer may still send, on a stream or on the connection (RFC 9113 section 5.2).
 *
 * The peer gets room back when half of the window is used up: early enough that it need not wait, and
 * seldom enough that it costs nothing.
 */
export class ReceiveWindow {
  readonly #size: number;
  #left: number;
  #released = 0;

  constructor(size: number) {
    this.#size = size;
    this.#left = size;
  }

  /** False when the peer was not allowed to send that much. */
  receive(bytes: number): boolean {
    this.#left -= bytes;
    return this.#left >= 0;
  }

  /** Received bytes that take no room any more. Returns by how much the peer is to be told now, or 0. */
  release(bytes: number): number {
    this.#released += bytes;
    if (this.#released * 2 < this.#size) return 0;
    const increment = this.#released;
    this.#released = 0;
    this.#left += increment;
    return increment;
  }
}
