import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ExpiryHeap, type Scheduled } from '../../server/lease/expiry-heap.ts';
import { Lessor } from '../../server/lease/lessor.ts';

test('a lease runs out after its time, and not before', () => {
  const lessor = new Lessor();
  lessor.grant(1n, 10, 1_000);
  expect(lessor.expired(10_999, 9)).toEqual([]);
  expect(lessor.remaining(1n, 4_000)).toBe(7_000);
  expect(lessor.remaining(1n, 99_000)).toBe(0);
  expect(lessor.expired(11_000, 9)).toEqual([1n]);
});

test('each is offered once, the longest ago first, until it is given back', () => {
  const lessor = new Lessor();
  lessor.grant(3n, 3, 0);
  lessor.grant(1n, 1, 0);
  lessor.grant(2n, 2, 0);
  expect(lessor.expired(9_000, 2)).toEqual([1n, 2n]);
  expect(lessor.expired(9_000, 2)).toEqual([3n]);
  expect(lessor.expired(9_000, 2)).toEqual([]);
  lessor.reoffer(2n);
  expect(lessor.expired(9_000, 2)).toEqual([2n]);
});

test('no renewal is acknowledged once the expiry is proposed', () => {
  const lessor = new Lessor();
  lessor.grant(1n, 10, 0);
  expect(lessor.renew(1n, 10_000)).toBe(10);
  expect(lessor.expired(20_000, 9)).toEqual([1n]);
  expect(lessor.renew(1n, 20_000)).toBeUndefined();
  expect(lessor.has(1n)).toBe(true);
  lessor.reoffer(1n);
  expect(lessor.renew(1n, 20_000)).toBe(10);
  expect(lessor.expired(29_999, 9)).toEqual([]);
});

test('a revoked lease is gone everywhere', () => {
  const lessor = new Lessor();
  lessor.grant(1n, 1, 0);
  lessor.grant(2n, 2, 0);
  expect(lessor.revoke(1n)).toBe(true);
  expect(lessor.revoke(1n)).toBe(false);
  expect(lessor.renew(1n, 0)).toBeUndefined();
  expect(lessor.info(1n, 0)).toBeUndefined();
  expect(lessor.expired(9_000, 9)).toEqual([2n]);
  expect(lessor.revoke(2n)).toBe(true);
  lessor.reoffer(2n);
  expect(lessor.expired(9_000, 9)).toEqual([]);
  expect(lessor.size).toBe(0);
});

test('a new leader gives every lease its full time and more, also those it once proposed to end', () => {
  const lessor = new Lessor();
  lessor.grant(1n, 5, 0);
  lessor.grant(2n, 50, 0);
  expect(lessor.expired(5_000, 9)).toEqual([1n]);
  lessor.extendAll(100_000, 1_000);
  expect(lessor.remaining(1n, 100_000)).toBe(5_000);
  expect(lessor.remaining(2n, 100_000)).toBe(50_000);
  expect(lessor.remaining(1n, 102_000)).toBe(4_000);
  expect(lessor.expired(105_999, 9)).toEqual([]);
  expect(lessor.renew(1n, 101_000)).toBe(5);
  expect(lessor.expired(106_000, 9)).toEqual([1n]);
});

test('after a pause a leader extends what it has not proposed to end', () => {
  const lessor = new Lessor();
  lessor.grant(1n, 5, 0);
  lessor.grant(2n, 6, 0);
  expect(lessor.expired(5_000, 9)).toEqual([1n]);
  lessor.extendRenewable(50_000, 0);
  expect(lessor.renew(1n, 50_000)).toBeUndefined();
  expect(lessor.remaining(2n, 50_000)).toBe(6_000);
});

test('a new leader spreads the expiry of many leases', () => {
  const lessor = new Lessor();
  for (let id = 1n; id <= 3000n; id += 1n) lessor.grant(id, 10, 0);
  lessor.extendAll(0, 0);
  const perSecond = [10, 11, 12, 13, 14].map((s) => lessor.expired(s * 1000, 10_000).length);
  expect(perSecond).toEqual([750, 750, 750, 750, 0]);
});

test('the list is in order of expiry', () => {
  const lessor = new Lessor();
  lessor.grant(1n, 30, 0);
  lessor.grant(2n, 10, 0);
  lessor.grant(3n, 20, 0);
  lessor.renew(2n, 15_000);
  expect(lessor.list(20_000).map(({ id, remainingMs }) => [id, remainingMs])).toEqual([
    [3n, 0],
    [2n, 5_000],
    [1n, 10_000],
  ]);
  lessor.clear();
  expect(lessor.list(0)).toEqual([]);
  expect(lessor.expired(1e9, 9)).toEqual([]);
});

test('the heap always gives what expires first', () => {
  const move = fc.record({ item: fc.nat({ max: 20 }), expiresAtMs: fc.nat({ max: 50 }) });
  const act = fc.oneof(
    { weight: 4, arbitrary: move },
    { weight: 1, arbitrary: fc.constant('pop' as const) },
    { weight: 2, arbitrary: fc.record({ remove: fc.nat({ max: 20 }) }) },
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 80 }), (acts) => {
      const heap = new ExpiryHeap<Scheduled>();
      const items = Array.from({ length: 21 }, () => ({ expiresAtMs: 0, place: -1 }));
      const inside = new Set<Scheduled>();
      for (const one of acts) {
        if (one === 'pop') {
          if (heap.first !== undefined) {
            inside.delete(heap.first);
            heap.remove(heap.first);
          }
        } else if ('remove' in one) {
          const item = items[one.remove] as Scheduled;
          heap.remove(item);
          inside.delete(item);
          expect(item.place).toBe(-1);
        } else {
          const item = items[one.item] as Scheduled;
          item.expiresAtMs = one.expiresAtMs;
          heap.schedule(item);
          inside.add(item);
        }
        const soonest = Math.min(...[...inside].map(({ expiresAtMs }) => expiresAtMs));
        expect(heap.first?.expiresAtMs ?? Number.POSITIVE_INFINITY).toBe(soonest);
      }
    }),
  );
});
