/**
 * One watch: where it stands, what is buffered, who waits. The cursor is the revision after the last
 * event received; nothing else moves it. In particular no header does: during catch-up a header names
 * the store's current revision, which events still on their way have not reached.
 */
import {
  type WatchCreateRequest,
  WatchCreateRequest_FilterType,
  type WatchResponse,
} from '../server/wire/etcdserverpb/rpc.ts';
import { type Event, Event_EventType } from '../server/wire/mvccpb/kv.ts';
import { aborted, ConclaveError, invalidArgument } from './errors.ts';
import type { Key, KeyRange, KeySpan, Keyspace } from './keys.ts';
import { fromIterable, type Observable } from './observe.ts';
import type { Watch, WatchEvent, WatchNotice, WatchOptions } from './watch.ts';
import { fromKeyValue, revisionIn, revisionOf } from './wire-kv.ts';

const defaultHighWaterMark = 4_096;

/** What a watch needs from the stream it shares. */
export type Feed = {
  /** The buffer is full: stop receiving. */
  pause(watch: WatchSubscription): void;
  /** There is room again. */
  resume(watch: WatchSubscription): void;
  /** The watch has ended. */
  remove(watch: WatchSubscription): void;
};

type Reader = {
  readonly resolve: (result: IteratorResult<WatchNotice, undefined>) => void;
  readonly reject: (error: ConclaveError) => void;
};

export class WatchSubscription implements Watch {
  readonly created: Promise<{ readonly revision: bigint }>;
  readonly notices$: Observable<WatchNotice> = fromIterable(() => this);
  readonly span: KeySpan;
  readonly #keyspace: Keyspace;
  readonly #options: WatchOptions;
  readonly #feed: Feed;
  readonly #highWaterMark: number;
  #settleCreated!: {
    readonly resolve: (at: { readonly revision: bigint }) => void;
    readonly reject: (error: ConclaveError) => void;
  };
  /** The first revision not received yet; 0n until the server has said where "now" is. */
  #next: bigint;
  /** The pieces of a response that has not ended yet. */
  #pieces: Event[] = [];
  #buffer: WatchNotice[] = [];
  #bufferedEvents = 0;
  #paused = false;
  #readers: Reader[] = [];
  #consumed = false;
  #ended = false;
  #error: ConclaveError | undefined;
  readonly #onAbort = () => {
    if (this.#options.signal !== undefined) this.fail(aborted(this.#options.signal));
  };

  /** @throws ConclaveError INVALID_ARGUMENT */
  constructor(keyspace: Keyspace, range: Key | KeyRange, options: WatchOptions, feed: Feed) {
    this.span = keyspace.span(range);
    this.#keyspace = keyspace;
    this.#options = options;
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

  get paused(): boolean {
    return this.#paused;
  }

  /** How to ask the server for everything not received yet. */
  request(watchId: bigint): WatchCreateRequest {
    const { prevKv, puts, deletes, progress, fragment } = this.#options;
    this.#pieces = [];
    return {
      ...this.span,
      startRevision: this.#next,
      progressNotify: progress ?? false,
      filters: [
        ...(puts === false ? [WatchCreateRequest_FilterType.NOPUT] : []),
        ...(deletes === false ? [WatchCreateRequest_FilterType.NODELETE] : []),
      ],
      prevKv: prevKv ?? false,
      watchId,
      fragment: fragment ?? true,
    };
  }

  /** The server watches. */
  onCreated(response: WatchResponse): void {
    const revision = revisionIn(response.header);
    if (this.#next === 0n) this.#next = revision + 1n;
    this.#settleCreated.resolve({ revision });
  }

  onResponse(response: WatchResponse): void {
    if (response.events.length > 0) this.#pieces.push(...response.events);
    if (response.fragment) return;
    const events = this.#pieces;
    this.#pieces = [];
    if (events.length > 0) {
      this.#receive(events);
    } else if (this.#options.progress === true) {
      this.#push({ type: 'progress', revision: revisionIn(response.header) });
    }
  }

  /** Compaction removed what comes next: continue from a listing of what there is at `revision`. */
  reset(notice: Extract<WatchNotice, { type: 'reset' }>): void {
    this.#next = notice.revision + 1n;
    this.#settleCreated.resolve({ revision: notice.revision });
    this.#push(notice);
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

  #read(): Promise<IteratorResult<WatchNotice, undefined>> {
    const notice = this.#buffer.shift();
    if (notice !== undefined) {
      this.#bufferedEvents -= weightOf(notice);
      if (this.#paused && this.#bufferedEvents <= this.#highWaterMark / 2) {
        this.#paused = false;
        this.#feed.resume(this);
      }
      return Promise.resolve({ done: false, value: notice });
    }
    if (this.#error !== undefined) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#readers.push({ resolve, reject });
    });
  }

  /** One notice for each revision. A response holds whole revisions, in order. */
  #receive(events: readonly Event[]): void {
    let revision = 0n;
    let together: WatchEvent[] = [];
    for (const event of events) {
      const converted = this.#convert(event);
      if (converted.kv.modRevision !== revision) {
        if (together.length > 0) this.#push({ type: 'events', revision, events: together });
        revision = converted.kv.modRevision;
        together = [];
      }
      together.push(converted);
    }
    this.#next = revision + 1n;
    this.#push({ type: 'events', revision, events: together });
  }

  #convert(event: Event): WatchEvent {
    if (event.kv === undefined) throw new ConclaveError('INTERNAL', 'A watch event lacks its key');
    const type = event.type === Event_EventType.DELETE ? 'delete' : 'put';
    const kv = fromKeyValue(this.#keyspace, event.kv);
    return event.prevKv === undefined
      ? { type, kv }
      : { type, kv, previous: fromKeyValue(this.#keyspace, event.prevKv) };
  }

  #push(notice: WatchNotice): void {
    if (this.#ended) return;
    const reader = this.#readers.shift();
    if (reader !== undefined) {
      reader.resolve({ done: false, value: notice });
      return;
    }
    this.#buffer.push(notice);
    this.#bufferedEvents += weightOf(notice);
    if (!this.#paused && this.#bufferedEvents >= this.#highWaterMark) {
      this.#paused = true;
      this.#feed.pause(this);
    }
  }

  #end(error: ConclaveError | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    this.#settleCreated.reject(error ?? new ConclaveError('CLOSED', 'The watch was cancelled'));
    this.#feed.remove(this);
    const [first, ...others] = this.#readers.splice(0);
    if (first === undefined) this.#error = error;
    else if (error !== undefined) first.reject(error);
    else first.resolve({ done: true, value: undefined });
    for (const reader of others) reader.resolve({ done: true, value: undefined });
  }
}

const weightOf = (notice: WatchNotice): number =>
  notice.type === 'events' ? notice.events.length : 1;
