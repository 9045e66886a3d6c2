/**
 * One generator per purpose. A fault that draws once more must not shift what the clients do, so the
 * network, the disks, the nemesis, the clients and the protocol never share a sequence.
 */
export type StreamName = 'knobs' | 'network' | 'disk' | 'nemesis' | 'client' | 'protocol';

/** sfc32: 128 bits of state, fast, and the same on every machine. */
export class RandomStream {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: number, name: string) {
    let mixed = 0x9e3779b9 ^ seed;
    const next = (value: number): number => {
      mixed = Math.imul(mixed ^ value, 0x85ebca6b);
      mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
      mixed ^= mixed >>> 16;
      return mixed | 0;
    };
    for (let at = 0; at < name.length; at += 1) next(name.charCodeAt(at));
    this.#a = next(Math.floor(seed / 0x1_0000_0000));
    this.#b = next(1);
    this.#c = next(2);
    for (let round = 0; round < 12; round += 1) this.uint32();
  }

  uint32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** Uniform in [0, bound). */
  below(bound: number): number {
    return Math.floor((this.uint32() / 0x1_0000_0000) * bound);
  }

  /** Uniform in (0, 1]. */
  fraction(): number {
    return (this.uint32() + 1) / 0x1_0000_0000;
  }
}
