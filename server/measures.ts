/**
 * What a member counts and times, as plain numbers. Whoever exposes them reads them when asked: so
 * measuring costs next to nothing, and a member starts without the library that exposes.
 */

export type Labels = Readonly<Record<string, string>>;

/** Something that can be read at any time, under its name. */
export type Measure = { readonly name: string; readonly help: string } & (
  | {
      readonly type: 'counter' | 'gauge';
      /** @default none */
      readonly labelNames?: readonly string[];
      readonly read: () => Iterable<readonly [labels: Labels, value: number]>;
    }
  | { readonly type: 'histogram'; readonly distribution: Distribution }
);

/** Without labels: one number. */
export const single = (value: number): readonly [readonly [Labels, number]] => [[{}, value]];

const keyOf = (labels: Labels): string => Object.values(labels).join('\0');

/** A number for each combination of labels. All have the same names, in the same order. */
export class Tally {
  readonly labelNames: readonly string[];
  readonly #values = new Map<string, [Labels, number]>();

  constructor(...labelNames: readonly string[]) {
    this.labelNames = labelNames;
    if (labelNames.length === 0) this.set({}, 0);
  }

  add(labels: Labels = {}, by = 1): void {
    const known = this.#values.get(keyOf(labels));
    if (known === undefined) this.set(labels, by);
    else known[1] += by;
  }

  set(labels: Labels, value: number): void {
    this.#values.set(keyOf(labels), [labels, value]);
  }

  [Symbol.iterator](): Iterator<readonly [labels: Labels, value: number]> {
    return this.#values.values();
  }
}

/** What was observed with the same labels. */
export type Observed = {
  readonly labels: Labels;
  /** Values up to each bound and above the one before; those above the last bound are only counted. */
  readonly buckets: number[];
  sum: number;
  count: number;
};

/** How often values fell between which bounds, for each combination of labels. */
export class Distribution {
  /** Ascending. */
  readonly bounds: readonly number[];
  readonly #observed = new Map<string, Observed>();

  constructor(bounds: readonly number[], ...labelNames: readonly string[]) {
    this.bounds = bounds;
    if (labelNames.length === 0) this.#of({});
  }

  observe(value: number, labels: Labels = {}): void {
    const observed = this.#of(labels);
    observed.sum += value;
    observed.count += 1;
    const bucket = this.bounds.findIndex((bound) => value <= bound);
    if (bucket >= 0) observed.buckets[bucket] = (observed.buckets[bucket] ?? 0) + 1;
  }

  #of(labels: Labels): Observed {
    const key = keyOf(labels);
    const known = this.#observed.get(key);
    if (known !== undefined) return known;
    const observed = { labels, buckets: this.bounds.map(() => 0), sum: 0, count: 0 };
    this.#observed.set(key, observed);
    return observed;
  }

  [Symbol.iterator](): Iterator<Observed> {
    return this.#observed.values();
  }
}
