/**
 * A state that changes by events. Whoever begins to listen, or lags too far behind, gets the state as a
 * whole first: so no event is ever left out silently.
 */
import { defer, filter, map, type Observable } from 'rxjs';
import { onAbort } from '../common/signals.ts';

/** The state after an event; undefined as long as it is not known. */
export type Step<State, Event> = { readonly state: State | undefined; readonly event: Event };

/** Makes the event that tells a state as a whole. */
export type Whole<State, Event> = (state: State, why: 'start' | 'overflow') => Event;

/** Events that wait for a slow loop; one more, and they give way to the state as a whole. */
export const eventsKept = 1_024;

/** What is known, at once, then each event. `steps$` replays its last step. */
export const eventsOf = <State, Event extends { readonly type: string }>(
  steps$: Observable<Step<State, Event>>,
  whole: Whole<State, Event>,
): Observable<Event> =>
  defer(() => {
    let began = false;
    return steps$.pipe(
      map(({ state, event }) => {
        const isFirst = !began && state !== undefined;
        began ||= isFirst;
        return isFirst && event.type !== 'reset' ? whole(state, 'start') : event;
      }),
    );
  });

/** The states, as far as they are known. */
export const statesOf = <State, Event>(steps$: Observable<Step<State, Event>>): Observable<State> =>
  steps$.pipe(
    map(({ state }) => state),
    filter((state) => state !== undefined),
  );

/** The events as a loop. Leaving the loop, or the signal, ends it. */
export const iterateEvents = <State, Event extends { readonly type: string }>(
  steps$: Observable<Step<State, Event>>,
  whole: Whole<State, Event>,
  signal: AbortSignal | undefined,
): AsyncIterable<Event> => ({
  [Symbol.asyncIterator]() {
    let waiting: Event[] = [];
    let lagging: State | undefined;
    let isOver = false;
    let wake: () => void = () => undefined;
    let state: State | undefined;
    const finish = () => {
      isOver = true;
      wake();
    };
    const states = steps$.subscribe((step) => {
      state = step.state;
      if (lagging !== undefined) lagging = state;
    });
    const events = eventsOf(steps$, whole).subscribe({
      next: (event) => {
        if (lagging !== undefined) return;
        if (waiting.length === eventsKept && state !== undefined) {
          waiting = [];
          lagging = state;
        } else {
          waiting.push(event);
        }
        wake();
      },
      complete: finish,
    });
    const stopListening = onAbort(signal, finish);
    const end = (): IteratorResult<Event, undefined> => {
      waiting = [];
      stopListening();
      events.unsubscribe();
      states.unsubscribe();
      finish();
      return { done: true, value: undefined };
    };
    const next = async (): Promise<IteratorResult<Event, undefined>> => {
      for (;;) {
        if (signal?.aborted) return end();
        if (lagging !== undefined && !isOver) {
          const value = whole(lagging, 'overflow');
          lagging = undefined;
          return { done: false, value };
        }
        const value = waiting.shift();
        if (value !== undefined) return { done: false, value };
        if (isOver) return end();
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    };
    return {
      next,
      return: async () => end(),
    };
  },
});
