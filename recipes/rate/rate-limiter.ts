/**
 * A rate limit that all clients share, with bursts, first come, first served.
 *
 * Guarantee: in any window of length t all clients together take at most burst + t × rate / per
 * permits, by their own wall clocks. The state is one number in the store (see `gcra.ts`), moved by
 * compare-and-swap. Time is the caller's: with clocks that disagree by s, a window may hold
 * s × rate / per permits more, and a client whose clock is slow waits up to s longer. Run NTP.
 *
 * Who has to wait stands in a line, and only its first tries; so waiters do not contend, and nobody
 * takes permits past a waiter. A permit whose answer was lost may be charged twice, never given twice.
 */
import { ConclaveError, invalidArgument } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { Duration } from '../../sdk/options.ts';
import { checkMeta } from '../../sdk/session-meta.ts';
import { type Compare, compare, op } from '../../sdk/txn.ts';
import type { RecipeContext } from '../common/context.ts';
import { durationOfAtLeast } from '../common/durations.ts';
import { observePrefix } from '../common/observed-prefix.ts';
import { checkOptions, type Known } from '../common/option-checks.ts';
import { patienceOf, waitPatiently } from '../common/patience.ts';
import { pause, untilAnswered } from '../common/repeat.ts';
import { expectManyListeners, linkedSignal } from '../common/signals.ts';
import type { View } from '../common/view.ts';
import { type Holding, waitForHold } from '../line/holding.ts';
import { inLineOrder, type LineEntry, lineEntry, type Meta } from '../line/line-record.ts';
import { LockSettings } from '../locks/lock-options.ts';
import { type ContentionKind, noMetrics } from '../metrics.ts';
import { randomId, ratePrefix } from '../names.ts';
import { judge, type Rate } from './gcra.ts';
import { decodeRate, encodeRate, type RateState } from './rate-record.ts';

export type RateOptions = {
  /** Permits per period; more than 0. */
  readonly rate: number;
  /** @default '1s' */
  readonly per?: Duration;
  /** Permits that can be taken at once after a rest, 1 or more. @default the rate, at least 1 */
  readonly burst?: number;
  /** How often a waiter reads its place again, whatever watches say. @default '15s' */
  readonly recheck?: Duration;
};

export type TakeOptions = {
  /** Gives up waiting: rejects with ABORTED; nothing is taken. */
  readonly signal?: AbortSignal;
  /** Gives up waiting: rejects with NOT_ACQUIRED; nothing is taken. @default no limit */
  readonly timeout?: Duration;
  /** Shown to others while it waits, with the session's own meta. */
  readonly meta?: Meta;
};

export type RateLineUp = {
  /** Permits that could be taken now by this client's clock; null before the first use. */
  readonly available: number | null;
  readonly waiters: readonly LineEntry[];
};

const knownOptions: Known<RateOptions> = { rate: true, per: true, burst: true, recheck: true };
const knownTake: Known<TakeOptions> = { signal: true, timeout: true, meta: true };

type Answer = 'taken' | 'line occupied' | 'place lost' | { readonly atMs: number };

export class RateLimiter {
  readonly name: string;
  /** Room and waiters, kept current while anybody listens. */
  readonly watch$: View<RateLineUp>;
  readonly #context: RecipeContext;
  readonly #prefix: string;
  readonly #linePrefix: string;
  readonly #key: string;
  readonly #rate: Rate;
  readonly #settings: LockSettings;
  /** The state when last seen: a guess that the store checks. */
  #known: { readonly modRevision: bigint; readonly state: RateState } | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, name: string, options: RateOptions) {
    checkOptions(options, knownOptions);
    this.name = name;
    this.#context = context;
    this.#prefix = ratePrefix(name);
    this.#linePrefix = `${this.#prefix}line/`;
    this.#key = `${this.#prefix}state`;
    this.#rate = parseRate(options);
    const { recheck } = options;
    this.#settings = new LockSettings(context.session, recheck === undefined ? {} : { recheck });
    const { client, signal } = context.session;
    expectManyListeners(signal);
    const prefix = this.#prefix;
    const read = (kvs: Iterable<KeyValue>) => this.#lineUp(kvs);
    this.watch$ = observePrefix(client, prefix, read);
  }

  /**
   * Takes permits if there are enough and nobody waits. One exchange; one more for each time that
   * somebody else came first.
   *
   * @throws ConclaveError MISMATCH when others use another rate, INVALID_ARGUMENT, SESSION_LOST
   */
  async tryTake(permits = 1): Promise<boolean> {
    this.#check(permits);
    if ((await this.#attempt(permits, this.#nobodyWaits())) === 'taken') return true;
    this.#contended('refused');
    return false;
  }

  /**
   * Takes permits, waiting for as long as it takes. One exchange when there are enough; a waiter
   * needs at most seven, however long it waits.
   *
   * @throws ConclaveError MISMATCH, INVALID_ARGUMENT, NOT_ACQUIRED, ABORTED, SESSION_LOST; LOCK_LOST
   *   when somebody removed this waiter's key
   */
  async take(permits = 1, options: TakeOptions = {}): Promise<void> {
    checkOptions(options, knownTake);
    const { meta } = options;
    const patience = patienceOf(options);
    if (meta !== undefined) checkMeta(meta);
    this.#check(permits);
    const late = (timeoutMs: number) => {
      const message = `Rate limit '${this.name}' had no room within ${timeoutMs} ms`;
      return new ConclaveError('NOT_ACQUIRED', message);
    };
    const subject = { recipe: 'rate-limit', name: this.name } as const;
    return waitPatiently(this.#context, subject, patience, late, async (enough) => {
      try {
        const first = await this.#attempt(permits, this.#nobodyWaits());
        if (first === 'taken') return;
        this.#contended('wait');
        await this.#takeInTurn(permits, meta, enough);
      } catch (error) {
        throw enough?.aborted ? enough.reason : error;
      }
    });
  }

  /** Room and waiters now. One exchange. */
  async inspect(): Promise<RateLineUp> {
    const { kvs } = await this.#context.session.client.kv.list({ prefix: this.#prefix });
    return this.#lineUp(kvs);
  }

  /**
   * Makes this limiter's rate the one in force. What was taken stays taken; clients that use another
   * rate get MISMATCH from then on.
   *
   * @throws ConclaveError SESSION_LOST, or what the store answers
   */
  configure(): Promise<void> {
    return this.#whileLive(this.#putInForce());
  }

  async #putInForce(): Promise<void> {
    const { client, signal } = this.#context.session;
    let found = await untilAnswered(client, () => client.kv.get(this.#key, { signal }), signal);
    for (;;) {
      const state = found && decodeRate(found);
      if (state && sameRate(state, this.#rate)) return;
      const next = { ...this.#rate, tatMs: state?.tatMs ?? 0, by: '' };
      const txn = client.kv
        .txn()
        .if(compare.modRevision(this.#key, '==', found?.modRevision ?? 0n))
        .then(op.put(this.#key, encodeRate(next)))
        .else(op.get(this.#key));
      const result = await untilAnswered(client, () => txn.commit({ signal }), signal);
      if (result.succeeded) return;
      found = result.responses[0];
    }
  }

  async #takeInTurn(
    permits: number,
    meta: Meta | undefined,
    stop: AbortSignal | undefined,
  ): Promise<void> {
    const context = { ...this.#context, metrics: noMetrics };
    const subject = { recipe: 'rate-limit', name: this.name, lostCode: 'LOCK_LOST' } as const;
    const membership = { prefix: this.#linePrefix, ...this.#settings.membership(meta) };
    await using place = await waitForHold(context, subject, membership, { signal: stop });
    const { clock } = place.session.client;
    const end = linkedSignal(stop, place.signal);
    try {
      for (;;) {
        place.signal.throwIfAborted();
        if (stop?.aborted) throw stop.reason;
        const answer = await this.#attempt(permits, this.#firstInLine(place));
        if (answer === 'taken') return;
        if (typeof answer !== 'object') {
          place.verify();
          throw new ConclaveError(
            'LOCK_LOST',
            `The place in the line of '${this.name}' was removed`,
          );
        }
        const delayMs = Math.max(1, Math.ceil(answer.atMs - clock.wallMs()));
        await pause(clock, delayMs, end.signal).catch(() => undefined);
      }
    } finally {
      end.unlink();
    }
  }

  readonly #nobodyWaits = (): Compare =>
    compare.range.createRevision({ prefix: this.#linePrefix }, '==', 0n);

  readonly #firstInLine = (place: Holding): Compare =>
    compare.createRevision(place.key, '==', place.createRevision);

  /** One attempt by the clock as it is now, under a condition on the line. */
  #attempt(permits: number, condition: Compare): Promise<Answer> {
    return this.#whileLive(this.#judgeAndTake(permits, condition));
  }

  /** @throws why the session ended, not that a signal aborted which the caller never gave */
  async #whileLive<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#context.session;
    try {
      return await work;
    } catch (error) {
      throw signal.aborted ? signal.reason : error;
    }
  }

  async #judgeAndTake(permits: number, condition: Compare): Promise<Answer> {
    const { client, signal } = this.#context.session;
    const { clock } = client;
    const by = randomId(client.random);
    let fresh = false;
    for (;;) {
      this.#context.session.assertLive();
      const known = this.#known;
      const verdict = judge(this.#rate, known?.state.tatMs ?? 0, clock.wallMs(), permits);
      if (!verdict.allowed) {
        if (fresh) return { atMs: verdict.atMs };
        const read = () => client.kv.get(this.#key, { signal });
        this.#learn(await untilAnswered(client, read, signal));
        fresh = true;
        continue;
      }
      const state: RateState = { ...this.#rate, tatMs: verdict.tatMs, by };
      const txn = client.kv
        .txn()
        .if(compare.modRevision(this.#key, '==', known?.modRevision ?? 0n), condition)
        .then(op.put(this.#key, encodeRate(state)))
        .else(op.get(this.#key));
      const result = await untilAnswered(client, () => txn.commit({ signal }), signal);
      if (result.succeeded) {
        this.#known = { modRevision: result.revision, state };
        return 'taken';
      }
      const found: KeyValue | null = result.responses[0] ?? null;
      this.#learn(found);
      // An attempt whose answer was lost did take effect.
      if (found && decodeRate(found)?.by === by) return 'taken';
      if ((found?.modRevision ?? 0n) === (known?.modRevision ?? 0n)) {
        return condition.operand === 0n ? 'line occupied' : 'place lost';
      }
      this.#contended('conflict');
      fresh = true;
    }
  }

  #contended(kind: ContentionKind): void {
    this.#context.metrics.contended({ recipe: 'rate-limit', name: this.name, kind });
  }

  #learn(found: KeyValue | null): void {
    const state = found === null ? undefined : decodeRate(found);
    if (found !== null && (state === undefined || !sameRate(state, this.#rate))) {
      this.#known = undefined;
      const theirs = state
        ? `${state.rate} per ${state.perMs} ms with bursts of ${state.burst}`
        : 'something else';
      throw new ConclaveError('MISMATCH', `Rate limit '${this.name}' is set to ${theirs}`, {
        remedy: 'Use one rate everywhere, or put this one in force with configure().',
      });
    }
    this.#known = found && state ? { modRevision: found.modRevision, state } : undefined;
  }

  #check(permits: number): void {
    const { burst } = this.#rate;
    if (!Number.isSafeInteger(permits) || permits < 1 || permits > burst) {
      throw invalidArgument('permits', permits, `a whole number from 1 to the burst, ${burst}`);
    }
  }

  #lineUp(kvs: Iterable<KeyValue>): RateLineUp {
    const all = [...kvs];
    const stored = all.find(({ key }) => key === this.#key);
    const state = stored && decodeRate(stored);
    const line = all.filter(({ key }) => key.startsWith(this.#linePrefix));
    return {
      available: state ? this.#available(state) : null,
      waiters: inLineOrder(line).map(lineEntry),
    };
  }

  #available({ rate, perMs, burst, tatMs }: RateState): number {
    const usedMs = Math.max(0, tatMs - this.#context.session.client.clock.wallMs());
    return Math.max(0, Math.floor(burst - (usedMs * rate) / perMs));
  }
}

const sameRate = (a: Rate, b: Rate): boolean =>
  a.rate === b.rate && a.perMs === b.perMs && a.burst === b.burst;

function parseRate({ rate, per = '1s', burst }: RateOptions): Rate {
  if (!Number.isFinite(rate) || rate <= 0) throw invalidArgument('rate', rate, 'more than 0');
  const perMs = durationOfAtLeast(per, 'per', '1ms');
  const most = burst ?? Math.max(1, Math.floor(rate));
  if (!Number.isSafeInteger(most) || most < 1) {
    throw invalidArgument('burst', burst, 'a whole number, 1 or more');
  }
  return { rate, perMs, burst: most };
}
