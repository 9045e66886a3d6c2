/**
 * Several mutexes as one: all of the names or none.
 *
 * The places in all lines are created by one transaction, so they have one create revision, and each
 * line orders by that number. Whoever waits, waits for smaller numbers only: no two can wait for each
 * other, in whatever order the names were given and whichever mutexes of the same names are waited
 * for meanwhile. Only a handle that is held while another is waited for can still make a circle.
 *
 * While some names are waited for, the others are reserved: whoever comes later waits behind.
 */
import { aborted, ConclaveError, invalidArgument, throwIfAborted } from '../../sdk/errors.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkOptions } from '../common/option-checks.ts';
import { linkedSignal, unlessAborted } from '../common/signals.ts';
import type { View } from '../common/view.ts';
import { adoptHold, type Holding, waitForHold } from '../line/holding.ts';
import { aheadFields, aheadOf, type LineView, type Membership } from '../line/line-membership.ts';
import { type Entered, enter } from '../line/try-hold.ts';
import { goneKey, lockPrefix } from '../names.ts';
import { lockAsObservable, usingLock } from './lock-handle.ts';
import {
  knownLockOptions,
  knownTryOptions,
  knownWaitOptions,
  type LockOptions,
  LockSettings,
  type TryLockOptions,
  type WaitLockOptions,
} from './lock-options.ts';
import { MultiHold, type MultiLockHandle } from './multi-handle.ts';
import { type LineUp, lineUp } from './mutex.ts';

/** Within etcd's default of 128 operations in a transaction. */
const namesMax = 50;

type Attempt = {
  readonly member: string;
  readonly keys: readonly string[];
  readonly memberships: readonly Membership[];
};

export class MultiLock {
  /** In the order of the keys. */
  readonly names: readonly string[];
  readonly #context: RecipeContext;
  readonly #prefixes: readonly string[];
  readonly #settings: LockSettings;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, names: readonly string[], options: LockOptions = {}) {
    if (!Array.isArray(names) || names.length === 0 || names.length > namesMax) {
      throw invalidArgument('names', names, `a list of 1 to ${namesMax} names`);
    }
    if (new Set(names).size < names.length) {
      throw invalidArgument('names', names, 'without repetition');
    }
    checkOptions(options, knownLockOptions);
    this.names = [...names].sort();
    this.#context = context;
    this.#prefixes = this.names.map(lockPrefix);
    this.#settings = new LockSettings(context.session, options);
  }

  /**
   * Waits for all names. One exchange when they are free; each name that is not costs one (on
   * etcd two) more.
   *
   * @throws ConclaveError NOT_ACQUIRED, ABORTED, SESSION_LOST; LOCK_LOST when somebody removed one of
   *   this waiter's keys
   */
  acquire(options: WaitLockOptions = {}): Promise<MultiLockHandle> {
    return this.#acquire(options);
  }

  /**
   * Takes all names if nobody holds or waits for any; else leaves no trace and returns null. One
   * exchange either way.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers
   */
  async tryAcquire(options: TryLockOptions = {}): Promise<MultiLockHandle | null> {
    checkOptions(options, knownTryOptions);
    const maxHoldMs = this.#settings.maxHoldMs(options);
    const attempt = this.#attempt(options);
    const free = this.#prefixes.map((prefix) => compare.range.createRevision({ prefix }, '==', 0n));
    const entered = await this.#enter(attempt, free, this.#puts(attempt));
    if (entered.kind === 'refused') {
      const name = this.names[0] ?? '';
      this.#context.metrics.contended({ recipe: 'multi', name, kind: 'refused' });
      return null;
    }
    const { own } = entered;
    const view: LineView = { own, revision: own, ahead: [], beside: null };
    const memberships = this.#owning(attempt, own, entered.lingering);
    const holdings = memberships.map((membership, index) =>
      adoptHold(this.#context, this.#subject(index), membership, view, maxHoldMs),
    );
    return new MultiHold(this.names, holdings);
  }

  /**
   * Runs `fn` under all locks and releases them, whatever happens.
   *
   * @throws what `acquire` throws, what `fn` throws, and the loss if one was lost while `fn` ran
   */
  using<R>(
    fn: (locks: MultiLockHandle) => Promise<R> | R,
    options: WaitLockOptions = {},
  ): Promise<R> {
    return usingLock(() => this.#acquire(options), fn);
  }

  /** The locks as a subscription: subscribing acquires, unsubscribing releases. */
  hold$(options: Omit<WaitLockOptions, 'signal'> = {}): View<MultiLockHandle> {
    return lockAsObservable(options, (wait) => this.#acquire(wait));
  }

  /** Who holds and who waits, by name, at one revision. One exchange. */
  async inspect(): Promise<ReadonlyMap<string, LineUp>> {
    const lists = this.#prefixes.map((prefix) => op.list({ prefix }));
    const { responses } = await this.#context.session.client.kv
      .txn()
      .then(...lists)
      .commit();
    return new Map(this.names.map((name, index) => [name, lineUp(responses[index]?.kvs ?? [])]));
  }

  async #acquire(options: WaitLockOptions): Promise<MultiHold> {
    checkOptions(options, knownWaitOptions);
    const { signal, timeoutMs, maxHoldMs } = this.#settings.wait(options);
    throwIfAborted(signal);
    const { clock } = this.#context.session.client;
    const stop = linkedSignal(signal);
    const late = new ConclaveError(
      'NOT_ACQUIRED',
      `The locks ${this.names.join(', ')} could not be acquired within ${timeoutMs} ms`,
    );
    const cancelTimeout =
      timeoutMs === undefined ? () => undefined : clock.setTimer(timeoutMs, () => stop.abort(late));
    try {
      return await this.#acquireUnless(stop, this.#attempt(options), maxHoldMs);
    } catch (error) {
      if (signal?.aborted) throw aborted(signal);
      throw stop.signal.reason === late ? late : error;
    } finally {
      cancelTimeout();
      stop.unlink();
    }
  }

  async #acquireUnless(
    stop: ReturnType<typeof linkedSignal>,
    attempt: Attempt,
    maxHoldMs: number | undefined,
  ): Promise<MultiHold> {
    const { memberships, keys } = attempt;
    const lists = memberships.map((each) => op.list({ prefix: each.prefix }, aheadFields(each)));
    const entering = this.#enter(attempt, [], [...this.#puts(attempt), ...lists]);
    const entered = await unlessAborted(entering, stop.signal).catch((error: unknown) => {
      // Given up while the answer is under way: whatever it is, nobody uses these keys.
      if (stop.signal.aborted)
        void entering.then(() => this.#abandon(attempt)).catch(() => undefined);
      throw error;
    });
    // Without conditions of its own an attempt is refused only after it was given up.
    if (entered.kind === 'refused') throw stop.signal.reason;
    const { own } = entered;
    const owning = this.#owning(attempt, own, entered.lingering);
    const waits = owning.map(async (membership, index) => {
      const listed = entered.kind === 'entered' && entered.responses[keys.length + index];
      const ahead = listed ? aheadOf(membership, keys[index] ?? '', listed as never) : [];
      // An answer that was lost showed nothing: look.
      const view = listed ? { own, revision: own, ahead, beside: null } : own;
      const wait = { signal: stop.signal, maxHoldMs, entered: view };
      const holding = await waitForHold(this.#context, this.#subject(index), membership, wait);
      return holding;
    });
    for (const wait of waits) wait.catch((error) => stop.abort(error));
    const outcomes = await Promise.allSettled(waits);
    const holdings: Holding[] = [];
    for (const outcome of outcomes) {
      if (outcome.status === 'fulfilled') holdings.push(outcome.value);
    }
    if (holdings.length < waits.length) {
      await Promise.allSettled(holdings.map((holding) => holding.release()));
      throw stop.signal.reason;
    }
    return new MultiHold(this.names, holdings);
  }

  #subject(index: number) {
    const name = this.names[index] ?? '';
    return { recipe: 'multi', name, lostCode: 'LOCK_LOST' } as const;
  }

  #attempt({ meta }: TryLockOptions): Attempt {
    const common = this.#settings.membership(meta);
    const member = `${this.#context.session.id}-${common.attempt}`;
    return {
      member,
      keys: this.#prefixes.map((prefix) => prefix + member),
      memberships: this.#prefixes.map((prefix) => ({ prefix, ...common })),
    };
  }

  #puts({ keys, memberships }: Attempt): Operation[] {
    const { lease } = this.#context.session;
    return keys.map((key, index) => op.put(key, memberships[index]?.value ?? '', { lease }));
  }

  #enter(
    { member, keys }: Attempt,
    conditions: Parameters<typeof enter>[2],
    operations: readonly Operation[],
  ): Promise<Entered> {
    const place = { key: keys[0] ?? '', member, keys };
    return enter(this.#context.session, place, conditions, operations, []);
  }

  /** The memberships, which all remove all keys, in one transaction. */
  #owning({ member, keys, memberships }: Attempt, own: bigint, lingering: boolean): Membership[] {
    const { client, lease } = this.#context.session;
    const deletes = keys.map((key) =>
      op.txn(
        client.kv
          .txn()
          .if(compare.createRevision(key, '==', own))
          .then(op.delete(key)),
      ),
    );
    const marks = lingering ? [op.put(goneKey(member), '', { lease })] : [];
    let removal: Promise<boolean> | undefined;
    const remove = () => {
      removal ??= client.kv
        .txn()
        .then<readonly Operation[]>(...marks, ...deletes)
        .commit()
        .then(
          () => true,
          (error: unknown) => {
            removal = undefined;
            throw error;
          },
        );
      return removal;
    };
    return memberships.map((membership) => ({ ...membership, remove }));
  }

  #abandon({ member, keys }: Attempt): void {
    const { session } = this.#context;
    const mark = op.put(goneKey(member), '', { lease: session.lease });
    const txn = session.client.kv
      .txn()
      .then<readonly Operation[]>(mark, ...keys.map((key) => op.delete(key)));
    session.reap(async () => {
      await txn.commit();
      return true;
    });
  }
}
