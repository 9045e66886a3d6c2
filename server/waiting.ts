/** Callers that wait for an outcome, by request id. */
import { Fault, type FaultCode } from './faults.ts';

type Waiter<T> = {
  readonly resolve: (value: T) => void;
  readonly reject: (reason: unknown) => void;
};

export class Waiting<T> {
  readonly #waiters = new Map<number, Waiter<T>>();

  get size(): number {
    return this.#waiters.size;
  }

  wait(id: number): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
    });
  }

  resolve(id: number, value: T): void {
    this.#take(id)?.resolve(value);
  }

  /** Returns whether anybody waited. */
  reject(id: number, code: FaultCode): boolean {
    const waiter = this.#take(id);
    waiter?.reject(new Fault(code));
    return waiter !== undefined;
  }

  rejectAll(code: FaultCode): void {
    for (const id of [...this.#waiters.keys()]) this.reject(id, code);
  }

  #take(id: number): Waiter<T> | undefined {
    const waiter = this.#waiters.get(id);
    this.#waiters.delete(id);
    return waiter;
  }
}

/**
 * The same promise, given up when the signal aborts. Giving up undoes nothing: what was proposed may
 * still take effect.
 */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    // First of all: a promise that nobody handles would end the process when it is rejected.
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    if (signal.aborted) abort();
    else signal.addEventListener('abort', abort, { once: true });
  });
}
