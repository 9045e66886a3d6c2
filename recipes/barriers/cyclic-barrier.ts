/**
 * A cyclic barrier: parties wait for each other, again and again. See `cyclic.ts` for how.
 */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Duration } from '../../sdk/options.ts';
import { compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkFunction, checkOptions, type Known } from '../common/option-checks.ts';
import { patienceOf, waitPatiently } from '../common/patience.ts';
import { closingPatienceMs, untilAnswered } from '../common/repeat.ts';
import { onAbort } from '../common/signals.ts';
import type { View } from '../common/view.ts';
import { sessionLost } from '../line/holding.ts';
import {
  encodeLineRecord,
  inLineOrder,
  type LineEntry,
  lineEntry,
  type Meta,
  shownMeta,
} from '../line/line-record.ts';
import { cyclicBarrierPrefix } from '../names.ts';
import { type Break, BrokenBarrierError } from './broken.ts';
import type { CyclicEnd, CyclicRecord } from './cyclic.ts';
import type { CyclicPlan } from './cyclic-calls.ts';
import { type BarrierAction, CyclicParty } from './cyclic-party.ts';
import {
  type CyclicKeys,
  cyclicKeys,
  decodeRecord,
  encodeRecord,
  firstRecord,
  resetOf,
  unreadable,
} from './cyclic-record.ts';
import { defaultRecheckMs, knownWaitOptions, type WaitBarrierOptions } from './key-wait.ts';
import { largestMuster } from './muster.ts';
import { resetWhenEmpty } from './reset.ts';

export type CyclicBarrierOptions = {
  /** How many parties wait for each other: 1 to 4032. The same for all clients. */
  readonly parties: number;
  /**
   * Run by the last party to arrive, before any goes on. When it throws, the generation is broken.
   * Give it to all parties: any may be the last.
   */
  readonly action?: BarrierAction;
  /** How often a party looks at the barrier again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
};

export type CyclicWaitOptions = WaitBarrierOptions & {
  /** Shown to others beside the session's own meta. */
  readonly meta?: Meta;
};

export type Passed = {
  /** Rises by one from each complete or reset generation to the next. */
  readonly generation: number;
  /** The how-manieth this party was to arrive: from 1 to `parties`, the one that ran the action. */
  readonly position: number;
};

export type CyclicBarrierState = {
  readonly parties: number;
  /** The one that parties wait in, or the one that is broken. */
  readonly generation: number;
  /** Null while it is not. */
  readonly broken: Break | null;
  /** In the order of their arrival. */
  readonly waiting: readonly LineEntry[];
  /** How many more it takes. */
  readonly missing: number;
};

const recipe = 'cyclic-barrier';

const knownOptions: Known<CyclicBarrierOptions> = { parties: true, action: true, recheck: true };
const knownWait: Known<CyclicWaitOptions> = { ...knownWaitOptions, meta: true };

type Remembered = { record: CyclicRecord | undefined };

/** By session and name: barriers are made anew for each use, and what they knew should last. */
const knownRecords = new WeakMap<RecipeContext, Map<string, Remembered>>();

function knownOf(context: RecipeContext, name: string): Remembered {
  const names = knownRecords.get(context) ?? new Map<string, Remembered>();
  knownRecords.set(context, names);
  const known = names.get(name) ?? { record: undefined };
  names.set(name, known);
  return known;
}

export class CyclicBarrier {
  readonly name: string;
  readonly parties: number;
  /** Who waits, and what broke it; kept current while anybody listens. */
  readonly state$: View<CyclicBarrierState>;
  readonly #context: RecipeContext;
  readonly #keys: CyclicKeys;
  readonly #action: BarrierAction | undefined;
  readonly #recheckMs: number;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: CyclicBarrierOptions) {
    checkOptions(options, knownOptions);
    const { parties, action, recheck } = options;
    if (!Number.isSafeInteger(parties) || parties < 1 || parties > largestMuster) {
      throw invalidArgument('parties', parties, `a whole number from 1 to ${largestMuster}`);
    }
    if (action !== undefined) checkFunction(action, 'action');
    this.name = name;
    this.parties = parties;
    this.#context = context;
    this.#action = action;
    this.#keys = cyclicKeys(cyclicBarrierPrefix(name));
    this.#recheckMs = recheck === undefined ? defaultRecheckMs : parsePeriod(recheck, 'recheck');
    const { client } = context.session;
    const { root: prefix } = this.#keys;
    const show = (kvs: Iterable<KeyValue>) => this.#stateOf(kvs);
    this.state$ = observePrefix(client, prefix, show);
  }

  /**
   * Waits until as many parties wait as it takes. Two exchanges; one more when this session has not
   * heard of the generation that is open. Giving up, by timeout or signal, breaks the barrier for
   * all that wait, unless it is complete by then: it resolves in that case.
   *
   * @throws BrokenBarrierError; ConclaveError NOT_ACQUIRED, ABORTED, SESSION_LOST, MISMATCH when
   *   others take another number of parties; what the own action throws
   */
  async wait(options: CyclicWaitOptions = {}): Promise<Passed> {
    checkOptions(options, knownWait);
    const patience = patienceOf(options);
    const plan = this.#plan(options.meta);
    const subject = { recipe, name: this.name } as const;
    const late = (timeoutMs: number) => this.#late(timeoutMs);
    return waitPatiently(this.#context, subject, patience, late, async (enough) => {
      const { session, metrics } = this.#context;
      if (session.state === 'lost') throw sessionLost(session);
      let stopListening = () => {};
      const ended = new Promise<CyclicEnd>((end) => {
        const waits = () => metrics.contended({ ...subject, kind: 'wait' });
        const party = new CyclicParty(session, plan, this.#action, { waits, ended: end });
        party.start();
        stopListening = onAbort(enough, () => party.giveUp(enough?.reason));
      });
      return this.#outcome(await this.#explained(await ended.finally(stopListening)));
    });
  }

  /** Who waits, and whether it is broken, now. One exchange. */
  async inspect(): Promise<CyclicBarrierState> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#keys.root });
    return this.#stateOf(kvs);
  }

  /**
   * Begins a new generation. Those that wait are told that theirs is broken. Once is enough for all
   * parties. Two exchanges.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers
   */
  async reset(): Promise<void> {
    const { session } = this.#context;
    session.assertLive();
    const { client, signal } = session;
    const { record: key } = this.#keys;
    const read = () => client.kv.get(key, { signal });
    const decode = (kv: KeyValue | null): CyclicRecord | undefined => {
      const record = decodeRecord(kv);
      if (record === undefined && kv !== null) throw unreadable(this.#keys);
      return record;
    };
    const before = decode(await untilAnswered(client, read, signal));
    for (let record = before; record && record.generation === before?.generation; ) {
      const { generation } = record;
      const next = resetOf(record);
      const txn = client.kv
        .txn()
        .if(compare.value(key, '==', encodeRecord(record)))
        .then(
          op.put(key, encodeRecord(next)),
          op.delete({ prefix: this.#keys.folder(generation) }),
          op.delete(this.#keys.arrivals(generation)),
        )
        .else(op.get(key));
      const result = await untilAnswered(client, () => txn.commit(), signal);
      record = result.succeeded ? next : decode(result.responses[0]);
      knownOf(this.#context, this.name).record = record;
    }
  }

  /**
   * Forgets the barrier and its number of parties, so that another number may be used. Two exchanges.
   *
   * @throws ConclaveError FAILED_PRECONDITION while anybody waits; SESSION_LOST
   */
  async forget(): Promise<void> {
    const { session } = this.#context;
    session.assertLive();
    const { client, signal } = session;
    const { root, record: key, folders, folder } = this.#keys;
    const stored = await untilAnswered(client, () => client.kv.get(key, { signal }), signal);
    const record = decodeRecord(stored);
    // What is left of generations that have ended is nobody who waits.
    const prefix = record === undefined ? folders : folder(record.generation);
    const isSame = compare.modRevision(key, '==', stored?.modRevision ?? 0n);
    await resetWhenEmpty(session, `cyclic barrier '${this.name}'`, root, prefix, [isSame]);
    knownOf(this.#context, this.name).record = undefined;
  }

  get #what(): string {
    return `The cyclic barrier '${this.name}'`;
  }

  #plan(meta: Meta | undefined): CyclicPlan {
    const { session } = this.#context;
    const sinceMs = session.client.clock.wallMs();
    return {
      what: this.#what,
      keys: this.#keys,
      parties: this.parties,
      value: encodeLineRecord({ sinceMs, meta: shownMeta(session, meta) }),
      recheckMs: this.#recheckMs,
      known: knownOf(this.#context, this.name),
    };
  }

  #late(timeoutMs: number): ConclaveError {
    const message = `${this.#what} was not complete within ${timeoutMs} ms`;
    return new ConclaveError('NOT_ACQUIRED', message);
  }

  /**
   * A party that broke the barrier by the end of its own lease hears that it is gone itself. The store
   * knows of that before the session does.
   */
  async #explained(end: CyclicEnd): Promise<CyclicEnd> {
    const { session } = this.#context;
    if (end.kind !== 'broken' || end.reason !== 'gone') return end;
    const terms = { signal: session.signal, timeout: closingPatienceMs };
    const lease = await session.client.leases
      .timeToLive(session.lease, terms)
      .catch(() => undefined);
    if (session.state === 'lost') return { kind: 'session-lost' };
    // Unanswered: the others' word stands.
    if (lease === undefined || (lease !== null && lease.ttlMs > 0)) return end;
    const message = `The lease of session ${session.id} has ended`;
    return { kind: 'failed', error: new ConclaveError('SESSION_LOST', message) };
  }

  #outcome(end: CyclicEnd): Passed {
    switch (end.kind) {
      case 'passed':
        return { generation: end.generation, position: end.position };
      case 'broken':
        throw new BrokenBarrierError(this.#what, end.generation, end.reason, end.broken);
      case 'gave-up':
      case 'failed':
        throw end.error;
      case 'session-lost':
        throw sessionLost(this.#context.session);
    }
  }

  #stateOf(kvs: Iterable<KeyValue>): CyclicBarrierState {
    const all = inLineOrder(kvs);
    const stored = decodeRecord(all.find(({ key }) => key === this.#keys.record));
    const { parties, generation, broken } = stored ?? firstRecord(this.parties);
    const folder = this.#keys.folder(generation);
    const waiting = all.filter(({ key }) => key.startsWith(folder)).map(lineEntry);
    const missing = Math.max(0, parties - waiting.length);
    return { parties, generation, broken: broken ?? null, waiting, missing };
  }
}
