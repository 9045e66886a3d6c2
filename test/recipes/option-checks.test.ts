/** Signals as callers give them: of whatever make, and nothing else. */
import { firstValueFrom, type Observable } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { Mutex } from '../../recipes/locks/mutex.ts';
import { storeMissing } from '../support/store.ts';
import { useWorld } from './world.ts';

/** As a polyfill makes it: neither an AbortSignal nor an EventTarget of this realm. */
const foreignSignal = () => {
  const listeners = new Set<() => void>();
  const signal = {
    aborted: false,
    reason: undefined as unknown,
    addEventListener: (_: string, listener: () => void) => listeners.add(listener),
    removeEventListener: (_: string, listener: () => void) => listeners.delete(listener),
  };
  const abort = () => {
    signal.aborted = true;
    for (const listener of [...listeners]) listener();
  };
  return { signal: signal as unknown as AbortSignal, abort, listeners };
};

describe.skipIf(storeMissing)('a signal', () => {
  const world = useWorld();

  test('may be of another make', async () => {
    const [{ context }, name] = [await world.actor(), world.name()];
    const held = await new Mutex(context, name).acquire();
    const { signal, abort, listeners } = foreignSignal();
    const waiting = new Mutex(context, name).acquire({ signal });
    expect(listeners.size).toBe(1);
    abort();
    await expect(waiting).rejects.toMatchObject({ code: 'ABORTED' });
    expect(listeners.size).toBe(0);
    await held.release();
  });

  test.each([null, {}, 'stop', new AbortController()])('is not %s', async (given) => {
    const { context } = await world.actor();
    const options = { signal: given } as never;
    await expect(new Mutex(context, world.name()).acquire(options)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("'signal'"),
    });
  });

  test('is not for what ends when nobody subscribes', async () => {
    const { context } = await world.actor();
    const { signal } = new AbortController();
    const mutex = new Mutex(context, world.name());
    const views = [mutex.hold$({ signal } as never), mutex.progress$({ signal } as never)];
    for (const view of views as Observable<unknown>[]) {
      await expect(firstValueFrom(view)).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
        message: expect.stringContaining("'signal'"),
      });
    }
  });
});
