/** Which orders of creation are kept, and for how long. */
import { expect, test } from 'vitest';
import { CreationOrders, type CreationOrdersOptions } from '../../server/mvcc/creation-orders.ts';
import { currentKey } from '../../server/mvcc/keys.ts';
import { encodeCurrent } from '../../server/mvcc/records.ts';
import type { Event, RangeRequest } from '../../server/mvcc/types.ts';
import { get } from '../machine/requests.ts';
import { bytes, text } from '../support/plain.ts';
import { SortedState } from '../support/sorted-state.ts';

const nameOf = (line: string, place: number): string => `${line}/${place}`;

/** Lines of so many places each, all created at revisions of their own. */
function rig(lines: readonly string[], places: number, options: CreationOrdersOptions) {
  const state = new SortedState();
  let revision = 1;
  for (const line of lines) {
    for (let place = 0; place < places; place += 1) {
      revision += 1;
      const value = encodeCurrent({
        deleted: false,
        revision,
        sub: 0,
        createRevision: revision,
        version: 1,
        lease: 0n,
      });
      const key = currentKey(bytes(nameOf(line, place)));
      state.apply(revision, [{ kind: 'put', key, value }], 1);
    }
  }
  const orders = new CreationOrders({ minKeys: 1, ...options });
  const view = (line: string) => orders.over(state, newestOf(line));
  const select = (line: string) => view(line)?.select()?.keys.map(text);
  const list = (line: string) => {
    view(line)?.scanned(places);
    return select(line);
  };
  return { orders, list, select };
}

const newestOf = (line: string): RangeRequest =>
  get(`${line}/`, `${line}0`, { sortTarget: 'create', sortOrder: 'descend', limit: 1 });

const kv = (key: string, version: number, createRevision: number): Event['kv'] => ({
  key: bytes(key),
  value: bytes(''),
  createRevision,
  modRevision: createRevision,
  version,
  lease: 0n,
});
const created = (key: string, revision: number): Event => ({
  kind: 'put',
  kv: kv(key, 1, revision),
});
const deleted = (key: string): Event => ({ kind: 'delete', kv: kv(key, 0, 0) });

test('a line is kept from the scan on that found it long enough', () => {
  const { orders, select, list } = rig(['a'], 10, {});
  expect(select('a')).toBeUndefined();
  expect(list('a')).toEqual(['a/9', 'a/8']);
  expect(orders.keys).toBe(10);
  orders.announce([created('a/new', 50)]);
  expect(select('a')).toEqual(['a/new', 'a/9']);
  expect(orders.keys).toBe(11);
});

test.each([
  { length: 9, isKept: false },
  { length: 10, isKept: true },
  { length: 20, isKept: true },
  { length: 21, isKept: false },
])('of $length keys, between 10 and 20 allowed: kept is $isKept', ({ length, isKept }) => {
  const { orders, list } = rig(['a'], length, { minKeys: 10, maxKeys: 20 });
  expect(list('a') !== undefined).toBe(isKept);
  expect(orders.keys).toBe(isKept ? length : 0);
});

test('those used longest ago go when there are too many keys, even if nothing is written', () => {
  const { orders, list, select } = rig(['a', 'b', 'c'], 10, { maxKeysKept: 20 });
  list('a');
  list('b');
  select('a');
  list('c');
  expect(orders.keys).toBe(20);
  expect(select('b')).toBeUndefined();
  expect(select('a')).toEqual(['a/9', 'a/8']);
});

test('a line that became too long, or empty, is kept no more', () => {
  const { orders, list, select } = rig(['a', 'b'], 2, { maxKeys: 3 });
  list('a');
  list('b');
  orders.announce([created('a/x', 50), created('a/y', 50)]);
  expect(select('a')).toBeUndefined();
  orders.announce([deleted('b/0'), deleted('b/1')]);
  expect(select('b')).toBeUndefined();
  expect(orders.keys).toBe(0);
});

test('an entry that changes very much is not followed', () => {
  const { orders, list, select } = rig(['a', 'b'], 1_000, {});
  list('a');
  list('b');
  orders.announce(Array.from({ length: 500 }, (_, place) => deleted(nameOf('a', place))));
  expect(select('a')).toBeUndefined();
  expect(select('b')).toEqual(['b/999', 'b/998']);
  expect(orders.keys).toBe(1_000);
});
