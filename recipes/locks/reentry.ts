/**
 * Entering a lock again while holding it, for those who say that they do: an owner is an object that
 * the caller passes, or a handle it got. Nothing is inferred from sessions, tasks or call stacks, so
 * two tasks exclude each other unless they share an owner on purpose.
 */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import { StateSource } from '../../sdk/observe.ts';
import { onAbort } from '../common/signals.ts';
import { stateView, type View } from '../common/view.ts';
import type { HoldState } from '../line/holding.ts';
import type { MutexHandle, MutexHold } from './mutex-handle.ts';
import type { Revocation } from './revocation.ts';

/** One hold and how many handles share it. */
type Shared = { readonly hold: MutexHold; entries: number };

export class Owners {
  readonly #shared = new WeakMap<object, Shared | 'waiting'>();

  /**
   * A handle on the hold that the owner has, or else on the one that `acquire` brings.
   *
   * @throws ConclaveError INVALID_ARGUMENT for what is no owner, FAILED_PRECONDITION when the owner is
   *   waiting for this lock already, the end of the hold when the owner is a handle that has ended
   */
  async enter(
    owner: object,
    acquire: () => Promise<MutexHold | null>,
  ): Promise<SharedHandle | null> {
    if ((typeof owner !== 'object' && typeof owner !== 'function') || owner === null) {
      throw invalidArgument('owner', owner, 'an object, or a handle of this lock');
    }
    const known = this.#shared.get(owner);
    if (known === 'waiting') {
      const message = 'The owner waits for this lock already: one owner does one thing at a time';
      throw new ConclaveError('FAILED_PRECONDITION', message);
    }
    if (owner instanceof SharedHandle) owner.signal.throwIfAborted();
    if (known?.hold.isHeld && known.entries > 0) return this.#share(known);
    this.#shared.set(owner, 'waiting');
    try {
      const hold = await acquire();
      this.#shared.delete(owner);
      if (hold === null) return null;
      const shared = { hold, entries: 0 };
      this.#shared.set(owner, shared);
      return this.#share(shared);
    } catch (error) {
      this.#shared.delete(owner);
      throw error;
    }
  }

  #share(shared: Shared): SharedHandle {
    const handle = new SharedHandle(shared);
    // Who has the handle may enter again by it.
    this.#shared.set(handle, shared);
    return handle;
  }
}

/** One of several handles on one hold: the lock is released with the last of them. */
export class SharedHandle implements MutexHandle {
  readonly signal: AbortSignal;
  readonly state$: View<HoldState>;
  readonly #shared: Shared;
  readonly #end = new AbortController();
  readonly #state = new StateSource<HoldState>('held');
  readonly #stopFollowing: () => void;
  #released: Promise<void> | undefined;

  constructor(shared: Shared) {
    this.#shared = shared;
    shared.entries += 1;
    this.signal = this.#end.signal;
    this.state$ = stateView(this.#state.observable);
    const { hold } = shared;
    const states = hold.state$.subscribe((state) => this.#state.set(state));
    const stop = onAbort(hold.signal, () => this.#finish(hold.signal.reason));
    this.#stopFollowing = () => {
      stop();
      states.unsubscribe();
    };
  }

  get name(): string {
    return this.#shared.hold.name;
  }
  get token(): bigint {
    return this.#shared.hold.token;
  }
  get key(): string {
    return this.#shared.hold.key;
  }
  get sequencer(): string {
    return this.#shared.hold.sequencer;
  }
  get revocation$(): View<Revocation> {
    return this.#shared.hold.revocation$;
  }
  get isHeld(): boolean {
    return this.#shared.hold.isHeld && !this.signal.aborted;
  }
  get lostReason(): ConclaveError | undefined {
    return this.#released === undefined ? this.#shared.hold.lostReason : undefined;
  }
  assertHeld(): void {
    this.signal.throwIfAborted();
    this.#shared.hold.assertHeld();
  }
  readonly guard: MutexHandle['guard'] = (txn) => {
    this.assertHeld();
    return this.#shared.hold.guard(txn);
  };

  release(): Promise<void> {
    this.#released ??= this.#release();
    return this.#released;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release().catch(() => undefined);
  }

  async #release(): Promise<void> {
    const { hold } = this.#shared;
    this.#stopFollowing();
    const message = `The mutex '${this.name}' was released by this handle before`;
    this.#state.set('released');
    this.#finish(new ConclaveError('RELEASED', message));
    this.#shared.entries -= 1;
    if (this.#shared.entries === 0) await hold.release();
  }

  #finish(reason: unknown): void {
    this.#state.complete();
    this.#end.abort(reason);
  }
}
