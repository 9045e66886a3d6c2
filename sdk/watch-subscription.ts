/**
 * The consumer's end of one watch: where it stands, what is buffered, who waits. Its cursor is the
 * revision after the last event it was given, or before the first the one it starts at; no header moves
 * it, because during catch-up a header names the store's current revision, which events still on their
 * way have not reached.
 */
import { aborted, ConclaveError, invalidArgument } from './errors.ts';
import { fromIterable, type Observable } from './observe.ts';
import type { Watch, WatchNotice, WatchOptions } from './watch.ts';
import type { WatchUpstream } from './watch-upstream.ts';
import { revisionOf } from './wire-kv.ts';

const defaultHighWaterMark = 4_096;

/** What a watch needs from whoever feeds it. */
export type Feed = {
  /** The buffer is full: stop delivering. */
  pause(watch: WatchSubscription): void;
  /** There is room again. */
  resume(watch: WatchSubscription): void;
  /** The watch has ended. */
  remove(watch: WatchSubscription): void;
};

/** A notice as iterators yield it: one object for all watches that get it. */
export type Delivery = { readonly done: false; readonly value: WatchNotice };

type Result = IteratorResult<WatchNotice, undefined>;

/** Settles what a reader waits for. */
type Reader = (result: Result | PromiseLike<Result>) => void;

export class WatchSubscription implements Watch {
  readonly created: Promise<{ readonly revision: bigint }>;
  readonly notices$: Observable<WatchNotice> = fromIterable(() => this);
  /** What it is fed by, as the hub has it; undefined while it is fed by nothing. */
  upstream: WatchUpstream | undefined;
  readonly #signal: AbortSignal | undefined;
  readonly #feed: Feed;
  readonly #highWaterMark: number;
  #settleCreated!: {
    readonly resolve: (at: { readonly revision: bigint }) => void;
    readonly reject: (error: ConclaveError) => void;
  };
  #isCreated = false;
  #next: bigint;
  #buffer: Delivery[] = [];
  #bufferedEvents = 0;
  #paused = false;
  #readers: Reader[] = [];
  #consumed = false;
  #ended = false;
  #error: ConclaveError | undefined;
  /** Made once, as every delivery to who waits makes a promise. */
  readonly #addReader = (resolve: Reader): void => {
    this.#readers.push(resolve);
  };
  readonly #onAbort = () => {
    if (this.#signal !== undefined) this.fail(aborted(this.#signal));
  };

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(options: WatchOptions, feed: Feed) {
    this.#signal = options.signal;
    this.#feed = feed;
    this.#next = revisionOf(options.from, 'from');
    this.#highWaterMark = options.highWaterMark ?? defaultHighWaterMark;
    if (!Number.isSafeInteger(this.#highWaterMark) || this.#highWaterMark < 1) {
      throw invalidArgument('highWaterMark', options.highWaterMark, 'a whole number from 1');
    }
    if (options.puts === false && options.deletes === false) {
      throw invalidArgument('puts', false, 'true when deletes is false');
    }
    this.created = new Promise((resolve, reject) => {
      this.#settleCreated = { resolve, reject };
    });
    // Iteration reports the same failure; nobody has to look here.
    this.created.catch(() => undefined);
    options.signal?.addEventListener('abort', this.#onAbort);
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** The server has watched for it at some time. */
  get isCreated(): boolean {
    return this.#isCreated;
  }

  /** The first revision it was not given yet; 0n until the server has said where "now" is. */
  get next(): bigint {
    return this.#next;
  }

  /** The server watches, and the store was at this revision then. */
  onCreated(revision: bigint): void {
    if (this.#next === 0n) this.#next = revision + 1n;
    if (this.#isCreated) return;
    this.#isCreated = true;
    this.#settleCreated.resolve({ revision });
  }

  /** @param after the revision after the one of these events; nothing happens if it stands there already */
  onEvents(delivery: Delivery, after: bigint): void {
    if (after <= this.#next) return;
    this.#next = after;
    this.#push(delivery);
  }

  /** @param after the revision after the one announced; what it did not start at yet is no news */
  onProgress(delivery: Delivery, after: bigint): void {
    if (after >= this.#next) this.#push(delivery);
  }

  /** Compaction removed what comes next: continue from a listing of what there is at a revision. */
  reset(delivery: Delivery): void {
    const { revision } = delivery.value;
    this.#next = revision + 1n;
    this.onCreated(revision);
    this.#push(delivery);
  }

  fail(error: ConclaveError): void {
    this.#end(error);
  }

  /**
   * The end without a failure: what is buffered is still delivered.
   *
   * @param reason for who waits for `created`, which can no longer happen
   */
  complete(reason: ConclaveError): void {
    if (this.#ended) return;
    this.#settleCreated.reject(reason);
    this.#end(undefined);
  }

  async cancel(): Promise<void> {
    this.#buffer = [];
    this.#bufferedEvents = 0;
    this.#end(undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cancel();
  }

  [Symbol.asyncIterator](): AsyncIterator<WatchNotice, undefined> {
    if (this.#consumed) {
      throw new ConclaveError(
        'FAILED_PRECONDITION',
        'This watch has a consumer already: a watch is iterated or subscribed to once',
      );
    }
    this.#consumed = true;
    return {
      next: () => this.#read(),
      return: async () => {
        await this.cancel();
        return { done: true, value: undefined };
      },
    };
  }

  #read(): Promise<Result> {
    const delivery = this.#buffer.length === 0 ? undefined : this.#buffer.shift();
    if (delivery !== undefined) {
      this.#bufferedEvents -= weightOf(delivery);
      if (this.#paused && this.#bufferedEvents <= this.#highWaterMark / 2) {
        this.#paused = false;
        this.#feed.resume(this);
      }
      return Promise.resolve(delivery);
    }
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise(this.#addReader);
  }

  #push(delivery: Delivery): void {
    if (this.#ended) return;
    const reader = this.#readers.shift();
    if (reader !== undefined) {
      reader(delivery);
      return;
    }
    this.#buffer.push(delivery);
    this.#bufferedEvents += weightOf(delivery);
    if (!this.#paused && this.#bufferedEvents >= this.#highWaterMark) {
      this.#paused = true;
      this.#feed.pause(this);
    }
  }

  #end(error: ConclaveError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#signal?.removeEventListener('abort', this.#onAbort);
    if (!this.#isCreated) {
      this.#settleCreated.reject(error ?? new ConclaveError('CLOSED', 'The watch was cancelled'));
    }
    this.#feed.remove(this);
    const [first, ...others] = this.#readers.splice(0);
    if (first === undefined) this.#error = error;
    else first(error === undefined ? { done: true, value: undefined } : Promise.reject(error));
    for (const reader of others) reader({ done: true, value: undefined });
  }
}

const weightOf = ({ value }: Delivery): number =>
  value.type === 'events' ? value.events.length : 1;
