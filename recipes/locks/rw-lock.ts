/**
 * Read-write lock, first come, first served.
 *
 * Guarantee: at any revision of the store either one writer holds the lock or any number of readers,
 * of which at most one is upgradable. Nobody overtakes: a reader that comes after a waiting writer
 * waits behind it, so neither side starves.
 *
 * As with any lease, a frozen process may believe that it holds after another took over: fence by
 * `token`, or write to the store through `guard`.
 */
import { invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { RecipeContext } from '../common/context.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkOptions } from '../common/option-checks.ts';
import type { View } from '../common/view.ts';
import { type Holding, waitForHold } from '../line/holding.ts';
import type { Membership } from '../line/line-membership.ts';
import {
  encodeLineRecord,
  inLineOrder,
  type LineContent,
  type LineEntry,
  lineEntry,
} from '../line/line-record.ts';
import { formerPlace, isTakeover, takeOver } from '../line/takeover.ts';
import { tryHold } from '../line/try-hold.ts';
import { rwPrefix } from '../names.ts';
import { lockAsObservable, usingLock } from './lock-handle.ts';
import {
  knownLockOptions,
  knownResumeOptions,
  knownTryOptions,
  knownWaitOptions,
  type LockOptions,
  LockSettings,
  type ResumeLockOptions,
  type TryLockOptions,
  type WaitLockOptions,
} from './lock-options.ts';
import { type OwnPlace, type RwHandle, RwHold } from './rw-handle.ts';
import { blockerOf, holdersAmong, modeOf, type PlaceMode, type RwMode } from './rw-rules.ts';

/** Somebody in line. A holder that waits to write while it reads is `upgrading`. */
export type RwEntry = LineEntry & { readonly mode: PlaceMode };

/** Who holds and who waits, each in order. */
export type RwLineUp = {
  readonly holders: readonly RwEntry[];
  readonly waiters: readonly RwEntry[];
};

export class RwLock {
  readonly name: string;
  /** Who holds and waits, kept current while anybody listens. */
  readonly watch$: View<RwLineUp>;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #settings: LockSettings;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: LockOptions = {}) {
    checkOptions(options, knownLockOptions);
    this.name = name;
    this.#context = context;
    const prefix = rwPrefix(name);
    this.#prefix = prefix;
    this.#settings = new LockSettings(context.session, options);
    const { client } = context.session;
    this.watch$ = observePrefix(client, prefix, lineUp);
  }

  /** Shares the lock with other readers. @throws as `acquire` does */
  read(options?: WaitLockOptions): Promise<RwHandle> {
    return this.acquire('read', options);
  }

  /** Takes the lock alone. @throws as `acquire` does */
  write(options?: WaitLockOptions): Promise<RwHandle> {
    return this.acquire('write', options);
  }

  /** Shares the lock with readers, and may become the writer later. @throws as `acquire` does */
  upgradable(options?: WaitLockOptions): Promise<RwHandle> {
    return this.acquire('upgradable', options);
  }

  /**
   * Waits for the lock in this mode. One exchange when nobody is in the way, two (on etcd
   * three) to wait one turn.
   *
   * @throws ConclaveError NOT_ACQUIRED, ABORTED, SESSION_LOST; LOCK_LOST when somebody removed this
   *   waiter's key
   */
  acquire(mode: RwMode, options: WaitLockOptions = {}): Promise<RwHandle> {
    return this.#acquire(mode, options);
  }

  /**
   * Takes the lock in this mode if it need not wait; else leaves no trace and returns null. One
   * exchange; two where others share the lock in modes that may change.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers
   */
  async tryAcquire(mode: RwMode, options: TryLockOptions = {}): Promise<RwHandle | null> {
    checkOptions(options, knownTryOptions);
    const maxHoldMs = this.#settings.maxHoldMs(options);
    const { membership, content } = this.#membership(mode, options);
    const holding = await tryHold(this.#context, this.#subject, membership, maxHoldMs);
    return holding && this.#handle(mode, holding, content);
  }

  /**
   * Takes back a lock that still stands under this session: one that was opened with `resume`, after
   * the process that held was restarted or had lost the session by its own clock. In the mode it had;
   * an upgrade that waited is given up. A new handle with a new, higher token. Two exchanges.
   *
   * @param sequencer of the handle that was
   * @throws ConclaveError LOCK_LOST when it is held no more, INVALID_ARGUMENT when it is of another
   *   session or lock, SESSION_LOST
   */
  async resume(sequencer: string, options: ResumeLockOptions = {}): Promise<RwHandle> {
    checkOptions(options, knownResumeOptions);
    const maxHoldMs = this.#settings.maxHoldMs(options);
    const former = formerPlace(this.#context.session, sequencer, [this.#readers, this.#writers]);
    const { recheckMs } = this.#settings;
    let mode: RwMode = 'read';
    const { holding, content, isTakenOver } = await takeOver(
      this.#context,
      this.#subject,
      former,
      { prefix: this.#prefix },
      { maxHoldMs, recheckMs },
      ({ kv, content, ahead }) => {
        const before = modeOf(kv);
        // Only who holds as an upgradable reader can be upgrading.
        const holds = before === 'upgrading' || !blockerOf(before, ahead, former.createRevision);
        if (!holds) return undefined;
        mode = before === 'upgrading' ? 'upgradable' : before;
        return { ...content, terms: { ...content.terms, mode } };
      },
    );
    return this.#handle(mode, holding, content, { written: holding.token, isTakenOver });
  }

  /**
   * Runs `fn` under the lock and releases it, whatever happens.
   *
   * @throws what `acquire` throws, what `fn` throws, and the loss if the lock was lost while `fn` ran
   */
  using<R>(
    mode: RwMode,
    fn: (lock: RwHandle) => Promise<R> | R,
    options: WaitLockOptions = {},
  ): Promise<R> {
    return usingLock(() => this.#acquire(mode, options), fn);
  }

  /** The lock as a subscription: subscribing acquires, unsubscribing releases. */
  hold$(mode: RwMode, options: Omit<WaitLockOptions, 'signal'> = {}): View<RwHandle> {
    return lockAsObservable(options, (wait) => this.#acquire(mode, wait));
  }

  /** Who holds and who waits now. One exchange. */
  async inspect(): Promise<RwLineUp> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return lineUp(kvs);
  }

  get #readers(): string {
    return `${this.#prefix}r/`;
  }

  get #writers(): string {
    return `${this.#prefix}w/`;
  }

  get #subject() {
    return { recipe: 'rw', name: this.name, lostCode: 'LOCK_LOST' } as const;
  }

  async #acquire(mode: RwMode, options: WaitLockOptions): Promise<RwHold> {
    checkOptions(options, knownWaitOptions);
    const wait = this.#settings.wait(options);
    const { membership, content } = this.#membership(mode, options);
    const holding = await waitForHold(this.#context, this.#subject, membership, wait);
    return this.#handle(mode, holding, content);
  }

  /**
   * Places that may ever write are kept apart from mere readers, so that a reader lists only those
   * it can have to wait for: a thousand readers behind one writer read one key each.
   */
  #membership(mode: RwMode, { meta }: TryLockOptions) {
    const terms = { mode: checkedMode(mode) };
    const content = this.#settings.content(meta, terms);
    const membership: Membership = {
      ...this.#settings.membership(meta, terms),
      prefix: mode === 'read' ? this.#readers : this.#writers,
      aheadPrefix: mode === 'write' ? this.#prefix : this.#writers,
      reach: mode === 'write' ? 'nearest' : 'all',
      policy: ({ ahead, own }) => blockerOf(mode, ahead, own),
      onOwnWrite: isTakeover,
      ...(mode === 'write' ? {} : { wake: 'changed' }),
    };
    return { membership, content };
  }

  #handle(mode: RwMode, holding: Holding, content: LineContent, own?: OwnPlace) {
    const encode = (changed: PlaceMode) =>
      encodeLineRecord({ ...content, terms: { ...content.terms, mode: changed } });
    const { recheckMs } = this.#settings;
    return new RwHold(
      this.#context,
      this.name,
      mode,
      holding,
      this.#prefix,
      encode,
      recheckMs,
      own,
    );
  }
}

function checkedMode(mode: RwMode): RwMode {
  if (mode === 'read' || mode === 'upgradable' || mode === 'write') return mode;
  throw invalidArgument('mode', mode, "'read', 'upgradable' or 'write'");
}

function lineUp(kvs: Iterable<KeyValue>): RwLineUp {
  const entry = (kv: KeyValue): RwEntry => ({ ...lineEntry(kv), mode: modeOf(kv) });
  const { holders, waiters } = holdersAmong(inLineOrder(kvs));
  return { holders: holders.map(entry), waiters: waiters.map(entry) };
}
