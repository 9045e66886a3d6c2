/**
 * Everything under a prefix, at hand: read without asking the store, at one revision.
 *
 * Guarantee: what it shows is what the store held at `revision`, whole; it goes from revision to
 * revision without leaving any out, and says by a reset when that was not possible. While the store
 * cannot be reached the last that is known stays, and `stale` says so: it never becomes empty by that.
 */
import { defer, EMPTY, ReplaySubject } from 'rxjs';
import { type Codec, json } from '../../sdk/codec.ts';
import { ConclaveError, invalidArgument, isConclaveError } from '../../sdk/errors.ts';
import { type Observable, StateSource } from '../../sdk/observe.ts';
import type { Duration } from '../../sdk/options.ts';
import type { RecipeContext } from '../common/context.ts';
import { parsePeriod } from '../common/durations.ts';
import {
  checkCodec,
  checkOptions,
  isWellFormed,
  onlySignal,
  timeLimits,
} from '../common/option-checks.ts';
import type { CopyChange } from '../common/prefix-copy.ts';
import { type FollowNotice, PrefixFollower } from '../common/prefix-follower.ts';
import { mayRepeat, pause, untilAnswered } from '../common/repeat.ts';
import { linkedSignal } from '../common/signals.ts';
import { View } from '../common/view.ts';
import {
  type CacheChange,
  type CacheEntry,
  type CacheEvent,
  type CacheSnapshot,
  type Decoded,
  decodeEntry,
  isEntry,
} from './cache-entry.ts';
import { eventsOf, iterateEvents, type Step } from './steps.ts';
import { type WaitOptions, waitForState } from './waiting.ts';

export type CacheOptions<V> = {
  /** How values are read. @default JSON */
  readonly codec?: Codec<V>;
  /** How often the keys are compared with the store's, whatever the watch says. @default '15s' */
  readonly recheck?: Duration;
  /** More entries than this are refused: the cache ends with FULL. @default no limit */
  readonly maxEntries?: number;
  /** More bytes of keys and values than this are refused likewise. @default no limit */
  readonly maxBytes?: number;
};

const knownOptions = { codec: true, recheck: true, maxEntries: true, maxBytes: true } as const;

/** Longest prefix, in bytes of UTF-8: each comparison, list and watch of the cache carries it. */
const prefixBytesMax = 1_024;

/** How long the watch may take to bring a revision that somebody waits for. */
const hurryMs = 1_000;

export class PrefixCache<V> implements AsyncDisposable {
  readonly prefix: string;
  /** Begins with a reset that tells everything, and goes on from there. */
  readonly changes$: View<CacheEvent<V>>;
  readonly #context: RecipeContext;
  readonly #codec: Codec<V>;
  readonly #follower: PrefixFollower;
  readonly #entries = new Map<string, Decoded<V>>();
  readonly #steps = new ReplaySubject<Step<() => CacheSnapshot<V>, CacheEvent<V>>>(1);
  /** The steps, as long as there is anything to tell. */
  readonly #live$: Observable<Step<() => CacheSnapshot<V>, CacheEvent<V>>>;
  /** Rises with everything that happens. */
  readonly #moments = new StateSource(0);
  #snapshot: CacheSnapshot<V> | undefined;
  /** Why there is nothing to read any more. */
  #over: ConclaveError | undefined;
  #closed: Promise<void> | undefined;

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(context: RecipeContext, prefix: string, options: CacheOptions<V> = {}) {
    checkPrefix(prefix);
    checkOptions<CacheOptions<V>>(options, knownOptions);
    const { maxEntries, maxBytes, codec = json<V>() } = options;
    checkCodec(codec);
    checkBound(maxEntries, 'maxEntries');
    checkBound(maxBytes, 'maxBytes');
    const recheckMs = parsePeriod(options.recheck ?? '15s', 'recheck');
    this.prefix = prefix;
    this.#context = context;
    this.#codec = codec;
    this.#live$ = defer(() => (isConclaveError(this.#over, 'CLOSED') ? EMPTY : this.#steps));
    this.changes$ = new View(eventsOf(this.#live$, whole), (signal) =>
      iterateEvents(this.#live$, whole, signal),
    );
    const follow = {
      prefix,
      recheckMs,
      ...(maxEntries === undefined ? {} : { maxEntries }),
      ...(maxBytes === undefined ? {} : { maxBytes }),
    };
    const { client } = context.session;
    context.background.add(this);
    this.#follower = new PrefixFollower(client, follow, (notice) => this.#hear(notice));
    if (isConclaveError(context.session.signal.reason, 'CLOSED')) void this.close();
    void this.#follower.ended.then(() => this.close());
  }

  /** Whether the store has not answered lately (or yet), so that what is shown may be out of date. */
  get stale(): boolean {
    return this.#follower.stale;
  }

  /** What is shown is exact as of this revision; 0n until the store has answered. */
  get revision(): bigint {
    return this.#follower.copy.revision;
  }

  get size(): number {
    this.#assertKnown();
    return this.#entries.size;
  }

  /**
   * Resolves once the store has answered. One exchange, and a watch.
   *
   * @throws ConclaveError ABORTED, TIMEOUT, FULL, PERMISSION_DENIED, UNAUTHENTICATED; SESSION_LOST or
   *   CLOSED as soon as the session ends
   */
  async ready(options: WaitOptions = {}): Promise<void> {
    checkOptions<WaitOptions>(options, timeLimits);
    const take = () => {
      if (this.#over) throw this.#over;
      if (this.#follower.known) return true;
      const { error } = this.#follower;
      if (error && !mayRepeat(error)) throw error;
      return undefined;
    };
    await this.#wait(`the first answer for '${this.prefix}'`, take, options);
  }

  /**
   * The value of a key, which is named by what comes after the prefix; undefined when there is none.
   *
   * @throws ConclaveError CODEC when the codec does not understand it, FAILED_PRECONDITION before the
   *   store has answered (see `ready`), FULL, CLOSED
   */
  get(key: string): V | undefined {
    return this.entry(key)?.value;
  }

  /** The value with its revisions. @throws what `get` throws */
  entry(key: string): CacheEntry<V> | undefined {
    this.#assertKnown();
    const decoded = this.#entries.get(key);
    if (decoded === undefined || isEntry(decoded)) return decoded;
    throw decoded;
  }

  /** Whether the key is there, readable or not. @throws ConclaveError FAILED_PRECONDITION, FULL, CLOSED */
  has(key: string): boolean {
    this.#assertKnown();
    return this.#entries.has(key);
  }

  /**
   * Everything at one revision; later changes leave it alone. Made once for each revision.
   *
   * @throws ConclaveError FAILED_PRECONDITION, FULL, CLOSED
   */
  snapshot(): CacheSnapshot<V> {
    this.#assertKnown();
    const { revision, stale } = this;
    if (this.#snapshot?.revision === revision && this.#snapshot.stale === stale) {
      return this.#snapshot;
    }
    const entries = new Map<string, CacheEntry<V>>();
    const unreadable = new Map<string, ConclaveError>();
    for (const [key, decoded] of this.#entries) {
      if (isEntry(decoded)) entries.set(key, decoded);
      else unreadable.set(key, decoded);
    }
    this.#snapshot = { revision, stale, entries, unreadable };
    return this.#snapshot;
  }

  /** What can be read, at one revision. @throws ConclaveError FAILED_PRECONDITION, FULL, CLOSED */
  entries(): IterableIterator<CacheEntry<V>> {
    return this.snapshot().entries.values();
  }

  /**
   * Resolves once the cache shows what the store held at this revision or later: give it the revision
   * of a write to read that write. Nothing is sent, unless the watch brings nothing for a second.
   *
   * @returns the revision that it shows by then
   * @throws ConclaveError INVALID_ARGUMENT, ABORTED, TIMEOUT, FULL; FUTURE_REVISION when the store has
   *   not got so far, or went back; SESSION_LOST or CLOSED as soon as the session ends
   */
  async waitForRevision(revision: bigint, options: WaitOptions = {}): Promise<bigint> {
    if (typeof revision !== 'bigint' || revision < 0n) {
      throw invalidArgument('revision', revision, 'a bigint, 0n or more');
    }
    checkOptions<WaitOptions>(options, timeLimits);
    let failure: unknown;
    const take = () => {
      if (this.#over) throw this.#over;
      if (failure !== undefined) throw failure;
      return this.#follower.known && this.revision >= revision ? this.revision : undefined;
    };
    const { signal, unlink, abort } = linkedSignal(options.signal, this.#context.session.signal);
    this.#hurry(revision, signal).catch((error: unknown) => {
      failure = error;
      this.#happened();
    });
    try {
      return await this.#wait(`revision ${revision} of '${this.prefix}'`, take, options);
    } finally {
      unlink();
      abort();
    }
  }

  /**
   * The same as `changes$`, as a loop. Leaving the loop ends it. A loop that lags more than 1,024 events
   * behind gets one reset for all of them.
   */
  changes(options: { readonly signal?: AbortSignal } = {}): AsyncIterable<CacheEvent<V>> {
    checkOptions<{ readonly signal?: AbortSignal }>(options, onlySignal);
    return this.changes$.iterate(options);
  }

  /** Idempotent; never rejects. The session closes what it made. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#context.background.delete(this);
    this.#over ??= new ConclaveError('CLOSED', `The cache of '${this.prefix}' was closed`);
    this.#happened();
    this.#steps.complete();
    this.#moments.complete();
    await this.#follower.close();
    this.#entries.clear();
    this.#snapshot = undefined;
  }

  async #wait<R>(what: string, take: () => R | undefined, options: WaitOptions): Promise<R> {
    if (this.#over) throw this.#over;
    const states$ = this.#moments.observable;
    const wait = { recipe: 'cache', name: this.prefix, what, states$, take } as const;
    return waitForState(this.#context, wait, options);
  }

  /** Does not rely on the watch alone for a revision that somebody waits for. */
  async #hurry(revision: bigint, signal: AbortSignal): Promise<void> {
    const { client } = this.#context.session;
    const { prefix } = this;
    const options = { limit: 1, keysOnly: true, uncounted: true, signal };
    try {
      for (let before = this.revision; ; before = this.revision) {
        await pause(client.clock, hurryMs, signal);
        // The watch is on its way: what it brings is worth more than a reset.
        if (this.revision !== before) continue;
        const ask = () => client.kv.list({ prefix }, options);
        const { revision: reached } = await untilAnswered(client, ask, signal);
        if (reached < revision) {
          const message = `The store is at revision ${reached}, before ${revision}`;
          throw new ConclaveError('FUTURE_REVISION', message);
        }
        this.#follower.askAnew();
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  #assertKnown(): void {
    if (this.#over) throw this.#over;
    if (this.#follower.known) return;
    const message = `Nothing is known of '${this.prefix}' yet`;
    throw new ConclaveError('FAILED_PRECONDITION', message, { remedy: 'Await ready() first.' });
  }

  #happened(): void {
    this.#moments.set(this.#moments.value + 1);
  }

  #hear(notice: FollowNotice): void {
    this.#tell(this.#take(notice));
    this.#happened();
  }

  #take(notice: FollowNotice): CacheEvent<V> {
    switch (notice.type) {
      case 'reset':
        this.#entries.clear();
        this.#snapshot = undefined;
        for (const kv of this.#follower.copy.values()) {
          this.#entries.set(this.#keyOf(kv.key), decodeEntry(this.prefix, kv, this.#codec));
        }
        return { type: 'reset', reason: notice.reason, snapshot: this.snapshot() };
      case 'changed': {
        const changes = notice.changes.map((change) => this.#change(change));
        return { type: 'changed', revision: notice.revision, changes };
      }
      case 'refused':
        this.#over ??= notice.error;
        return notice;
      case 'stale':
      case 'fresh':
        return notice;
    }
  }

  #change({ type, kv }: CopyChange): CacheChange<V> {
    const key = this.#keyOf(kv.key);
    const before = this.#entries.get(key);
    const previous = before !== undefined && isEntry(before) ? { previous: before } : {};
    if (type === 'delete') {
      this.#entries.delete(key);
      return { type, key, ...previous };
    }
    const decoded = decodeEntry(this.prefix, kv, this.#codec);
    this.#entries.set(key, decoded);
    return isEntry(decoded)
      ? { type, key, entry: decoded, ...previous }
      : { type: 'unreadable', key, error: decoded, ...previous };
  }

  #keyOf(key: string): string {
    return key.slice(this.prefix.length);
  }

  #tell(event: CacheEvent<V>): void {
    const state = event.type === 'refused' ? undefined : () => this.snapshot();
    this.#steps.next({ state: this.#follower.known ? state : undefined, event });
  }
}

const whole = <V>(snapshot: () => CacheSnapshot<V>, reason: 'start' | 'overflow') =>
  ({ type: 'reset', reason, snapshot: snapshot() }) as const;

function checkPrefix(prefix: string): void {
  const allowed = `a well-formed text of at most ${prefixBytesMax} bytes of UTF-8 that ends in '/'`;
  if (typeof prefix !== 'string' || !prefix.endsWith('/') || !isWellFormed(prefix)) {
    throw invalidArgument('prefix', prefix, allowed);
  }
  const length = Buffer.byteLength(prefix);
  if (length > prefixBytesMax) throw invalidArgument('prefix', `${length} bytes`, allowed);
}

function checkBound(bound: number | undefined, field: string): void {
  if (bound !== undefined && !(Number.isSafeInteger(bound) && bound >= 1)) {
    throw invalidArgument(field, bound, 'a whole number, 1 or more');
  }
}
