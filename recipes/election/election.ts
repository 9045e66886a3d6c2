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
import { encodeWith } from '../../sdk/codec.ts';
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { checkBoolean, checkFunction, checkOptions, type Known } from '../common/option-checks.ts';
import { viewPrefix } from '../common/prefix-view.ts';
import { fullJitterMs, pause } from '../common/repeat.ts';
import { SessionKeeper, sessionClosed } from '../common/session-keeper.ts';
import { linkedSignal } from '../common/signals.ts';
import { abortable, observeShared } from '../common/streams.ts';
import type { View } from '../common/view.ts';
import { stateView } from '../common/view.ts';
import { waitForHold } from '../line/holding.ts';
import { encodeLineRecord, type LineContent } from '../line/line-record.ts';
import { formerPlace, isTakeover, takeOver } from '../line/takeover.ts';
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
import { formerTerm } from './former-term.ts';
import { type LeadContext, type Leadership, type Office, Reign } from './leadership.ts';
import type { Standing } from './standing.ts';
import { waitForTenure } from './tenure.ts';

export type CampaignOptions<T> = {
  /** What followers learn about the leader: an address, say. */
  readonly value: T;
  /** Gives up the candidacy: rejects with ABORTED. */
  readonly signal?: AbortSignal;
  /** Gives up the candidacy: rejects with NOT_ACQUIRED. @default no limit */
  readonly timeout?: Duration;
};

export type ResumeTermOptions<T> = {
  /** What followers learn from now on. @default what they learned before */
  readonly value?: T;
};

export type LeadOptions<T> = {
  readonly value: T;
  /** The sequencer of a term that may still stand: goes on with it if it does. @default campaign */
  readonly resume?: string;
  /** Ends it: asks `fn` to stop, or gives up the candidacy. */
  readonly signal?: AbortSignal;
  /** Campaign again after a loss, in a new session if need be. @default true */
  readonly requeue?: boolean;
};

const knownCampaign: Known<CampaignOptions<unknown>> = { value: true, signal: true, timeout: true };
const knownLead: Known<LeadOptions<unknown>> = {
  value: true,
  resume: true,
  signal: true,
  requeue: true,
};

const knownResume: Known<ResumeTermOptions<unknown>> = { value: true };

type Wait = {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number | undefined;
};

export class Election<T> {
  readonly name: string;
  readonly #context: RecipeContext;
  readonly #settings: ElectionSettings<T>;
  /** The leader, or null while there is none; each change of leader or of its value. */
  readonly leader$: View<Leader<T> | null>;
  /** Who stands, as `candidates()` lists it; each change. */
  readonly candidates$: View<readonly Candidate<T>[]>;

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
    const timeoutMs = timeout === undefined ? undefined : parseDuration(timeout, 'timeout');
    return this.#campaign(this.#context, value, { signal, timeoutMs });
  }

  /**
   * Goes on leading in a term that still stands under this session: one that was opened with `resume`,
   * after the process that led was restarted or had lost the session by its own clock. No follower sees
   * another leader, or none. First come, first served, the term stays what it was; by priority it is a
   * new, higher one. Two exchanges.
   *
   * @param sequencer of the leadership that was
   * @throws ConclaveError LEADERSHIP_LOST when the term is over, INVALID_ARGUMENT when the sequencer is
   *   of another session or election, MISMATCH, FAILED_PRECONDITION in the layout 'etcd', SESSION_LOST,
   *   CODEC
   */
  async resume(sequencer: string, options: ResumeTermOptions<T> = {}): Promise<Leadership<T>> {
    checkOptions<ResumeTermOptions<T>>(options, knownResume);
    return this.#resume(this.#context, sequencer, options);
  }

  /**
   * Leads whenever it can: campaigns, runs `fn` while it leads, resigns when `fn` is done. After a
   * loss `fn`'s signal aborts, and once `fn` has ended the campaign starts again. By priority the same
   * goes for a request to make way: the one that asks leads as soon as `fn` has ended.
   *
   * @returns what `fn` returned while it led
   * @throws what `fn` threw while it led; ABORTED by the signal; CLOSED when the session is closed; the
   *   loss when `requeue` is false; INVALID_ARGUMENT
   */
  async lead<R>(
    fn: (leadership: LeadContext<T>) => Promise<R> | R,
    options: LeadOptions<T>,
  ): Promise<R> {
    checkFunction(fn, 'fn');
    checkOptions<LeadOptions<T>>(options, knownLead);
    checkBoolean(options.requeue, 'requeue');
    const { session, background } = this.#context;
    const keeper = new SessionKeeper(session, 'shared');
    const stop = linkedSignal(options.signal);
    const running = this.#lead(fn, options, keeper, stop.signal);
    const closed = sessionClosed();
    const entry = {
      close: async () => {
        stop.abort(closed);
        await running.catch(() => undefined);
      },
    };
    background.add(entry);
    try {
      return await running;
    } catch (error) {
      throw isConclaveError(error, 'ABORTED') && error.cause === closed ? closed : error;
    } finally {
      background.delete(entry);
      stop.unlink();
      await keeper.close();
    }
  }

  /** The same as `leader$`, as a loop. Leaving the loop ends it. @throws ConclaveError INVALID_ARGUMENT */
  observe(options: { readonly signal?: AbortSignal } = {}): AsyncIterable<Leader<T> | null> {
    checkOptions(options, { signal: true });
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
      // Bare values say nothing of who holds.
      ...(keys.layout === 'etcd' ? {} : { onOwnWrite: isTakeover }),
    };
    const holding = await waitForHold(context, this.#subject, membership, wait);
    const office = { holding, term: holding.createRevision, preemption$: stateView(EMPTY) };
    return keys.layout === 'etcd' ? office : { ...office, isTakenOver: isTakeover };
  }

  async #standByPriority(
    context: RecipeContext,
    value: string | Uint8Array,
    wait: Wait,
    former?: Standing['former'],
  ): Promise<Office> {
    const { keys, preferred, timing } = this.#settings;
    const attempt = randomId(context.session.client.random);
    const mismatch = () => formMismatch(this.name, 'priority');
    const standing = {
      keys,
      attempt,
      value,
      preferred,
      timing,
      mismatch,
      ...(former === undefined ? {} : { former }),
    };
    const holding = await waitForTenure(context, this.#subject, standing, wait);
    return {
      holding,
      term: holding.token,
      preemption$: holding.preemption$,
      passTo: (candidate) => holding.passTo(candidate),
    };
  }

  async #resume(
    context: RecipeContext,
    sequencer: string,
    options: ResumeTermOptions<T>,
  ): Promise<Reign<T>> {
    const { keys, codec, recheckMs, priority } = this.#settings;
    if (keys.layout === 'etcd') {
      const message = `A term of '${this.name}' cannot be resumed in the layout 'etcd'`;
      throw new ConclaveError('FAILED_PRECONDITION', message);
    }
    // Encoded at once: what cannot be written must not end anything.
    const given = 'value' in options ? { value: encodeWith(codec, options.value as T) } : {};
    const encoder = (content: LineContent) => (value: T) =>
      encodeLineRecord({ ...content, value: encodeWith(codec, value) });
    if (priority !== undefined) {
      const { former, content } = await formerTerm(context, this.#subject, keys, sequencer);
      const written = { ...content, ...given, terms: { priority } };
      const value = encodeLineRecord(written);
      const office = await this.#standByPriority(context, value, {}, former);
      return new Reign(this.name, office, encoder(written));
    }
    const former = formerPlace(context.session, sequencer, [keys.prefix]);
    const { holding, content, isTakenOver } = await takeOver(
      context,
      this.#subject,
      former,
      { prefix: keys.prefix },
      { recheckMs },
      ({ kv, content: before, ahead }) => {
        if (!isOfLine(keys, kv)) throw formMismatch(this.name, 'fifo');
        return ahead.length === 0 ? { ...before, ...given } : undefined;
      },
    );
    const term = holding.createRevision;
    const office = {
      holding,
      term,
      preemption$: stateView(EMPTY),
      written: holding.token,
      isTakenOver,
    };
    return new Reign(this.name, office, encoder(content));
  }

  get #subject() {
    return { recipe: 'election', name: this.name, lostCode: 'LEADERSHIP_LOST' } as const;
  }

  async #lead<R>(
    fn: (leadership: LeadContext<T>) => Promise<R> | R,
    { value, requeue = true, resume }: LeadOptions<T>,
    keeper: SessionKeeper,
    stop: AbortSignal,
  ): Promise<R> {
    const { clock, random } = keeper.client;
    let failed = 0;
    let former = resume;
    for (;;) {
      const session = await keeper.live(stop);
      const context = { ...this.#context, session };
      const resumed =
        former === undefined ? undefined : await this.#unlessOver(context, former, value);
      former = undefined;
      const standing = resumed ?? this.#campaign(context, value, { signal: stop });
      const reign = await Promise.resolve(standing).catch((error: unknown) => {
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

  /** Goes on with a term; undefined when that is over, or the session is, which a campaign tells. */
  async #unlessOver(
    context: RecipeContext,
    sequencer: string,
    value: T,
  ): Promise<Reign<T> | undefined> {
    try {
      return await this.#resume(context, sequencer, { value });
    } catch (error) {
      const isOver =
        isConclaveError(error, 'LEADERSHIP_LOST') || isConclaveError(error, 'SESSION_LOST');
      if (isOver) return undefined;
      throw error;
    }
  }

  async *#leaders(signal: AbortSignal): AsyncGenerator<Leader<T> | null> {
    const { keys, codec } = this.#settings;
    let last: string | undefined;
    for await (const { entries, rewound } of this.#view(signal)) {
      const { leader } = standingsOf(keys, entries.values());
      const { key, modRevision } = leader?.contender.kv ?? { key: '', modRevision: 0n };
      const version = leader ? `${leader.term} ${modRevision} ${key}` : 'none';
      if (version === last && !rewound) continue;
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
