/**
 * The changes of one log entry while it is being applied: what will be written, the events of its
 * revision, and a view in which later operations of the entry read the earlier ones' writes.
 *
 * The view is a small map over the state. An entry of one operation never reads its own writes, so it is
 * told not to build the map.
 */
import type { Counted, Write } from '../ports.ts';
import type { CreationOrders, Creations } from './creation-orders.ts';
import { successor } from './keys.ts';
import { OwnWrites } from './own-writes.ts';
import type { Bytes, Event, RangeRequest, Revision } from './types.ts';

/** What the store reads: the forward part of `StateReader`. */
export interface ForwardReader {
  get(key: Bytes): Bytes | undefined;
  scan(
    start: Bytes,
    end: Bytes | undefined,
    options: { readonly limit: number },
  ): readonly (readonly [key: Bytes, value: Bytes])[];
  count(start: Bytes, end: Bytes | undefined, step: number): Counted;
}

type Pair = readonly [key: Bytes, value: Bytes];

export class Draft implements ForwardReader {
  readonly writes: Write[] = [];
  readonly events: Event[] = [];
  readonly #base: ForwardReader;
  readonly #baseRevision: Revision;
  readonly #own: OwnWrites | undefined;
  readonly #orders: CreationOrders | undefined;

  constructor(
    base: ForwardReader,
    baseRevision: Revision,
    readsOwnWrites: boolean,
    orders?: CreationOrders,
  ) {
    this.#base = base;
    this.#baseRevision = baseRevision;
    this.#own = readsOwnWrites ? new OwnWrites() : undefined;
    this.#orders = orders;
  }

  /** Keys in the order of creation, with what was changed so far. */
  creations(request: RangeRequest): Creations | undefined {
    return this.#orders?.over(this.#base, request, this.events);
  }

  /** The revision that changes made here get. */
  get nextRevision(): Revision {
    return this.#baseRevision + 1;
  }

  /** The revision that a read sees now: the next one as soon as something changed. */
  get revision(): Revision {
    return this.events.length === 0 ? this.#baseRevision : this.#baseRevision + 1;
  }

  put(key: Bytes, value: Bytes): void {
    this.writes.push({ kind: 'put', key, value });
    this.#own?.set(key, value);
  }

  remove(key: Bytes): void {
    this.writes.push({ kind: 'remove', key });
    this.#own?.set(key, undefined);
  }

  get(key: Bytes): Bytes | undefined {
    const own = this.#own?.get(key);
    return own === undefined ? this.#base.get(key) : own.value;
  }

  scan(start: Bytes, end: Bytes | undefined, options: { readonly limit: number }): readonly Pair[] {
    const own = this.#own;
    if (own === undefined || own.isEmpty) return this.#base.scan(start, end, options);
    const found: Pair[] = [];
    let from = start;
    for (;;) {
      const below = this.#base.scan(from, end, options);
      const last = below.length === options.limit ? below[below.length - 1] : undefined;
      const upTo = last === undefined ? end : successor(last[0]);
      merge(found, below, own, from, upTo);
      if (found.length >= options.limit) return found.slice(0, options.limit);
      if (last === undefined || upTo === undefined) return found;
      from = upTo;
    }
  }

  count(start: Bytes, end: Bytes | undefined, step: number): Counted {
    const below = this.#base.count(start, end, step);
    const own = this.#own;
    if (own === undefined || own.isEmpty) return below;
    const upTo = below.next ?? end;
    let { count } = below;
    for (const [key, value] of own.entries(start)) {
      if (upTo !== undefined && Buffer.compare(key, upTo) >= 0) break;
      const wasThere = this.#base.get(key) !== undefined;
      count += Number(value !== undefined) - Number(wasThere);
    }
    return { count, next: below.next };
  }
}

/** Appends to `found` the entries of [from, upTo): those of `own` hide those of `below`. */
function merge(
  found: Pair[],
  below: readonly Pair[],
  own: OwnWrites,
  from: Bytes,
  upTo: Bytes | undefined,
): void {
  let next = 0;
  for (const [key, value] of own.entries(from)) {
    if (upTo !== undefined && Buffer.compare(key, upTo) >= 0) break;
    for (let pair = below[next]; pair !== undefined; pair = below[next]) {
      const order = Buffer.compare(pair[0], key);
      if (order > 0) break;
      if (order < 0) found.push(pair);
      next += 1;
    }
    if (value !== undefined) found.push([key, value]);
  }
  for (; next < below.length; next += 1) {
    const pair = below[next];
    if (pair !== undefined) found.push(pair);
  }
}
