/**
 * Into which B-trees the key space is divided: one for each table of the store, see `mvcc/keys.ts`.
 *
 * In one tree for everything, each table grows in the middle, and LMDB leaves a page that is split in
 * the middle half empty. Apart, history, which only ever grows at its end, fills its pages; the keys are
 * close together; and whoever looks through keys touches no page that holds values.
 *
 * A tree holds the keys from the first byte of its table up to that of the next one; the first tree
 * also all keys before, and the last one all behind. So the trees one after the other are in order.
 */
import { tablePrefixes } from '../mvcc/keys.ts';
import type { Bytes } from '../mvcc/types.ts';

/** In order of the keys. */
export const treeNames: readonly string[] = tablePrefixes.map((prefix) =>
  String.fromCharCode(prefix),
);

/** By first byte. */
const numbers = Uint8Array.from({ length: 256 }, (_, byte) =>
  Math.max(0, tablePrefixes.filter((prefix) => prefix <= byte).length - 1),
);

/** The number of the tree that holds a key. */
export const treeOf = (key: Bytes): number => numbers[key[0] ?? 0] ?? 0;

/** The same for a key in the form of `byte-order.ts`. */
export const treeOfName = (name: string): number => numbers[name.charCodeAt(0)] ?? 0;

/** The trees that may hold keys with start <= key < end, ascending. `end` undefined is open. */
export function treesBetween(
  start: Bytes,
  end: Bytes | undefined,
): { readonly first: number; readonly last: number } {
  const first = treeOf(start);
  if (end === undefined) return { first, last: treeNames.length - 1 };
  const last = treeOf(end);
  const beginsTree = last > 0 && end.length === 1 && end[0] === tablePrefixes[last];
  return { first, last: beginsTree ? last - 1 : last };
}
