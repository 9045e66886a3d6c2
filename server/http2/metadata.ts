/** The metadata of a call: the header fields that are not gRPC's or HTTP's own. */

const NONE: readonly string[] = [];

export class CallMetadata {
  static readonly EMPTY = new CallMetadata([]);
  /** Names and values in turn. */
  readonly #pairs: readonly string[];

  constructor(pairs: readonly string[]) {
    this.#pairs = pairs;
  }

  /** The values as they came, binary ones in base64; `name` in lower case. */
  get(name: string): readonly string[] {
    let values = NONE;
    for (let at = 0; at < this.#pairs.length; at += 2) {
      if (this.#pairs[at] === name) values = [...values, this.#pairs[at + 1] ?? ''];
    }
    return values;
  }
}
