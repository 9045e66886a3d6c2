/**
 * A double barrier: parties enter together, once there are enough of them, and leave together, once
 * all have left. See `double.ts` for how.
 */
import { invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkOptions, type Known } from '../common/option-checks.ts';
import { patienceOf } from '../common/patience.ts';
import type { View } from '../common/view.ts';
import { Holding, waitForGrant } from '../line/holding.ts';
import {
  encodeLineRecord,
  inLineOrder,
  type LineEntry,
  lineEntry,
  type Meta,
  shownMeta,
} from '../line/line-record.ts';
import { HeldLock, type LockHandle, usingLock } from '../locks/lock-handle.ts';
import { doubleBarrierPrefix } from '../names.ts';
import { DoubleMember, type LeaveOptions } from './double-member.ts';
import {
  type DoubleKeys,
  decodeReady,
  decodeTerms,
  doubleKeys,
  saysAllLeft,
  type Terms,
} from './double-record.ts';
import { defaultRecheckMs, knownWaitOptions, type WaitBarrierOptions } from './key-wait.ts';
import { largestMuster } from './muster.ts';
import { resetWhenEmpty } from './reset.ts';

export type DoubleBarrierOptions = {
  /** How many parties enter together: 1 to 4032. The same for all clients. */
  readonly parties: number;
  /** How often a party looks at the barrier again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
};

export type EnterOptions = WaitBarrierOptions & {
  /** Shown to others beside the session's own meta. */
  readonly meta?: Meta;
  /** How long leaving, by disposal too, waits for the others. @default no limit */
  readonly leaveTimeout?: Duration;
};

/** A party that is inside. */
export interface DoubleBarrierHandle extends LockHandle {
  /** Rises by one from each generation to the next. */
  readonly generation: number;
  /**
   * Leaves, and waits until all others of the generation have left or died. Idempotent: the first call
   * decides. What `release` and disposal do, too; disposal throws nothing.
   *
   * @throws ConclaveError TIMEOUT, ABORTED: this one has left, others have not; SESSION_LOST
   */
  leave(options?: LeaveOptions): Promise<void>;
}

export type DoubleBarrierState = {
  readonly parties: number;
  /** The generation that forms. */
  readonly generation: number;
  /** Those that wait for it to be complete, the oldest first. */
  readonly waiting: readonly LineEntry[];
  /** How many more it takes. */
  readonly missing: number;
  /** Complete generations that not all have left yet. */
  readonly inside: readonly DoubleGeneration[];
};

export type DoubleGeneration = {
  readonly generation: number;
  /** When it was complete, by the wall clock of the party that saw it. */
  readonly since: Date;
  /** Those that have not left. */
  readonly members: readonly LineEntry[];
};

const recipe = 'double-barrier';

const knownEnter: Known<EnterOptions> = { ...knownWaitOptions, meta: true, leaveTimeout: true };

/** By session and name: barriers are made anew for each use, and what they knew should last. */
const knownTerms = new WeakMap<RecipeContext, Map<string, { terms: Terms | undefined }>>();

function knownOf(context: RecipeContext, name: string): { terms: Terms | undefined } {
  const names = knownTerms.get(context) ?? new Map<string, { terms: Terms | undefined }>();
  knownTerms.set(context, names);
  const known = names.get(name) ?? { terms: undefined };
  names.set(name, known);
  return known;
}

export class DoubleBarrier {
  readonly name: string;
  readonly parties: number;
  /** Who waits and who is inside; kept current while anybody listens. */
  readonly state$: View<DoubleBarrierState>;
  readonly #context: RecipeContext;
  readonly #keys: DoubleKeys;
  readonly #recheckMs: number;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: DoubleBarrierOptions) {
    checkOptions(options, { parties: true, recheck: true });
    const { parties, recheck } = options;
    if (!Number.isSafeInteger(parties) || parties < 1 || parties > largestMuster) {
      throw invalidArgument('parties', parties, `a whole number from 1 to ${largestMuster}`);
    }
    this.name = name;
    this.parties = parties;
    this.#context = context;
    this.#keys = doubleKeys(doubleBarrierPrefix(name));
    this.#recheckMs = recheck === undefined ? defaultRecheckMs : parsePeriod(recheck, 'recheck');
    const { client } = context.session;
    const { root: prefix } = this.#keys;
    const show = (kvs: Iterable<KeyValue>) => this.#stateOf(kvs);
    this.state$ = observePrefix(client, prefix, show);
  }

  /**
   * Waits until as many parties are there as it takes, and enters with them. Two exchanges; one more
   * when this session has not heard of the generation that forms, and one more for each that becomes
   * complete without this party.
   *
   * @throws ConclaveError NOT_ACQUIRED, ABORTED, SESSION_LOST; LOCK_LOST when somebody removed this
   *   party's key; MISMATCH when others take another number of parties
   */
  enter(options: EnterOptions = {}): Promise<DoubleBarrierHandle> {
    return this.#enter(options);
  }

  /**
   * Enters, runs `fn` and leaves with the others, whatever happens.
   *
   * @throws what `enter` throws, what `fn` throws, and the loss if the place was lost meanwhile
   */
  using<R>(
    fn: (inside: DoubleBarrierHandle) => Promise<R> | R,
    options: EnterOptions = {},
  ): Promise<R> {
    return usingLock(() => this.#enter(options), fn);
  }

  /** Who waits and who is inside, now. One exchange. */
  async inspect(): Promise<DoubleBarrierState> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#keys.root });
    return this.#stateOf(kvs);
  }

  /**
   * Forgets the number of parties and the generations, so that another number may be used. One
   * exchange.
   *
   * @throws ConclaveError FAILED_PRECONDITION while anybody waits or is inside; SESSION_LOST
   */
  async forget(): Promise<void> {
    const { root, folders } = this.#keys;
    await resetWhenEmpty(this.#context.session, `double barrier '${this.name}'`, root, folders);
    knownOf(this.#context, this.name).terms = undefined;
  }

  async #enter(options: EnterOptions): Promise<InsideHold> {
    const { session } = this.#context;
    checkOptions(options, knownEnter);
    const { meta, leaveTimeout } = options;
    const toEnter = patienceOf(options);
    const toLeave = {
      timeoutMs:
        leaveTimeout === undefined ? undefined : parseDuration(leaveTimeout, 'leaveTimeout'),
    };
    const record = encodeLineRecord({
      sinceMs: session.client.clock.wallMs(),
      meta: shownMeta(session, meta),
    });
    const plan = {
      what: `The double barrier '${this.name}'`,
      keys: this.#keys,
      parties: this.parties,
      record,
      recheckMs: this.#recheckMs,
      known: knownOf(this.#context, this.name),
    };
    const subject = { recipe, name: this.name, lostCode: 'LOCK_LOST' } as const;
    let inside: InsideHold | undefined;
    await waitForGrant(this.#context, subject, toEnter, (handlers) => {
      const member = new DoubleMember(session, plan, toLeave, {
        ...handlers,
        granted: (grant, generation) => {
          const holding = new Holding(this.#context, subject, member, grant, undefined);
          inside = new InsideHold(this.name, holding, member, generation);
          handlers.granted(holding);
        },
      });
      return member;
    });
    return inside as InsideHold;
  }

  #stateOf(kvs: Iterable<KeyValue>): DoubleBarrierState {
    const all = inLineOrder(kvs);
    const keys = this.#keys;
    const terms = decodeTerms(all.find(({ key }) => key === keys.terms));
    const { parties, generation } = terms ?? { parties: this.parties, generation: 1 };
    const folder = (number: number) => keys.folder(number);
    const members = (number: number) => all.filter(({ key }) => key.startsWith(folder(number)));
    const inside = all.flatMap((kv): DoubleGeneration[] => {
      const ready = kv.key.startsWith(keys.marks) ? decodeReady(kv) : undefined;
      if (ready === undefined) return [];
      const number = Number(BigInt(`0x${kv.key.slice(keys.marks.length)}`));
      const counted = members(number).filter(
        (each) => each.createRevision <= ready.through && !saysAllLeft(each),
      );
      if (counted.length === 0) return [];
      return [{ generation: number, since: ready.since, members: counted.map(lineEntry) }];
    });
    const waiting = members(generation).map(lineEntry);
    const missing = Math.max(0, parties - waiting.length);
    return { parties, generation, waiting, missing, inside };
  }
}

class InsideHold extends HeldLock implements DoubleBarrierHandle {
  readonly generation: number;
  readonly #member: DoubleMember;
  #leaving: Promise<void> | undefined;

  constructor(name: string, holding: Holding, member: DoubleMember, generation: number) {
    super(name, holding);
    this.generation = generation;
    this.#member = member;
  }

  async leave(options: LeaveOptions = {}): Promise<void> {
    checkOptions(options, { signal: true, timeout: true });
    const { signal, timeoutMs = this.#member.patience.timeoutMs } = patienceOf(options);
    if (this.#leaving === undefined) this.#member.patience = { signal, timeoutMs };
    this.#leaving ??= this.release();
    return this.#leaving;
  }
}
