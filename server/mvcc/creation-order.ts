/**
 * The keys of one span in the order in which they were created: what a line of waiters asks for, over and
 * over, to find the place before one's own. Equal create revisions are in key order.
 *
 * A derived copy of the newest revision: it decides nothing, and is dropped and made anew at will.
 */
import type { Revision } from './types.ts';

/** `name` is the key in the form of `key-name.ts`. */
export type Creation = { readonly revision: Revision; readonly name: string };

/** What an entry that is being applied has done to the span so far. */
export type CreationChanges = {
  /** Keys of the order that are there no more, or were created anew. */
  readonly gone: ReadonlySet<string>;
  /** In key order; newer than everything in the order. */
  readonly created: readonly Creation[];
};

export type CreationQuery = {
  readonly descending: boolean;
  /** 0 is unset, as in a range. */
  readonly minRevision: Revision;
  readonly maxRevision: Revision;
  readonly limit: number;
};

const precedes = (a: Creation, b: Creation): boolean =>
  a.revision < b.revision || (a.revision === b.revision && a.name < b.name);

export class CreationOrder {
  readonly #ordered: Creation[];
  readonly #revisions = new Map<string, Revision>();

  constructor(creations: readonly Creation[]) {
    this.#ordered = [...creations].sort((a, b) => (precedes(a, b) ? -1 : 1));
    for (const { name, revision } of creations) this.#revisions.set(name, revision);
  }

  get size(): number {
    return this.#ordered.length;
  }

  has(name: string): boolean {
    return this.#revisions.has(name);
  }

  /** Nothing in the order is newer. */
  add(creation: Creation): void {
    let at = this.#ordered.length;
    for (let last = this.#ordered[at - 1]; last !== undefined; last = this.#ordered[at - 1]) {
      if (precedes(last, creation)) break;
      at -= 1;
    }
    this.#ordered.splice(at, 0, creation);
    this.#revisions.set(creation.name, creation.revision);
  }

  /** Does nothing when the key is not there. */
  remove(name: string): void {
    const revision = this.#revisions.get(name);
    if (revision === undefined) return;
    this.#revisions.delete(name);
    this.#ordered.splice(this.#lowerBound({ revision, name }), 1);
  }

  /** The first names of a query, `limit` of them at most. Ties are in key order either way, as in etcd. */
  select(query: CreationQuery, { gone, created }: CreationChanges): string[] {
    const { descending, minRevision, maxRevision, limit } = query;
    const names: string[] = [];
    const take = ({ name, revision }: Creation): void => {
      const isIn = revision >= minRevision && (maxRevision === 0 || revision <= maxRevision);
      if (isIn && names.length < limit) names.push(name);
    };
    if (descending) for (const creation of created) take(creation);
    const from = this.#lowerBound({ revision: minRevision, name: '' });
    const to =
      maxRevision === 0 ? this.size : this.#lowerBound({ revision: maxRevision + 1, name: '' });
    for (const creation of descending ? this.#backwards(from, to) : this.#forwards(from, to)) {
      if (names.length >= limit) break;
      if (!gone.has(creation.name)) take(creation);
    }
    if (!descending) for (const creation of created) take(creation);
    return names;
  }

  *#forwards(from: number, to: number): Generator<Creation, void> {
    for (let at = from; at < to; at += 1) {
      const creation = this.#ordered[at];
      if (creation !== undefined) yield creation;
    }
  }

  /** Newest first; those of one revision in key order. */
  *#backwards(from: number, to: number): Generator<Creation, void> {
    for (let end = to; end > from; ) {
      const revision = this.#ordered[end - 1]?.revision;
      let begin = end - 1;
      while (begin > from && this.#ordered[begin - 1]?.revision === revision) begin -= 1;
      yield* this.#ordered.slice(begin, end);
      end = begin;
    }
  }

  /** Where the first creation is that does not precede this one. */
  #lowerBound(wanted: Creation): number {
    let low = 0;
    let high = this.#ordered.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const creation = this.#ordered[middle];
      if (creation !== undefined && precedes(creation, wanted)) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
