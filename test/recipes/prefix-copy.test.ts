import fc from 'fast-check';
import { expect, test } from 'vitest';
import { PrefixCopy } from '../../recipes/common/prefix-copy.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import type { WatchEvent } from '../../sdk/watch.ts';

const kv = (key: string, modRevision: bigint, value = ''): KeyValue => ({
  key,
  keyBytes: Buffer.from(key),
  value: Buffer.from(value),
  createRevision: modRevision,
  modRevision,
  version: 1n,
  lease: 0n,
});
const put = (key: string, revision: bigint): WatchEvent => ({ type: 'put', kv: kv(key, revision) });
const del = (key: string, revision: bigint): WatchEvent => ({
  type: 'delete',
  kv: kv(key, revision),
});
const listing = (revision: bigint, ...kvs: KeyValue[]): ListResult => ({
  kvs,
  revision,
  count: BigInt(kvs.length),
  more: false,
});

test('a copy tells what each key became and was, and how large it is', () => {
  const copy = new PrefixCopy();
  copy.replace([kv('a', 2n, 'xx')], 4n);
  expect([copy.revision, copy.size, copy.bytes]).toEqual([4n, 1, 3]);
  const changes = copy.apply(5n, [put('b', 5n), del('a', 5n)]);
  expect(changes).toMatchObject([
    { type: 'put', previous: undefined },
    { type: 'delete', previous: { modRevision: 2n } },
  ]);
  expect([copy.revision, copy.size, copy.bytes]).toEqual([5n, 1, 1]);
  expect([copy.has('a'), copy.get('b')?.modRevision]).toEqual([false, 5n]);
  copy.apply(6n, [put('b', 6n)]);
  expect(copy.bytes).toBe(1);
  copy.replace([], 3n);
  expect([copy.revision, copy.size, copy.bytes]).toEqual([3n, 0, 0]);
});

test('a copy that is ahead of a listing is not taken for different', () => {
  const copy = new PrefixCopy();
  copy.replace([kv('changed', 2n), kv('deleted', 3n)], 4n);
  copy.beginComparison();
  copy.apply(6n, [put('changed', 6n), del('deleted', 6n), put('new', 6n)]);
  const differences = copy.compare(listing(5n, kv('changed', 2n), kv('deleted', 3n)));
  expect([...differences.listed]).toEqual([]);
});

test('what the listing shows otherwise is missed, unless the watch brings it in time', () => {
  const shown = listing(9n, kv('changed', 7n), kv('new', 8n));
  const copy = new PrefixCopy();
  const compare = () => {
    copy.replace([kv('changed', 2n), kv('deleted', 3n)], 4n);
    copy.beginComparison();
    return copy.compare(shown);
  };
  const differences = compare();
  expect(differences.listed).toEqual(
    new Map([
      ['changed', 7n],
      ['deleted', 0n],
      ['new', 8n],
    ]),
  );
  expect(copy.hasMissed(differences)).toBe(true);
  copy.apply(7n, [put('changed', 7n)]);
  copy.apply(8n, [put('new', 8n)]);
  expect(copy.hasMissed(differences)).toBe(true);
  copy.apply(9n, [del('deleted', 9n)]);
  expect(copy.hasMissed(differences)).toBe(false);
  // One that goes again was brought too; an older write alone is not enough.
  const again = compare();
  copy.apply(6n, [put('changed', 6n)]);
  expect(copy.hasMissed(again)).toBe(true);
  copy.apply(9n, [put('changed', 7n), del('deleted', 9n)]);
  copy.apply(10n, [put('new', 10n)]);
  copy.apply(11n, [del('new', 11n)]);
  expect(copy.hasMissed(again)).toBe(false);
});

test('a copy that was taken anew meanwhile is not compared', () => {
  const copy = new PrefixCopy();
  copy.replace([], 1n);
  copy.beginComparison();
  copy.replace([kv('a', 9n)], 9n);
  const differences = copy.compare(listing(5n, kv('b', 3n)));
  expect(differences.listed.size).toBe(0);
  expect(copy.hasMissed({ revision: 5n, listed: new Map([['b', 3n]]) })).toBe(false);
});

test('keys that look alike as text stay distinct', () => {
  const copy = new PrefixCopy();
  const binary = (byte: number) => ({ ...kv('\ufffd', 2n), keyBytes: Buffer.from([byte]) });
  copy.replace([binary(0xfe), binary(0xff)], 2n);
  expect(copy.size).toBe(2);
});

test('a faithful watch never looks as if it missed anything; what is lost, this or the next listing shows', () => {
  const writes = fc.array(fc.record({ key: fc.nat(3), isPut: fc.boolean() }), { minLength: 1 });
  fc.assert(
    fc.property(writes, fc.nat(), fc.nat(), fc.nat(), (history, listedAt, seenAt, lost) => {
      const there = new Set<number>();
      const events: WatchEvent[] = [];
      for (const { key, isPut } of history) {
        if (!isPut && !there.delete(key)) continue;
        if (isPut) there.add(key);
        events.push((isPut ? put : del)(`${key}`, BigInt(events.length + 2)));
      }
      const stateAt = (count: number) => {
        const state = new Map<string, KeyValue>();
        for (const { type, kv: each } of events.slice(0, count)) {
          if (type === 'put') state.set(each.key, each);
          else state.delete(each.key);
        }
        return [...state.values()];
      };
      const listed = listedAt % (events.length + 1);
      const seen = seenAt % (events.length + 1);
      for (const skipped of [-1, lost % Math.max(1, events.length)]) {
        const copy = new PrefixCopy();
        copy.replace([], 1n);
        copy.beginComparison();
        const deliver = (from: number, to: number) => {
          for (let at = from; at < to; at++) {
            const event = events[at];
            if (event && at !== skipped) copy.apply(BigInt(at + 2), [event]);
          }
        };
        deliver(0, seen);
        const differences = copy.compare(listing(BigInt(listed + 1), ...stateAt(listed)));
        deliver(seen, events.length);
        if (skipped < 0) expect(copy.hasMissed(differences)).toBe(false);
        // Only what still shows can be found: the last that happened to a key, before the listing.
        const key = events[skipped]?.kv.key;
        const isLast = !events.slice(skipped + 1).some((event) => event.kv.key === key);
        if (skipped >= 0 && skipped < listed && isLast) {
          const isFound = copy.hasMissed(differences);
          copy.beginComparison();
          const all = listing(BigInt(events.length + 1), ...stateAt(events.length));
          const next = copy.compare(all);
          expect(isFound || next.listed.size > 0).toBe(true);
        }
      }
    }),
  );
});
