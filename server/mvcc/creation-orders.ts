/**
 * The spans of which the order of creation is kept: those that were listed in that order while they were
 * long. So a look at a line costs what it finds, not what waits.
 *
 * Invariant: an order shows the span at the revision of the last entry that was announced.
 */
import {
  type Creation,
  type CreationChanges,
  CreationOrder,
  keyOf,
  nameOf,
} from './creation-order.ts';
import type { ForwardReader } from './draft.ts';
import { type Interval, intervalOf } from './interval.ts';
import { IntervalTree } from './interval-tree.ts';
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

/** Answers listings of the newest revision in the order of creation, or leaves them to a scan. */
export interface Creations {
  select(request: RangeRequest): Selection | undefined;
  /** A scan found so many keys. */
  scanned(request: RangeRequest, count: number): void;
}

type Kept = { readonly interval: Interval; readonly order: CreationOrder };

/** A shorter span is scanned as fast. */
const MIN_KEYS = 24;
/** A longer one would take too much memory. */
const MAX_KEYS = 65_536;
/** In all orders together. */
const MAX_KEYS_KEPT = 262_144;
const MAX_SPANS = 1_024;
/** More are read from a scan, which pauses. */
const MAX_LIMIT = 128;

const NO_EVENTS: readonly Event[] = [];

export class CreationOrders {
  readonly #minKeys: number;
  /** The span used last is the last one. */
  readonly #kept = new Map<string, Kept>();
  readonly #intervals = new IntervalTree<CreationOrder>();
  /** To be kept from the next listing on. */
  readonly #wanted = new Set<string>();
  #keys = 0;

  /** @param minKeys spans with fewer are not kept */
  constructor(minKeys: number = MIN_KEYS) {
    this.#minKeys = minKeys;
  }

  /**
   * The view over a state.
   *
   * @param reader the state as of the last entry that was announced
   * @param drafted the events so far of an entry that is being applied to it
   */
  over(reader: ForwardReader, drafted: readonly Event[] = NO_EVENTS): Creations {
    return {
      select: (request) => {
        const order = this.#find(reader, request);
        return order === undefined ? undefined : select(order, request, drafted);
      },
      scanned: (request, count) => {
        if (!isServed(request) || count < this.#minKeys || count > MAX_KEYS) return;
        if (this.#wanted.size >= MAX_SPANS) this.#wanted.clear();
        this.#wanted.add(spanName(request));
      },
    };
  }

  /** One entry took effect. */
  announce(events: readonly Event[]): void {
    if (this.#kept.size === 0) return;
    for (const { kind, kv } of events) {
      if (kind === 'put' && kv.version > 1) continue;
      const name = nameOf(kv.key);
      this.#intervals.stab(kv.key, (order) => {
        this.#keys -= order.size;
        if (kind === 'put') order.add({ revision: kv.createRevision, name });
        else order.remove(name);
        this.#keys += order.size;
      });
    }
    this.#evict();
  }

  /** The state was replaced. */
  clear(): void {
    for (const name of [...this.#kept.keys()]) this.#drop(name);
    this.#wanted.clear();
  }

  #find(reader: ForwardReader, request: RangeRequest): CreationOrder | undefined {
    if (!isServed(request)) return undefined;
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
    const interval = intervalOf(request);
    this.#kept.set(name, { interval, order });
    this.#intervals.add(interval, order);
    this.#keys += order.size;
    return order;
  }

  #evict(): void {
    for (const [name, { order }] of this.#kept) {
      const isTooMuch = this.#kept.size > MAX_SPANS || this.#keys > MAX_KEYS_KEPT;
      if (isTooMuch || order.size > MAX_KEYS || order.size === 0) this.#drop(name);
    }
  }

  #drop(name: string): void {
    const kept = this.#kept.get(name);
    if (kept === undefined) return;
    this.#kept.delete(name);
    this.#intervals.remove(kept.interval, kept.order);
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
  return { keys: names.map(keyOf), count };
}

const NO_CHANGES: CreationChanges = { gone: new Set(), created: [] };

function changesOf(
  order: CreationOrder,
  span: KeySpan,
  drafted: readonly Event[],
): CreationChanges {
  if (drafted.length === 0) return NO_CHANGES;
  const { start, end } = intervalOf(span);
  const gone = new Set<string>();
  const created = new Map<string, Revision>();
  for (const { kind, kv } of drafted) {
    if (kind === 'put' && kv.version > 1) continue;
    if (Buffer.compare(kv.key, start) < 0) continue;
    if (end !== undefined && Buffer.compare(kv.key, end) >= 0) continue;
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
