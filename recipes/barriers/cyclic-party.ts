/**
 * Runs one wait at a cyclic barrier against a store: turns the effects of `cyclic.ts` into calls, and
 * their answers into events.
 *
 * Exchanges: 2 (enter, watches; or enter, trip), and 1 more for the one that breaks a generation.
 */
import { ConclaveError } from '../../sdk/errors.ts';
import type { Session } from '../../sdk/session.ts';
import { MachineRunner } from '../common/machine-runner.ts';
import { closingPatienceMs } from '../common/repeat.ts';
import type { BreakReason } from './broken.ts';
import {
  beginCyclic,
  type CyclicEffect,
  type CyclicEnd,
  type CyclicEvent,
  type CyclicState,
  stepCyclic,
} from './cyclic.ts';
import { CyclicCalls, type CyclicPlan } from './cyclic-calls.ts';
import { decodeRecord } from './cyclic-record.ts';
import { Follower, type FollowerHandlers } from './follower.ts';

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
  /** Its signal ends the action, too. */
  readonly #machine: MachineRunner<CyclicState, CyclicEvent, CyclicEffect>;
  readonly #record: Follower;
  readonly #parties: Follower;
  #waited = false;
  #entering: Promise<void> = Promise.resolve();
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
    const rules = { parties: plan.parties, hasAction: action !== undefined };
    this.#machine = new MachineRunner<CyclicState, CyclicEvent, CyclicEffect>(session, {
      first: beginCyclic(),
      step: (state, event) => stepCyclic(rules, state, event),
      run: (effect) => this.#run(effect),
      recheckMs: plan.recheckMs,
    });
    this.#record = this.#follower((events) => {
      for (const { type, kv } of events) {
        const record = type === 'put' ? decodeRecord(kv) : undefined;
        this.#plan.known.record = record;
        this.#machine.dispatch({ kind: 'record-seen', record });
      }
    });
    this.#parties = this.#follower((events) => {
      const isGone = events.some(({ type }) => type === 'delete');
      if (isGone) this.#machine.dispatch({ kind: 'party-gone' });
    });
  }

  start(): void {
    this.#machine.start();
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
      this.#machine.dispatch({ kind: 'refused', error: overdue });
    });
    this.#machine.dispatch({ kind: 'give-up', reason, error });
  }

  #follower(events: FollowerHandlers['events']): Follower {
    const look = () => this.#machine.dispatch({ kind: 'recheck' });
    return new Follower(this.#session.client, () => this.#machine.restMs(), { events, look });
  }

  #run(effect: CyclicEffect): void {
    const { keys } = this.#plan;
    switch (effect.kind) {
      case 'enter':
        this.#record.stop();
        this.#entering = this.#enter();
        break;
      case 'locate':
        this.#machine.answer((signal) => this.#calls.locate(effect.generation, effect.own, signal));
        break;
      case 'look':
        this.#machine.answer(async (signal) => {
          const view = await this.#calls.look(effect.generation, effect.own, signal);
          return { kind: 'viewed', view };
        });
        break;
      case 'watch-record':
        if (this.#machine.state.kind !== 'acting') this.#waits();
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
        this.#machine.answer(async (signal) => {
          const view = await this.#calls.trip(effect.generation, effect.own, signal);
          return { kind: 'viewed', view };
        });
        break;
      case 'break':
        this.#break(effect.generation, effect.reason);
        break;
      case 'recheck-later':
        this.#machine.recheckLater();
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

  #enter(): Promise<void> {
    this.#calls.beginEntry();
    return this.#machine.enter(
      () => this.#calls.attemptEntry(),
      ({ kind }) => kind === 'entering',
      () => this.#calls.doubtEntry(),
    );
  }

  async #act(generation: number): Promise<void> {
    // An event of its own, as all that follows from a step.
    await Promise.resolve();
    try {
      await this.#action?.({ generation, signal: this.#machine.signal });
      this.#machine.dispatch({ kind: 'acted' });
    } catch (error) {
      this.#machine.dispatch({ kind: 'action-failed', error });
    }
  }

  #break(generation: number, reason: BreakReason): void {
    // Not ended with the wait: the others must learn of it.
    this.#machine.answer(async () => {
      const record = await this.#calls.breakOff(generation, reason);
      return { kind: 'record-seen', record };
    }, this.#session.signal);
  }

  async #withdraw(): Promise<void> {
    this.#machine.stop();
    await this.#entering;
    try {
      await this.#calls.remove();
    } catch {
      this.#session.reap(() => this.#calls.remove());
    }
    this.#machine.dispatch({ kind: 'withdrawn' });
  }

  #end(end: CyclicEnd): void {
    this.#machine.end();
    this.#cancelPatience();
    this.#record.stop();
    this.#parties.stop();
    // A key that stays would look like a party that waits. What passed or broke is cleared with it.
    const mayStay = end.kind === 'failed' || end.kind === 'gave-up';
    if (mayStay || (end.kind === 'broken' && end.reason === 'unknown')) {
      this.#session.reap(() => this.#calls.remove());
    }
    this.#handlers.ended(end);
  }
}
