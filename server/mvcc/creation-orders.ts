/**
 * The spans of which the order of creation is kept: those that were listed in that order while they were
 * long. So a look at a line costs what it finds, not what waits; unless the line is very long.
 *
 * Invariant: an order shows the span at the revision of the last entry that was announced.
 */
import { type Creation, type CreationChanges, CreationOrder } from './creation-order.ts';
import type { ForwardReader } from './draft.ts';
import { contains, type Interval, intervalOf } from './interval.ts';
import { IntervalTree } from './interval-tree.ts';
import { bytesOf, nameOf } from './key-name.ts';
import { currentBounds, userKeyOfCurrent } from './keys.ts';
import { decodeCurrent } from './records.ts';
import { slices } from './slices.ts';
import type { Bytes, Event, KeySpan, RangeRequest, Revision } from './types.ts';

/** What a listing shows: its first keys in order, one more than its limit where there are more. */
export type Selection = {
  readonly keys: readonly Bytes[];
  /** Of the span, whatever the listing leaves out. */
  readonly count: number;
};

/** Answers one listing of the newest revision in the order of creation, or leaves it to a scan. */
export interface Creations {
  select(): Selection | undefined;
  /** A scan found so many keys. */
  scanned(count: number): void;
}

type Kept = {
  readonly name: string;
  readonly interval: Interval;
  readonly order: CreationOrder;
};

export type CreationOrdersOptions = {
  /** Spans with fewer keys are scanned as fast. @default 24 */
  readonly minKeys?: number | undefined;
  /** Longer ones are left to scans, which pause: an order is made in one go. @default 4096 */
  readonly maxKeys?: number | undefined;
  /** In all orders together. @default 262144 */
  readonly maxKeysKept?: number | undefined;
};

const MAX_SPANS = 1_024;
/** More are read from a scan, which pauses. */
const MAX_LIMIT = 128;
/** An entry with more events takes longer to follow than the orders that it changes take to make. */
const MAX_EVENTS = 256;

const NO_EVENTS: readonly Event[] = [];

export class CreationOrders {
  readonly #minKeys: number;
  readonly #maxKeys: number;
  readonly #maxKeysKept: number;
  /** The span used last is the last one. */
  readonly #kept = new Map<string, Kept>();
  readonly #intervals = new IntervalTree<Kept>();
  /** To be kept from the next listing on. */
  readonly #wanted = new Set<string>();
  #keys = 0;

  constructor({
    minKeys = 24,
    maxKeys = 4_096,
    maxKeysKept = 262_144,
  }: CreationOrdersOptions = {}) {
    this.#minKeys = minKeys;
    this.#maxKeys = maxKeys;
    this.#maxKeysKept = maxKeysKept;
  }

  /** Keys in all orders. */
  get keys(): number {
    return this.#keys;
  }

  /**
   * What can be done for a listing; undefined when it is none of those in the order of creation.
   *
   * @param reader the state as of the last entry that was announced
   * @param drafted the events so far of an entry that is being applied to it
   */
  over(
    reader: ForwardReader,
    request: RangeRequest,
    drafted: readonly Event[] = NO_EVENTS,
  ): Creations | undefined {
    if (!isServed(request)) return undefined;
    return {
      select: () => {
        const order = this.#find(reader, request);
        return order === undefined ? undefined : select(order, request, drafted);
      },
      scanned: (count) => {
        if (count < this.#minKeys || count > this.#maxKeys) return;
        if (this.#wanted.size >= MAX_SPANS) this.#wanted.clear();
        this.#wanted.add(spanName(request));
      },
    };
  }

  /** An entry takes effect: its writes go to the state before anything is asked again. */
  announce(events: readonly Event[]): void {
    if (this.#kept.size === 0) return;
    const ended = new Set<Kept>();
    const isTooLong = events.length > MAX_EVENTS;
    for (const { kind, kv } of events) {
      if (kind === 'put' && kv.version > 1) continue;
      const creation = { revision: kv.createRevision, name: nameOf(kv.key) };
      this.#intervals.stab(kv.key, (kept) => {
        if (isTooLong) ended.add(kept);
        else this.#follow(kept, kind, creation);
        if (kept.order.size === 0 || kept.order.size > this.#maxKeys) ended.add(kept);
      });
    }
    for (const kept of ended) this.#drop(kept);
    this.#evict();
  }

  #follow({ order }: Kept, kind: Event['kind'], creation: Creation): void {
    this.#keys -= order.size;
    if (kind === 'put') order.add(creation);
    else order.remove(creation.name);
    this.#keys += order.size;
  }

  /** The state was replaced. */
  clear(): void {
    for (const kept of [...this.#kept.values()]) this.#drop(kept);
    this.#wanted.clear();
  }

  #find(reader: ForwardReader, request: RangeRequest): CreationOrder | undefined {
    if (this.#kept.size === 0 && this.#wanted.size === 0) return undefined;
    const name = spanName(request);
    const kept = this.#kept.get(name);
    if (kept !== undefined) {
      this.#kept.delete(name);
      this.#kept.set(name, kept);
      return kept.order;
    }
    if (!this.#wanted.delete(name)) return undefined;
    const order = new CreationOrder(readCreations(reader, request));
    const made = { name, interval: copyOf(intervalOf(request)), order };
    this.#kept.set(name, made);
    this.#intervals.add(made.interval, made);
    this.#keys += order.size;
    this.#evict();
    return order;
  }

  /** Those used longest ago go first. */
  #evict(): void {
    for (const kept of this.#kept.values()) {
      if (this.#kept.size <= MAX_SPANS && this.#keys <= this.#maxKeysKept) return;
      this.#drop(kept);
    }
  }

  #drop(kept: Kept): void {
    this.#kept.delete(kept.name);
    this.#intervals.remove(kept.interval, kept);
    this.#keys -= kept.order.size;
  }
}

const isServed = (request: RangeRequest): boolean =>
  request.sortTarget === 'create' &&
  request.sortOrder !== 'none' &&
  request.rangeEnd.length > 0 &&
  request.limit > 0 &&
  request.limit <= MAX_LIMIT &&
  request.minModRevision === 0 &&
  request.maxModRevision === 0;

/** The request that it came with is not kept for it. */
const copyOf = ({ start, end }: Interval): Interval => ({
  start: Uint8Array.from(start),
  end: end && Uint8Array.from(end),
});

/** Different for different spans. */
const spanName = ({ key, rangeEnd }: KeySpan): string =>
  `${key.length} ${nameOf(key)}${nameOf(rangeEnd)}`;

function readCreations(reader: ForwardReader, span: KeySpan): Creation[] {
  const { start, end } = currentBounds(span);
  const creations: Creation[] = [];
  for (const slice of slices(reader, start, end)) {
    for (const [stored, data] of slice) {
      const { createRevision } = decodeCurrent(data);
      creations.push({ revision: createRevision, name: nameOf(userKeyOfCurrent(stored)) });
    }
  }
  return creations;
}

function select(order: CreationOrder, request: RangeRequest, drafted: readonly Event[]): Selection {
  const { limit, sortOrder, minCreateRevision, maxCreateRevision } = request;
  const changes = changesOf(order, request, drafted);
  const query = {
    descending: sortOrder === 'descend',
    minRevision: minCreateRevision,
    maxRevision: maxCreateRevision,
    limit: limit + 1,
  };
  const names = order.select(query, changes);
  const count = order.size - changes.gone.size + changes.created.length;
  return { keys: names.map(bytesOf), count };
}

const NO_CHANGES: CreationChanges = { gone: new Set(), created: [] };

function changesOf(
  order: CreationOrder,
  span: KeySpan,
  drafted: readonly Event[],
): CreationChanges {
  if (drafted.length === 0) return NO_CHANGES;
  const interval = intervalOf(span);
  const gone = new Set<string>();
  const created = new Map<string, Revision>();
  for (const { kind, kv } of drafted) {
    if ((kind === 'put' && kv.version > 1) || !contains(interval, kv.key)) continue;
    const name = nameOf(kv.key);
    if (kind === 'put') created.set(name, kv.createRevision);
    else {
      created.delete(name);
      if (order.has(name)) gone.add(name);
    }
  }
  const inKeyOrder = [...created].sort(([a], [b]) => (a < b ? -1 : 1));
  return { gone, created: inKeyOrder.map(([name, revision]) => ({ name, revision })) };
}
