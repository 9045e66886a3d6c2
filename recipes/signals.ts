/**
 * Listening to abort signals without leaks: AbortSignal.any keeps its result alive as long as a
 * long-lived source (nodejs/node#54614), so signals are combined by hand and listeners removed.
 */
import { setMaxListeners } from 'node:events';

/** Signals that are known to have many listeners at a time, by design. */
const known = new WeakSet<AbortSignal>();

/** Lets a signal have any number of listeners without Node's warning of a leak. */
export function expectManyListeners(signal: AbortSignal): void {
  if (known.has(signal)) return;
  known.add(signal);
  setMaxListeners(0, signal);
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
  expectManyListeners(signal);
  signal.addEventListener('abort', listener, { once: true });
  return () => signal.removeEventListener('abort', listener);
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
  const abort = (reason?: unknown) => {
    unlink();
    controller.abort(reason);
  };
  return { signal: controller.signal, abort, unlink };
}
