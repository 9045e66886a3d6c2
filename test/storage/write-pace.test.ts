import { expect, test } from 'vitest';
import { WritePace } from '../../server/storage/write-pace.ts';

const after = (...durationsMs: readonly number[]): boolean => {
  const pace = new WritePace();
  for (const durationMs of durationsMs) pace.took(durationMs);
  return pace.isQuick;
};

const times = (count: number, durationMs: number): number[] => Array(count).fill(durationMs);

test('a disk is taken for quick until it was not', () => {
  expect(after()).toBe(true);
  expect(after(...times(100, 0.3))).toBe(true);
  expect(after(...times(100, 0.9))).toBe(true);
});

test('a disk of 10 ms a write is found out by its first', () => {
  expect(after(10)).toBe(false);
  expect(after(...times(100, 10))).toBe(false);
});

test('after a stall a disk has to be quick for a while', () => {
  expect(after(...times(100, 0.3), 100)).toBe(false);
  expect(after(100, ...times(5, 0.3))).toBe(false);
  expect(after(100, ...times(15, 0.3))).toBe(true);
});
