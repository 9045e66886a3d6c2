/**
 * Runs one wait at a cyclic barrier against a store: turns the effects of `cyclic.ts` into calls, and
 * their answers into events.
 *
 * Exchanges: 2 (enter, watches; or enter, trip), and 1 more for the one that breaks a generation.
 */
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { Session } from '../../sdk/session.ts';
import { closingPatienceMs, untilAnswered } from '../common/repeat.ts';
import { onAbort } from '../common/signals.ts';
import type { BreakReason } from './broken.ts';
import {
  beginCyclic,
  type CyclicEffect,
  type CyclicEnd,
  type CyclicEvent,
  type CyclicState,
  type CyclicStep,
  stepCyclic,
} from './cyclic.ts';
import { CyclicCalls, type CyclicPlan } from './cyclic-calls.ts';
import { decodeRecord } from './cyclic-record.ts';
import { Follower, type FollowerHandlers } from './follower.ts';
import { jittered } from './key-wait.ts';

/** What the last party does before all go on. */
export type BarrierAction = (turn: {
  readonly generation: number;
  /** Aborts when the generation breaks, or the session is lost, while the action runs. */
  readonly signal: AbortSignal;
}) => Promise<void> | void;

type Handlers = {
  waits(): void;
  /** Called once, whatever ends it. */
  ended(end: CyclicEnd): void;
};

export class CyclicParty {
  readonly #session: Session;
  readonly #plan: CyclicPlan;
  readonly #action: BarrierAction | undefined;
  readonly #handlers: Handlers;
  readonly #calls: CyclicCalls;
  /** Ends waits, reads, watches and the action; never a write that has been sent. */
  readonly #stop = new AbortController();
  readonly #record: Follower;
  readonly #parties: Follower;
  #state: CyclicState = { kind: 'entering' };
  #waited = false;
  #entering: Promise<void> = Promise.resolve();
  #stopListening = () => {};
  #cancelRecheck = () => {};
  #cancelPatience = () => {};

  constructor(
    session: Session,
    plan: CyclicPlan,
    action: BarrierAction | undefined,
    handlers: Handlers,
  ) {
    this.#session = session;
    this.#plan = plan;
    this.#action = action;
    this.#handlers = handlers;
    this.#calls = new CyclicCalls(session, plan);
    this.#record = this.#follower((events) => {
      for (const { type, kv } of events) {
        const record = type === 'put' ? decodeRecord(kv) : undefined;
        this.#plan.known.record = record;
        this.#dispatch({ kind: 'record-seen', record });
      }
    });
    this.#parties = this.#follower((events) => {
      if (events.some(({ type }) => type === 'delete')) this.#dispatch({ kind: 'party-gone' });
    });
  }

  start(): void {
    this.#stopListening = onAbort(this.#session.signal, () =>
      this.#dispatch({ kind: 'session-lost' }),
    );
    this.#advance(beginCyclic());
  }

  /**
   * Gives up, which breaks the generation unless it is complete by then: the store decides. When the
   * store does not answer for a while, the wait ends all the same, and nobody knows what came of it.
   *
   * @param error why: ABORTED, or that it took too long
   */
  giveUp(error: ConclaveError): void {
    const { clock } = this.#session.client;
    const { code, message } = error;
    const overdue = new ConclaveError(code, message, { cause: error.cause, outcome: 'unknown' });
    const reason = code === 'ABORTED' ? 'abort' : 'timeout';
    this.#cancelPatience = clock.setTimer(closingPatienceMs, () => {
      this.#dispatch({ kind: 'refused', error: overdue });
    });
    this.#dispatch({ kind: 'give-up', reason, error });
  }

  #follower(events: FollowerHandlers['events']): Follower {
    const look = () => this.#dispatch({ kind: 'recheck' });
    return new Follower(this.#session.client, () => this.#recheckDelayMs() / 10, { events, look });
  }

  #dispatch(event: CyclicEvent): void {
    // Timers of a frozen process fire late: whatever arrives first after the deadline is the end.
    const expired = this.#session.state === 'lost';
    const rules = { parties: this.#plan.parties, hasAction: this.#action !== undefined };
    this.#advance(stepCyclic(rules, this.#state, expired ? { kind: 'session-lost' } : event));
  }

  #advance({ state, effects }: CyclicStep): void {
    this.#state = state;
    for (const effect of effects) this.#run(effect);
  }

  #run(effect: CyclicEffect): void {
    const { keys } = this.#plan;
    switch (effect.kind) {
      case 'enter':
        this.#record.stop();
        // A little later: whoever gives up at once must find the promise in its place.
        this.#entering = Promise.resolve().then(() => this.#enter());
        break;
      case 'locate':
        this.#answer((signal) => this.#calls.locate(effect.generation, effect.own, signal));
        break;
      case 'look':
        this.#answer(async (signal) => {
          const view = await this.#calls.look(effect.generation, effect.own, signal);
          return { kind: 'viewed', view };
        });
        break;
      case 'watch-record':
        if (this.#state.kind !== 'acting') this.#waits();
        this.#record.follow({ range: keys.record }, effect.revision);
        break;
      case 'watch-parties': {
        const prefix = keys.folder(effect.generation);
        const range = effect.elder === undefined ? { prefix } : effect.elder.key;
        this.#parties.follow({ range, puts: false }, effect.revision);
        break;
      }
      case 'act':
        void this.#act(effect.generation);
        break;
      case 'trip':
        this.#answer(async (signal) => {
          const view = await this.#calls.trip(effect.generation, effect.own, signal);
          return { kind: 'viewed', view };
        });
        break;
      case 'break':
        this.#break(effect.generation, effect.reason);
        break;
      case 'recheck-later':
        this.#recheckLater();
        break;
      case 'withdraw':
        void this.#withdraw();
        break;
      case 'ended':
        this.#end(effect.end);
        break;
    }
  }

  #waits(): void {
    if (!this.#waited) this.#handlers.waits();
    this.#waited = true;
  }

  async #enter(): Promise<void> {
    const isWanted = () => this.#state.kind === 'entering';
    const event = await this.#calls.enter(this.#stop.signal, isWanted);
    if (event) this.#dispatch(event);
  }

  async #act(generation: number): Promise<void> {
    // An event of its own, as all that follows from a step.
    await Promise.resolve();
    try {
      await this.#action?.({ generation, signal: this.#stop.signal });
      this.#dispatch({ kind: 'acted' });
    } catch (error) {
      this.#dispatch({ kind: 'action-failed', error });
    }
  }

  #break(generation: number, reason: BreakReason): void {
    const { client, signal } = this.#session;
    // Not ended with the wait: the others must learn of it.
    untilAnswered(client, () => this.#calls.breakOff(generation, reason), signal).then(
      (record) => this.#dispatch({ kind: 'record-seen', record }),
      (error: unknown) => this.#fail(error),
    );
  }

  /** Repeats a call until it is answered, and passes on what it came to. */
  #answer(call: (signal: AbortSignal) => Promise<CyclicEvent>): void {
    const { signal } = this.#stop;
    untilAnswered(this.#session.client, () => call(signal), signal).then(
      (event) => this.#dispatch(event),
      (error: unknown) => {
        if (!signal.aborted) this.#fail(error);
      },
    );
  }

  #fail(error: unknown): void {
    const lost = isConclaveError(error, 'LEASE_NOT_FOUND');
    this.#dispatch(lost ? { kind: 'session-lost' } : { kind: 'refused', error });
  }

  #recheckLater(): void {
    this.#cancelRecheck();
    this.#cancelRecheck = this.#session.client.clock.setTimer(this.#recheckDelayMs(), () =>
      this.#dispatch({ kind: 'recheck' }),
    );
  }

  #recheckDelayMs(): number {
    return jittered(this.#plan.recheckMs, this.#session.client.random);
  }

  async #withdraw(): Promise<void> {
    this.#stop.abort();
    await this.#entering;
    try {
      await this.#calls.remove();
    } catch {
      this.#session.reap(() => this.#calls.remove());
    }
    this.#dispatch({ kind: 'withdrawn' });
  }

  #end(end: CyclicEnd): void {
    this.#cancelRecheck();
    this.#cancelPatience();
    this.#stopListening();
    this.#record.stop();
    this.#parties.stop();
    this.#stop.abort();
    // A key that stays would look like a party that waits. What passed or broke is cleared with it.
    const mayStay = end.kind === 'failed' || end.kind === 'gave-up';
    if (mayStay || (end.kind === 'broken' && end.reason === 'unknown')) {
      this.#session.reap(() => this.#calls.remove());
    }
    this.#handlers.ended(end);
  }
}
