/**
 * Byte strings as map keys. A byte string becomes a string of the code units 0 to 255, and strings
 * compare by code unit: their order is that of the unsigned bytes, and comparing needs no call into
 * native code.
 */
import sortedBtree from 'sorted-btree';
import type { Bytes } from '../mvcc/types.ts';

type Tree = typeof sortedBtree.default;

// Node gives a CommonJS module's exports as its default; other loaders give its `default` export.
const BTree: Tree =
  'default' in sortedBtree ? sortedBtree.default : (sortedBtree as unknown as Tree);

export const asBuffer = (bytes: Bytes): Buffer =>
  Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);

export const keyOf = (bytes: Bytes): string => asBuffer(bytes).toString('latin1');

export const bytesOf = (key: string): Buffer => Buffer.from(key, 'latin1');

const compareKeys = (left: string, right: string): number =>
  left < right ? -1 : left > right ? 1 : 0;

export class SortedMap<Value> extends BTree<string, Value> {
  constructor() {
    super(undefined, compareKeys);
  }
}

/** Pairs with from <= key < to, ascending, or descending from the end. `to` undefined is open. */
export function* pairsBetween<Value>(
  map: SortedMap<Value>,
  from: string,
  to: string | undefined,
  reverse: boolean,
): Generator<readonly [key: string, value: Value], void> {
  const pairs = reverse ? map.entriesReversed(to, undefined, true) : map.entries(from);
  for (const pair of pairs) {
    if (reverse ? pair[0] < from : to !== undefined && pair[0] >= to) return;
    yield pair;
  }
}
