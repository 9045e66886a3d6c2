/**
 * A line with a rule of one's own: the same fair, leased, crash-safe waiting as a mutex, where the
 * program says who waits for whom.
 *
 * The rule sees the places ahead, oldest first, without knowing which of them hold. What it must be:
 *
 * - the same in every client: name it by `rule`, and a client with another name gets MISMATCH;
 * - a function of its arguments alone;
 * - indifferent to order of leaving: whoever is admitted with some places ahead must be admitted with
 *   fewer. Rules of the form "wait for the nearest place that I do not get on with" are.
 *
 * Then two members whom the rule sets against each other never hold at the same time, as seen in the
 * store's order of revisions: the later one waits until the earlier one is gone.
 */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { RecipeContext } from '../common/context.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkFunction, checkOptions, type Known } from '../common/option-checks.ts';
import type { View } from '../common/view.ts';
import { type Holding, waitForHold } from '../line/holding.ts';
import type { Place } from '../line/line.ts';
import type { Membership } from '../line/line-membership.ts';
import {
  decodeLineRecord,
  inLineOrder,
  type LineEntry,
  lineEntry,
  type Meta,
} from '../line/line-record.ts';
import { formerPlace, isTakeover, takeOver } from '../line/takeover.ts';
import { tryHold } from '../line/try-hold.ts';
import { linePrefix } from '../names.ts';
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

/** Somebody ahead, as a rule sees it. */
export type Neighbour = {
  readonly key: string;
  /** Its number in the line. */
  readonly createRevision: bigint;
  /** What it gave on joining, with its session's own. */
  readonly meta: Meta;
};

/**
 * Which of those ahead to wait for, or undefined to be admitted.
 *
 * @example "the same rack shares"
 *   (me, ahead) => ahead.findLast(({ meta }) => meta.rack !== me.rack)
 */
export type LineRule = (me: Meta, ahead: readonly Neighbour[]) => Neighbour | undefined;

export type CustomLineOptions = LockOptions & {
  readonly policy: LineRule;
  /** Names the rule: members that joined by another one are not stood in line with. @default none */
  readonly rule?: string;
};

const knownOptions: Known<CustomLineOptions> = { ...knownLockOptions, policy: true, rule: true };

export class CustomLine {
  readonly name: string;
  /** Everybody in line, in order, kept current while anybody listens. */
  readonly watch$: View<readonly LineEntry[]>;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #policy: LineRule;
  readonly #rule: string | undefined;
  readonly #settings: LockSettings;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: CustomLineOptions) {
    checkOptions(options, knownOptions);
    checkFunction(options.policy, 'policy');
    if (options.rule !== undefined && typeof options.rule !== 'string') {
      throw invalidArgument('rule', options.rule, 'a text');
    }
    this.name = name;
    this.#context = context;
    this.#prefix = linePrefix(name);
    this.#policy = options.policy;
    this.#rule = options.rule;
    this.#settings = new LockSettings(context.session, options);
    const { client } = context.session;
    const prefix = this.#prefix;
    this.watch$ = observePrefix(client, prefix, everybody);
  }

  /**
   * Waits until the rule admits. One exchange when it does at once, two (on etcd three) to wait
   * one turn.
   *
   * @throws ConclaveError MISMATCH when somebody ahead joined by another rule, NOT_ACQUIRED, ABORTED,
   *   SESSION_LOST; LOCK_LOST when somebody removed this waiter's key; what the rule throws
   */
  acquire(options: WaitLockOptions = {}): Promise<LockHandle> {
    return this.#acquire(options);
  }

  /**
   * A place if the rule admits at once; else leaves no trace and returns null. One exchange when
   * nobody is in line or it refuses, else two, and one more for each time that somebody came first.
   *
   * @throws ConclaveError MISMATCH, SESSION_LOST; what the rule throws
   */
  async tryAcquire(options: TryLockOptions = {}): Promise<LockHandle | null> {
    checkOptions(options, knownTryOptions);
    const maxHoldMs = this.#settings.maxHoldMs(options);
    const membership = this.#membership(options);
    const holding = await tryHold(this.#context, this.#subject, membership, maxHoldMs);
    return holding && new HeldLock(this.name, holding);
  }

  /**
   * Takes back a place that still stands under this session, and that the rule admits: one that was
   * opened with `resume`, after the process that held was restarted or had lost the session by its own
   * clock. A new handle with a new, higher token. Two exchanges.
   *
   * @param sequencer of the handle that was
   * @throws ConclaveError LOCK_LOST when it is held no more, MISMATCH when it or somebody ahead joined
   *   by another rule, INVALID_ARGUMENT when it is of another session or line, SESSION_LOST; what the
   *   rule throws
   */
  async resume(sequencer: string, options: ResumeLockOptions = {}): Promise<LockHandle> {
    checkOptions(options, knownResumeOptions);
    const maxHoldMs = this.#settings.maxHoldMs(options);
    const former = formerPlace(this.#context.session, sequencer, [this.#prefix]);
    const { recheckMs } = this.#settings;
    const { holding } = await takeOver(
      this.#context,
      this.#subject,
      former,
      { prefix: this.#prefix },
      { maxHoldMs, recheckMs },
      ({ kv, content, ahead }) => {
        const problem = this.#problem(content.meta, ahead, kv);
        if (problem) throw problem;
        return this.#blocker(content.meta, ahead) === undefined ? content : undefined;
      },
    );
    return new HeldLock(this.name, holding);
  }

  /** Runs `fn` while the place is held, and leaves, whatever happens. */
  using<R>(fn: (held: LockHandle) => Promise<R> | R, options: WaitLockOptions = {}): Promise<R> {
    return usingLock(() => this.#acquire(options), fn);
  }

  /** The place as a subscription: subscribing acquires, unsubscribing releases. */
  hold$(options: Omit<WaitLockOptions, 'signal'> = {}): View<LockHandle> {
    return lockAsObservable(options, (wait) => this.#acquire(wait));
  }

  /** Everybody in line now, in order. One exchange. */
  async inspect(): Promise<readonly LineEntry[]> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return everybody(kvs);
  }

  get #subject() {
    return { recipe: 'line', name: this.name, lostCode: 'LOCK_LOST' } as const;
  }

  async #acquire(options: WaitLockOptions): Promise<HeldLock> {
    checkOptions(options, knownWaitOptions);
    const wait = this.#settings.wait(options);
    const membership = this.#membership(options);
    const holding: Holding = await waitForHold(this.#context, this.#subject, membership, wait);
    return new HeldLock(this.name, holding);
  }

  #membership({ meta }: TryLockOptions): Membership {
    const terms = this.#rule === undefined ? {} : { rule: this.#rule };
    const me = this.#settings.content(meta).meta;
    return {
      ...this.#settings.membership(meta, terms),
      prefix: this.#prefix,
      reach: 'all',
      check: ({ ahead }, isFirst) => (isFirst ? this.#problem(me, ahead) : undefined),
      policy: ({ ahead }) => this.#blocker(me, ahead),
      onOwnWrite: isTakeover,
    };
  }

  /**
   * What is wrong with the line, or with the rule on it, at the first look.
   *
   * @param self the own place, if it may be of another rule
   */
  #problem(me: Meta, ahead: readonly Place[], self?: Place): unknown {
    const other = [...ahead, ...(self ? [self] : [])].find(
      ({ value }) => decodeLineRecord(value).terms?.rule !== this.#rule,
    );
    if (other) {
      const theirs = decodeLineRecord(other.value).terms?.rule ?? 'none';
      const message = `The line '${this.name}' goes by the rule '${theirs}', not '${this.#rule ?? 'none'}'`;
      return new ConclaveError('MISMATCH', message);
    }
    try {
      this.#blocker(me, ahead);
      return undefined;
    } catch (error) {
      return error;
    }
  }

  #blocker(me: Meta, ahead: readonly Place[]): Place | undefined {
    const neighbours = ahead.map(({ key, createRevision, value }) => ({
      key,
      createRevision,
      meta: decodeLineRecord(value).meta,
    }));
    const chosen = this.#policy(me, neighbours);
    if (chosen === undefined) return undefined;
    const index = neighbours.findIndex(({ key }) => key === chosen?.key);
    if (index >= 0) return ahead[index];
    throw invalidArgument('policy', chosen, 'a rule that returns one of those ahead, or undefined');
  }
}

const everybody = (kvs: Iterable<KeyValue>): readonly LineEntry[] =>
  inLineOrder(kvs).map(lineEntry);
