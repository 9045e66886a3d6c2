/**
 * Every choice of a run, by the site that made it and how often that site had been asked before.
 *
 * A choice that equals the site's default is the dull one: the message arrives, nothing crashes. A
 * run is replayed from its other choices alone, so a schedule stays meaningful when some of them are
 * taken away: that is what shrinking does.
 */
import { RandomStream, type StreamName } from './random.ts';

/** By site: ordinal and choice of everything that was not the default. */
export type Schedule = ReadonlyMap<string, ReadonlyMap<number, number>>;

const NOTHING: ReadonlyMap<number, number> = new Map();

export class Site {
  readonly #stream: RandomStream;
  readonly #record: Map<number, number> | undefined;
  readonly #replay: ReadonlyMap<number, number> | undefined;
  #asked = 0;

  constructor(
    stream: RandomStream,
    record: Map<number, number> | undefined,
    replay: ReadonlyMap<number, number> | undefined,
  ) {
    this.#stream = stream;
    this.#record = record;
    this.#replay = replay;
  }

  /** Uniform in [0, bound); 0 by default. */
  below(bound: number): number {
    const at = this.#asked++;
    if (this.#replay !== undefined) return Math.min(this.#replay.get(at) ?? 0, bound - 1);
    const choice = this.#stream.below(bound);
    if (choice !== 0) this.#record?.set(at, choice);
    return choice;
  }

  /** Uniform in [1, count]; 0, which means to do nothing, only by default. */
  pick(count: number): number {
    const at = this.#asked++;
    if (this.#replay !== undefined) return Math.min(this.#replay.get(at) ?? 0, count);
    const choice = 1 + this.#stream.below(count);
    this.#record?.set(at, choice);
    return choice;
  }

  /** False by default. */
  chance(probability: number): boolean {
    const at = this.#asked++;
    if (this.#replay !== undefined) return this.#replay.get(at) === 1;
    if (probability <= 0 || this.#stream.fraction() > probability) return false;
    this.#record?.set(at, 1);
    return true;
  }

  /** A whole number, exponentially distributed; the mean by default. */
  exponential(mean: number): number {
    const at = this.#asked++;
    if (this.#replay !== undefined) return this.#replay.get(at) ?? Math.round(mean);
    const choice = Math.round(-Math.log(this.#stream.fraction()) * mean);
    this.#record?.set(at, choice);
    return choice;
  }
}

export type DecisionMode =
  | { readonly kind: 'free' }
  /** Keeps what was chosen, for `recorded`. */
  | { readonly kind: 'record' }
  | { readonly kind: 'replay'; readonly schedule: Schedule };

export class Decisions {
  readonly seed: number;
  readonly #mode: DecisionMode;
  readonly #streams = new Map<StreamName, RandomStream>();
  readonly #sites = new Map<string, Site>();
  readonly #recorded = new Map<string, Map<number, number>>();

  constructor(seed: number, mode: DecisionMode) {
    this.seed = seed;
    this.#mode = mode;
  }

  /** The site of this name. In a schedule the name of its stream comes first. */
  site(stream: StreamName, what: string): Site {
    const name = `${stream} ${what}`;
    const known = this.#sites.get(name);
    if (known !== undefined) return known;
    let record: Map<number, number> | undefined;
    if (this.#mode.kind === 'record') {
      record = new Map();
      this.#recorded.set(name, record);
    }
    const replay =
      this.#mode.kind === 'replay' ? (this.#mode.schedule.get(name) ?? NOTHING) : undefined;
    const site = new Site(this.#stream(stream), record, replay);
    this.#sites.set(name, site);
    return site;
  }

  /** What a run in mode `record` chose. */
  get recorded(): Schedule {
    return new Map([...this.#recorded].filter(([, choices]) => choices.size > 0));
  }

  #stream(name: StreamName): RandomStream {
    const known = this.#streams.get(name);
    if (known !== undefined) return known;
    const stream = new RandomStream(this.seed, name);
    this.#streams.set(name, stream);
    return stream;
  }
}
