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
import { type ConclaveError, invalidArgument, isConclaveError } from '../sdk/errors.ts';
import type { KeyValue } from '../sdk/kv.ts';
import type { Observable } from '../sdk/observe.ts';
import { type Duration, parseDuration } from '../sdk/options.ts';
import { compare, op } from '../sdk/txn.ts';
import type { RecipeContext } from './context.ts';
import { parsePeriod } from './durations.ts';
import { adoptHold, type Holding, type HoldState, sessionLost, waitForHold } from './holding.ts';
import type { Membership } from './line-driver.ts';
import {
  encodeLineRecord,
  inLineOrder,
  type LineEntry,
  lineEntry,
  type Meta,
} from './line-record.ts';
import { goneKey, lockPrefix, randomId } from './names.ts';
import { viewPrefix } from './prefix-view.ts';
import { untilAnswered } from './repeat.ts';
import { linkedSignal, onAbort } from './signals.ts';
import { observe, observeShared } from './streams.ts';

export type MutexOptions = {
  /** Ends a hold that lasts longer: its signal aborts with LOCK_LOST. @default no limit */
  readonly maxHold?: Duration;
  /** How often a waiter reads its place again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
};

export type TryAcquireOptions = {
  /** Shown to others beside the holder, with the session's own meta. */
  readonly meta?: Meta;
  /** Overrides the mutex's own. */
  readonly maxHold?: Duration;
};

export type AcquireOptions = TryAcquireOptions & {
  /** Gives up waiting: rejects with ABORTED. */
  readonly signal?: AbortSignal;
  /** Gives up waiting: rejects with NOT_ACQUIRED. @default no limit */
  readonly timeout?: Duration;
  /**
   * Hears how many are ahead, the holder included, first on joining and then on each change. Costs a
   * listing and a watch on the whole line: for tens of waiters, not thousands.
   */
  readonly onPosition?: (ahead: number) => void;
};

/** Who holds and who waits, in order. */
export type LineUp = { readonly holder: LineEntry | null; readonly waiters: readonly LineEntry[] };

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
  readonly state$: Observable<HoldState>;
  /** Looks at the clock each time. */
  readonly isHeld: boolean;
  /** @throws ConclaveError RELEASED, LOCK_LOST, SESSION_LOST, SESSION_SUSPENDED */
  assertHeld(): void;
  /** The transaction under the condition that this hold still stands when it commits. */
  guard: Holding['guard'];
  /** Idempotent. @throws ConclaveError when not confirmed in time; it is then retried meanwhile */
  release(): Promise<void>;
}

export class Mutex {
  readonly name: string;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #maxHold: Duration | undefined;
  readonly #recheckMs: number | undefined;
  /** Who holds and waits, kept current while anybody listens. */
  readonly watch$: Observable<LineUp>;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: MutexOptions = {}) {
    this.name = name;
    this.#context = context;
    this.#prefix = lockPrefix(name);
    this.#maxHold = options.maxHold;
    if (options.maxHold !== undefined) parseDuration(options.maxHold, 'maxHold');
    if (options.recheck !== undefined) this.#recheckMs = parsePeriod(options.recheck, 'recheck');
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
  async acquire(options: AcquireOptions = {}): Promise<LockHandle> {
    const { signal, timeout, onPosition } = options;
    const timeoutMs = timeout === undefined ? undefined : parseDuration(timeout, 'timeout');
    const maxHoldMs = this.#maxHoldMs(options);
    const membership = this.#membership(options.meta);
    const following = new AbortController();
    if (onPosition) void this.#followPosition(membership, onPosition, following.signal);
    try {
      const wait = { signal, timeoutMs, maxHoldMs };
      const holding = await waitForHold(this.#context, this.#subject, membership, wait);
      return new Lock(this.name, holding);
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
  async tryAcquire(options: TryAcquireOptions = {}): Promise<LockHandle | null> {
    const { session } = this.#context;
    const { client, lease } = session;
    const maxHoldMs = this.#maxHoldMs(options);
    const membership = this.#membership(options.meta);
    if (session.state === 'lost') throw sessionLost(session);
    const member = `${session.id}-${membership.attempt}`;
    const key = this.#prefix + member;
    const prefix = this.#prefix;
    const gone = goneKey(member);
    const attempt = client.kv
      .txn()
      .if(
        compare.range.createRevision({ prefix }, '==', 0n),
        compare.createRevision(gone, '==', 0n),
      )
      .then(op.put(key, membership.value, { lease }))
      .else(op.get(key));
    let result: Awaited<ReturnType<typeof attempt.commit>>;
    try {
      result = await untilAnswered(client, () => attempt.commit(), session.signal);
    } catch (error) {
      if (session.signal.aborted || isConclaveError(error, 'LEASE_NOT_FOUND')) {
        throw sessionLost(session);
      }
      // The key may be there or may yet appear; nobody will use it.
      if (!isConclaveError(error) || error.outcome !== 'not-applied') {
        session.reap(async () => {
          await client.kv
            .txn()
            .then(op.put(gone, '', { lease }), op.delete(key))
            .commit();
          return true;
        });
      }
      throw error;
    }
    // A repetition after a lost answer finds the key of the attempt that did reach the store.
    const own = result.succeeded ? result.revision : result.responses[0]?.createRevision;
    if (own === undefined) return null;
    const grant = { createRevision: own, token: own };
    const holding = adoptHold(this.#context, this.#subject, membership, grant, maxHoldMs);
    return new Lock(this.name, holding);
  }

  /**
   * Runs `fn` under the lock and releases it, whatever happens.
   *
   * @throws what `acquire` throws, what `fn` throws, and the loss if the lock was lost while `fn`
   *   ran, even when `fn` did not notice
   */
  async using<R>(
    fn: (lock: LockHandle) => Promise<R> | R,
    options: AcquireOptions = {},
  ): Promise<R> {
    const lock = (await this.acquire(options)) as Lock;
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
   * The lock as a subscription: subscribing acquires, unsubscribing releases. Emits the handle,
   * completes when it is released, errors when it is lost or cannot be acquired.
   */
  hold$(options: Omit<AcquireOptions, 'signal'> = {}): Observable<LockHandle> {
    const acquire = (signal: AbortSignal) => this.acquire({ ...options, signal });
    return observe(async function* (signal) {
      const lock = await acquire(signal);
      try {
        yield lock;
        await eitherAborts(lock.signal, signal);
        const { reason } = lock.signal;
        if (!signal.aborted && !isConclaveError(reason, 'RELEASED')) throw reason;
      } finally {
        await lock[Symbol.asyncDispose]();
      }
    });
  }

  /** Who holds and who waits now. One exchange. */
  async inspect(): Promise<LineUp> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return lineUp(kvs);
  }

  get #subject() {
    return { recipe: 'mutex', name: this.name, lostCode: 'LOCK_LOST' } as const;
  }

  #maxHoldMs(options: TryAcquireOptions): number | undefined {
    const maxHold = options.maxHold ?? this.#maxHold;
    if (maxHold === undefined) return undefined;
    const ms = parseDuration(maxHold, 'maxHold');
    if (ms === 0) throw invalidArgument('maxHold', maxHold, 'longer than 0');
    return ms;
  }

  #membership(meta: Meta = {}): Membership {
    const { session } = this.#context;
    const { clock, random } = session.client;
    const content = { sinceMs: clock.wallMs(), meta: { ...session.meta, ...meta } };
    return {
      prefix: this.#prefix,
      attempt: randomId(random),
      value: encodeLineRecord(content),
      ...(this.#recheckMs === undefined ? {} : { timing: { recheckMs: this.#recheckMs } }),
    };
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

/** A Holding under the mutex's name, showing no more than LockHandle says. */
class Lock implements LockHandle {
  readonly name: string;
  readonly #holding: Holding;
  readonly guard: Holding['guard'];

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
  get state$(): Observable<HoldState> {
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

function lineUp(kvs: Iterable<KeyValue>): LineUp {
  const [holder, ...waiters] = inLineOrder(kvs).map(lineEntry);
  return { holder: holder ?? null, waiters };
}

/** Resolves once either signal has aborted. */
async function eitherAborts(...signals: readonly AbortSignal[]): Promise<void> {
  const either = linkedSignal(...signals);
  await new Promise<void>((resolve) => {
    onAbort(either.signal, resolve);
  });
  either.unlink();
}
