/** Several holds as one: the loss of any is the loss of all. */
import { ConclaveError } from '../../sdk/errors.ts';
import { StateSource } from '../../sdk/observe.ts';
import type { Operations, Txn } from '../../sdk/txn.ts';
import { onAbort } from '../common/signals.ts';
import { stateView, type View } from '../common/view.ts';
import type { Holding, HoldState } from '../line/holding.ts';
import type { LockHandle, Losable } from './lock-handle.ts';

/** As a LockHandle, over all names; `token`, `key` and `sequencer` are told by name. */
export interface MultiLockHandle extends Omit<LockHandle, 'name' | 'token' | 'key' | 'sequencer'> {
  readonly names: readonly string[];
  /** Fencing tokens: each strictly rises from holder to holder of its name. */
  readonly tokens: ReadonlyMap<string, bigint>;
  /** For servers that check a hold against the store: see `verifySequencer`. */
  readonly sequencers: ReadonlyMap<string, string>;
}

export class MultiHold implements MultiLockHandle, Pick<Losable, 'lostReason'> {
  readonly names: readonly string[];
  readonly tokens: ReadonlyMap<string, bigint>;
  readonly sequencers: ReadonlyMap<string, string>;
  readonly signal: AbortSignal;
  readonly state$: View<HoldState>;
  readonly #holdings: readonly Holding[];
  readonly #end = new AbortController();
  readonly #state = new StateSource<HoldState>('held');
  readonly #stops: (() => void)[] = [];
  #released: Promise<void> | undefined;

  /** @param holdings in the order of the names */
  constructor(names: readonly string[], holdings: readonly Holding[]) {
    this.names = names;
    const byName = <T>(pick: (holding: Holding) => T) =>
      new Map(holdings.map((holding, index) => [names[index] ?? '', pick(holding)]));
    this.tokens = byName(({ token }) => token);
    this.sequencers = byName(({ sequencer }) => sequencer);
    this.#holdings = holdings;
    this.signal = this.#end.signal;
    this.state$ = stateView(this.#state.observable);
    for (const holding of holdings) {
      const states = holding.state$.subscribe((state) => {
        // How the whole ends is decided below.
        if (state === 'held' || state === 'suspended') this.#state.set(state);
      });
      const stop = onAbort(holding.signal, () => this.#ended(holding));
      this.#stops.push(stop, () => states.unsubscribe());
    }
  }

  get isHeld(): boolean {
    return this.#holdings.every((holding) => holding.isHeld) && !this.signal.aborted;
  }

  get lostReason(): ConclaveError | undefined {
    const lost = this.#holdings.find((holding) => holding.lostReason);
    return lost?.lostReason;
  }

  assertHeld(): void {
    this.signal.throwIfAborted();
    for (const holding of this.#holdings) holding.assertHeld();
  }

  /** The transaction under the condition that every name is still held when it commits. */
  guard<Then extends Operations, Else extends Operations>(txn: Txn<Then, Else>): Txn<Then, Else> {
    this.assertHeld();
    return this.#holdings.reduce((guarded, holding) => holding.guard(guarded), txn);
  }

  release(): Promise<void> {
    this.#released ??= this.#release();
    return this.#released;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release().catch(() => undefined);
  }

  async #release(): Promise<void> {
    if (!this.signal.aborted) {
      const message = `The locks ${this.names.join(', ')} were released by this handle before`;
      this.#finish('released', new ConclaveError('RELEASED', message));
    }
    await Promise.all(this.#holdings.map((holding) => holding.release()));
  }

  #ended(holding: Holding): void {
    if (this.signal.aborted) return;
    const { lostReason } = holding;
    this.#finish(lostReason ? 'lost' : 'released', holding.signal.reason);
    void this[Symbol.asyncDispose]();
  }

  #finish(state: 'lost' | 'released', reason: unknown): void {
    for (const stop of this.#stops) stop();
    this.#state.set(state);
    this.#state.complete();
    this.#end.abort(reason);
  }
}
