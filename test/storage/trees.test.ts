import { expect, test } from 'vitest';
import { tablePrefixes } from '../../server/mvcc/keys.ts';
import { keyOf } from '../../server/storage/byte-order.ts';
import { treeNames, treeOf, treeOfName, treesBetween } from '../../server/storage/trees.ts';

const keys: Buffer[] = [Buffer.alloc(0)];
for (let first = 0; first < 256; first++) {
  keys.push(Buffer.of(first), Buffer.of(first, 0), Buffer.of(first, 255));
}

test('each table begins a tree, and the trees one after the other are in order of the keys', () => {
  expect(tablePrefixes.map((prefix) => treeOf(Buffer.of(prefix)))).toEqual([...treeNames.keys()]);
  expect(treeNames.map((name) => treeOfName(name))).toEqual([...treeNames.keys()]);
  const trees = keys.map(treeOf);
  expect(trees).toEqual([...trees].sort((left, right) => left - right));
  expect(keys.map((key) => treeOfName(keyOf(key)))).toEqual(trees);
});

test('a range of keys is in the trees that are named for it, and in no fewer', () => {
  const besides = [0, 1, 0x61, 0x62, 0x69, 0xff].map((first) => Buffer.of(first));
  const bounds = [
    Buffer.alloc(0),
    ...besides,
    ...tablePrefixes.flatMap((prefix) => [Buffer.of(prefix), Buffer.of(prefix, 0)]),
  ];
  for (const start of bounds) {
    for (const end of [...bounds, undefined]) {
      const within = keys.filter(
        (key) =>
          Buffer.compare(start, key) <= 0 && (end === undefined || Buffer.compare(key, end) < 0),
      );
      const { first, last } = treesBetween(start, end);
      if (within.length > 0) {
        expect([first, last]).toEqual([treeOf(start), treeOf(within.at(-1) ?? start)]);
      } else {
        expect(last).toBeLessThanOrEqual(first);
      }
    }
  }
});
