/**
 * Keeps a copy of a prefix current and tells what happens to it, revision by revision. Nothing is ever
 * left out silently: what the watch could not bring is told as a reset.
 *
 * A watch alone cannot know that it misses something: of a store that went back to an old snapshot it
 * waits for revisions that were there before. So the keys are listed now and then, and at once when
 * the connection breaks, and compared with the copy. That also shows whether the store answers.
 */

import type { Client } from '../../sdk/client.ts';
import type { Cancel } from '../../sdk/clock.ts';
import { ConclaveError, isConclaveError } from '../../sdk/errors.ts';
import type { ListResult } from '../../sdk/kv.ts';
import { type CopyChange, PrefixCopy } from './prefix-copy.ts';
import { fullJitterMs, mayRepeat, pause, untilAnswered } from './repeat.ts';
import { linkedSignal } from './signals.ts';

/**
 * Why the copy was taken anew:
 *
 * - `start`: it is the first.
 * - `compacted`: the revisions in between are compacted.
 * - `rewound`: the store went back to an older revision.
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
  /** The copy would be larger than allowed. The end. */
  | { readonly type: 'refused'; readonly error: ConclaveError };

export type FollowOptions = {
  readonly prefix: string;
  /** How often the keys are compared, in milliseconds. */
  readonly recheckMs: number;
  readonly maxEntries?: number;
  /** Of keys and values. */
  readonly maxBytes?: number;
};

/** A question that is not answered for so long makes the copy stale. */
const patienceMs = 2_000;
/** How long the watch may take to bring what a comparison showed. */
const graceMs = 1_000;

export class PrefixFollower {
  readonly copy = new PrefixCopy();
  readonly #client: Client;
  readonly #options: FollowOptions;
  readonly #tell: (notice: FollowNotice) => void;
  readonly #closing = new AbortController();
  readonly #running: Promise<void>;
  /** Why to list anew; undefined while the copy stands. */
  #listFor: ResetReason | undefined = 'start';
  #known = false;
  /** Undefined until the store has answered, or has not for too long. */
  #stale: boolean | undefined;
  #error: ConclaveError | undefined;
  /** Ends what goes on, to list anew. */
  #interrupt: () => void = () => undefined;
  /** Compares now. */
  #compareNow: () => void = () => undefined;

  /** @param tell called outside the stream of events; the copy is as the notice says by then */
  constructor(client: Client, options: FollowOptions, tell: (notice: FollowNotice) => void) {
    this.#client = client;
    this.#options = options;
    this.#tell = tell;
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

  /** Lists anew instead of waiting for the watch. */
  askAnew(): void {
    if (this.#listFor !== undefined) return;
    this.#listFor = 'asked';
    this.#interrupt();
  }

  /** Idempotent; never rejects. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    const { clock, random, events$ } = this.#client;
    const connection = events$.subscribe((event) => {
      if (event.type === 'disconnected') this.#compareNow();
    });
    for (let failures = 0; !signal.aborted; ) {
      const turn = linkedSignal(signal);
      this.#interrupt = turn.abort;
      try {
        await this.#follow(turn.signal, () => {
          failures = 0;
        });
      } catch (error) {
        if (isConclaveError(error, 'CLOSED')) break;
        if (isConclaveError(error, 'FULL')) {
          this.#tell({ type: 'refused', error });
          break;
        }
        if (turn.signal.aborted) continue;
        this.#troubled(error);
        failures += 1;
        const { recheckMs } = this.#options;
        const delayMs = mayRepeat(error) ? fullJitterMs(failures, random) : recheckMs;
        await pause(clock, delayMs, signal).catch(() => undefined);
      } finally {
        turn.abort();
      }
    }
    connection.unsubscribe();
  }

  /** Until it is interrupted, or the watch ends. */
  async #follow(signal: AbortSignal, onWatching: () => void): Promise<void> {
    const { copy } = this;
    const { prefix } = this.#options;
    if (this.#listFor !== undefined) await this.#list(this.#listFor, signal);
    const watch = this.#client.kv.watch({ prefix }, { from: copy.revision + 1n, signal });
    const comparing = this.#compareRegularly(signal);
    try {
      for await (const notice of watch) {
        onWatching();
        if (notice.type === 'progress') continue;
        if (notice.type === 'reset') {
          const reason = notice.revision < copy.revision ? 'rewound' : 'compacted';
          this.#reset(notice, reason);
        } else {
          const changes = copy.apply(notice.revision, notice.events);
          this.#checkSize(copy.size);
          this.#tell({ type: 'changed', revision: notice.revision, changes });
        }
      }
    } finally {
      comparing.cancel();
    }
  }

  async #list(reason: ResetReason, signal: AbortSignal): Promise<void> {
    const { prefix, maxEntries } = this.#options;
    const limit = maxEntries === undefined ? {} : { limit: maxEntries + 1 };
    const ask = () => this.#client.kv.list({ prefix }, { ...limit, signal });
    const listed = await this.#answer(ask, signal);
    const wentBack = this.#known && listed.revision < this.copy.revision;
    const wasStale = this.#stale === true;
    this.#stale = false;
    this.#error = undefined;
    this.#reset(listed, wentBack ? 'rewound' : reason);
    if (wasStale) this.#tell({ type: 'fresh' });
  }

  #reset({ kvs, revision }: Pick<ListResult, 'kvs' | 'revision'>, reason: ResetReason): void {
    this.#checkSize(kvs.length);
    this.copy.replace(kvs, revision);
    this.#checkSize(this.copy.size);
    this.#listFor = undefined;
    this.#known = true;
    this.#tell({ type: 'reset', revision, reason });
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

  #compareRegularly(signal: AbortSignal): { cancel: () => void } {
    const { clock, random } = this.#client;
    let cancel: Cancel = () => undefined;
    let isComparing = false;
    const compare = async () => {
      if (isComparing || signal.aborted) return;
      isComparing = true;
      cancel();
      try {
        const reason = await this.#compare(signal);
        if (reason !== undefined && !signal.aborted) {
          this.#listFor = reason;
          this.#interrupt();
        }
      } catch (error) {
        if (!signal.aborted) this.#troubled(error);
      } finally {
        isComparing = false;
        later();
      }
    };
    const later = () => {
      if (signal.aborted) return;
      const delayMs = this.#options.recheckMs * (0.75 + 0.5 * random());
      cancel = clock.setTimer(delayMs, () => void compare());
    };
    this.#compareNow = () => void compare();
    later();
    return {
      cancel: () => {
        this.#compareNow = () => undefined;
        cancel();
      },
    };
  }

  /** Why the copy cannot be relied on; undefined when it can. */
  async #compare(signal: AbortSignal): Promise<ResetReason | undefined> {
    const { copy } = this;
    const { prefix } = this.#options;
    const before = copy.revision;
    copy.beginComparison();
    try {
      const ask = () => this.#client.kv.list({ prefix }, { keysOnly: true, signal });
      const listed = await this.#answer(ask, signal);
      // Also after a reset in the meantime: revisions that a store has told it must not take back.
      if (listed.revision < before) return 'rewound';
      const differences = copy.compare(listed);
      this.#answered();
      if (differences.listed.size === 0) return undefined;
      await pause(this.#client.clock, graceMs, signal);
      return copy.hasMissed(differences) ? 'missed' : undefined;
    } finally {
      copy.endComparison();
    }
  }

  /** Repeats a question until it is answered; tells when that takes long, or goes wrong. */
  async #answer(ask: () => Promise<ListResult>, signal: AbortSignal): Promise<ListResult> {
    const cancel = this.#client.clock.setTimer(patienceMs, () => this.#troubled(undefined));
    const asked = () =>
      ask().catch((error: unknown) => {
        if (!signal.aborted) this.#troubled(error);
        throw error;
      });
    try {
      return await untilAnswered(this.#client, asked, signal);
    } finally {
      cancel();
    }
  }

  #troubled(error: unknown): void {
    this.#error = isConclaveError(error) ? error : undefined;
    if (this.#stale === true || isConclaveError(error, 'CLOSED')) return;
    this.#stale = true;
    this.#tell({ type: 'stale', ...(this.#error === undefined ? {} : { error: this.#error }) });
  }

  #answered(): void {
    this.#error = undefined;
    const wasStale = this.#stale === true;
    this.#stale = false;
    if (wasStale) this.#tell({ type: 'fresh' });
  }
}
