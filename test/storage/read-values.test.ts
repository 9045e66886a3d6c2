import { expect, test } from 'vitest';
import { ReadValues } from '../../server/storage/read-values.ts';

const value = Buffer.from('value');

test('what was read is found until it is cleared', () => {
  const values = new ReadValues();
  values.add('a', value);
  expect(values.get('a')).toBe(value);
  expect(values.get('b')).toBeUndefined();
  values.clear();
  expect(values.get('a')).toBeUndefined();
});

test('long keys and values are not remembered', () => {
  const values = new ReadValues();
  values.add('k'.repeat(1_020), value);
  values.add('k', Buffer.alloc(1_024));
  expect(values.get('k'.repeat(1_020))).toBeUndefined();
  expect(values.get('k')).toBeUndefined();
});

test('of many only the last are remembered', () => {
  const values = new ReadValues();
  for (let key = 0; key < 10_000; key += 1) values.add(`${key}`, value);
  const known = Array.from({ length: 10_000 }, (_, key) => values.get(`${key}`)).filter(Boolean);
  expect(known.length).toBeLessThanOrEqual(1_024);
  expect(values.get('9999')).toBe(value);
});
