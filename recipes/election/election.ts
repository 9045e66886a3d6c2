/**
 * Leader election, first come, first served.
 *
 * The leader is the candidate with the lowest create revision; that revision is its term. Whoever
 * leads next stood behind it, so terms strictly rise, and the leader, its followers and the systems
 * it writes to all see the same number. As with any lease, a frozen process may believe it leads
 * after another took over: fence by term, or write to the store through `guard`.
 */
import { type Codec, decodeWith, encodeWith, json } from '../../sdk/codec.ts';
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Observable } from '../../sdk/observe.ts';
import { type Duration, parseDuration } from '../../sdk/options.ts';
import type { Session } from '../../sdk/session.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import { viewPrefix } from '../common/prefix-view.ts';
import { SessionKeeper } from '../common/session-keeper.ts';
import { linkedSignal } from '../common/signals.ts';
import { abortable, observeShared } from '../common/streams.ts';
import { waitForHold } from '../line/holding.ts';
import {
  decodeLineRecord,
  encodeLineRecord,
  inLineOrder,
  type LineEntry,
  lineEntry,
  type Meta,
} from '../line/line-record.ts';
import { electionPrefix, randomId } from '../names.ts';
import { type LeadContext, type Leadership, Reign } from './leadership.ts';

export type ElectionOptions<T> = {
  /** How values are written. @default JSON */
  readonly codec?: Codec<T>;
  /** Shown beside this candidate, with the session's own meta. */
  readonly meta?: Meta;
  /** How often a candidate reads its place again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
};

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

export type Candidate<T> = LineEntry & { readonly value: T };

/** A leader as followers see it. */
export type Leader<T> = Candidate<T> & { readonly term: bigint };

export class Election<T> {
  readonly name: string;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #codec: Codec<T>;
  readonly #meta: Meta;
  readonly #recheckMs: number | undefined;
  /** The leader, or null while there is none; each change of leader or of its value. */
  readonly leader$: Observable<Leader<T> | null>;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: ElectionOptions<T> = {}) {
    this.name = name;
    this.#context = context;
    this.#prefix = electionPrefix(name);
    this.#codec = options.codec ?? json<T>();
    this.#meta = options.meta ?? {};
    if (options.recheck !== undefined) this.#recheckMs = parsePeriod(options.recheck, 'recheck');
    this.leader$ = observeShared((signal) => this.#leaders(signal));
  }

  /**
   * Becomes a candidate and waits to lead. One exchange when there is no other candidate.
   *
   * @throws ConclaveError NOT_ACQUIRED, ABORTED, SESSION_LOST, CODEC; LEADERSHIP_LOST when somebody
   *   removed this candidate's key
   */
  async campaign(options: CampaignOptions<T>): Promise<Leadership<T>> {
    const { signal, timeout } = options;
    const timeoutMs = timeout === undefined ? undefined : parseDuration(timeout, 'timeout');
    return this.#campaign(this.#context.session, options.value, signal, timeoutMs);
  }

  /**
   * Leads whenever it can: campaigns, runs `fn` while it leads, resigns when `fn` is done. After a
   * loss `fn`'s signal aborts, and once `fn` has ended the campaign starts again.
   *
   * @returns what `fn` returned while it led
   * @throws what `fn` threw while it led; ABORTED by the signal; the loss when `requeue` is false
   */
  async lead<R>(
    fn: (leadership: LeadContext<T>) => Promise<R> | R,
    options: LeadOptions<T>,
  ): Promise<R> {
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

  /** The same as `leader$`, as a loop. Leaving the loop ends it. */
  observe(options: { readonly signal?: AbortSignal } = {}): AsyncIterable<Leader<T> | null> {
    return abortable((signal) => this.#leaders(signal), options.signal);
  }

  /** Who leads and who stands behind, in order. One exchange. */
  async candidates(): Promise<readonly Candidate<T>[]> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return inLineOrder(kvs).map((kv) => this.#candidate(kv));
  }

  async #campaign(
    session: Session,
    value: T,
    signal: AbortSignal | undefined,
    timeoutMs?: number,
  ): Promise<Reign<T>> {
    const { clock, random } = session.client;
    const sinceMs = clock.wallMs();
    const encode = (latest: T) =>
      encodeLineRecord({
        sinceMs,
        meta: { ...session.meta, ...this.#meta },
        value: encodeWith(this.#codec, latest),
      });
    const membership = {
      prefix: this.#prefix,
      attempt: randomId(random),
      value: encode(value),
      ...(this.#recheckMs === undefined ? {} : { timing: { recheckMs: this.#recheckMs } }),
    };
    const subject = { recipe: 'election', name: this.name, lostCode: 'LEADERSHIP_LOST' } as const;
    const context = { ...this.#context, session };
    const holding = await waitForHold(context, subject, membership, { signal, timeoutMs });
    return new Reign(this.name, holding, encode);
  }

  async #lead<R>(
    fn: (leadership: LeadContext<T>) => Promise<R> | R,
    { value, requeue = true }: LeadOptions<T>,
    keeper: SessionKeeper,
    stop: AbortSignal,
  ): Promise<R> {
    for (;;) {
      const session = await keeper.live(stop);
      try {
        const reign = await this.#campaign(session, value, stop);
        const turn = await reign.run(fn, stop);
        if (turn.kind === 'done') return turn.value;
        throw turn.reason;
      } catch (error) {
        const lost =
          isConclaveError(error, 'SESSION_LOST') || isConclaveError(error, 'LEADERSHIP_LOST');
        if (!lost || !requeue || stop.aborted) throw error;
      }
    }
  }

  async *#leaders(signal: AbortSignal): AsyncGenerator<Leader<T> | null> {
    const { client } = this.#context.session;
    let last: bigint | null | undefined;
    for await (const { entries } of viewPrefix(client, this.#prefix, { signal })) {
      const first = inLineOrder(entries.values())[0];
      const version = first?.modRevision ?? null;
      if (version === last) continue;
      last = version;
      yield first ? { ...this.#candidate(first), term: first.createRevision } : null;
    }
  }

  #candidate(kv: KeyValue): Candidate<T> {
    const value = decodeLineRecord(kv.value).value ?? new Uint8Array();
    return { ...lineEntry(kv), value: decodeWith(this.#codec, value, kv.key) };
  }
}
