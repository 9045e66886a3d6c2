/** Listening to signals, and endings that are seldom waited for. */
import { getEventListeners } from 'node:events';
import { describe, expect, test, vi } from 'vitest';
import { LazyEnd } from '../../recipes/common/lazy-end.ts';
import { onAbort } from '../../recipes/common/signals.ts';

describe('listening to a signal', () => {
  test('all who listen are told once, in order, and those who stopped are not', () => {
    const abort = new AbortController();
    const heard: number[] = [];
    const same = () => heard.push(0);
    onAbort(abort.signal, same);
    const stop = onAbort(abort.signal, same);
    const stops = [1, 2, 3].map((number) =>
      onAbort(abort.signal, () => {
        heard.push(number);
        stops[2]?.();
      }),
    );
    stop();
    stop();
    abort.abort();
    expect(heard).toEqual([0, 1, 2]);
    onAbort(abort.signal, () => heard.push(4));
    expect(heard).toEqual([0, 1, 2, 4]);
  });

  test('a thousand are one listener of the signal, and none is left when they have stopped', () => {
    const { signal } = new AbortController();
    const count = () => getEventListeners(signal, 'abort').length;
    const stops = Array.from({ length: 1_000 }, () => onAbort(signal, () => undefined));
    expect(count()).toBe(1);
    for (const stop of stops) stop();
    expect(count()).toBe(0);
    const stop = onAbort(signal, () => undefined);
    expect(count()).toBe(1);
    stop();
    expect(count()).toBe(0);
  });

  test('one that throws keeps nothing from the others, and is not hidden', async () => {
    const abort = new AbortController();
    const thrown: unknown[] = [];
    const queued = vi.spyOn(globalThis, 'queueMicrotask').mockImplementation((task) => {
      try {
        task();
      } catch (error) {
        thrown.push(error);
      }
    });
    let heard = 0;
    onAbort(abort.signal, () => {
      throw new Error('of a listener');
    });
    onAbort(abort.signal, () => {
      heard += 1;
    });
    abort.abort();
    queued.mockRestore();
    expect(heard).toBe(1);
    expect(thrown).toMatchObject([{ message: 'of a listener' }]);
  });
});

describe('an ending', () => {
  test('makes no reason for nobody, and one for whoever asks, before or after', () => {
    const reason = vi.fn(() => new Error('over'));
    const unseen = new LazyEnd();
    unseen.end(reason);
    expect(unseen.isOver).toBe(true);
    expect(reason).not.toHaveBeenCalled();
    expect(unseen.signal.aborted).toBe(true);
    expect(unseen.signal.reason).toBe(unseen.signal.reason);
    expect(() => unseen.throwIfOver()).toThrow('over');
    expect(reason).toHaveBeenCalledTimes(1);

    const seen = new LazyEnd();
    const { signal } = seen;
    seen.throwIfOver();
    expect(signal.aborted).toBe(false);
    seen.end(() => 'first');
    seen.end(() => 'second');
    expect(signal.reason).toBe('first');
  });

  test('tells those who listen when it comes, and at once when it has', () => {
    const ending = new LazyEnd();
    const heard: string[] = [];
    ending.onEnd(() => heard.push(`then, over ${ending.isOver}`));
    expect(heard).toEqual([]);
    ending.end(() => 'over');
    ending.onEnd(() => heard.push('at once'));
    expect(heard).toEqual(['then, over true', 'at once']);
  });
});
