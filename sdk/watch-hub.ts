/**
 * All watches of a client on one stream. When the stream ends, it is opened again on the link then in
 * use and every watch continues where it stood. A watch whose consumer is slow is fed no more until its
 * buffer has room, so it neither grows without bound nor holds up the others. Which of them share a
 * watch at the server is up to their group.
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
import { groupName, sharedOptions, WatchGroup } from './watch-group.ts';
import { WatchSubscription } from './watch-subscription.ts';
import type { WatchUpstream } from './watch-upstream.ts';
import { fromRangeResponse, toRangeRequest } from './wire-kv.ts';

type Stream = {
  readonly link: Link;
  readonly requests: AsyncBuffer<WatchRequest>;
  readonly controller: AbortController;
  readonly upstreams: Map<bigint, WatchUpstream>;
  readonly ids: Map<WatchUpstream, bigint>;
  /** Asked for and not answered yet, in order: a refusal names no id. */
  readonly creating: bigint[];
};

/** The server cannot say more about these: trying again would fail the same way. */
const fatalStatuses: ReadonlySet<number> = new Set([
  Status.INVALID_ARGUMENT,
  Status.PERMISSION_DENIED,
  Status.UNAUTHENTICATED,
  Status.UNIMPLEMENTED,
]);

/**
 * How long a stream stays open without a watch: on it the next watch costs much less. So much longer does
 * a process live that does not close its client.
 */
const restMs = 1_000;

export class WatchHub {
  readonly #connection: Connection;
  readonly #groups = new Map<string, WatchGroup>();
  /** All watches that have not ended. */
  readonly #entries = new Map<WatchSubscription, WatchGroup>();
  /** Fed by nothing on purpose: full, or about to be reset. */
  readonly #idle = new Set<WatchSubscription>();
  readonly #timers = new Set<Cancel>();
  readonly #stopListening: () => void;
  /** Runs while the stream has no watch. */
  #cancelRest: Cancel = () => undefined;
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

  /** @throws ConclaveError INVALID_ARGUMENT */
  watch(keyspace: Keyspace, range: Key | KeyRange, options: WatchOptions): Watch {
    const span = keyspace.span(range);
    const shared = sharedOptions(options);
    const name = groupName(keyspace, span, shared);
    const watch = new WatchSubscription(options, {
      pause: (paused) => {
        this.#idle.add(paused);
        this.#stop(paused);
      },
      resume: (resumed) => {
        this.#idle.delete(resumed);
        this.#start(resumed);
      },
      remove: (ended) => this.#remove(ended, name),
    });
    if (this.#closed) {
      watch.fail(closedError());
      return watch;
    }
    const group = this.#groups.get(name) ?? new WatchGroup(keyspace, range, span, shared);
    this.#groups.set(name, group);
    this.#cancelRest();
    group.watches.add(watch);
    this.#entries.set(watch, group);
    const { signal } = options;
    if (signal?.aborted) watch.fail(aborted(signal));
    else this.#start(watch);
    return watch;
  }

  #remove(watch: WatchSubscription, name: string): void {
    const group = this.#entries.get(watch);
    if (group === undefined) return;
    this.#entries.delete(watch);
    this.#idle.delete(watch);
    this.#stop(watch, group);
    group.watches.delete(watch);
    if (group.watches.size === 0) this.#groups.delete(name);
    if (this.#entries.size === 0) this.#rest();
  }

  #rest(): void {
    if (this.#stream === undefined) return;
    this.#cancelRest();
    this.#cancelRest = this.#connection.clock.setTimer(restMs, () => this.#leave());
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
      upstreams: new Map(),
      ids: new Map(),
      creating: [],
    };
    this.#stream = stream;
    void this.#read(stream);
    for (const { upstreams } of this.#groups.values()) {
      for (const upstream of upstreams) this.#ask(upstream);
    }
  }

  #leave(): void {
    this.#cancelRest();
    const stream = this.#stream;
    this.#stream = undefined;
    for (const upstream of stream?.ids.keys() ?? []) upstream.group.lost(upstream);
    stream?.requests.end();
    stream?.controller.abort();
  }

  /** Lets something feed the watch. */
  #start(watch: WatchSubscription): void {
    const group = this.#entries.get(watch);
    if (group === undefined || this.#idle.has(watch) || watch.upstream !== undefined) return;
    if (!group.join(watch)) this.#ask(group.launch([watch]));
  }

  #ask(upstream: WatchUpstream): void {
    const stream = this.#stream;
    if (stream === undefined) {
      // Asks for every upstream, this one included.
      this.#open();
      return;
    }
    if (stream.ids.has(upstream) || !upstream.group.upstreams.has(upstream)) return;
    const id = this.#nextId;
    this.#nextId += 1n;
    stream.upstreams.set(id, upstream);
    stream.ids.set(upstream, id);
    stream.creating.push(id);
    stream.requests.push({
      requestUnion: { $case: 'createRequest', value: upstream.request(id) },
    });
  }

  /** Lets nothing feed the watch. */
  #stop(watch: WatchSubscription, group = this.#entries.get(watch)): void {
    const useless = group?.detach(watch);
    if (useless !== undefined) this.#drop(useless);
  }

  /** Takes an upstream off the stream; what still arrives for it is ignored. */
  #drop(upstream: WatchUpstream): void {
    upstream.group.drop(upstream);
    const stream = this.#stream;
    const id = stream?.ids.get(upstream);
    if (stream === undefined || id === undefined) return;
    this.#forget(stream, id, upstream);
    stream.requests.push({ requestUnion: { $case: 'cancelRequest', value: { watchId: id } } });
  }

  #forget(stream: Stream, id: bigint, upstream: WatchUpstream): void {
    stream.upstreams.delete(id);
    stream.ids.delete(upstream);
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
    // Nobody needs another, nor cares what became of this one.
    if (this.#entries.size === 0) return;
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
    const upstream = id === undefined ? undefined : stream.upstreams.get(id);
    // The answer to a cancellation, or events that were on their way when it was sent.
    if (id === undefined || upstream === undefined) return;
    if (response.created && !response.canceled) upstream.onCreated(response);
    if (response.canceled) {
      this.#forget(stream, id, upstream);
      this.#canceled(upstream, response);
      return;
    }
    if (!response.created || response.events.length > 0) upstream.onResponse(response);
    for (const useless of upstream.group.settle(upstream)) this.#drop(useless);
  }

  #identify(stream: Stream, response: WatchResponse): bigint | undefined {
    if (!response.created) return response.watchId;
    const asked = stream.creating.shift();
    return response.watchId === -1n ? asked : response.watchId;
  }

  /** The server ended a watch that we did not cancel. */
  #canceled(upstream: WatchUpstream, response: WatchResponse): void {
    const { group } = upstream;
    const { cancelReason: reason, compactRevision } = response;
    if (compactRevision > 0n || reason.includes('has been compacted')) {
      this.#compacted(upstream, compactRevision);
      return;
    }
    const error = errorOfText(reason);
    group.lost(upstream);
    if (reason === '' || error.retryable) this.#later(() => this.#ask(upstream));
    else for (const watch of [...upstream.watches]) watch.fail(error);
  }

  /** Compaction passed some of the watches; others may want only what comes later. */
  #compacted(upstream: WatchUpstream, compactRevision: bigint): void {
    const { group } = upstream;
    const watches = [...upstream.watches];
    for (const watch of watches) group.detach(watch);
    group.drop(upstream);
    const isPassed = ({ next }: WatchSubscription) =>
      compactRevision === 0n || next < compactRevision;
    const passed = watches.filter(isPassed);
    const others = watches.filter((watch) => !isPassed(watch));
    if (others.length > 0) this.#ask(group.launch(others));
    for (const watch of passed) this.#idle.add(watch);
    if (passed.length > 0) void this.#reset(group, passed, compactRevision);
  }

  /** Compaction passed the watches: list what there is and continue from there. */
  async #reset(
    group: WatchGroup,
    passed: readonly WatchSubscription[],
    compactRevision: bigint,
  ): Promise<void> {
    const { keyspace, range } = group;
    const going = () => passed.filter(({ ended }) => !ended);
    try {
      const response = await this.#connection.call('range', toRangeRequest(keyspace, range));
      const { kvs, revision } = fromRangeResponse(keyspace, response);
      const value = { type: 'reset', revision, compactRevision, kvs } as const;
      for (const watch of going()) {
        this.#idle.delete(watch);
        watch.reset({ done: false, value });
      }
      const ready = going().filter((watch) => !this.#idle.has(watch));
      if (ready.length > 0) this.#ask(group.launch(ready));
    } catch (error) {
      const known = isConclaveError(error) ? error : judge(error, 'read').error;
      if (known.retryable) this.#later(() => void this.#reset(group, going(), compactRevision));
      else for (const watch of going()) watch.fail(known);
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
