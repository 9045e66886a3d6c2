/**
 * Runs one party of a double barrier against a store: turns the effects of `double.ts` into calls, and
 * their answers into events.
 *
 * Exchanges: 2 for the party that completes a generation (enter, form), 2 for each other (enter,
 * watches); 2 to leave (exit, watch), 1 for the last one.
 */
import { aborted, ConclaveError } from '../../sdk/errors.ts';
import type { Duration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import { MachineRunner } from '../common/machine-runner.ts';
import type { Patience } from '../common/patience.ts';
import { onAbort } from '../common/signals.ts';
import { type HeldMember, sessionLost } from '../line/holding.ts';
import type { LineEnd } from '../line/line.ts';
import type { Grant } from '../line/line-driver.ts';
import {
  beginDouble,
  type DoubleEffect,
  type DoubleEvent,
  type DoubleState,
  type Party,
  stepDouble,
} from './double.ts';
import { DoubleCalls, type DoublePlan } from './double-calls.ts';
import { decodeReady, saysAllLeft } from './double-record.ts';
import { Follower, type FollowerHandlers } from './follower.ts';

export type LeaveOptions = {
  /** Waits no longer for the others: rejects with ABORTED. This one has left all the same. */
  readonly signal?: AbortSignal;
  /** Waits no longer for the others: rejects with TIMEOUT. @default no limit */
  readonly timeout?: Duration;
};

type Handlers = {
  waits(): void;
  granted(grant: Grant, generation: number): void;
  /** Called once, whatever ends it. */
  ended(end: LineEnd): void;
};

type Departure = {
  readonly promise: Promise<void>;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
};

export class DoubleMember implements HeldMember {
  /** How long `leave` waits for the others. */
  patience: Patience;
  readonly #session: Session;
  readonly #plan: DoublePlan;
  readonly #handlers: Handlers;
  readonly #calls: DoubleCalls;
  readonly #machine: MachineRunner<DoubleState, DoubleEvent, DoubleEffect>;
  readonly #entry: Follower;
  readonly #own: Follower;
  readonly #others: Follower;
  #watched: Party | undefined;
  #waited = false;
  #entering: Promise<void> = Promise.resolve();
  #departure: Departure | undefined;

  constructor(session: Session, plan: DoublePlan, patience: Patience, handlers: Handlers) {
    this.#session = session;
    this.#plan = plan;
    this.patience = patience;
    this.#handlers = handlers;
    this.#calls = new DoubleCalls(session, plan);
    this.#machine = new MachineRunner<DoubleState, DoubleEvent, DoubleEffect>(session, {
      first: beginDouble(),
      step: (state, event) => stepDouble(plan.parties, state, event),
      run: (effect) => this.#run(effect),
      recheckMs: plan.recheckMs,
      outlivesSession: ({ kind }) => kind === 'withdrawn',
    });
    this.#entry = this.#follower((events) => {
      for (const { type, kv } of events) {
        const ready = type === 'put' ? decodeReady(kv) : undefined;
        if (ready) this.#machine.dispatch({ kind: 'ready-seen', ready });
      }
    });
    this.#own = this.#follower((events) => {
      if (events.some(({ type }) => type === 'delete'))
        this.#machine.dispatch({ kind: 'own-gone' });
    });
    this.#others = this.#follower((events) => {
      for (const { type, kv } of events) {
        if (type === 'delete') this.#partyGone(kv.key);
        else if (saysAllLeft(kv)) this.#machine.dispatch({ kind: 'all-left' });
      }
    });
  }

  get key(): string {
    return this.#calls.key;
  }

  start(): void {
    this.#machine.start();
  }

  /**
   * Leaves, and waits until all others have left; or gives up waiting to get in.
   *
   * @throws ConclaveError TIMEOUT, ABORTED, SESSION_LOST
   */
  leave(): Promise<void> {
    this.#departure ??= this.#depart();
    return this.#departure.promise;
  }

  verify(): void {
    this.#machine.dispatch({ kind: 'recheck' });
  }

  #depart(): Departure {
    let resolve: () => void = () => undefined;
    let reject: (error: unknown) => void = () => undefined;
    const promise = new Promise<void>((onLeft, onFailed) => {
      resolve = onLeft;
      reject = onFailed;
    });
    const { signal, timeoutMs } = this.patience;
    const giveUp = (error: ConclaveError) => {
      reject(error);
      this.#machine.dispatch({ kind: 'give-up' });
    };
    const { clock } = this.#session.client;
    const cancel =
      timeoutMs === undefined
        ? () => undefined
        : clock.setTimer(timeoutMs, () => {
            const message = `Others had not left ${this.#plan.what} within ${timeoutMs} ms`;
            giveUp(new ConclaveError('TIMEOUT', message, { outcome: 'applied' }));
          });
    const departure = { promise, resolve, reject };
    this.#departure = departure;
    if (this.#machine.state.kind === 'out') resolve();
    this.#machine.dispatch({ kind: 'leave' });
    const stopListening = onAbort(signal, () => signal && giveUp(aborted(signal, 'applied')));
    const done = () => {
      cancel();
      stopListening();
    };
    promise.then(done, done);
    return departure;
  }

  #follower(events: FollowerHandlers['events']): Follower {
    const look = () => this.#machine.dispatch({ kind: 'recheck' });
    return new Follower(this.#session.client, () => this.#machine.restMs(), { events, look });
  }

  #partyGone(key: string): void {
    const party = this.#watched;
    if (party?.key === key) this.#machine.dispatch({ kind: 'party-gone', party });
  }

  #run(effect: DoubleEffect): void {
    const { keys } = this.#plan;
    switch (effect.kind) {
      case 'enter':
        this.#entering = this.#enter();
        break;
      case 'look':
        this.#machine.answer(async (signal) => ({
          kind: 'viewed',
          view: await this.#calls.look(effect.generation, signal),
        }));
        break;
      case 'form':
        this.#machine.answer(async (signal) => ({
          kind: 'viewed',
          view: await this.#calls.form(effect.generation, signal),
        }));
        break;
      case 'watch-entry':
        this.#waits();
        this.#entry.follow({ range: keys.ready(effect.generation) }, effect.revision);
        break;
      case 'watch-own':
        this.#own.follow({ range: this.key, puts: false }, effect.revision);
        break;
      case 'granted': {
        this.#calls.noteReady();
        const grant = { createRevision: effect.own, token: effect.token };
        this.#handlers.granted(grant, this.#calls.generation);
        break;
      }
      case 'exit':
        this.#machine.answer((signal) => this.#calls.exit(effect, signal));
        break;
      case 'look-out':
        this.#machine.answer((signal) => this.#calls.lookOut(effect, signal));
        break;
      case 'say-all-left':
        this.#machine.answer((signal) => this.#calls.sayAllLeft(effect, signal));
        break;
      case 'watch-party':
        this.#watched = effect.party;
        this.#others.follow({ range: effect.party.key }, effect.revision);
        break;
      case 'unwatch-entry':
        this.#entry.stop();
        break;
      case 'unwatch':
        this.#entry.stop();
        this.#own.stop();
        this.#others.stop();
        this.#machine.cancelRecheck();
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
    const entry = this.#calls.entry();
    return this.#machine.enter(
      () => entry.attempt(),
      ({ kind }) => kind === 'entering',
      () => entry.doubt(),
    );
  }

  async #withdraw(): Promise<void> {
    this.#machine.stop();
    // An entry under way is left to finish: its answer is cheaper than a lasting mark.
    await this.#entering;
    try {
      await this.#calls.remove();
    } catch {
      this.#removeLater();
    }
    this.#machine.dispatch({ kind: 'withdrawn' });
  }

  #removeLater(): void {
    this.#session.reap(() => this.#calls.remove());
  }

  #end(end: LineEnd): void {
    this.#machine.end();
    if (end.kind !== 'session-lost' && this.#calls.mayHaveKeys) this.#removeLater();
    this.#handlers.ended(end);
    if (end.kind === 'session-lost') this.#departure?.reject(sessionLost(this.#session));
    else if (end.kind === 'failed') this.#departure?.reject(end.error);
    else this.#departure?.resolve();
  }
}
