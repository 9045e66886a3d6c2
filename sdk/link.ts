/**
 * One connection to one member, from the moment it stands until it breaks. It is never repaired: a
 * broken link is replaced, so everything that hangs on it (watches, keep-alives) starts over cleanly.
 */
import { Channel, type ChannelCredentials, connectivityState } from '@grpc/grpc-js';
import { Status } from 'nice-grpc-common';
import { Method } from '../server/wire/conclave/v1/batch.ts';
import type {
  SnapshotResponse,
  WatchRequest,
  WatchResponse,
} from '../server/wire/etcdserverpb/rpc.ts';
import type { Endpoint } from './endpoints.ts';
import { type MethodName, methods, type RequestOf, type ResponseOf } from './methods.ts';
import { insecureCredentials } from './tls.ts';
import {
  type AttemptOptions,
  type StreamOptions,
  type Transport,
  TransportFailure,
} from './transport.ts';
import { BatchCaller } from './transport-batch.ts';
import { UnaryTransport } from './transport-unary.ts';

export type LinkOptions = {
  readonly transport: 'auto' | 'unary' | 'batch';
  /** For endpoints that speak TLS. */
  readonly credentials: ChannelCredentials;
  /** Targets known to serve no batches; added to when one is found. */
  readonly withoutBatches: Set<string>;
};

const channelOptions = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  // A silent peer is found dead after 13 s; etcd refuses pings more often than every 5 s.
  'grpc.keepalive_time_ms': 10_000,
  'grpc.keepalive_timeout_ms': 3_000,
  // A link connects once. Without this a failed attempt would try again by itself after `close`.
  'grpc.initial_reconnect_backoff_ms': 60_000,
  'grpc.max_reconnect_backoff_ms': 60_000,
  'grpc.client_idle_timeout_ms': 2 ** 31 - 1,
  'grpc.enable_retries': 0,
  'grpc.enable_channelz': 0,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
} as const;

export class Link implements Transport {
  readonly endpoint: Endpoint;
  readonly #channel: Channel;
  readonly #options: LinkOptions;
  readonly #unary: UnaryTransport;
  readonly #batch: BatchCaller | undefined;
  #inFlight = 0;
  #retired = false;
  #closed = false;

  constructor(endpoint: Endpoint, options: LinkOptions) {
    this.endpoint = endpoint;
    this.#options = options;
    this.#channel = new Channel(
      endpoint.target,
      endpoint.tls ? options.credentials : insecureCredentials,
      {
        ...channelOptions,
        // The default would send the path of the socket as a host name, which servers reject.
        ...(endpoint.target.startsWith('unix:') ? { 'grpc.default_authority': 'localhost' } : {}),
      },
    );
    this.#unary = new UnaryTransport(this.#channel);
    this.#batch =
      options.transport === 'unary' ? undefined : new BatchCaller(this.#channel, this.#unary);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Resolves when connected; rejects with TransportFailure when that fails or takes too long. */
  async connected(timeoutMs: number): Promise<void> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const state = this.#channel.getConnectivityState(true);
      if (state === connectivityState.READY) return;
      if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) {
        throw this.#unreachable('connection refused or lost');
      }
      try {
        await changed(this.#channel, state, deadline);
      } catch {
        throw this.#unreachable(`no connection within ${Math.ceil(timeoutMs)} ms`);
      }
    }
  }

  /** Resolves once the connection, having stood, is gone. */
  async broken(): Promise<void> {
    while (!this.#closed && this.#channel.getConnectivityState(false) === connectivityState.READY) {
      await changed(this.#channel, connectivityState.READY, Number.POSITIVE_INFINITY).catch(
        () => undefined,
      );
    }
  }

  async unary<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: AttemptOptions,
  ): Promise<ResponseOf<M>> {
    this.#inFlight += 1;
    try {
      return await this.#attempt(method, request, options);
    } finally {
      this.#inFlight -= 1;
      if (this.#retired && this.#inFlight === 0) this.close();
    }
  }

  async #attempt<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: AttemptOptions,
  ): Promise<ResponseOf<M>> {
    const batch = this.#batchFor(method);
    if (batch === undefined) return this.#unary.unary(method, request, options);
    try {
      return await batch.unary(method, request, options);
    } catch (error) {
      const notServed =
        error instanceof TransportFailure && error.status === Status.UNIMPLEMENTED && !error.sent;
      if (!notServed || this.#options.transport === 'batch') throw error;
      this.#options.withoutBatches.add(this.endpoint.target);
      return this.#unary.unary(method, request, options);
    }
  }

  watch(
    requests: AsyncIterable<WatchRequest>,
    options: StreamOptions,
  ): AsyncIterable<WatchResponse> {
    return this.#unary.watch(requests, options);
  }

  snapshot(options: StreamOptions): AsyncIterable<SnapshotResponse> {
    return this.#unary.snapshot(options);
  }

  /** Lets calls in flight end on their own (a member that shuts down still answers them), then closes. */
  retire(): void {
    this.#retired = true;
    if (this.#inFlight === 0) this.close();
  }

  /** Fails everything in flight and lets the socket go. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#batch?.close();
    this.#unary.close();
    this.#channel.close();
  }

  #batchFor(method: MethodName): BatchCaller | undefined {
    if (methods[method].batch === Method.UNSPECIFIED) return undefined;
    if (this.#options.withoutBatches.has(this.endpoint.target)) return undefined;
    return this.#batch;
  }

  #unreachable(reason: string): TransportFailure {
    const text = `Cannot reach ${this.endpoint.name}: ${reason}`;
    return new TransportFailure('status', Status.UNAVAILABLE, text, false);
  }
}

const changed = (channel: Channel, from: connectivityState, deadline: number): Promise<void> =>
  new Promise((resolve, reject) => {
    channel.watchConnectivityState(from, deadline, (error) => {
      if (error) reject(error);
      else resolve();
    });
  });
