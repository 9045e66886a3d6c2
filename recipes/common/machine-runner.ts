/**
 * Runs a pure machine over a session: feeds it one event at a time and has the effects of each step run.
 * Here is what all machines need alike: calls that are repeated until they are answered, the slow look
 * that covers whatever watches miss, and the end of the session, which comes before anything else.
 */
import { isConclaveError } from '../../sdk/errors.ts';
import type { Session } from '../../sdk/session.ts';
import { LazyEnd } from './lazy-end.ts';
import { fullJitterMs, jittered, mayRepeat, pause, untilAnswered } from './repeat.ts';
import { noLongerWanted, onAbort } from './signals.ts';

export type MachineStep<State, Effect> = {
  readonly state: State;
  readonly effects: readonly Effect[];
};

/** What every machine must know what to do about. */
export type CommonEvent =
  /** The slow timer fired, or a watch cannot tell what happened. */
  | { readonly kind: 'recheck' }
  | { readonly kind: 'session-lost' }
  /** The store refused a call, for a reason that a retry cannot change. */
  | { readonly kind: 'refused'; readonly error: unknown };

export type Machine<State, Event, Effect> = {
  readonly first: MachineStep<State, Effect>;
  readonly step: (state: State, event: Event | CommonEvent) => MachineStep<State, Effect>;
  readonly run: (effect: Effect) => void;
  readonly recheckMs: number;
  /** Whether an event still counts when the session is lost. @default none does */
  readonly outlivesSession?: (event: Event | CommonEvent) => boolean;
};

export class MachineRunner<State, Event, Effect> {
  readonly #session: Session;
  readonly #machine: Machine<State, Event, Effect>;
  /** Ends waits, reads and watches; never a write that has been sent. */
  readonly #stop = new LazyEnd();
  #state: State;
  #stopListening = () => {};
  #cancelRecheck = () => {};

  constructor(session: Session, machine: Machine<State, Event, Effect>) {
    this.#session = session;
    this.#machine = machine;
    this.#state = machine.first.state;
  }

  get state(): State {
    return this.#state;
  }

  /** Aborts when what is under way is of no use any more: at `stop` and at the end. */
  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Takes the first step; the last one, too, when the session has ended by then. */
  start(): void {
    this.#advance(this.#machine.first);
    this.listen();
  }

  /** Follows the session only: the first event is to come. */
  listen(): void {
    this.#stopListening = onAbort(this.#session.signal, () =>
      this.dispatch({ kind: 'session-lost' }),
    );
  }

  dispatch(event: Event | CommonEvent): void {
    const { step, outlivesSession } = this.#machine;
    // Timers of a frozen process fire late: whatever arrives first after the deadline is the end.
    const isOver = this.#session.state === 'lost' && outlivesSession?.(event) !== true;
    this.#advance(step(this.#state, isOver ? { kind: 'session-lost' } : event));
  }

  /** Repeats a call until it is answered, and passes on what it came to. */
  answer(call: (signal: AbortSignal) => Promise<Event>, signal = this.signal): void {
    untilAnswered(this.#session.client, () => call(signal), signal).then(
      (event) => this.dispatch(event),
      (error: unknown) => {
        if (!this.signal.aborted) this.#fail(error);
      },
    );
  }

  /**
   * Makes an attempt to enter until one is answered, or `isWanted` says no.
   *
   * @param attempt comes to nothing when it has to be made again, on what it has learnt
   * @param onDoubt called when an answer was lost: a copy of the attempt may still be on its way
   */
  async enter(
    attempt: () => Promise<Event | undefined>,
    isWanted: (state: State) => boolean,
    onDoubt: () => void,
  ): Promise<void> {
    const { clock, random } = this.#session.client;
    // A little later: whoever gives up at once must find the promise in its place.
    await Promise.resolve();
    for (let failures = 0; isWanted(this.#state); ) {
      try {
        const event = await attempt();
        if (event !== undefined) {
          this.dispatch(event);
          return;
        }
        failures = 0;
        continue;
      } catch (error) {
        if (!isConclaveError(error) || error.outcome !== 'not-applied') onDoubt();
        if (!mayRepeat(error)) {
          this.#fail(error);
          return;
        }
      }
      await pause(clock, fullJitterMs(failures, random), this.signal).catch(() => undefined);
      failures += 1;
    }
  }

  /** Has the machine look again after a while, whatever watches say. */
  recheckLater(): void {
    this.#cancelRecheck();
    this.#cancelRecheck = this.#session.client.clock.setTimer(this.recheckDelayMs(), () =>
      this.dispatch({ kind: 'recheck' }),
    );
  }

  cancelRecheck(): void {
    this.#cancelRecheck();
  }

  recheckDelayMs(): number {
    return jittered(this.#machine.recheckMs, this.#session.client.random);
  }

  /** Between watches that fail. */
  restMs(): number {
    return this.recheckDelayMs() / 10;
  }

  /** Ends what is under way, but for writes. */
  stop(): void {
    this.#stop.end(() => noLongerWanted);
  }

  /** After the last step. */
  end(): void {
    this.#cancelRecheck();
    this.#stopListening();
    this.stop();
  }

  #advance({ state, effects }: MachineStep<State, Effect>): void {
    this.#state = state;
    for (const effect of effects) this.#machine.run(effect);
  }

  #fail(error: unknown): void {
    const isLost = isConclaveError(error, 'LEASE_NOT_FOUND');
    this.dispatch(isLost ? { kind: 'session-lost' } : { kind: 'refused', error });
  }
}
