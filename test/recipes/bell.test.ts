import { expect, test } from 'vitest';
import { Bell } from '../../recipes/common/bell.ts';

const listen = (bell: Bell, signal = new AbortController().signal) => {
  const heard: number[] = [];
  return {
    heard,
    wait: (who: number) => bell.heard(signal).then(() => heard.push(who)),
  };
};

test('each ring wakes one, in the order of waiting', async () => {
  const bell = new Bell(2);
  const { heard, wait } = listen(bell);
  const waits = [wait(1), wait(2), wait(3)];
  bell.ring(2);
  await Promise.all(waits.slice(0, 2));
  expect(heard).toEqual([1, 2]);
  bell.ring();
  await waits[2];
});

test('rings that nobody hears are kept, up to the limit', async () => {
  const bell = new Bell(2);
  const { heard, wait } = listen(bell);
  bell.ring(5);
  await wait(1);
  await wait(2);
  const third = wait(3);
  await Promise.resolve();
  expect(heard).toEqual([1, 2]);
  bell.ring();
  await third;
});

test('an aborted wait ends and takes no ring from others', async () => {
  const bell = new Bell(1);
  const abort = new AbortController();
  const leaver = listen(bell, abort.signal).wait(1);
  const { heard, wait } = listen(bell);
  const stayer = wait(2);
  abort.abort();
  await leaver;
  bell.ring();
  await stayer;
  expect(heard).toEqual([2]);
});
