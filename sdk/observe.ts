/** The one bridge to RxJS: everything else deals in promises, AsyncIterables and these. */
import { BehaviorSubject, Observable, Subject } from 'rxjs';

export type { Observable } from 'rxjs';

/** A value that changes: new subscribers get the latest one at once. */
export class StateSource<T> {
  readonly #subject: BehaviorSubject<T>;
  readonly observable: Observable<T>;

  constructor(initial: T) {
    this.#subject = new BehaviorSubject(initial);
    this.observable = this.#subject.asObservable();
  }

  get value(): T {
    return this.#subject.value;
  }

  /** Tells subscribers, unless the value is the one they have. */
  set(value: T): void {
    if (!this.#subject.closed && value !== this.#subject.value) this.#subject.next(value);
  }

  complete(): void {
    this.#subject.complete();
  }
}

/** Things that happen: only those who subscribed before hear of them. */
export class EventSource<T> {
  readonly #subject = new Subject<T>();
  readonly observable: Observable<T> = this.#subject.asObservable();

  emit(event: T): void {
    this.#subject.next(event);
  }

  complete(): void {
    this.#subject.complete();
  }
}

/**
 * Each subscription iterates anew. Unsubscribing returns the iterator, so the source can let go; the
 * source sees back-pressure only as far as subscribers are synchronous.
 */
export const fromIterable = <T>(open: () => AsyncIterable<T>): Observable<T> =>
  new Observable((subscriber) => {
    const iterator = open()[Symbol.asyncIterator]();
    const pump = async () => {
      try {
        for (;;) {
          const next = await iterator.next();
          if (subscriber.closed) return;
          if (next.done) break;
          subscriber.next(next.value);
        }
        subscriber.complete();
      } catch (error) {
        subscriber.error(error);
      }
    };
    void pump();
    return () => {
      iterator.return?.().catch(() => undefined);
    };
  });
