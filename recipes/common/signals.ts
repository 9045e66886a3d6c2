/**
 * Listening to abort signals without leaks: AbortSignal.any keeps its result alive as long as a
 * long-lived source (nodejs/node#54614), so signals are combined by hand and listeners removed.
 */
import { setMaxListeners } from 'node:events';
import type { Clock } from '../../sdk/clock.ts';
import { aborted, ConclaveError } from '../../sdk/errors.ts';

/**
 * Why something of our own is aborted that has simply done its work. Without a reason each abort would
 * make an error with a stack, which costs more than all the rest of it.
 */
export const noLongerWanted = new ConclaveError('ABORTED', 'It is not wanted any more');

/** Signals that are known to have many listeners at a time, by design. */
const known = new WeakSet<AbortSignal>();

/** Lets a signal have any number of listeners without Node's warning of a leak. */
export function expectManyListeners(signal: AbortSignal): void {
  if (known.has(signal)) return;
  known.add(signal);
  // Of another make it has no such limit.
  if (signal instanceof EventTarget) setMaxListeners(0, signal);
}

/**
 * Runs `listener` once the signal aborts, or at once when it has.
 *
 * @returns stops listening; calling it again does nothing
 */
export function onAbort(signal: AbortSignal | undefined, listener: () => void): () => void {
  if (signal === undefined) return () => undefined;
  if (signal.aborted) {
    listener();
    return () => undefined;
  }
  const all = listenersOf(signal);
  // One and the same function may listen twice.
  const entry = () => listener();
  all.add(entry);
  return () => all.delete(entry);
}

/** Who listens to a signal: taking one of many from the signal itself would go through all of them. */
class Listeners {
  readonly #signal: AbortSignal;
  readonly #entries = new Set<() => void>();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  add(entry: () => void): void {
    if (this.#entries.size === 0) this.#signal.addEventListener('abort', this.#run);
    this.#entries.add(entry);
  }

  delete(entry: () => void): void {
    if (!this.#entries.delete(entry) || this.#entries.size > 0) return;
    this.#signal.removeEventListener('abort', this.#run);
  }

  readonly #run = (): void => {
    tellAll(this.#entries);
    this.#entries.clear();
    this.#signal.removeEventListener('abort', this.#run);
  };
}

/** What one of them throws is thrown by itself, as by a listener of a signal: it keeps nothing from the others. */
export function tellAll(listeners: Iterable<() => void>): void {
  for (const listener of listeners) {
    try {
      listener();
    } catch (error) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }
}

const listeners = new WeakMap<AbortSignal, Listeners>();

function listenersOf(signal: AbortSignal): Listeners {
  let all = listeners.get(signal);
  if (all === undefined) {
    all = new Listeners(signal);
    listeners.set(signal, all);
  }
  return all;
}

export type LinkedSignal = {
  /** Aborts with the reason of whichever source aborts first. */
  readonly signal: AbortSignal;
  /** Aborts it, and stops listening to the sources. */
  readonly abort: (reason?: unknown) => void;
  /** Stops listening to the sources. */
  readonly unlink: () => void;
};

export function linkedSignal(...sources: readonly (AbortSignal | undefined)[]): LinkedSignal {
  const controller = new AbortController();
  expectManyListeners(controller.signal);
  const stops = sources.map((source) => onAbort(source, () => controller.abort(source?.reason)));
  const unlink = () => {
    for (const stop of stops) stop();
  };
  const abort = (reason: unknown = noLongerWanted) => {
    unlink();
    controller.abort(reason);
  };
  return { signal: controller.signal, abort, unlink };
}

/** A signal that aborts this long after `source` has: what is under way then may still finish. */
export function delayedSignal(clock: Clock, source: AbortSignal, delayMs: number): LinkedSignal {
  const { signal, abort } = linkedSignal();
  let cancel: () => void = () => undefined;
  const stopListening = onAbort(source, () => {
    cancel = clock.setTimer(delayMs, () => abort(source.reason));
  });
  const unlink = () => {
    stopListening();
    cancel();
  };
  return { signal, abort, unlink };
}

/** The work's outcome, or ConclaveError ABORTED if the signal aborts first; the work goes on then. */
export const unlessAborted = <T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> => {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const stopListening = onAbort(signal, () => reject(aborted(signal)));
    work.then(resolve, reject).finally(stopListening);
  });
};
