/**
 * All watches of a client on one stream. When the stream ends, it is opened again on the link then in
 * use and every watch continues where it stood. A watch whose consumer is slow is taken off the stream
 * until its buffer has room, so it neither grows without bound nor holds up the others.
 */
import { Status } from 'nice-grpc-common';
import type { WatchRequest, WatchResponse } from '../server/wire/etcdserverpb/rpc.ts';
import { AsyncBuffer } from './async-buffer.ts';
import type { Cancel } from './clock.ts';
import type { Connection } from './connection.ts';
import { aborted, closedError, isConclaveError } from './errors.ts';
import { errorOfText, judge } from './failures.ts';
import type { Key, KeyRange, Keyspace } from './keys.ts';
import type { Link } from './link.ts';
import { paceMs } from './retry.ts';
import { TransportFailure } from './transport.ts';
import type { Watch, WatchOptions } from './watch.ts';
import { WatchSubscription } from './watch-subscription.ts';
import { fromRangeResponse, toRangeRequest } from './wire-kv.ts';

type Stream = {
  readonly link: Link;
  readonly requests: AsyncBuffer<WatchRequest>;
  readonly controller: AbortController;
  readonly watches: Map<bigint, WatchSubscription>;
  readonly ids: Map<WatchSubscription, bigint>;
  /** Asked for and not answered yet, in order: a refusal names no id. */
  readonly creating: bigint[];
};

type Entry = { readonly keyspace: Keyspace; readonly range: Key | KeyRange };

/** The server cannot say more about these: trying again would fail the same way. */
const fatalStatuses: ReadonlySet<number> = new Set([
  Status.INVALID_ARGUMENT,
  Status.PERMISSION_DENIED,
  Status.UNAUTHENTICATED,
  Status.UNIMPLEMENTED,
]);

export class WatchHub {
  readonly #connection: Connection;
  readonly #entries = new Map<WatchSubscription, Entry>();
  /** Off the stream on purpose: full, or about to be reset. */
  readonly #idle = new Set<WatchSubscription>();
  readonly #timers = new Set<Cancel>();
  readonly #stopListening: () => void;
  #stream: Stream | undefined;
  #nextId = 1n;
  #failures = 0;
  /** Since when nothing came; undefined while all is well. */
  #troubledSinceMs: number | undefined;
  #reopening = false;
  #closed = false;

  constructor(connection: Connection) {
    this.#connection = connection;
    this.#stopListening = connection.onChange(() => this.#follow());
  }

  watch(keyspace: Keyspace, range: Key | KeyRange, options: WatchOptions): Watch {
    const watch = new WatchSubscription(keyspace, range, options, {
      pause: (paused) => {
        this.#idle.add(paused);
        this.#stop(paused);
      },
      resume: (resumed) => {
        this.#idle.delete(resumed);
        this.#start(resumed);
      },
      remove: (ended) => {
        this.#entries.delete(ended);
        this.#idle.delete(ended);
        this.#stop(ended);
        if (this.#entries.size === 0) this.#leave();
      },
    });
    if (this.#closed) {
      watch.fail(closedError());
      return watch;
    }
    const { signal } = options;
    this.#entries.set(watch, { keyspace, range });
    if (signal?.aborted) watch.fail(aborted(signal));
    else this.#start(watch);
    return watch;
  }

  /** Completes every watch: its owner asked for the end, so it is no failure. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopListening();
    for (const cancel of this.#timers) cancel();
    for (const watch of [...this.#entries.keys()]) watch.complete(closedError());
    this.#leave();
  }

  /** The link in use has changed: the stream moves with it. */
  #follow(): void {
    const { active } = this.#connection;
    if (this.#stream !== undefined && this.#stream.link !== active) this.#leave();
    // The first to fail may be the only one; after that, links that all fail must not be tried in a hurry.
    if (active !== undefined && this.#failures <= 1) this.#reopening = false;
    this.#open();
  }

  #open(): void {
    const { active } = this.#connection;
    if (this.#closed || this.#stream !== undefined || active === undefined) return;
    if (this.#entries.size === 0 || this.#reopening) return;
    const stream: Stream = {
      link: active,
      requests: new AsyncBuffer(),
      controller: new AbortController(),
      watches: new Map(),
      ids: new Map(),
      creating: [],
    };
    this.#stream = stream;
    void this.#read(stream);
    for (const watch of this.#entries.keys()) this.#start(watch);
  }

  #leave(): void {
    const stream = this.#stream;
    this.#stream = undefined;
    stream?.requests.end();
    stream?.controller.abort();
  }

  #start(watch: WatchSubscription): void {
    const stream = this.#stream;
    if (stream === undefined) {
      // Starts every watch, this one included.
      this.#open();
      return;
    }
    if (watch.ended || this.#idle.has(watch) || stream.ids.has(watch)) return;
    const id = this.#nextId;
    this.#nextId += 1n;
    stream.watches.set(id, watch);
    stream.ids.set(watch, id);
    stream.creating.push(id);
    stream.requests.push({
      requestUnion: { $case: 'createRequest', value: watch.request(id) },
    });
  }

  /** Takes a watch off the stream; what still arrives for it is dropped. */
  #stop(watch: WatchSubscription): void {
    const stream = this.#stream;
    const id = stream?.ids.get(watch);
    if (stream === undefined || id === undefined) return;
    this.#forget(stream, id);
    stream.requests.push({ requestUnion: { $case: 'cancelRequest', value: { watchId: id } } });
  }

  #forget(stream: Stream, id: bigint): void {
    const watch = stream.watches.get(id);
    stream.watches.delete(id);
    if (watch !== undefined) stream.ids.delete(watch);
  }

  async #read(stream: Stream): Promise<void> {
    let failure: unknown = new TransportFailure(
      'status',
      Status.UNAVAILABLE,
      'the watch stream ended',
      true,
    );
    try {
      const { signal } = stream.controller;
      for await (const response of stream.link.watch(stream.requests, { signal })) {
        if (this.#stream !== stream) return;
        this.#failures = 0;
        this.#troubledSinceMs = undefined;
        this.#receive(stream, response);
      }
    } catch (error) {
      failure = error;
    }
    if (this.#stream === stream) this.#ended(stream, failure);
  }

  #ended(stream: Stream, failure: unknown): void {
    this.#leave();
    const fatal = failure instanceof TransportFailure && fatalStatuses.has(failure.status);
    const { error, elsewhere } = judge(failure, 'read');
    if (fatal) {
      for (const watch of [...this.#entries.keys()]) watch.fail(error);
      return;
    }
    if (elsewhere && this.#connection.endpoints.length > 1) {
      this.#connection.abandon(stream.link, error);
    }
    this.#reopening = true;
    this.#later(() => {
      this.#reopening = false;
      this.#open();
    });
  }

  #receive(stream: Stream, response: WatchResponse): void {
    const id = this.#identify(stream, response);
    const watch = id === undefined ? undefined : stream.watches.get(id);
    // The answer to a cancellation, or events that were on their way when it was sent.
    if (id === undefined || watch === undefined) return;
    if (response.created && !response.canceled) watch.onCreated(response);
    if (response.canceled) {
      this.#forget(stream, id);
      this.#canceled(watch, response);
    } else if (!response.created || response.events.length > 0) {
      watch.onResponse(response);
    }
  }

  #identify(stream: Stream, response: WatchResponse): bigint | undefined {
    if (!response.created) return response.watchId;
    const asked = stream.creating.shift();
    return response.watchId === -1n ? asked : response.watchId;
  }

  /** The server ended a watch we did not cancel. */
  #canceled(watch: WatchSubscription, response: WatchResponse): void {
    const reason = response.cancelReason;
    const compacted = response.compactRevision > 0n || reason.includes('has been compacted');
    if (compacted) {
      this.#idle.add(watch);
      void this.#reset(watch, response.compactRevision);
      return;
    }
    const error = errorOfText(reason);
    if (reason !== '' && !error.retryable) watch.fail(error);
    else this.#later(() => this.#start(watch));
  }

  /** Compaction passed the watch: list what there is and continue from there. */
  async #reset(watch: WatchSubscription, compactRevision: bigint): Promise<void> {
    const entry = this.#entries.get(watch);
    if (entry === undefined) return;
    const { keyspace, range } = entry;
    try {
      const response = await this.#connection.call('range', toRangeRequest(keyspace, range));
      const { kvs, revision } = fromRangeResponse(keyspace, response);
      if (watch.ended) return;
      this.#idle.delete(watch);
      watch.reset({ type: 'reset', revision, compactRevision, kvs });
      this.#start(watch);
    } catch (error) {
      if (watch.ended) return;
      const known = isConclaveError(error) ? error : judge(error, 'read').error;
      if (known.retryable) this.#later(() => void this.#reset(watch, compactRevision));
      else watch.fail(known);
    }
  }

  #later(action: () => void): void {
    const { clock, retry, random } = this.#connection;
    const nowMs = clock.monotonicMs();
    this.#troubledSinceMs ??= nowMs;
    const cancel = clock.setTimer(
      paceMs(retry, this.#failures++, nowMs - this.#troubledSinceMs, random),
      () => {
        this.#timers.delete(cancel);
        if (!this.#closed) action();
      },
      true,
    );
    this.#timers.add(cancel);
  }
}
