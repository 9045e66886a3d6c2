/**
 * From loops to Observables. A loop gets a signal that aborts when its consumer leaves, so that a
 * wait inside it ends at once and its `finally` runs.
 */
import { shareReplay } from 'rxjs';
import { fromIterable, type Observable } from '../../sdk/observe.ts';
import { linkedSignal } from './signals.ts';

/** An iterable whose consumer's `break` aborts the loop behind it. */
export const abortable = <T>(
  run: (signal: AbortSignal) => AsyncGenerator<T>,
  outer?: AbortSignal,
): AsyncIterable<T> => ({
  [Symbol.asyncIterator]() {
    const { signal, abort, unlink } = linkedSignal(outer);
    const generator = run(signal);
    return {
      async next() {
        try {
          const result = await generator.next();
          if (result.done) unlink();
          return result;
        } catch (error) {
          unlink();
          throw error;
        }
      },
      async return() {
        abort();
        await generator.return(undefined);
        return { done: true, value: undefined };
      },
    };
  },
});

/** Runs the loop once for each subscriber. */
export const observe = <T>(run: (signal: AbortSignal) => AsyncGenerator<T>): Observable<T> =>
  fromIterable(() => abortable(run));

/** Runs the loop while anybody listens; later subscribers get the latest value at once. */
export const observeShared = <T>(run: (signal: AbortSignal) => AsyncGenerator<T>): Observable<T> =>
  observe(run).pipe(shareReplay({ bufferSize: 1, refCount: true }));
