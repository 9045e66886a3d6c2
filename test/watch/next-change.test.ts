import { expect, test } from 'vitest';
import type { Event } from '../../server/mvcc/types.ts';
import { NextChange } from '../../server/watch/next-change.ts';

const event = (key: string): Event => ({
  kind: 'put',
  kv: {
    key: Buffer.from(key),
    value: Buffer.alloc(0),
    createRevision: 2,
    modRevision: 2,
    version: 1,
    lease: 0n,
  },
});

test('each write to one of the keys is told, nothing else, until it is stopped', () => {
  const changes = new NextChange();
  const heard: string[] = [];
  const stop = changes.listen([Buffer.from('a'), Buffer.from('b')], () => heard.push('one'));
  changes.listen([Buffer.from('b')], () => heard.push('two'));
  changes.announce([event('c'), event('a')]);
  expect(heard.splice(0)).toEqual(['one']);
  changes.announce([event('b')]);
  expect(heard.splice(0)).toEqual(['one', 'two']);
  stop();
  changes.announce([event('a'), event('b')]);
  expect(heard.splice(0)).toEqual(['two']);
});

test('who stops while others are told disturbs nobody', () => {
  const changes = new NextChange();
  const heard: number[] = [];
  const stops = [1, 2, 3].map((number) =>
    changes.listen([Buffer.from('a')], () => {
      heard.push(number);
      stops[number - 1]?.();
    }),
  );
  changes.announce([event('a')]);
  changes.announce([event('a')]);
  expect(heard).toEqual([1, 2, 3]);
});

test('a state that was replaced may have changed any key', () => {
  const changes = new NextChange();
  let heard = 0;
  changes.listen([Buffer.from('a')], () => {
    heard += 1;
  });
  changes.announceAll();
  expect(heard).toBe(1);
});
