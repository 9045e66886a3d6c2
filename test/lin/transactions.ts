/**
 * Strict serializability of transactions that were told what they read, against the log of revisions.
 *
 * Each transaction that writes puts a key of its own, its mark, so that its revision is known. What it
 * read must be the state right before that revision: then the order of revisions is an order in which
 * transactions could have run one after the other. Whatever only read must have read a state that
 * stood at one revision, no older than what was acknowledged before it began.
 */
import type { Outcome } from './history.ts';
import { applyChanges, type Commit, type Entry } from './store.ts';

export type KeyRead = { readonly key: string; readonly value: string | undefined };

/** All keys from one on, up to another, with their values; `limit` of them, if that is given. */
export type RangeRead = {
  readonly from: string;
  readonly to: string;
  readonly limit?: number;
  readonly found: readonly (readonly [key: string, value: string])[];
};

export type TransactionRead = KeyRead | RangeRead;

export type Transaction = {
  /** A key that nobody else writes. Undefined: it only read. */
  readonly mark: string | undefined;
  readonly reads: readonly TransactionRead[];
  /** Undefined: deleted. */
  readonly writes: ReadonlyMap<string, string | undefined>;
  /** Under `snapshot` only what it wrote itself has to be as it had read it. */
  readonly isolation: 'serializable' | 'snapshot';
  readonly outcome: Outcome<unknown>['kind'];
  /** Marks of what was acknowledged before it began. */
  readonly after: readonly string[];
};

type State = ReadonlyMap<string, Entry>;

/** What is wrong, in words. */
export function checkTransactions(
  commits: readonly Commit[],
  transactions: readonly Transaction[],
): string[] {
  const violations: string[] = [];
  const marked = new Map<string, Transaction>();
  for (const one of transactions) if (one.mark !== undefined) marked.set(one.mark, one);
  const made = new Map<string, number>();
  const state = new Map<string, Entry>();
  const readers = transactions.filter(
    ({ mark, outcome }) => mark === undefined && outcome === 'ok',
  );
  const matches = new Map<Transaction, number>();
  const match = (revision: number) => {
    for (const reader of readers) {
      if (firstWrong(reader.reads, state) === undefined) matches.set(reader, revision);
    }
  };
  match(1);
  for (const { revision, changes } of commits) {
    for (const { key } of changes) {
      const one = marked.get(key);
      if (one === undefined) continue;
      if (made.has(key))
        violations.push(`${key} took effect at ${made.get(key)} and at ${revision}`);
      made.set(key, revision);
      const binding =
        one.isolation === 'serializable' ? one.reads : one.reads.filter((read) => isOwn(read, one));
      const wrong = firstWrong(binding, state);
      if (wrong !== undefined) violations.push(`${key} at ${revision} had not read ${wrong}`);
      for (const [written, value] of one.writes) {
        const change = changes.find((other) => other.key === written);
        const existed = value !== undefined || state.has(written);
        if (existed && (change === undefined || change.entry?.value !== value))
          violations.push(`${key} at ${revision} did not write ${value} to ${written}`);
      }
    }
    applyChanges(state, changes);
    match(revision);
  }
  for (const { mark, outcome } of transactions) {
    if (mark === undefined) continue;
    if (outcome === 'ok' && !made.has(mark)) violations.push(`${mark} was lost`);
    if (outcome === 'fail' && made.has(mark))
      violations.push(`${mark} had failed, and took effect`);
  }
  for (const reader of readers) {
    const least = Math.max(1, ...reader.after.map((mark) => made.get(mark) ?? 1));
    const latest = matches.get(reader);
    if (latest === undefined || latest < least)
      violations.push(`what was read after revision ${least} was so last at ${latest ?? 'none'}`);
  }
  return violations;
}

const isOwn = (read: TransactionRead, { writes }: Transaction): boolean =>
  'key' in read && writes.has(read.key);

function firstWrong(reads: readonly TransactionRead[], state: State): string | undefined {
  for (const read of reads) {
    if ('key' in read) {
      const there = state.get(read.key)?.value;
      if (there !== read.value) return `${there} at ${read.key}, but ${read.value}`;
      continue;
    }
    const inside = [...state]
      .filter(([key]) => key >= read.from && key < read.to)
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .slice(0, read.limit)
      .map(([key, { value }]) => `${key}=${value}`)
      .join();
    const found = read.found.map(([key, value]) => `${key}=${value}`).join();
    if (inside !== found) return `${inside} from ${read.from} on, but ${found}`;
  }
  return undefined;
}
