import fc from 'fast-check';
import { expect, test } from 'vitest';
import { contains, type Interval, isEmpty, isSingle } from '../../server/mvcc/interval.ts';
import { IntervalTree } from '../../server/mvcc/interval-tree.ts';

const key = fc.uint8Array({ minLength: 1, maxLength: 2, max: 9 });
const interval: fc.Arbitrary<Interval> = fc
  .record({ start: key, end: fc.option(key, { nil: undefined, freq: 8 }) })
  .filter((each) => !isEmpty(each));
const step = fc.record({ add: fc.boolean(), interval, item: fc.nat({ max: 2 }) });

test('finds what a search through all intervals finds, whatever was added and removed', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200, size: 'max' }), fc.array(key), (steps, keys) => {
      const tree = new IntervalTree<number>();
      const all = new Map<string, { interval: Interval; item: number }>();
      for (const { add, interval, item } of steps) {
        const name = `${interval.start}/${interval.end ?? '*'}/${item}`;
        if (add) {
          tree.add(interval, item);
          all.set(name, { interval, item });
        } else {
          tree.remove(interval, item);
          all.delete(name);
        }
      }
      expect(tree.isEmpty).toBe(all.size === 0);
      for (const each of keys) {
        const found: number[] = [];
        tree.stab(each, (item) => found.push(item));
        const expected = [...all.values()].filter(({ interval }) => contains(interval, each));
        expect(found.sort()).toEqual(expected.map(({ item }) => item).sort());
      }
    }),
    { numRuns: 200 },
  );
});

test('stays balanced: a key is found without looking at the intervals that end before it', () => {
  const tree = new IntervalTree<number>();
  const bound = (value: number) => Uint8Array.of(value >> 8, value & 255);
  for (let count = 0; count < 20_000; count += 1) {
    tree.add({ start: bound(count), end: bound(count + 1) }, count);
  }
  const startMs = performance.now();
  let found = 0;
  for (let count = 0; count < 20_000; count += 1) {
    tree.stab(bound(count), () => {
      found += 1;
    });
  }
  expect(found).toBe(20_000);
  // A search through all of them takes minutes.
  expect(performance.now() - startMs).toBeLessThan(5_000);
});

test('a single key is its own interval', () => {
  expect(isSingle({ start: Uint8Array.of(5), end: Uint8Array.of(5, 0) })).toBe(true);
  expect(isSingle({ start: Uint8Array.of(5), end: Uint8Array.of(6, 0) })).toBe(false);
  expect(isSingle({ start: Uint8Array.of(5), end: Uint8Array.of(6) })).toBe(false);
  expect(isSingle({ start: Uint8Array.of(5), end: undefined })).toBe(false);
});
