/**
 * A set of items under half-open intervals, asked "which contain this key?".
 *
 * An AVL tree ordered by (start, end), each node augmented with the greatest end below it (Cormen et
 * al., Introduction to Algorithms, "Interval trees"). Items of equal intervals share a node, so ten
 * thousand watchers of one prefix cost one node. A question costs O(log n) for each interval found.
 */

import { compareEnds, type Interval, isBelowEnd } from './interval.ts';
import type { Bytes } from './types.ts';

type Node<Item> = {
  interval: Interval;
  items: Set<Item>;
  left: Node<Item> | undefined;
  right: Node<Item> | undefined;
  height: number;
  maxEnd: Bytes | undefined;
};

const heightOf = <Item>(node: Node<Item> | undefined): number => node?.height ?? 0;

const compareIntervals = (a: Interval, b: Interval): number =>
  Buffer.compare(a.start, b.start) || compareEnds(a.end, b.end);

export class IntervalTree<Item> {
  #root: Node<Item> | undefined;

  add(interval: Interval, item: Item): void {
    this.#root = insert(this.#root, interval, item);
  }

  /** Does nothing when the item is not there. */
  remove(interval: Interval, item: Item): void {
    this.#root = remove(this.#root, interval, item);
  }

  /** Calls `visit` for every item whose interval contains `key`. */
  stab(key: Bytes, visit: (item: Item) => void): void {
    stab(this.#root, key, visit);
  }

  get isEmpty(): boolean {
    return this.#root === undefined;
  }
}

function stab<Item>(node: Node<Item> | undefined, key: Bytes, visit: (item: Item) => void): void {
  if (node === undefined || !isBelowEnd(key, node.maxEnd)) return;
  stab(node.left, key, visit);
  if (Buffer.compare(node.interval.start, key) > 0) return;
  if (isBelowEnd(key, node.interval.end)) for (const item of node.items) visit(item);
  stab(node.right, key, visit);
}

function insert<Item>(node: Node<Item> | undefined, interval: Interval, item: Item): Node<Item> {
  if (node === undefined) {
    return {
      interval,
      items: new Set([item]),
      left: undefined,
      right: undefined,
      height: 1,
      maxEnd: interval.end,
    };
  }
  const order = compareIntervals(interval, node.interval);
  if (order === 0) {
    node.items.add(item);
    return node;
  }
  if (order < 0) node.left = insert(node.left, interval, item);
  else node.right = insert(node.right, interval, item);
  return balance(node);
}

function remove<Item>(
  node: Node<Item> | undefined,
  interval: Interval,
  item: Item,
): Node<Item> | undefined {
  if (node === undefined) return undefined;
  const order = compareIntervals(interval, node.interval);
  if (order < 0) {
    node.left = remove(node.left, interval, item);
    return balance(node);
  }
  if (order > 0) {
    node.right = remove(node.right, interval, item);
    return balance(node);
  }
  node.items.delete(item);
  return node.items.size > 0 ? node : unlink(node);
}

/** The tree without its root: the lowest node of the right side takes its place. */
function unlink<Item>(node: Node<Item>): Node<Item> | undefined {
  if (node.left === undefined) return node.right;
  if (node.right === undefined) return node.left;
  const { lowest, rest } = takeLowest(node.right);
  lowest.left = node.left;
  lowest.right = rest;
  return balance(lowest);
}

function takeLowest<Item>(node: Node<Item>): {
  lowest: Node<Item>;
  rest: Node<Item> | undefined;
} {
  if (node.left === undefined) return { lowest: node, rest: node.right };
  const { lowest, rest } = takeLowest(node.left);
  node.left = rest;
  return { lowest, rest: balance(node) };
}

function balance<Item>(node: Node<Item>): Node<Item> {
  const lean = heightOf(node.left) - heightOf(node.right);
  if (lean > 1 && node.left !== undefined) {
    if (heightOf(node.left.left) < heightOf(node.left.right)) node.left = rotateLeft(node.left);
    return rotateRight(node);
  }
  if (lean < -1 && node.right !== undefined) {
    if (heightOf(node.right.right) < heightOf(node.right.left))
      node.right = rotateRight(node.right);
    return rotateLeft(node);
  }
  return refresh(node);
}

function rotateLeft<Item>(node: Node<Item>): Node<Item> {
  const top = node.right;
  if (top === undefined) return refresh(node);
  node.right = top.left;
  top.left = refresh(node);
  return refresh(top);
}

function rotateRight<Item>(node: Node<Item>): Node<Item> {
  const top = node.left;
  if (top === undefined) return refresh(node);
  node.left = top.right;
  top.right = refresh(node);
  return refresh(top);
}

/** Recomputes what a node knows about its subtree. */
function refresh<Item>(node: Node<Item>): Node<Item> {
  node.height = 1 + Math.max(heightOf(node.left), heightOf(node.right));
  let maxEnd = node.interval.end;
  for (const child of [node.left, node.right]) {
    if (child !== undefined && compareEnds(child.maxEnd, maxEnd) > 0) maxEnd = child.maxEnd;
  }
  node.maxEnd = maxEnd;
  return node;
}
