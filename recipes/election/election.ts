/**
 * Leader election, in one of two forms.
 *
 * First come, first served: the leader is the candidate with the lowest create revision; that revision
 * is its term. By priority: the leader is the one that the leader key names, and its term is the
 * revision at which that was written; see `priority.ts`.
 *
 * In both, terms strictly rise, and the leader, its followers and the systems it writes to all see the
 * same number. As with any lease, a frozen process may believe it leads after another took over: fence
 * by term, or write to the store through `guard`.
 */
import { EMPTY } from 'rxjs';
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Observable } from '../../sdk/observe.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkFunction, checkOptions } from '../common/option-checks.ts';
import { viewPrefix } from '../common/prefix-view.ts';
import { fullJitterMs, pause } from '../common/repeat.ts';
import { SessionKeeper } from '../common/session-keeper.ts';
import { linkedSignal } from '../common/signals.ts';
import { abortable, observeShared } from '../common/streams.ts';
import { checkBoolean, checkSignal, type Known } from '../line/argument-checks.ts';
import { waitForHold } from '../line/holding.ts';
import { randomId } from '../names.ts';
import {
  type Candidate,
  candidateOf,
  formMismatch,
  isOfLine,
  type Leader,
  standingsOf,
} from './candidates.ts';
import { type ElectionOptions, ElectionSettings } from './election-options.ts';
import { type LeadContext, type Leadership, type Office, Reign } from './leadership.ts';
import { waitForTenure } from './tenure.ts';

export type CampaignOptions<T> = {
  /** What followers learn about the leader: an address, say. */
  readonly value: T;
  /** Gives up the candidacy: rejects with ABORTED. */
  readonly signal?: AbortSignal;
  /** Gives up the candidacy: rejects with NOT_ACQUIRED. @default no limit */
  readonly timeout?: Duration;
};

export type LeadOptions<T> = {
  readonly value: T;
  /** Ends it: asks `fn` to stop, or gives up the candidacy. */
  readonly signal?: AbortSignal;
  /** Campaign again after a loss, in a new session if need be. @default true */
  readonly requeue?: boolean;
};

const knownCampaign: Known<CampaignOptions<unknown>> = { value: true, signal: true, timeout: true };
const knownLead: Known<LeadOptions<unknown>> = { value: true, signal: true, requeue: true };

type Wait = {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
};

export class Election<T> {
  readonly name: string;
  readonly #context: RecipeContext;
  readonly #settings: ElectionSettings<T>;
  /** The leader, or null while there is none; each change of leader or of its value. */
  readonly leader$: Observable<Leader<T> | null>;
  /** Who stands, as `candidates()` lists it; each change. */
  readonly candidates$: Observable<readonly Candidate<T>[]>;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: ElectionOptions<T> = {}) {
    this.name = name;
    this.#context = context;
    this.#settings = new ElectionSettings(name, options);
    this.leader$ = observeShared((signal) => this.#leaders(signal));
    this.candidates$ = observeShared((signal) => this.#candidates(signal));
  }

  /**
   * Becomes a candidate and waits to lead. One exchange when there is no other candidate.
   *
   * @throws ConclaveError INVALID_ARGUMENT, NOT_ACQUIRED, ABORTED, SESSION_LOST, CODEC; LEADERSHIP_LOST when somebody
   *   removed this candidate's key; MISMATCH when others stand in the other form
   */
  async campaign(options: CampaignOptions<T>): Promise<Leadership<T>> {
    checkOptions<CampaignOptions<T>>(options, knownCampaign);
    const { signal, timeout, value } = options;
    checkSignal(signal);
    const timeoutMs = timeout === undefined ? undefined : parseDuration(timeout, 'timeout');
    return this.#campaign(this.#context, value, { signal, timeoutMs });
  }

  /**
   * Leads whenever it can: campaigns, runs `fn` while it leads, resigns when `fn` is done. After a
   * loss `fn`'s signal aborts, and once `fn` has ended the campaign starts again. By priority the same
   * goes for a request to make way: the one that asks leads as soon as `fn` has ended.
   *
   * @returns what `fn` returned while it led
   * @throws what `fn` threw while it led; ABORTED by the signal; the loss when `requeue` is false;
   *   INVALID_ARGUMENT
   */
  async lead<R>(
    fn: (leadership: LeadContext<T>) => Promise<R> | R,
    options: LeadOptions<T>,
  ): Promise<R> {
    checkFunction(fn, 'fn');
    checkOptions<LeadOptions<T>>(options, knownLead);
    checkSignal(options.signal);
    checkBoolean(options.requeue, 'requeue');
    const { session, background } = this.#context;
    const keeper = new SessionKeeper(session, 'shared');
    const stop = linkedSignal(options.signal);
    const running = this.#lead(fn, options, keeper, stop.signal);
    const entry = {
      close: async () => {
        stop.abort(new ConclaveError('CLOSED', 'The session was closed'));
        await running.catch(() => undefined);
      },
    };
    background.add(entry);
    try {
      return await running;
    } finally {
      background.delete(entry);
      stop.unlink();
      await keeper.close();
    }
  }

  /** The same as `leader$`, as a loop. Leaving the loop ends it. @throws ConclaveError INVALID_ARGUMENT */
  observe(options: { readonly signal?: AbortSignal } = {}): AsyncIterable<Leader<T> | null> {
    checkOptions(options, { signal: true });
    checkSignal(options.signal);
    return abortable((signal) => this.#leaders(signal), options.signal);
  }

  /** Who leads and who stands behind, in the order in which they would lead. One exchange. */
  async candidates(): Promise<readonly Candidate<T>[]> {
    const { keys } = this.#settings;
    const { kvs } = await this.#context.session.client.kv.list({ prefix: keys.prefix });
    return this.#shown(kvs);
  }

  async #campaign(context: RecipeContext, value: T, wait: Wait): Promise<Reign<T>> {
    const encode = this.#settings.encoder(context.session);
    const stand =
      this.#settings.priority === undefined
        ? this.#standInLine(context, encode(value), wait)
        : this.#standByPriority(context, encode(value), wait);
    return new Reign(this.name, await stand, encode);
  }

  async #standInLine(
    context: RecipeContext,
    value: string | Uint8Array,
    wait: Wait,
  ): Promise<Office> {
    const { keys, recheckMs } = this.#settings;
    const membership = {
      prefix: keys.prefix,
      attempt: randomId(context.session.client.random),
      value,
      check: ({ ahead }: { readonly ahead: readonly Pick<KeyValue, 'key' | 'value'>[] }) =>
        ahead.every((place) => isOfLine(keys, place)) ? undefined : formMismatch(this.name, 'fifo'),
      ...(recheckMs === undefined ? {} : { timing: { recheckMs } }),
    };
    const holding = await waitForHold(context, this.#subject, membership, wait);
    return { holding, term: holding.createRevision, preemption$: EMPTY };
  }

  async #standByPriority(
    context: RecipeContext,
    value: string | Uint8Array,
    wait: Wait,
  ): Promise<Office> {
    const { keys, preferred, timing } = this.#settings;
    const attempt = randomId(context.session.client.random);
    const mismatch = () => formMismatch(this.name, 'priority');
    const standing = { keys, attempt, value, preferred, timing, mismatch };
    const holding = await waitForTenure(context, this.#subject, standing, wait);
    return {
      holding,
      term: holding.token,
      preemption$: holding.preemption$,
      passTo: (candidate) => holding.passTo(candidate),
    };
  }

  get #subject() {
    return { recipe: 'election', name: this.name, lostCode: 'LEADERSHIP_LOST' } as const;
  }

  async #lead<R>(
    fn: (leadership: LeadContext<T>) => Promise<R> | R,
    { value, requeue = true }: LeadOptions<T>,
    keeper: SessionKeeper,
    stop: AbortSignal,
  ): Promise<R> {
    const { clock, random } = keeper.client;
    let failed = 0;
    for (;;) {
      const session = await keeper.live(stop);
      const reign = await this.#campaign({ ...this.#context, session }, value, {
        signal: stop,
      }).catch((error: unknown) => {
        const lost =
          isConclaveError(error, 'SESSION_LOST') || isConclaveError(error, 'LEADERSHIP_LOST');
        if (!lost || !requeue || stop.aborted) throw error;
        return undefined;
      });
      if (reign === undefined) {
        await pause(clock, fullJitterMs(failed, random), stop);
        failed += 1;
        continue;
      }
      failed = 0;
      // What the function throws of losses elsewhere is its own affair: only its term's ends in a rerun.
      const turn = await reign.run(fn, stop);
      if (turn.kind === 'done') return turn.value;
      if (!requeue || stop.aborted) throw turn.reason;
    }
  }

  async *#leaders(signal: AbortSignal): AsyncGenerator<Leader<T> | null> {
    const { keys, codec } = this.#settings;
    let last: string | undefined;
    for await (const { entries } of this.#view(signal)) {
      const { leader } = standingsOf(keys, entries.values());
      const version = leader ? `${leader.term} ${leader.contender.kv.modRevision}` : 'none';
      if (version === last) continue;
      last = version;
      yield leader && { ...candidateOf(keys, leader.contender, codec), term: leader.term };
    }
  }

  async *#candidates(signal: AbortSignal): AsyncGenerator<readonly Candidate<T>[]> {
    for await (const { entries } of this.#view(signal)) yield this.#shown(entries.values());
  }

  #view(signal: AbortSignal) {
    return viewPrefix(this.#context.session.client, this.#settings.keys.prefix, { signal });
  }

  #shown(kvs: Iterable<KeyValue>): readonly Candidate<T>[] {
    const { keys, codec } = this.#settings;
    const { contenders } = standingsOf(keys, kvs);
    return contenders.map((contender) => candidateOf(keys, contender, codec));
  }
}
