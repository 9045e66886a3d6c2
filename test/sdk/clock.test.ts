/** The system's clock, with the system's timers made up. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { systemClock } from '../../sdk/clock.ts';

const dayMs = 86_400_000;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test('a timer of more than 24.8 days, the longest that Node has, fires when it should', () => {
  const fired = vi.fn();
  systemClock.setTimer(60 * dayMs, fired);
  vi.advanceTimersByTime(60 * dayMs - 1);
  expect(fired).not.toHaveBeenCalled();
  vi.advanceTimersByTime(1);
  expect(fired).toHaveBeenCalledTimes(1);
});

test('such a timer can be stopped at any time', () => {
  const fired = vi.fn();
  const cancel = systemClock.setTimer(60 * dayMs, fired);
  vi.advanceTimersByTime(40 * dayMs);
  cancel();
  vi.advanceTimersByTime(100 * dayMs);
  expect(fired).not.toHaveBeenCalled();
  expect(vi.getTimerCount()).toBe(0);
});
