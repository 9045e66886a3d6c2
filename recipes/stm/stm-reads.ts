/**
 * What a transaction has seen, and how the store can tell whether it still is so.
 *
 * A key is unchanged when its mod revision is (absent: zero). A range is when each key seen in it is,
 * which finds deletions, and no key in it was written after the snapshot, which finds insertions.
 */
import type { KeyValue } from '../../sdk/kv.ts';
import { type Compare, compare, type GetOperation, type ListOperation, op } from '../../sdk/txn.ts';
import { bytesOf, covers, includes, rangeOf, type Span, textOf } from './stm-keys.ts';
import { fieldsOf, type RangeRead, type RangeRequest, type StmSnapshot } from './stm-snapshot.ts';

export type ReadAgain = GetOperation | ListOperation;

export class StmReads {
  readonly #keys = new Map<string, KeyValue | null>();
  readonly #spans: Span[] = [];
  readonly #requests: (string | RangeRequest)[] = [];

  sawKey(key: string, kv: KeyValue | null): void {
    if (!this.#keys.has(key)) this.#requests.push(key);
    this.#keys.set(key, kv);
  }

  sawRange(request: RangeRequest, { kvs, coverage }: RangeRead): void {
    for (const kv of kvs) this.#keys.set(textOf(kv.keyBytes), kv);
    if (!this.#requests.some((other) => sameRequest(other, request))) this.#requests.push(request);
    if (!this.#spans.some((other) => covers(other, coverage))) this.#spans.push(coverage);
  }

  /** The conditions under which all that was seen at `revision` is as it was. */
  unchanged(revision: bigint): readonly Compare[] {
    const spans = this.#spans.filter(
      (span) => !this.#spans.some((other) => other !== span && covers(other, span)),
    );
    const keys = [...this.#keys].filter(
      ([key, kv]) => kv !== null || !spans.some((span) => includes(span, key)),
    );
    return [
      ...keys.map(([key, kv]) => sameKey(key, kv)),
      ...spans.map((span) => compare.range.modRevision(rangeOf(span), '<', revision + 1n)),
    ];
  }

  /** What another run will most likely read, the first of it when it is more than `most`. */
  again(most: number): readonly ReadAgain[] {
    return this.#requests
      .slice(0, most)
      .map((request) =>
        typeof request === 'string'
          ? op.get(bytesOf(request))
          : op.list(rangeOf(request.span), fieldsOf(request)),
      );
  }

  /** Hands on what `again` read. */
  teach(snapshot: StmSnapshot, found: readonly unknown[]): void {
    for (const [index, answer] of found.entries()) {
      const request = this.#requests[index];
      if (request === undefined) return;
      if (typeof request === 'string') snapshot.learnKey(request, answer as KeyValue | null);
      else snapshot.learnRange(request, answer as Parameters<StmSnapshot['learnRange']>[1]);
    }
  }
}

export const sameKey = (key: string, kv: KeyValue | null): Compare =>
  compare.modRevision(bytesOf(key), '==', kv?.modRevision ?? 0n);

const sameRequest = (one: string | RangeRequest, other: RangeRequest): boolean =>
  typeof one !== 'string' &&
  one.span.from === other.span.from &&
  one.span.to === other.span.to &&
  one.limit === other.limit &&
  one.descending === other.descending;
