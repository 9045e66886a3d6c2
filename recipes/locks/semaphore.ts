/**
 * A counting semaphore, first come, first served.
 *
 * Guarantee: the weights of all that hold permits never exceed the limit they were granted under, as
 * seen in the store's order of revisions. Lowering the limit takes nothing from holders; it makes
 * those who come later wait until there is room.
 *
 * As with any lease, a frozen process may believe that it holds a permit after another got it: check
 * `assertHeld`, or write to the store through `guard`.
 */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkOptions, type Known } from '../common/option-checks.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { View } from '../common/view.ts';
import { type Holding, waitForHold } from '../line/holding.ts';
import type { Membership } from '../line/line-membership.ts';
import { inLineOrder, type LineEntry, lineEntry } from '../line/line-record.ts';
import { formerPlace, isTakeover, takeOver } from '../line/takeover.ts';
import { tryHold } from '../line/try-hold.ts';
import { semaphorePrefix } from '../names.ts';
import { HeldLock, type LockHandle, lockAsObservable, usingLock } from './lock-handle.ts';
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
import {
  admittedAmong,
  decodeLimit,
  encodeLimit,
  isPermits,
  type Limit,
  permitBlocker,
  permitReach,
  weightOf,
} from './permits.ts';
import { whenRoom } from './room.ts';

export type SemaphoreOptions = LockOptions & {
  /**
   * Permits there are, 1 or more. Stored by whoever comes first; others must agree with what was
   * stored first or with what is in force, or get MISMATCH. @default what is stored
   */
  readonly limit?: number;
};

type Weight = {
  /** Permits to take, all or none, 1 or more. @default 1 */
  readonly weight?: number;
};

export type TryPermitOptions = TryLockOptions & Weight;
export type WaitPermitOptions = WaitLockOptions & Weight;

const knownOptions: Known<SemaphoreOptions> = { ...knownLockOptions, limit: true };
const knownTry: Known<TryPermitOptions> = { ...knownTryOptions, weight: true };
const knownWait: Known<WaitPermitOptions> = { ...knownWaitOptions, weight: true };

export interface Permit extends LockHandle {
  readonly weight: number;
}

export type PermitEntry = LineEntry & { readonly weight: number };

export type SemaphoreState = {
  /** In force; null before the first use. */
  readonly limit: number | null;
  /** Permits that `holders` take. */
  readonly used: number;
  /**
   * Those that fit under the limit, in order. After the limit was lowered, holders beyond it are
   * listed among the waiters until there is room for them.
   */
  readonly holders: readonly PermitEntry[];
  readonly waiters: readonly PermitEntry[];
};

export class Semaphore {
  readonly name: string;
  /** Limit, holders and waiters, kept current while anybody listens. */
  readonly watch$: View<SemaphoreState>;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #linePrefix: string;
  readonly #limitKey: string;
  readonly #declared: number | undefined;
  readonly #settings: LockSettings;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: SemaphoreOptions = {}) {
    checkOptions(options, knownOptions);
    this.name = name;
    this.#context = context;
    this.#prefix = semaphorePrefix(name);
    this.#linePrefix = `${this.#prefix}line/`;
    this.#limitKey = `${this.#prefix}limit`;
    if (options.limit !== undefined) this.#declared = permits(options.limit, 'limit');
    this.#settings = new LockSettings(context.session, options);
    const { client } = context.session;
    const read = (kvs: Iterable<KeyValue>) => this.#state(kvs);
    const prefix = this.#prefix;
    this.watch$ = observePrefix(client, prefix, read);
  }

  /**
   * Waits for the permits, all at once. One exchange when they are free, three to wait.
   *
   * @throws ConclaveError MISMATCH when the limit differs from the one stored, NOT_FOUND when none is
   *   stored and none was given, INVALID_ARGUMENT for more permits than there are; NOT_ACQUIRED,
   *   ABORTED, SESSION_LOST; LOCK_LOST when somebody removed this waiter's key
   */
  acquire(options: WaitPermitOptions = {}): Promise<Permit> {
    return this.#acquire(options);
  }

  /**
   * Takes the permits if they are free and nobody waits; else leaves no trace and returns null. One
   * exchange when nobody holds any or they are refused, else two, and one more for each time that
   * somebody else came first.
   *
   * @throws ConclaveError MISMATCH, NOT_FOUND, INVALID_ARGUMENT, SESSION_LOST
   */
  async tryAcquire(options: TryPermitOptions = {}): Promise<Permit | null> {
    checkOptions(options, knownTry);
    const weight = permits(options.weight ?? 1, 'weight');
    const maxHoldMs = this.#settings.maxHoldMs(options);
    const membership = { ...this.#membership(weight, options), reach: 'all' } as const;
    const holding = await tryHold(this.#context, this.#subject, membership, maxHoldMs);
    return holding && new HeldPermit(this.name, holding, weight);
  }

  /**
   * Takes back permits that still stand under this session: one that was opened with `resume`, after
   * the process that held was restarted or had lost the session by its own clock. A new handle with a
   * new, higher token. Two exchanges.
   *
   * @param sequencer of the permit that was
   * @throws ConclaveError LOCK_LOST when they are held no more, or do not fit under the limit since it
   *   was lowered; MISMATCH as `acquire`; INVALID_ARGUMENT when it is of another session or semaphore,
   *   SESSION_LOST
   */
  async resume(sequencer: string, options: ResumeLockOptions = {}): Promise<Permit> {
    checkOptions(options, knownResumeOptions);
    const maxHoldMs = this.#settings.maxHoldMs(options);
    const former = formerPlace(this.#context.session, sequencer, [this.#linePrefix]);
    const { recheckMs } = this.#settings;
    let weight = 1;
    const { holding } = await takeOver(
      this.#context,
      this.#subject,
      former,
      { prefix: this.#linePrefix, beside: this.#limitKey },
      { maxHoldMs, recheckMs },
      ({ kv, content, ahead, beside }) => {
        weight = weightOf(kv);
        const differs = beside && this.#problem(beside, 1);
        if (differs) throw differs;
        const limit = decodeLimit(beside)?.limit ?? this.#declared ?? 0;
        const { waiters } = admittedAmong([...ahead, kv], limit);
        return waiters.length === 0 ? content : undefined;
      },
    );
    return new HeldPermit(this.name, holding, weight);
  }

  /**
   * Runs `fn` with the permits and returns them, whatever happens.
   *
   * @throws what `acquire` throws, what `fn` throws, and the loss if they were lost while `fn` ran
   */
  using<R>(fn: (permit: Permit) => Promise<R> | R, options: WaitPermitOptions = {}): Promise<R> {
    return usingLock(() => this.#acquire(options), fn);
  }

  /** Permits as a subscription: subscribing acquires, unsubscribing releases. */
  hold$(options: Omit<WaitPermitOptions, 'signal'> = {}): View<Permit> {
    return lockAsObservable(options, (wait) => this.#acquire(wait));
  }

  /** Limit, holders and waiters now. One exchange. */
  async inspect(): Promise<SemaphoreState> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return this.#state(kvs);
  }

  /**
   * Sets the limit for everybody, at once: waiters for whom there is room now are admitted, and those
   * who want more permits than there are rejected with INVALID_ARGUMENT. Holders keep what they have.
   *
   * @throws ConclaveError INVALID_ARGUMENT, SESSION_LOST, or what the store answers
   */
  async resize(limit: number): Promise<void> {
    const { client, signal } = this.#context.session;
    permits(limit, 'limit');
    const key = this.#limitKey;
    let found = await untilAnswered(client, () => client.kv.get(key), signal);
    for (;;) {
      const stored = decodeLimit(found);
      if (stored?.limit === limit) return;
      const next: Limit = { declared: stored?.declared ?? this.#declared ?? limit, limit };
      const txn = client.kv
        .txn()
        .if(compare.modRevision(key, '==', found?.modRevision ?? 0n))
        .then(op.put(key, encodeLimit(next)))
        .else(op.get(key));
      const result = await untilAnswered(client, () => txn.commit(), signal);
      if (result.succeeded) return;
      found = result.responses[0];
    }
  }

  get #subject() {
    return { recipe: 'semaphore', name: this.name, lostCode: 'LOCK_LOST' } as const;
  }

  async #acquire(options: WaitPermitOptions): Promise<HeldPermit> {
    checkOptions(options, knownWait);
    const weight = permits(options.weight ?? 1, 'weight');
    const wait = this.#settings.wait(options);
    const membership = this.#membership(weight, options);
    const holding = await waitForHold(this.#context, this.#subject, membership, wait);
    return new HeldPermit(this.name, holding, weight);
  }

  #membership(weight: number, { meta }: TryLockOptions): Membership {
    const declared = this.#declared;
    const initial = declared === undefined ? undefined : encodeLimit({ declared, limit: declared });
    return {
      ...this.#settings.membership(meta, { weight }),
      prefix: this.#linePrefix,
      reach: (seen) => permitReach(decodeLimit(seen?.beside)?.limit ?? declared ?? usualLimit),
      beside: { key: this.#limitKey, initial },
      check: ({ beside }, isFirst) =>
        isFirst ? this.#problem(beside, weight) : tooHeavy(weight, decodeLimit(beside)?.limit),
      policy: (view) => permitBlocker(weight, view),
      onOwnWrite: isTakeover,
      wake: whenRoom(weight, this.#linePrefix, this.#limitKey),
    };
  }

  #problem(stored: KeyValue | null, weight: number): ConclaveError | undefined {
    const declared = this.#declared;
    if (stored === null) {
      // In a transaction that was refused, the limit may still be to come with the first member.
      if (declared === undefined) {
        const message = `Nobody has set the limit of semaphore '${this.name}' yet`;
        return new ConclaveError('NOT_FOUND', message, { remedy: "Give the option 'limit'." });
      }
      return tooHeavy(weight, declared);
    }
    const limit = decodeLimit(stored);
    if (limit === undefined) {
      return new ConclaveError('MISMATCH', `The key '${stored.key}' holds no limit`);
    }
    if (declared !== undefined && declared !== limit.declared && declared !== limit.limit) {
      const message = `Semaphore '${this.name}' has the limit ${limit.limit}, not ${declared}`;
      return new ConclaveError('MISMATCH', message, {
        remedy: 'Use one limit everywhere, leave it out, or change it for all with resize().',
      });
    }
    return tooHeavy(weight, limit.limit);
  }

  #state(kvs: Iterable<KeyValue>): SemaphoreState {
    const all = [...kvs];
    const stored = decodeLimit(all.find(({ key }) => key === this.#limitKey));
    const limit = stored?.limit ?? null;
    const line = inLineOrder(all.filter(({ key }) => key.startsWith(this.#linePrefix)));
    const { holders, waiters, used } = admittedAmong(line, limit ?? 0);
    return { limit, used, holders: holders.map(permitEntry), waiters: waiters.map(permitEntry) };
  }
}

/** Assumed until the store has told. */
const usualLimit = 16;

class HeldPermit extends HeldLock implements Permit {
  readonly weight: number;

  constructor(name: string, holding: Holding, weight: number) {
    super(name, holding);
    this.weight = weight;
  }
}

const permitEntry = (kv: KeyValue): PermitEntry => ({ ...lineEntry(kv), weight: weightOf(kv) });

function permits(given: number, field: string): number {
  if (!isPermits(given)) throw invalidArgument(field, given, 'a whole number, 1 or more');
  return given;
}

/** Nobody waits for more permits than there are, and lets others wait behind. */
const tooHeavy = (weight: number, limit: number | undefined): ConclaveError | undefined =>
  limit === undefined || weight <= limit
    ? undefined
    : invalidArgument('weight', weight, `at most ${limit}, the limit of the semaphore`);
