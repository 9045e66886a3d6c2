/**
 * Keeps a copy of a prefix current and tells what happens to it, revision by revision. Nothing is ever
 * left out silently: what the watch could not bring is told as a reset; `prefix-comparison.ts` finds
 * that out. Whatever the recipes show of a prefix, they show of a copy that is kept by this.
 */

import type { Client } from '../../sdk/client.ts';
import { ConclaveError, isConclaveError, throwIfAborted } from '../../sdk/errors.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import { PrefixComparison } from './prefix-comparison.ts';
import { type CopyChange, PrefixCopy } from './prefix-copy.ts';
import { fullJitterMs, mayRepeat, pause, untilAnswered } from './repeat.ts';
import { linkedSignal, noLongerWanted } from './signals.ts';

/**
 * Why the copy was taken anew:
 *
 * - `start`: it is the first.
 * - `compacted`: the revisions in between are compacted.
 * - `rewound`: the store went back to an older revision, and on from there.
 * - `missed`: a comparison showed what the watch did not bring.
 * - `asked`: somebody could not wait for the watch.
 */
export type ResetReason = 'start' | 'compacted' | 'rewound' | 'missed' | 'asked';

export type FollowNotice =
  /** The copy has been taken anew. */
  | { readonly type: 'reset'; readonly revision: bigint; readonly reason: ResetReason }
  /** All that one revision did, applied. */
  | {
      readonly type: 'changed';
      readonly revision: bigint;
      readonly changes: readonly CopyChange[];
    }
  /** The store does not answer, or refuses; the copy stays as it is. */
  | { readonly type: 'stale'; readonly error?: ConclaveError }
  /** It answers again. */
  | { readonly type: 'fresh' }
  /** The copy would be larger than allowed, or the store refused and that is to be the end. The end. */
  | { readonly type: 'refused'; readonly error: ConclaveError };

export type FollowOptions = {
  readonly prefix: string;
  /**
   * How often the keys are compared, and how soon a store that refused is asked again, in milliseconds.
   * @default compared when the connection or the watch breaks
   */
  readonly recheckMs?: number;
  readonly maxEntries?: number;
  /** Of keys and values. */
  readonly maxBytes?: number;
  /** What has been listed already: kept current without a listing, or a notice, of its own. */
  readonly start?: { readonly revision: bigint; readonly kvs: Iterable<KeyValue> };
  /** Whether only a call that failed makes the copy stale, not already one that takes long. @default false */
  readonly isPatient?: boolean;
  /** Whether a refusal that no repetition can change ends it. @default false: asks again */
  readonly endsRefused?: boolean;
};

/**
 * Called outside the stream of events; the copy is as the notice says by then, and stays so until the
 * promise, if there is one, resolves. It must do so when the follower is closed.
 */
export type Tell = (notice: FollowNotice) => Promise<void> | void;

/** A question that is not answered for so long makes the copy stale. */
const patienceMs = 2_000;
/** A watch that did not break before may have been heard by the store. */
const watchStandsAfterMs = 1_000;
/** A watch that broke before, and brought nothing, has not worked. */
const watchWorksAfterMs = 10_000;
/** Between watches that do not work, and between questions that the store refuses. */
const longestDelayMs = 5_000;

export class PrefixFollower {
  readonly copy = new PrefixCopy();
  readonly #client: Client;
  readonly #options: FollowOptions;
  readonly #tell: Tell;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  /** Why to list anew; undefined while the copy stands. */
  #listFor: ResetReason | undefined = 'start';
  #isListing = false;
  /** Somebody looks at the copy, which must not change meanwhile. */
  #isTelling = false;
  #known = false;
  /** Undefined until the store has answered, or has not for too long. */
  #stale: boolean | undefined;
  #error: ConclaveError | undefined;
  /** How many watches in a row did not work. */
  #failures = 0;
  /** Ends what goes on, a wait included, to list anew. */
  #interrupt: () => void = () => undefined;

  constructor(client: Client, options: FollowOptions, tell: Tell) {
    this.#client = client;
    this.#options = options;
    this.#tell = tell;
    const { start } = options;
    if (start !== undefined) {
      this.copy.replace(start.kvs, start.revision);
      this.#listFor = undefined;
      this.#known = true;
    }
    this.#running = this.#run();
  }

  /** Resolves when it has ended: closed, refused, or the client was closed. */
  get ended(): Promise<void> {
    return this.#running;
  }

  /** Whether there is a copy. */
  get known(): boolean {
    return this.#known;
  }

  /** Whether the store has not answered lately, or yet. */
  get stale(): boolean {
    return this.#stale ?? true;
  }

  /** What the store answered last, if that was a refusal. */
  get error(): ConclaveError | undefined {
    return this.#error;
  }

  /** Lists anew, now, instead of waiting for the watch or for a store that refused. */
  askAnew(): void {
    if (!this.#isListing) this.#listAnew('asked');
  }

  /** Idempotent; never rejects. */
  async close(): Promise<void> {
    this.#closing.abort(noLongerWanted);
    await this.#running;
  }

  #listAnew(reason: ResetReason): void {
    this.#listFor ??= reason;
    this.#interrupt();
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const comparison = this.#compare(signal);
    for (let isOver = false; !isOver && !signal.aborted; ) {
      const turn = linkedSignal(signal);
      this.#interrupt = turn.abort;
      isOver = await this.#takeTurn(turn.signal, comparison);
      turn.abort();
    }
    // Also where nobody closes it: a comparison under way must neither tell anything nor be repeated.
    this.#closing.abort(noLongerWanted);
    comparison.stop();
  }

  /** Until it is interrupted, or it is time to go on. True when there is nothing to go on with. */
  async #takeTurn(signal: AbortSignal, comparison: PrefixComparison): Promise<boolean> {
    const { clock, random } = this.#client;
    const { prefix, endsRefused = false, recheckMs = longestDelayMs } = this.#options;
    let isRefused = false;
    try {
      await this.#follow(signal, comparison);
      // A client that was closed ends its watches, and says so when it is asked for another.
      if (this.#failures === 1) return false;
    } catch (error) {
      if (isConclaveError(error, 'CLOSED')) return true;
      if (signal.aborted) return false;
      isRefused = !mayRepeat(error);
      if (isConclaveError(error, 'FULL') || (isRefused && endsRefused)) {
        void this.#tell({ type: 'refused', error: asConclaveError(error, prefix) });
        return true;
      }
      this.#troubled(error);
    }
    const delayMs = isRefused
      ? recheckMs
      : fullJitterMs(this.#failures, random, undefined, longestDelayMs);
    await pause(clock, delayMs, signal).catch(() => undefined);
    return false;
  }

  /** Until it is interrupted, or the watch ends. */
  async #follow(signal: AbortSignal, comparison: PrefixComparison): Promise<void> {
    const { copy } = this;
    const { prefix } = this.#options;
    const { kv, clock } = this.#client;
    if (this.#listFor !== undefined) await this.#list(this.#listFor, signal);
    const watch = kv.watch({ prefix }, { from: copy.revision + 1n, signal });
    // What broke the watch before may have been the end of that store; this may be another.
    const cancelComparing =
      this.#failures === 0
        ? ignore
        : clock.setTimer(watchStandsAfterMs, () => comparison.compareSoon());
    const startedMs = clock.monotonicMs();
    let hasBrought = false;
    try {
      for await (const notice of watch) {
        if (notice.type === 'progress') continue;
        if (notice.type === 'reset') {
          await this.#reset(notice, notice.revision < copy.revision ? 'rewound' : 'compacted');
        } else {
          hasBrought = true;
          const changes = copy.apply(notice.revision, notice.events);
          this.#checkSize(copy.size);
          await this.#told({ type: 'changed', revision: notice.revision, changes });
        }
      }
    } finally {
      cancelComparing();
      const hasWorked = hasBrought || clock.monotonicMs() - startedMs >= watchWorksAfterMs;
      if (!signal.aborted) this.#failures = hasWorked ? 1 : this.#failures + 1;
    }
  }

  async #list(reason: ResetReason, signal: AbortSignal): Promise<void> {
    const { prefix, maxEntries } = this.#options;
    const limit = maxEntries === undefined ? {} : { limit: maxEntries + 1, uncounted: true };
    const ask = () => this.#client.kv.list({ prefix }, { ...limit, signal });
    this.#isListing = true;
    const listed = await this.#answer(ask, signal).finally(() => {
      this.#isListing = false;
    });
    const wentBack = this.#known && listed.revision < this.copy.revision;
    const wasStale = this.#stale === true;
    this.#stale = false;
    this.#error = undefined;
    await this.#reset(listed, wentBack ? 'rewound' : reason);
    if (wasStale && !this.stale) void this.#tell({ type: 'fresh' });
  }

  async #reset(
    { kvs, revision }: Pick<ListResult, 'kvs' | 'revision'>,
    reason: ResetReason,
  ): Promise<void> {
    this.#checkSize(kvs.length);
    this.copy.replace(kvs, revision);
    this.#checkSize(this.copy.size);
    this.#listFor = undefined;
    this.#known = true;
    await this.#told({ type: 'reset', revision, reason });
  }

  async #told(notice: FollowNotice): Promise<void> {
    const looking = this.#tell(notice);
    if (looking === undefined) return;
    this.#isTelling = true;
    await looking;
    this.#isTelling = false;
  }

  #checkSize(entries: number): void {
    const { prefix, maxEntries, maxBytes } = this.#options;
    const full = (what: string) =>
      new ConclaveError('FULL', `'${prefix}' holds more than ${what}`, { retryable: false });
    if (maxEntries !== undefined && entries > maxEntries) {
      throw full(`the ${maxEntries} entries of 'maxEntries'`);
    }
    if (maxBytes !== undefined && this.copy.bytes > maxBytes) {
      throw full(`the ${maxBytes} bytes of 'maxBytes'`);
    }
  }

  #compare(signal: AbortSignal): PrefixComparison {
    const { prefix, recheckMs } = this.#options;
    return new PrefixComparison(
      {
        client: this.#client,
        prefix,
        copy: this.copy,
        recheckMs,
        stands: () => this.#listFor === undefined,
        waits: () => this.#isTelling,
        ask: (list) => this.#answer(list, signal),
        onAnswer: () => this.#answered(),
        onTrouble: (error) => this.#troubled(error),
        onDifference: (difference) => this.#listAnew(difference),
      },
      signal,
    );
  }

  /** Repeats a question until it is answered; tells when that takes long, or goes wrong. */
  async #answer(ask: () => Promise<ListResult>, signal: AbortSignal): Promise<ListResult> {
    const cancel = this.#options.isPatient
      ? ignore
      : this.#client.clock.setTimer(patienceMs, () => this.#troubled(undefined));
    const asked = () =>
      ask().catch((error: unknown) => {
        if (!signal.aborted) this.#troubled(error);
        throw error;
      });
    try {
      const answer = await untilAnswered(this.#client, asked, signal);
      // One that comes too late is none.
      throwIfAborted(signal);
      return answer;
    } finally {
      cancel();
    }
  }

  #troubled(error: unknown): void {
    this.#error = isConclaveError(error) ? error : undefined;
    if (this.#stale === true || isConclaveError(error, 'CLOSED')) return;
    this.#stale = true;
    void this.#tell({
      type: 'stale',
      ...(this.#error === undefined ? {} : { error: this.#error }),
    });
  }

  #answered(): void {
    this.#error = undefined;
    const wasStale = this.#stale === true;
    this.#stale = false;
    if (wasStale) void this.#tell({ type: 'fresh' });
  }
}

const ignore = (): void => undefined;

const asConclaveError = (error: unknown, prefix: string): ConclaveError =>
  isConclaveError(error)
    ? error
    : new ConclaveError('INTERNAL', `Following '${prefix}' failed`, { cause: error });
