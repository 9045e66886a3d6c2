/**
 * Mutual exclusion, first come, first served.
 *
 * Guarantee: of all handles on one name at most one is granted at a time, as seen in the store's
 * order of revisions. A process that was frozen or cut off past its session's deadline may still
 * believe that it holds; no lock service can prevent that. So give `token` to whatever the lock
 * protects and let it refuse lower ones, or write to the store through `guard`.
 *
 * Not reentrant, unless asked for: a second `acquire` in the same session waits for the first.
 */
import { AsyncBuffer } from '../../sdk/async-buffer.ts';
import { invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { RecipeContext } from '../common/context.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkBoolean, checkFunction, checkOptions, type Known } from '../common/option-checks.ts';
import { viewPrefix } from '../common/prefix-view.ts';
import { noLongerWanted } from '../common/signals.ts';
import { observe } from '../common/streams.ts';
import type { View } from '../common/view.ts';
import { adoptHold, waitForHold } from '../line/holding.ts';
import { type Membership, memberName } from '../line/line-membership.ts';
import { inLineOrder, type LineEntry, lineEntry } from '../line/line-record.ts';
import { tryHold } from '../line/try-hold.ts';
import { etcdLockPrefix, lockPrefix } from '../names.ts';
import { holdUntil, lockAsObservable, usingLock, withSignal } from './lock-handle.ts';
import {
  knownLockOptions,
  knownTryOptions,
  knownWaitOptions,
  type LockOptions,
  LockSettings,
  type TryLockOptions,
  type WaitLockOptions,
} from './lock-options.ts';
import { type LockProgress, type MutexHandle, MutexHold } from './mutex-handle.ts';
import { OwnWrites } from './own-writes.ts';
import { Owners, type SharedHandle } from './reentry.ts';
import { resumeHold } from './resumption.ts';
import { requestRevocation } from './revocation.ts';

export type MutexOptions = LockOptions & {
  /**
   * Lets an owner enter again while it holds: see `owner`. The lock is released with the last handle
   * of the owner; `maxHold` counts from the first. @default false
   */
  readonly reentrant?: boolean;
  /**
   * Where the keys are: 'etcd' excludes `etcdctl lock` and etcd's own clients on the same name. There
   * names are not escaped: 'a' and 'a/b' disturb each other, as they do in etcd. @default 'conclave'
   */
  readonly layout?: 'conclave' | 'etcd';
};

type Owned = {
  /**
   * Who acquires: any object that the caller keeps, or a handle of this lock. Only for a mutex that is
   * `reentrant`, and known to this Mutex object alone. @default somebody new
   */
  readonly owner?: object;
};

export type TryAcquireOptions = TryLockOptions & Owned;

export type AcquireOptions = WaitLockOptions &
  Owned & {
    /**
     * Hears how many are ahead, the holder included, first on joining and then on each change. Costs a
     * listing and a watch on the whole line: for tens of waiters, not thousands.
     */
    readonly onPosition?: (ahead: number) => void;
  };

export type ResumeOptions = Pick<TryAcquireOptions, 'maxHold' | 'owner'>;

const knownOptions: Known<MutexOptions> = { ...knownLockOptions, reentrant: true, layout: true };
const knownTry: Known<TryAcquireOptions> = { ...knownTryOptions, owner: true };
const knownWait: Known<AcquireOptions> = { ...knownWaitOptions, owner: true, onPosition: true };
const knownResume: Known<ResumeOptions> = { maxHold: true, owner: true };

type Hold = MutexHold | SharedHandle;

type Place = { readonly membership: Membership; readonly writes: OwnWrites };

/** Who holds and who waits, in order. */
export type LineUp = { readonly holder: LineEntry | null; readonly waiters: readonly LineEntry[] };

export class Mutex {
  readonly name: string;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #settings: LockSettings;
  readonly #owners: Owners | undefined;
  /** Who holds and waits, kept current while anybody listens. */
  readonly watch$: View<LineUp>;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: MutexOptions = {}) {
    checkOptions(options, knownOptions);
    this.name = name;
    this.#context = context;
    const { layout = 'conclave', reentrant = false } = options;
    if (layout !== 'conclave' && layout !== 'etcd') {
      throw invalidArgument('layout', layout, "'conclave' or 'etcd'");
    }
    checkBoolean(reentrant, 'reentrant');
    this.#prefix = layout === 'etcd' ? etcdLockPrefix(name) : lockPrefix(name);
    if (reentrant) this.#owners = new Owners();
    this.#settings = new LockSettings(context.session, options);
    const { client } = context.session;
    const prefix = this.#prefix;
    this.watch$ = observePrefix(client, prefix, lineUp);
  }

  /**
   * Waits for the lock. One exchange when it is free, two (on etcd three) to wait one turn, none to
   * enter again.
   *
   * @throws ConclaveError NOT_ACQUIRED, ABORTED, SESSION_LOST; LOCK_LOST when somebody removed this
   *   waiter's key; FAILED_PRECONDITION when the owner waits already
   */
  acquire(options: AcquireOptions = {}): Promise<MutexHandle> {
    return this.#acquire(options);
  }

  /**
   * Takes the lock if nobody holds it or waits for it; else leaves no trace and returns null. One
   * exchange either way.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers
   */
  async tryAcquire(options: TryAcquireOptions = {}): Promise<MutexHandle | null> {
    checkOptions(options, knownTry);
    const maxHoldMs = this.#settings.maxHoldMs(options);
    return this.#enter(options, async () => {
      const { membership, writes } = this.#place(options);
      const holding = await tryHold(this.#context, this.#subject, membership, maxHoldMs);
      return holding && new MutexHold(this.name, holding, writes);
    });
  }

  /**
   * Takes back a lock that still stands under this session: one that was opened with `resume`, after
   * the process that held was restarted or had lost the session by its own clock. A new handle with a
   * new, higher token. One exchange.
   *
   * @param sequencer of the handle that was
   * @throws ConclaveError LOCK_LOST when it is held no more, INVALID_ARGUMENT when it is of another
   *   session or lock, SESSION_LOST
   */
  async resume(sequencer: string, options: ResumeOptions = {}): Promise<MutexHandle> {
    checkOptions(options, knownResume);
    const maxHoldMs = this.#settings.maxHoldMs(options);
    const hold = await this.#enter(options, async () => {
      const resumed = await resumeHold(this.#context, this.#prefix, sequencer);
      const { attempt, createRevision: own, revision, kv } = resumed;
      const writes = new OwnWrites(kv.value, revision);
      writes.note(kv);
      const settings = { ...this.#settings.membership(), attempt, onOwnWrite: writes.note };
      const membership = { prefix: this.#prefix, ...settings };
      const view = { own, revision, ahead: [], beside: null };
      const subject = this.#subject;
      const holding = adoptHold(this.#context, subject, membership, view, maxHoldMs, 'resume');
      return new MutexHold(this.name, holding, writes);
    });
    return hold as Hold;
  }

  /**
   * Runs `fn` under the lock and releases it, whatever happens.
   *
   * @throws what `acquire` throws, what `fn` throws, and the loss if the lock was lost while `fn`
   *   ran, even when `fn` did not notice
   */
  using<R>(fn: (lock: MutexHandle) => Promise<R> | R, options: AcquireOptions = {}): Promise<R> {
    return usingLock(() => this.#acquire(options), fn);
  }

  /**
   * The lock as a subscription: subscribing acquires, unsubscribing releases. Emits the handle,
   * completes when it is released, errors when it is lost or cannot be acquired.
   */
  hold$(options: Omit<AcquireOptions, 'signal'> = {}): View<MutexHandle> {
    return lockAsObservable(options, (wait) => this.#acquire(wait));
  }

  /**
   * Acquires and tells how that goes on: the place that is reserved, each step forward, the lock.
   * Otherwise as `hold$`. Costs what `onPosition` does.
   */
  progress$(options: Omit<AcquireOptions, 'signal' | 'onPosition'> = {}): View<LockProgress> {
    const acquire = (wait: AcquireOptions) => this.#acquire(wait);
    return observe(async function* (signal): AsyncGenerator<LockProgress> {
      const steps = new AsyncBuffer<LockProgress>();
      let type: 'reserved' | 'moved' = 'reserved';
      const onPosition = (ahead: number) => {
        steps.push({ type, ahead });
        type = 'moved';
      };
      const acquiring = acquire({ ...withSignal(options, signal), onPosition }).finally(() =>
        steps.end(),
      );
      acquiring.catch(() => undefined);
      yield* steps;
      for await (const lock of holdUntil(await acquiring, signal)) yield { type: 'acquired', lock };
    });
  }

  /**
   * Asks the holder to let go: its `revocation$` emits. Up to the holder; nothing is taken from it.
   * Resolves to whether there is a holder. Two exchanges.
   *
   * @throws ConclaveError FAILED_PRECONDITION when a client of another kind holds, INVALID_ARGUMENT
   */
  async requestRevoke(options: { readonly reason?: string } = {}): Promise<boolean> {
    checkOptions(options, { reason: true });
    const { reason = '' } = options;
    if (typeof reason !== 'string') throw invalidArgument('reason', reason, 'a text');
    return requestRevocation(this.#context.session, this.#prefix, reason);
  }

  /** Who holds and who waits now. One exchange. */
  async inspect(): Promise<LineUp> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return lineUp(kvs);
  }

  get #subject() {
    return { recipe: 'mutex', name: this.name, lostCode: 'LOCK_LOST' } as const;
  }

  async #acquire(options: AcquireOptions): Promise<Hold> {
    checkOptions(options, knownWait);
    if (options.onPosition !== undefined) checkFunction(options.onPosition, 'onPosition');
    const wait = this.#settings.wait(options);
    const hold = await this.#enter(options, async () => {
      const { onPosition } = options;
      const { membership, writes } = this.#place(options);
      const acquired = waitForHold(this.#context, this.#subject, membership, wait);
      if (onPosition) this.#followPosition(membership, onPosition, acquired);
      return new MutexHold(this.name, await acquired, writes);
    });
    return hold as Hold;
  }

  #enter({ owner }: Owned, acquire: () => Promise<MutexHold | null>): Promise<Hold | null> {
    if (this.#owners) return this.#owners.enter(owner ?? {}, acquire);
    if (owner === undefined) return acquire();
    throw invalidArgument('owner', owner, "left out, unless the mutex has the option 'reentrant'");
  }

  #place({ meta }: TryLockOptions): Place {
    const settings = this.#settings.membership(meta);
    const writes = new OwnWrites(Buffer.from(settings.value));
    const onOwnWrite = writes.note;
    return { membership: { prefix: this.#prefix, ...settings, onOwnWrite }, writes };
  }

  /** Until the wait is over, whatever it comes to. */
  #followPosition(
    membership: Membership,
    onPosition: (ahead: number) => void,
    acquired: Promise<unknown>,
  ): void {
    const following = new AbortController();
    const stop = () => following.abort(noLongerWanted);
    acquired.then(stop, stop);
    void this.#tellPositions(membership, onPosition, following.signal);
  }

  async #tellPositions(
    membership: Membership,
    onPosition: (ahead: number) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const { session } = this.#context;
    const { client } = session;
    const key = this.#prefix + memberName(session, membership);
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

/** One line, as it is shown. */
export function lineUp(kvs: Iterable<KeyValue>): LineUp {
  const [holder, ...waiters] = inLineOrder(kvs).map(lineEntry);
  return { holder: holder ?? null, waiters };
}
