/**
 * Runs one membership of a line against a store: turns the effects of `line.ts` into calls, and
 * their answers into events.
 *
 * Exchanges: 1 to join and hold a free line; 1 to leave. To wait one turn, beside joining: 1 on conclave
 * (told), 2 on etcd (two watches opened together, look).
 */
import { isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import { MachineRunner } from '../common/machine-runner.ts';
import { fullJitterMs, mayRepeat, pause, untilAnswered } from '../common/repeat.ts';
import { type LinkedSignal, linkedSignal } from '../common/signals.ts';
import { goneKey } from '../names.ts';
import {
  begin,
  exclusive,
  type LineEffect,
  type LineEnd,
  type LineEvent,
  type LineState,
  type Place,
  type Policy,
  step,
} from './line.ts';
import {
  enterOperations,
  firstAttempt,
  type LineTiming,
  type LineView,
  lineTiming,
  lookOperations,
  type Membership,
  memberName,
  readLook,
} from './line-membership.ts';
import { conditionsOf, type Told, untilTold } from './told.ts';
import { untilGone, wakeOf } from './wake.ts';

export type Grant = { readonly createRevision: bigint; readonly token: bigint };

/** What an enqueue left behind: a key with this create revision, certainly none, or nobody knows. */
type Joined = bigint | 'absent' | 'unknown';

type Handlers = {
  /** Called at most once: it was not admitted at once. */
  waits?(): void;
  granted(grant: Grant): void;
  /** Called once, whatever ends the membership. */
  ended(end: LineEnd): void;
};

export class LineMember {
  readonly session: Session;
  readonly key: string;
  readonly #name: string;
  readonly #membership: Membership;
  readonly #timing: LineTiming;
  readonly #handlers: Handlers;
  readonly #machine: MachineRunner<LineState, LineEvent, LineEffect>;
  #hasWaited = false;
  #joining: Promise<Joined> = Promise.resolve('absent');
  /** Copies of the enqueue that may still be on their way. */
  #lingering: number;
  /** The last answer: what the policy judges, and what waiting starts from. */
  #view: LineView | undefined;
  /** Of the last write to the own key; undefined while it may be older than this member. */
  #ownModRevision: bigint | undefined;
  #aheadWait: LinkedSignal | undefined;
  /** The wait under way ends when the own place is gone, too: it needs no watch of its own. */
  #ownIsToldOf = false;
  /** That answer, for the look that follows. */
  #told: Told | undefined;
  #ownWait: LinkedSignal | undefined;
  #cancelOwnWatch: () => void = () => undefined;
  #cancelRelook: () => void = () => undefined;
  #removal: Promise<void> | undefined;

  constructor(session: Session, membership: Membership, handlers: Handlers) {
    this.session = session;
    this.#name = memberName(session, membership);
    this.key = membership.prefix + this.#name;
    this.#membership = membership;
    this.#lingering = membership.lingering ? 1 : 0;
    this.#timing = { ...lineTiming, ...membership.timing };
    this.#handlers = handlers;
    this.#machine = new MachineRunner<LineState, LineEvent, LineEffect>(session, {
      first: begin(),
      step: (state, event) => step(this.#policy, state, event),
      run: (effect) => this.#run(effect),
      recheckMs: this.#timing.recheckMs,
      outlivesSession: ({ kind }) => kind === 'left',
    });
  }

  get state(): LineState {
    return this.#machine.state;
  }

  start(): void {
    this.#machine.start();
  }

  /**
   * Takes over a place that was created by another transaction, which showed this; or one with this
   * create revision, when its answer was lost.
   */
  adopt(seen: LineView | bigint): void {
    this.#machine.listen();
    if (typeof seen === 'bigint') {
      this.#machine.dispatch({ kind: 'found', own: seen });
      return;
    }
    this.#view = seen;
    this.#ownModRevision = seen.own;
    this.#machine.dispatch({ kind: 'joined', own: seen.own, ahead: seen.ahead });
  }

  /** Takes over the place of a former process of the session, as of the revision that this shows. */
  resume(seen: LineView): void {
    this.#machine.listen();
    this.#view = seen;
    const { own, ahead, revision } = seen;
    this.#machine.dispatch({ kind: 'resumed', own, ahead, revision });
  }

  /**
   * Gives the place up. Resolves when the key is gone; rejects when that could not be confirmed, in
   * which case the session's reaper goes on until it is. Nothing is granted after this call.
   */
  leave(): Promise<void> {
    this.#machine.dispatch({ kind: 'leave' });
    return this.#removal ?? Promise.resolve();
  }

  /**
   * Asks the store whether the own key is still there; the answer may end the membership. For
   * callers that found out by a failed comparison.
   */
  verify(): void {
    this.#machine.dispatch({ kind: 'recheck' });
  }

  readonly #policy: Policy = (ahead) => {
    const { policy } = this.#membership;
    return policy && this.#view ? policy({ ...this.#view, ahead }) : exclusive(ahead);
  };

  #run(effect: LineEffect): void {
    switch (effect.kind) {
      case 'join':
        // Started a little later: whoever gives up at once must find the promise in its place.
        this.#joining = Promise.resolve().then(() => this.#join());
        break;
      case 'look':
        void this.#look(effect.own);
        break;
      case 'watch-ahead':
        void this.#watchAhead(effect.place);
        break;
      case 'unwatch-ahead':
        this.#unwatchAhead();
        break;
      case 'watch-own':
        this.#noteWait();
        this.#watchOwnInTime(effect.own, effect.soon);
        break;
      case 'unwatch-own':
        this.#cancelOwnWatch();
        this.#ownWait?.abort();
        break;
      case 'recheck-later':
        this.#cancelRelook();
        this.#machine.recheckLater();
        break;
      case 'cancel-recheck':
        this.#cancelRelook();
        this.#machine.cancelRecheck();
        break;
      case 'granted':
        this.#handlers.granted({ createRevision: effect.own, token: effect.token });
        break;
      case 'withdraw':
        this.#removal = this.#withdraw(effect.own);
        // The caller of leave() handles it; giving up a wait does not.
        this.#removal.catch(() => undefined);
        break;
      case 'ended':
        this.#machine.end();
        this.#handlers.ended(effect.end);
        break;
    }
  }

  #noteWait(): void {
    if (this.state.kind !== 'waiting' || this.#hasWaited) return;
    this.#hasWaited = true;
    this.#handlers.waits?.();
  }

  async #join(): Promise<Joined> {
    const { client, lease } = this.session;
    const membership = this.#membership;
    const entered = enterOperations(client, membership, this.key, lease);
    const txn = client.kv
      .txn()
      .if(...firstAttempt(this.key, this.#name))
      .then<Operation[]>(...entered, ...lookOperations(membership))
      .else(op.get(this.key));
    let joined: Joined = 'absent';
    for (let attempt = 0; this.state.kind === 'joining'; attempt++) {
      try {
        const result = await txn.commit();
        const own = result.succeeded ? result.revision : result.responses[0]?.createRevision;
        if (result.succeeded) {
          const { revision, responses } = result;
          const look = readLook(membership, this.key, responses.slice(entered.length));
          this.#ownModRevision = revision;
          if (this.#admits({ own: revision, revision, ...look })) {
            this.#machine.dispatch({ kind: 'joined', own: revision, ahead: look.ahead });
          }
        } else if (own !== undefined) {
          // One of the copies has arrived.
          this.#lingering -= 1;
          this.#machine.dispatch({ kind: 'found', own });
        }
        return own ?? 'absent';
      } catch (error) {
        if (isConclaveError(error, 'LEASE_NOT_FOUND')) {
          this.#machine.dispatch({ kind: 'lease-gone' });
          return 'absent';
        }
        // One lost answer is enough: that enqueue may still be on its way.
        if (!isConclaveError(error) || error.outcome !== 'not-applied') {
          joined = 'unknown';
          this.#lingering += 1;
        }
        if (!mayRepeat(error)) {
          this.#machine.dispatch({ kind: 'refused', error });
          return joined;
        }
      }
      const delayMs = fullJitterMs(attempt, client.random);
      await pause(client.clock, delayMs, this.#machine.signal).catch(() => undefined);
    }
    return joined;
  }

  /** Takes note of a view, which may show that this member has no business in the line. */
  #admits(view: LineView): boolean {
    const isHeld = this.state.kind === 'held';
    const problem = !isHeld && this.#membership.check?.(view, this.#view === undefined);
    this.#view = view;
    if (!problem) return true;
    this.#machine.dispatch({ kind: 'refused', error: problem });
    this.session.reap(() => this.#remove(view.own));
    return false;
  }

  async #look(own: bigint): Promise<void> {
    const told = this.#told;
    if (told !== undefined) {
      this.#looked(own, told);
      return;
    }
    const { client } = this.session;
    const seen = this.#view;
    const read = client.kv.txn().then<Operation[]>(...this.#lookOperations(own));
    try {
      const { signal } = this.#machine;
      const { responses, revision } = await untilAnswered(
        client,
        () => read.commit({ signal }),
        signal,
      );
      this.#looked(own, { responses, revision, seen });
    } catch {
      // Ended meanwhile, or the store refuses to be read: try again at the slow pace.
      if (!this.#machine.signal.aborted) this.#relookLater(own);
    }
  }

  #lookOperations(own: bigint): Operation[] {
    return [op.get(this.key), ...lookOperations(this.#membership, own, this.#view)];
  }

  #looked(own: bigint, { responses, revision, seen }: Told): void {
    const [self, ...listed] = responses as readonly [KeyValue | null, ...unknown[]];
    const look = readLook(this.#membership, this.key, listed, seen);
    if (!this.#admits({ own, revision, ...look })) return;
    if (self?.createRevision === own && this.#isTakenOver(self)) {
      this.#machine.dispatch({ kind: 'own-gone' });
      return;
    }
    const { ahead } = look;
    this.#machine.dispatch({ kind: 'looked', own: self?.createRevision, ahead, revision });
  }

  /** Hears of a write to the own key that no watch has told of. */
  #isTakenOver(self: KeyValue): boolean {
    const before = this.#ownModRevision;
    const isKnown = before !== undefined || self.modRevision === self.createRevision;
    if (isKnown) this.#ownModRevision = self.modRevision;
    if (before === undefined || self.modRevision <= before) return false;
    return this.#membership.onOwnWrite?.(self) === true;
  }

  #relookLater(own: bigint): void {
    this.#cancelRelook();
    const delayMs = this.#machine.recheckDelayMs();
    this.#cancelRelook = this.session.client.clock.setTimer(delayMs, () => {
      void this.#look(own);
    });
  }

  async #watchAhead(ahead: Place): Promise<void> {
    const view = this.#view;
    if (view === undefined) return;
    this.#unwatchAhead();
    const wait = linkedSignal(this.#machine.signal);
    this.#aheadWait = wait;
    const told = await this.#untilTold(ahead, view, wait.signal);
    if (told === undefined && !wait.signal.aborted) {
      const { client } = this.session;
      const restMs = this.#machine.restMs();
      await wakeOf(this.#membership)({ client, place: ahead, view, restMs, signal: wait.signal });
    }
    wait.unlink();
    if (this.#aheadWait !== wait) return;
    // Gone, or the watch failed: either way only a look can tell what comes next.
    // If the member still waits for it, the step that this makes is to look, at once: there it is used.
    this.#told = told;
    this.#machine.dispatch({ kind: 'ahead-gone', place: ahead });
    this.#told = undefined;
  }

  /** Undefined when the store does not tell: then watches and a look are to find out. */
  async #untilTold(ahead: Place, seen: LineView, signal: AbortSignal): Promise<Told | undefined> {
    const { client } = this.session;
    const { own } = seen;
    const place = { key: this.key, createRevision: own, modRevision: this.#ownModRevision };
    const conditions = conditionsOf(client, this.#membership, ahead, place);
    this.#ownIsToldOf = conditions !== undefined;
    if (conditions === undefined) return undefined;
    const told = await untilTold(client, conditions, this.#lookOperations(own), signal);
    if (told !== undefined) return { ...told, seen };
    if (signal.aborted) return undefined;
    this.#ownIsToldOf = false;
    this.#watchOwnAfter(own, 0);
    return undefined;
  }

  #unwatchAhead(): void {
    this.#aheadWait?.abort();
    this.#aheadWait = undefined;
  }

  /** A store that tells of the end of a wait tells of the own key as well: it is watched while held. */
  #watchOwnInTime(own: bigint, soon: boolean): void {
    if (this.#ownIsToldOf && this.state.kind === 'waiting') return;
    this.#watchOwnAfter(own, soon && !this.#ownIsToldOf ? 0 : this.#timing.ownWatchAfterMs);
  }

  #watchOwnAfter(own: bigint, delayMs: number): void {
    if (this.#ownWait !== undefined) return;
    this.#cancelOwnWatch();
    if (delayMs === 0) {
      void this.#watchOwn(own);
      return;
    }
    this.#cancelOwnWatch = this.session.client.clock.setTimer(delayMs, () => {
      void this.#watchOwn(own);
    });
  }

  async #watchOwn(own: bigint): Promise<void> {
    const wait = linkedSignal(this.#machine.signal);
    this.#ownWait = wait;
    const { signal } = wait;
    const { onOwnWrite } = this.#membership;
    const onPut = (kv: KeyValue) => {
      if (onOwnWrite?.(kv)) this.#machine.dispatch({ kind: 'own-gone' });
    };
    while (!signal.aborted) {
      const place = { key: this.key, createRevision: own };
      const hears = onOwnWrite && onPut;
      const options = {
        from: this.#heardUntil(own) + 1n,
        restMs: this.#machine.restMs(),
        signal,
        onPut: hears,
      };
      const gone = await untilGone(this.session.client, place, options);
      if (gone) this.#machine.dispatch({ kind: 'own-gone' });
    }
  }

  /** Looks have told of what was written to the own key up to here, if they know how it was written before. */
  #heardUntil(own: bigint): bigint {
    return this.#ownModRevision === undefined ? own : (this.#view?.revision ?? own);
  }

  async #withdraw(own: bigint | undefined): Promise<void> {
    this.#machine.stop();
    // An enqueue under way is left to finish: its answer is cheaper than a lasting mark.
    const joined = own ?? (await this.#joining);
    try {
      if (joined !== 'absent') await this.#remove(joined);
    } catch (error) {
      if (joined !== 'absent') this.session.reap(() => this.#remove(joined));
      throw error;
    } finally {
      this.#machine.dispatch({ kind: 'left' });
    }
  }

  /** Idempotent; true when the key is gone for good. */
  async #remove(own: bigint | 'unknown'): Promise<boolean> {
    const { client, lease } = this.session;
    const txn = client.kv.txn();
    const { remove } = this.#membership;
    try {
      if (remove) return await remove(own);
      if (own !== 'unknown') {
        // A copy that arrives after the delete must find that its time is over.
        if (this.#lingering > 0) await client.kv.put(goneKey(this.#name), '', { lease });
        await txn
          .if(compare.createRevision(this.key, '==', own))
          .then(op.delete(this.key))
          .commit();
      } else {
        // The enqueue may still be under way to the store; from here on it fails its comparison.
        await txn.then(op.put(goneKey(this.#name), '', { lease }), op.delete(this.key)).commit();
      }
    } catch (error) {
      // No lease, no key: neither now nor later.
      if (!isConclaveError(error, 'LEASE_NOT_FOUND')) throw error;
    }
    return true;
  }
}
