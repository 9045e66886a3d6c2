/** Views as loops: how they end, and what a loop that is slower than the changes gets. */
import { Observable, Subject } from 'rxjs';
import { describe, expect, test } from 'vitest';
import { observe, observeShared } from '../../recipes/common/streams.ts';
import { eventsWaitingMax, eventView, stateView, type View } from '../../recipes/common/view.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import { settle } from './world.ts';

const collect = async <T>(values: AsyncIterable<T>): Promise<T[]> => {
  const all: T[] = [];
  for await (const value of values) all.push(value);
  return all;
};

type Source = { readonly subject: Subject<number>; readonly view: View<number> };

const made = (view: (source$: Observable<number>) => View<number>) => (): Source => {
  const subject = new Subject<number>();
  return { subject, view: view(subject) };
};

/** A loop that yields what a subject brings. */
const running = (subject: Subject<number>) =>
  async function* (signal: AbortSignal): AsyncGenerator<number> {
    const waiting: number[] = [];
    let wake: () => void = () => undefined;
    let end: { readonly error?: unknown } | undefined;
    const finish = (how: { readonly error?: unknown }) => {
      end = how;
      wake();
    };
    const subscription = subject.subscribe({
      next: (value) => {
        waiting.push(value);
        wake();
      },
      error: (error) => finish({ error }),
      complete: () => finish({}),
    });
    signal.addEventListener('abort', () => finish({}));
    try {
      for (;;) {
        const value = waiting.shift();
        if (value !== undefined) yield value;
        else if (end !== undefined) break;
        else {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
      if ('error' in end) throw end.error;
    } finally {
      subscription.unsubscribe();
    }
  };

const kinds: Readonly<Record<string, () => Source>> = {
  'a state': made(stateView),
  events: made(eventView),
  'a loop': () => {
    const subject = new Subject<number>();
    return { subject, view: observe(running(subject)) };
  },
  'a shared loop': () => {
    const subject = new Subject<number>();
    return { subject, view: observeShared(running(subject)) };
  },
};

describe.each(Object.entries(kinds))('%s', (_, make) => {
  test('is subscribed to from the beginning of the loop until it is left', async () => {
    const { subject, view } = make();
    const loop = (async () => {
      for await (const value of view) if (value === 2) break;
    })();
    await settle();
    expect(subject.observed).toBe(true);
    subject.next(1);
    await settle();
    expect(subject.observed).toBe(true);
    subject.next(2);
    await loop;
    await settle();
    expect(subject.observed).toBe(false);
  });

  test('throws its error in the loop, after what came before', async () => {
    const { subject, view } = make();
    const seen: number[] = [];
    const loop = (async () => {
      for await (const value of view) seen.push(value);
    })();
    await settle();
    subject.next(1);
    subject.error(new ConclaveError('CODEC', 'unreadable'));
    await expect(loop).rejects.toMatchObject({ code: 'CODEC' });
    expect(seen).toEqual([1]);
  });

  test('ends with its completion, after what came before', async () => {
    const { subject, view } = make();
    const loop = collect(view);
    await settle();
    subject.next(1);
    subject.complete();
    expect(await loop).toEqual([1]);
  });

  test('ends with the signal, and without an error', async () => {
    const { subject, view } = make();
    const stop = new AbortController();
    const loop = collect(view.iterate({ signal: stop.signal }));
    await settle();
    subject.next(1);
    await settle();
    stop.abort();
    expect(await loop).toEqual([1]);
    await settle();
    expect(subject.observed).toBe(false);
    expect(await collect(view.iterate({ signal: stop.signal }))).toEqual([]);
    expect(() => view.iterate({ singal: stop.signal } as never)).toThrow("'singal'");
  });

  test('each loop is for itself', async () => {
    const { subject, view } = make();
    const stop = new AbortController();
    const loops = [collect(view), collect(view.iterate({ signal: stop.signal }))];
    await settle();
    subject.next(1);
    await settle();
    stop.abort();
    await loops[1];
    subject.next(2);
    await settle();
    subject.complete();
    expect(await Promise.all(loops)).toEqual([[1, 2], [1]]);
  });
});

/** A loop that takes the first value, and the others once all have come. */
const takeLate = async ({ subject, view }: Source, count: number): Promise<number[]> => {
  const values = view[Symbol.asyncIterator]();
  const first = values.next();
  await settle();
  subject.next(0);
  const seen = [(await first).value as number];
  for (let value = 1; value <= count; value++) subject.next(value);
  await settle();
  subject.complete();
  for (let next = await values.next(); !next.done; next = await values.next())
    seen.push(next.value);
  return seen;
};

test('of states only the latest waits for a slow loop', async () => {
  expect(await takeLate(made(stateView)(), 1_000)).toEqual([0, 1_000]);
});

test('of events all wait for a slow loop', async () => {
  const all = Array.from({ length: eventsWaitingMax + 1 }, (_, value) => value);
  expect(await takeLate(made(eventView)(), eventsWaitingMax)).toEqual(all);
});

test('a loop that lets too many events wait fails, after those, and lets go of the source', async () => {
  const source = made(eventView)();
  const loop = takeLate(source, eventsWaitingMax + 1);
  await expect(loop).rejects.toMatchObject({ code: 'FULL', retryable: false });
  expect(source.subject.observed).toBe(false);
});

test('a wait that the signal ends is no failure, and what ends by itself is', async () => {
  const failing = (code: 'ABORTED' | 'LOCK_LOST') =>
    observe<never>(async function* (signal) {
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      throw new ConclaveError(code, 'ended');
    });
  const over = (code: 'ABORTED' | 'LOCK_LOST') => {
    const stop = new AbortController();
    const loop = collect(failing(code).iterate({ signal: stop.signal }));
    stop.abort();
    return loop;
  };
  expect(await over('ABORTED')).toEqual([]);
  await expect(over('LOCK_LOST')).rejects.toMatchObject({ code: 'LOCK_LOST' });
});

test('a view is an Observable like any other', () => {
  const { subject, view } = made(stateView)();
  const seen: number[] = [];
  expect(view).toBeInstanceOf(Observable);
  const subscription = view.subscribe((value) => seen.push(value));
  subject.next(1);
  subscription.unsubscribe();
  expect([seen, subject.observed]).toEqual([[1], false]);
});
