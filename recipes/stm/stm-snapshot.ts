/**
 * What a transaction knows of the store, all as of one revision: whatever it reads, and in whatever
 * order, fits together. The first read settles the revision and is linearizable; nothing is read twice.
 *
 * Where each read is to show the latest instead, nothing is remembered.
 */
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { Key, KeyRange } from '../../sdk/keys.ts';
import type { KeyValue, ListFields, ListResult } from '../../sdk/kv.ts';
import { after, byKey, bytesOf, covers, includes, rangeOf, type Span, textOf } from './stm-keys.ts';

/** What of a span is wanted: the first so many keys, from either end. */
export type RangeRequest = {
  readonly span: Span;
  readonly limit: number | undefined;
  readonly descending: boolean;
};

export type RangeRead = {
  /** In the order asked for. */
  readonly kvs: readonly KeyValue[];
  /** Where these are all the keys there are. */
  readonly coverage: Span;
};

/** Reads with repetitions, and ends with the transaction. */
export type Read = (range: Key | KeyRange, fields: ListFields) => Promise<ListResult>;

export class StmSnapshot {
  readonly #read: Read;
  readonly #view: 'one revision' | 'the latest';
  readonly #known = new Map<string, KeyValue | null>();
  readonly #covered: Span[] = [];
  #revision: bigint | undefined;
  #first: Promise<unknown> | undefined;
  #outdated = false;

  constructor(read: Read, view: 'one revision' | 'the latest') {
    this.#read = read;
    this.#view = view;
  }

  /** Another of the same kind, at this revision, that knows nothing yet. */
  later(revision: bigint): StmSnapshot {
    const later = new StmSnapshot(this.#read, this.#view);
    if (this.#view === 'one revision') later.#revision = revision;
    return later;
  }

  /** Undefined until something was read, and for good when each read shows the latest. */
  get revision(): bigint | undefined {
    return this.#revision;
  }

  /** Whether the store cannot show this revision any more, so that only a later one can help. */
  get outdated(): boolean {
    return this.#outdated;
  }

  /** What is known of a key without asking; undefined when nothing is. */
  known(key: string): KeyValue | null | undefined {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    return this.#covered.some((span) => includes(span, key)) ? null : undefined;
  }

  async key(key: string): Promise<KeyValue | null> {
    const known = this.known(key);
    if (known !== undefined) return known;
    const { kvs } = await this.#fetch(bytesOf(key), {});
    return this.learnKey(key, kvs[0] ?? null);
  }

  async range(request: RangeRequest): Promise<RangeRead> {
    const { span } = request;
    if (this.#covered.some((covered) => covers(covered, span))) return this.#recall(request);
    return this.learnRange(request, await this.#fetch(rangeOf(span), fieldsOf(request)));
  }

  /** Takes in what was read at this revision by other means. */
  learnKey(key: string, kv: KeyValue | null): KeyValue | null {
    if (this.#view === 'one revision') this.#known.set(key, kv);
    return kv;
  }

  /** Takes in what was read at this revision by other means. */
  learnRange(request: RangeRequest, { kvs, more }: ListResult): RangeRead {
    const coverage = coverageOf(request, kvs, more);
    if (this.#view === 'one revision') {
      for (const kv of kvs) this.#known.set(textOf(kv.keyBytes), kv);
      this.#covered.push(coverage);
    }
    return { kvs, coverage };
  }

  #recall(request: RangeRequest): RangeRead {
    const { span, limit, descending } = request;
    const inside: [string, KeyValue][] = [];
    for (const [key, kv] of this.#known) if (kv && includes(span, key)) inside.push([key, kv]);
    inside.sort(([one], [other]) => (descending ? byKey(other, one) : byKey(one, other)));
    const kvs = inside.slice(0, limit).map(([, kv]) => kv);
    return { kvs, coverage: coverageOf(request, kvs, kvs.length < inside.length) };
  }

  async #fetch(range: Key | KeyRange, fields: ListFields): Promise<ListResult> {
    if (this.#view === 'the latest') return await this.#read(range, fields);
    for (;;) {
      const revision = this.#revision;
      if (revision !== undefined) return await this.#fetchAt(revision, range, fields);
      if (this.#first === undefined) {
        const first = this.#read(range, fields);
        this.#first = first;
        try {
          const result = await first;
          this.#revision = result.revision;
          return result;
        } finally {
          this.#first = undefined;
        }
      }
      // Another read is settling the revision.
      await this.#first.catch(() => undefined);
    }
  }

  async #fetchAt(revision: bigint, range: Key | KeyRange, fields: ListFields): Promise<ListResult> {
    try {
      return await this.#read(range, { ...fields, revision });
    } catch (cause) {
      // Compacted, or taken back by a restore: either way it will not come again.
      if (!isConclaveError(cause, 'COMPACTED') && !isConclaveError(cause, 'FUTURE_REVISION')) {
        throw cause;
      }
      this.#outdated = true;
      const message = `The store does not show revision ${revision} any more: the function will run again`;
      throw new ConclaveError('CONFLICT', message, { cause });
    }
  }
}

export const fieldsOf = ({ limit, descending }: RangeRequest): ListFields => ({
  ...(limit === undefined ? {} : { limit, uncounted: true }),
  ...(descending ? { order: 'key', descending } : {}),
});

/** What lies behind the last key of a limited answer is unknown. */
function coverageOf(
  { span, descending }: RangeRequest,
  kvs: readonly KeyValue[],
  more: boolean,
): Span {
  const last = kvs.at(-1);
  if (!more || last === undefined) return span;
  const key = textOf(last.keyBytes);
  return descending ? { from: key, to: span.to } : { from: span.from, to: after(key) };
}
