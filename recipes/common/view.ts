/**
 * What recipes show as it changes: Observables that can be looped over too. How a loop that is slower
 * than the changes fares depends on what is shown, and so belongs to the view:
 *
 * - Of a state only the latest waits for the loop.
 * - Of events all wait; a loop that lets too many wait ends with FULL, so that none is lost silently.
 * - What is itself made by a loop waits for the loop over it.
 */
import { Observable, Subscription } from 'rxjs';
import { ConclaveError } from '../../sdk/errors.ts';
import { checkOptions, onlySignal } from './option-checks.ts';
import { onAbort } from './signals.ts';

export type IterateOptions = {
  /** Ends the loop, without an error, whatever still waits. */
  readonly signal?: AbortSignal;
};

type Open<T> = (signal: AbortSignal | undefined) => AsyncIterable<T>;

/**
 * An Observable and an AsyncIterable of the same. Each loop subscribes when it begins and unsubscribes
 * when it is left; the view's error is thrown in the loop, its completion ends it.
 */
export class View<T> extends Observable<T> implements AsyncIterable<T> {
  readonly #open: Open<T>;

  constructor(source$: Observable<T>, open: Open<T>) {
    super((subscriber) => source$.subscribe(subscriber));
    this.#open = open;
  }

  /** The view as a loop that `signal` ends. @throws ConclaveError INVALID_ARGUMENT */
  iterate(options: IterateOptions = {}): AsyncIterable<T> {
    checkOptions<IterateOptions>(options, onlySignal);
    return this.#open(options.signal);
  }

  [Symbol.asyncIterator](): AsyncIterator<T> {
    return this.iterate()[Symbol.asyncIterator]();
  }
}

/** Events that wait for a slow loop; with one more it has failed. */
export const eventsWaitingMax = 10_000;

/** A state: a loop gets the latest that it has not had. */
export const stateView = <T>(state$: Observable<T>): View<T> =>
  new View(state$, (signal) =>
    loopOver(state$, signal, (waiting, state) => {
      waiting[0] = state;
    }),
  );

/** Things that happen: a loop gets each of them. */
export const eventView = <T>(events$: Observable<T>): View<T> =>
  new View(events$, (signal) =>
    loopOver(events$, signal, (waiting, event) => {
      if (waiting.length === eventsWaitingMax) throw tooSlow();
      waiting.push(event);
    }),
  );

const tooSlow = () =>
  new ConclaveError('FULL', `${eventsWaitingMax} events wait for a loop that is slower than they`, {
    retryable: false,
    remedy: 'Let the loop hand its work on.',
  });

/** @param keep puts a value with those that wait; what it throws ends the loop after those */
const loopOver = <T>(
  source$: Observable<T>,
  signal: AbortSignal | undefined,
  keep: (waiting: T[], value: T) => void,
): AsyncIterable<T> => ({
  [Symbol.asyncIterator]() {
    let waiting: T[] = [];
    let readers: (() => void)[] = [];
    /** Set at the end: what is to be thrown, if anything is. */
    let end: { readonly error?: unknown } | undefined;
    const subscription = new Subscription();
    const wake = () => {
      const woken = readers;
      readers = [];
      for (const reader of woken) reader();
    };
    const finish = (how: { readonly error?: unknown }) => {
      end ??= how;
      stopListening();
      subscription.unsubscribe();
      wake();
    };
    const leave = () => {
      waiting = [];
      finish({});
      end = {};
    };
    let stopListening: () => void = () => undefined;
    stopListening = onAbort(signal, leave);
    if (end === undefined) {
      subscription.add(
        source$.subscribe({
          next: (value) => {
            if (end !== undefined) return;
            try {
              keep(waiting, value);
              wake();
            } catch (error) {
              finish({ error });
            }
          },
          error: (error: unknown) => finish({ error }),
          complete: () => finish({}),
        }),
      );
    }
    const next = async (): Promise<IteratorResult<T, undefined>> => {
      while (waiting.length === 0 && end === undefined) {
        await new Promise<void>((resolve) => {
          readers.push(resolve);
        });
      }
      if (waiting.length > 0) return { done: false, value: waiting.shift() as T };
      if (end !== undefined && 'error' in end) {
        const { error } = end;
        end = {};
        throw error;
      }
      return { done: true, value: undefined };
    };
    return {
      next,
      return: async () => {
        leave();
        return { done: true, value: undefined };
      },
    };
  },
});
