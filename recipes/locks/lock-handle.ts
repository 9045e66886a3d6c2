/** The handle that locks of every kind give out, and the ways to use one. */
import type { ConclaveError } from '../../sdk/errors.ts';
import { invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import { checkFunction } from '../common/option-checks.ts';
import { linkedSignal, onAbort } from '../common/signals.ts';
import { observe } from '../common/streams.ts';
import type { View } from '../common/view.ts';
import type { Holding, HoldState } from '../line/holding.ts';

export interface LockHandle extends AsyncDisposable {
  readonly name: string;
  /** Fencing token: strictly rises from holder to holder of this name. */
  readonly token: bigint;
  /** The key that stands for this hold. */
  readonly key: string;
  /** For servers that check the hold against the store: see `verifySequencer`. */
  readonly sequencer: string;
  /** Aborts when the hold ends; the reason is a ConclaveError LOCK_LOST, SESSION_LOST or RELEASED. */
  readonly signal: AbortSignal;
  readonly state$: View<HoldState>;
  /** Looks at the clock each time. */
  readonly isHeld: boolean;
  /** @throws ConclaveError RELEASED, LOCK_LOST, SESSION_LOST, SESSION_SUSPENDED */
  assertHeld(): void;
  /** The transaction under the condition that this hold still stands when it commits. */
  guard: Holding['guard'];
  /** Idempotent. @throws ConclaveError when not confirmed in time; it is then retried meanwhile */
  release(): Promise<void>;
}

/** What the helpers below need of a handle. */
export type Ending = AsyncDisposable & { readonly signal: AbortSignal };
export type Losable = AsyncDisposable & { readonly lostReason: ConclaveError | undefined };

/** A Holding under the recipe's name, showing no more than LockHandle says. */
export class HeldLock implements LockHandle, Losable {
  readonly name: string;
  readonly guard: Holding['guard'];
  readonly #holding: Holding;

  constructor(name: string, holding: Holding) {
    this.name = name;
    this.#holding = holding;
    this.guard = holding.guard.bind(holding);
  }

  get token(): bigint {
    return this.#holding.token;
  }
  get key(): string {
    return this.#holding.key;
  }
  get sequencer(): string {
    return this.#holding.sequencer;
  }
  get signal(): AbortSignal {
    return this.#holding.signal;
  }
  get state$(): View<HoldState> {
    return this.#holding.state$;
  }
  get isHeld(): boolean {
    return this.#holding.isHeld;
  }
  get lostReason(): ConclaveError | undefined {
    return this.#holding.lostReason;
  }
  assertHeld(): void {
    this.#holding.assertHeld();
  }
  release(): Promise<void> {
    return this.#holding.release();
  }
  [Symbol.asyncDispose](): Promise<void> {
    return this.#holding[Symbol.asyncDispose]();
  }
}

/**
 * Runs `fn` while the lock is held and releases it, whatever happens.
 *
 * @throws ConclaveError INVALID_ARGUMENT for what is no function; what acquiring throws, what `fn`
 *   throws, and the loss if the lock was lost while `fn` ran
 */
export async function usingLock<L extends Losable, R>(
  acquire: () => Promise<L>,
  fn: (lock: L) => Promise<R> | R,
): Promise<R> {
  checkFunction(fn, 'fn');
  const lock = await acquire();
  try {
    const result = await fn(lock);
    const lost = lock.lostReason;
    if (lost) throw lost;
    return result;
  } finally {
    await lock[Symbol.asyncDispose]();
  }
}

/**
 * A lock as a subscription: emits the handle, completes when it is released, errors when it is lost
 * or cannot be acquired. Unsubscribing releases.
 *
 * @throws ConclaveError INVALID_ARGUMENT, to subscribers, for options that bring a signal of their own
 */
export const lockAsObservable = <Options extends object, L extends Ending>(
  options: Options,
  acquire: (options: Options & { readonly signal: AbortSignal }) => Promise<L>,
): View<L> =>
  observe(async function* (signal) {
    yield* holdUntil(await acquire(withSignal(options, signal)), signal);
  });

/** @throws ConclaveError INVALID_ARGUMENT for options that bring a signal of their own */
export function withSignal<Options extends object>(
  options: Options,
  signal: AbortSignal,
): Options & { readonly signal: AbortSignal } {
  if ('signal' in options) {
    throw invalidArgument('signal', options.signal, 'left out: unsubscribing ends it');
  }
  return { ...options, signal };
}

/** Yields the lock and keeps it until the signal aborts or it ends; throws its loss. */
export async function* holdUntil<L extends Ending>(
  lock: L,
  signal: AbortSignal,
): AsyncGenerator<L> {
  try {
    yield lock;
    await eitherAborts(lock.signal, signal);
    const { reason } = lock.signal;
    if (!signal.aborted && !isConclaveError(reason, 'RELEASED')) throw reason;
  } finally {
    await lock[Symbol.asyncDispose]();
  }
}

/** Resolves once either signal has aborted. */
async function eitherAborts(...signals: readonly AbortSignal[]): Promise<void> {
  const either = linkedSignal(...signals);
  await new Promise<void>((resolve) => {
    onAbort(either.signal, resolve);
  });
  either.unlink();
}
