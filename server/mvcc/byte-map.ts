/** A map with byte strings as keys, in the order of unsigned bytes. */
import sortedBtree from 'sorted-btree';
import type { Bytes } from './types.ts';

type Tree = typeof sortedBtree.default;

// Node gives a CommonJS module's exports as its default; other loaders give its `default` export.
const BTree: Tree =
  'default' in sortedBtree ? sortedBtree.default : (sortedBtree as unknown as Tree);

export class ByteMap<Value> extends BTree<Bytes, Value> {
  constructor() {
    super(undefined, Buffer.compare);
  }
}
