/**
 * From loops to Observables and back. A loop gets a signal that aborts when its consumer leaves, so that a
 * wait inside it ends at once and its `finally` runs.
 */
import { shareReplay } from 'rxjs';
import { isConclaveError } from '../../sdk/errors.ts';
import { fromIterable } from '../../sdk/observe.ts';
import { linkedSignal } from './signals.ts';
import { stateView, View } from './view.ts';

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

/** Runs the loop once for each subscriber, and for each loop over it. */
export const observe = <T>(run: (signal: AbortSignal) => AsyncGenerator<T>): View<T> =>
  new View(
    fromIterable(() => abortable(run)),
    (signal) => abortable((ends) => untilAborted(run(ends), signal), signal),
  );

/** Runs the loop while anybody listens; later subscribers get the latest value at once. A state. */
export const observeShared = <T>(run: (signal: AbortSignal) => AsyncGenerator<T>): View<T> =>
  stateView(observe(run).pipe(shareReplay({ bufferSize: 1, refCount: true })));

/** To whoever iterates, the signal is the end and no failure. */
async function* untilAborted<T>(
  values: AsyncGenerator<T>,
  signal: AbortSignal | undefined,
): AsyncGenerator<T> {
  if (signal?.aborted) return;
  try {
    yield* values;
  } catch (error) {
    if (!signal?.aborted || !isConclaveError(error, 'ABORTED')) throw error;
  }
}
