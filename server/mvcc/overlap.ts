/**
 * etcd's rule against writing a key twice in one transaction: no two puts to one key, and no put
 * inside a deleted range, unless the two can never execute together.
 *
 * The exact rule, which clients depend on, has two gaps that etcd has too: range ends are compared
 * as they are, so the "every key from here" form (one zero byte) overlaps nothing; and a nested
 * transaction's deletes are compared with the puts of later nested transactions and of the levels
 * above, not with those of earlier nested ones. What passes is executed in order.
 */
import { ByteMap } from './byte-map.ts';
import type { Bytes, DeleteRangeRequest, Operation } from './types.ts';

/** Whether the operations of one branch write a key twice. */
export function writesKeyTwice(operations: readonly Operation[]): boolean {
  if (operations.length < 2 && operations[0]?.kind !== 'txn') return false;
  return collect(operations) === undefined;
}

type Written = { readonly puts: Set<string>; readonly deletes: Deletes };

/** The keys that a branch writes; undefined when it writes one twice. */
function collect(operations: readonly Operation[]): Written | undefined {
  const puts = new Set<string>();
  const deletes = new Deletes();
  for (const operation of operations) {
    if (operation.kind === 'delete-range') deletes.add(operation);
  }
  for (const operation of operations) {
    if (operation.kind !== 'txn') continue;
    const success = collect(operation.success);
    const failure = collect(operation.failure);
    if (success === undefined || failure === undefined) return undefined;
    for (const key of success.puts) {
      if (puts.has(key) || deletes.has(key)) return undefined;
      puts.add(key);
    }
    for (const key of failure.puts) {
      if (puts.has(key) && !success.puts.has(key)) return undefined;
      if (deletes.has(key)) return undefined;
      puts.add(key);
    }
    deletes.addAll(success.deletes);
    deletes.addAll(failure.deletes);
  }
  for (const operation of operations) {
    if (operation.kind !== 'put') continue;
    const key = toText(operation.key);
    if (puts.has(key) || deletes.has(key)) return undefined;
    puts.add(key);
  }
  return { puts, deletes };
}

/** Byte strings as strings, one character a byte: sets compare strings by content. */
const toText = (key: Bytes): string =>
  Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1');

/** What is deleted: most are single keys, which need no order. */
class Deletes {
  readonly #keys = new Set<string>();
  readonly #ranges = new Intervals();

  add({ key, rangeEnd }: DeleteRangeRequest): void {
    if (rangeEnd.length === 0) this.#keys.add(toText(key));
    else this.#ranges.add(key, rangeEnd);
  }

  addAll(other: Deletes): void {
    for (const key of other.#keys) this.#keys.add(key);
    this.#ranges.addAll(other.#ranges);
  }

  has(key: string): boolean {
    return this.#keys.has(key) || this.#ranges.hasText(key);
  }
}

/** A set of byte strings, kept as disjoint half-open intervals. */
class Intervals {
  readonly #endByStart = new ByteMap<Bytes>();

  addAll(other: Intervals): void {
    for (const [start, end] of other.#endByStart.entries()) this.add(start, end);
  }

  hasText(text: string): boolean {
    if (this.#endByStart.isEmpty) return false;
    const key = Buffer.from(text, 'latin1');
    const nearest = this.#endByStart.getPairOrNextLower(key);
    return nearest !== undefined && Buffer.compare(key, nearest[1]) < 0;
  }

  add(start: Bytes, end: Bytes): void {
    if (Buffer.compare(start, end) >= 0) return;
    let first = start;
    let last = end;
    const before = this.#endByStart.getPairOrNextLower(start);
    if (before !== undefined && Buffer.compare(before[1], start) >= 0) first = before[0];
    for (;;) {
      const next = this.#endByStart.getPairOrNextLower(last);
      if (next === undefined || Buffer.compare(next[0], first) < 0) break;
      if (Buffer.compare(next[1], last) > 0) last = next[1];
      this.#endByStart.delete(next[0]);
    }
    this.#endByStart.set(first, last);
  }
}
