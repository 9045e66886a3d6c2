/**
 * Mutual exclusion, first come, first served.
 *
 * Guarantee: of all handles on one name at most one is granted at a time, as seen in the store's
 * order of revisions. A process that was frozen or cut off past its session's deadline may still
 * believe that it holds; no lock service can prevent that. So give `token` to whatever the lock
 * protects and let it refuse lower ones, or write to the store through `guard`.
 *
 * Not reentrant: a second `acquire` in the same session waits for the first.
 */
import type { KeyValue } from '../sdk/kv.ts';
import type { Observable } from '../sdk/observe.ts';
import type { RecipeContext } from './context.ts';
import { waitForHold } from './holding.ts';
import type { Membership } from './line-membership.ts';
import { inLineOrder, type LineEntry, lineEntry, type Meta } from './line-record.ts';
import { HeldLock, type LockHandle, lockAsObservable, usingLock } from './lock-handle.ts';
import {
  type LockOptions,
  LockSettings,
  type TryLockOptions,
  type WaitLockOptions,
} from './lock-options.ts';
import { lockPrefix } from './names.ts';
import { viewPrefix } from './prefix-view.ts';
import { observeShared } from './streams.ts';
import { tryHold } from './try-hold.ts';

export type MutexOptions = LockOptions;

export type AcquireOptions = WaitLockOptions & {
  /**
   * Hears how many are ahead, the holder included, first on joining and then on each change. Costs a
   * listing and a watch on the whole line: for tens of waiters, not thousands.
   */
  readonly onPosition?: (ahead: number) => void;
};

/** Who holds and who waits, in order. */
export type LineUp = { readonly holder: LineEntry | null; readonly waiters: readonly LineEntry[] };

export class Mutex {
  readonly name: string;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #settings: LockSettings;
  /** Who holds and waits, kept current while anybody listens. */
  readonly watch$: Observable<LineUp>;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: MutexOptions = {}) {
    this.name = name;
    this.#context = context;
    this.#prefix = lockPrefix(name);
    this.#settings = new LockSettings(context.session, options);
    const { client } = context.session;
    const prefix = this.#prefix;
    this.watch$ = observeShared(async function* (signal) {
      for await (const { entries } of viewPrefix(client, prefix, { signal })) {
        yield lineUp(entries.values());
      }
    });
  }

  /**
   * Waits for the lock. One exchange when it is free, three to wait one turn.
   *
   * @throws ConclaveError NOT_ACQUIRED, ABORTED, SESSION_LOST; LOCK_LOST when somebody removed this
   *   waiter's key
   */
  acquire(options: AcquireOptions = {}): Promise<LockHandle> {
    return this.#acquire(options);
  }

  async #acquire(options: AcquireOptions): Promise<HeldLock> {
    const { onPosition } = options;
    const wait = this.#settings.wait(options);
    const membership = this.#membership(options.meta);
    const following = new AbortController();
    if (onPosition) void this.#followPosition(membership, onPosition, following.signal);
    try {
      const holding = await waitForHold(this.#context, this.#subject, membership, wait);
      return new HeldLock(this.name, holding);
    } finally {
      following.abort();
    }
  }

  /**
   * Takes the lock if nobody holds it or waits for it; else leaves no trace and returns null. One
   * exchange either way.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers
   */
  async tryAcquire(options: TryLockOptions = {}): Promise<LockHandle | null> {
    const maxHoldMs = this.#settings.maxHoldMs(options);
    const membership = this.#membership(options.meta);
    const holding = await tryHold(this.#context, this.#subject, membership, maxHoldMs);
    return holding && new HeldLock(this.name, holding);
  }

  /**
   * Runs `fn` under the lock and releases it, whatever happens.
   *
   * @throws what `acquire` throws, what `fn` throws, and the loss if the lock was lost while `fn`
   *   ran, even when `fn` did not notice
   */
  using<R>(fn: (lock: LockHandle) => Promise<R> | R, options: AcquireOptions = {}): Promise<R> {
    return usingLock(() => this.#acquire(options), fn);
  }

  /**
   * The lock as a subscription: subscribing acquires, unsubscribing releases. Emits the handle,
   * completes when it is released, errors when it is lost or cannot be acquired.
   */
  hold$(options: Omit<AcquireOptions, 'signal'> = {}): Observable<LockHandle> {
    return lockAsObservable((signal) => this.#acquire({ ...options, signal }));
  }

  /** Who holds and who waits now. One exchange. */
  async inspect(): Promise<LineUp> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return lineUp(kvs);
  }

  get #subject() {
    return { recipe: 'mutex', name: this.name, lostCode: 'LOCK_LOST' } as const;
  }

  #membership(meta?: Meta): Membership {
    return { prefix: this.#prefix, ...this.#settings.membership(meta) };
  }

  async #followPosition(
    membership: Membership,
    onPosition: (ahead: number) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { client, id } = this.#context.session;
    const key = `${this.#prefix}${id}-${membership.attempt}`;
    let last: number | undefined;
    try {
      for await (const { entries } of viewPrefix(client, this.#prefix, { signal })) {
        const ahead = inLineOrder(entries.values()).findIndex((kv) => kv.key === key);
        if (signal.aborted) return;
        if (ahead > 0 && ahead !== last) onPosition(ahead);
        if (ahead >= 0) last = ahead;
      }
    } catch {
      // The position is a courtesy: the wait itself reports what is wrong with the store.
    }
  }
}

function lineUp(kvs: Iterable<KeyValue>): LineUp {
  const [holder, ...waiters] = inLineOrder(kvs).map(lineEntry);
  return { holder: holder ?? null, waiters };
}
