/** A hash of everything that happened, in order: equal seeds must give equal ones. */
export class TraceHash {
  #low = 0x811c9dc5;
  #high = 0x01000193;

  add(value: number): void {
    this.#low = Math.imul(this.#low ^ (value | 0), 0x01000193);
    this.#high = Math.imul(this.#high ^ this.#low ^ (value >>> 3), 0x85ebca6b);
    this.#high ^= this.#high >>> 15;
  }

  addText(text: string): void {
    for (let at = 0; at < text.length; at += 1) this.add(text.charCodeAt(at));
    this.add(text.length);
  }

  addBytes(bytes: Uint8Array): void {
    for (const byte of bytes) this.add(byte);
    this.add(bytes.length);
  }

  get hex(): string {
    const lane = (value: number): string => (value >>> 0).toString(16).padStart(8, '0');
    return lane(this.#high) + lane(this.#low);
  }
}
