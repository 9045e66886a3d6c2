/** A connection to a member over gRPC: batches where the server takes them, else a call per request. */
import { Channel, type ChannelCredentials, connectivityState } from '@grpc/grpc-js';
import { Status } from 'nice-grpc-common';
import { Method } from '../server/wire/conclave/v1/batch.ts';
import type {
  SnapshotResponse,
  WatchRequest,
  WatchResponse,
} from '../server/wire/etcdserverpb/rpc.ts';
import { afterThisTurn, type Clock } from './clock.ts';
import type { Endpoint } from './endpoints.ts';
import { type MethodName, methods, type RequestOf, type ResponseOf } from './methods.ts';
import { insecureCredentials } from './tls.ts';
import {
  type AttemptOptions,
  type MemberTransport,
  type StreamOptions,
  TransportFailure,
} from './transport.ts';
import { Lanes } from './transport-lanes.ts';
import { UnaryTransport } from './transport-unary.ts';

export type GrpcOptions = {
  readonly transport: 'auto' | 'unary' | 'batch';
  /** For endpoints that speak TLS. */
  readonly credentials: ChannelCredentials;
  /** Targets known to serve no batches; added to when one is found. */
  readonly withoutBatches: Set<string>;
  readonly clock: Clock;
};

const channelOptions = {
  'grpc.max_receive_message_length': -1,
  'grpc.max_send_message_length': -1,
  // A silent peer is found dead after 8 s; etcd refuses pings more often than every 5 s.
  'grpc.keepalive_time_ms': 6_000,
  'grpc.keepalive_timeout_ms': 2_000,
  // A transport connects once. Without this a failed attempt would try again by itself after `close`.
  'grpc.initial_reconnect_backoff_ms': 60_000,
  'grpc.max_reconnect_backoff_ms': 60_000,
  'grpc.client_idle_timeout_ms': 2 ** 31 - 1,
  'grpc.enable_retries': 0,
  'grpc.enable_channelz': 0,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.service_config_disable_resolution': 1,
} as const;

export class GrpcTransport implements MemberTransport {
  readonly #endpoint: Endpoint;
  readonly #options: GrpcOptions;
  readonly #channel: Channel;
  readonly #unary: UnaryTransport;
  readonly #lanes: Lanes | undefined;
  /** A channel that is closed in the very turn in which it is told to connect connects nevertheless. */
  #mustNotClose = false;
  #closed = false;

  constructor(endpoint: Endpoint, options: GrpcOptions) {
    this.#endpoint = endpoint;
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
    this.#unary = new UnaryTransport(this.#channel, options.clock);
    this.#lanes =
      options.transport === 'unary'
        ? undefined
        : new Lanes(this.#channel, this.#unary, options.clock);
  }

  get received(): number {
    return this.#lanes?.received ?? 0;
  }

  async connected(): Promise<void> {
    this.#mustNotClose = true;
    this.#channel.getConnectivityState(true);
    afterThisTurn(() => {
      this.#mustNotClose = false;
      if (this.#closed) this.#channel.close();
    });
    for (;;) {
      if (this.#closed) throw this.#unreachable('closed');
      const state = this.#channel.getConnectivityState(true);
      if (state === connectivityState.READY) return;
      if (state === connectivityState.TRANSIENT_FAILURE || state === connectivityState.SHUTDOWN) {
        throw this.#unreachable('connection refused or lost');
      }
      await changed(this.#channel, state);
    }
  }

  async broken(): Promise<void> {
    while (!this.#closed && this.#channel.getConnectivityState(false) === connectivityState.READY) {
      await changed(this.#channel, connectivityState.READY);
    }
  }

  unary<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: AttemptOptions,
  ): Promise<ResponseOf<M>> {
    const lanes = this.#lanesFor(method);
    if (lanes === undefined) return this.#unary.unary(method, request, options);
    const answer = lanes.unary(method, request, options);
    if (lanes.served || this.#options.transport === 'batch') return answer;
    return answer.catch((error: unknown) => {
      // A single refused call has `sent`; this is the stream as a whole.
      const notServed =
        error instanceof TransportFailure &&
        error.kind === 'status' &&
        error.status === Status.UNIMPLEMENTED &&
        !error.sent;
      if (!notServed) throw error;
      this.#options.withoutBatches.add(this.#endpoint.target);
      return this.#unary.unary(method, request, options);
    });
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

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#lanes?.close();
    this.#unary.close();
    if (!this.#mustNotClose) this.#channel.close();
  }

  #lanesFor(method: MethodName): Lanes | undefined {
    if (methods[method].batch === Method.UNSPECIFIED) return undefined;
    if (this.#options.withoutBatches.has(this.#endpoint.target)) return undefined;
    return this.#lanes;
  }

  #unreachable(reason: string): TransportFailure {
    const text = `Cannot reach ${this.#endpoint.name}: ${reason}`;
    return new TransportFailure('status', Status.UNAVAILABLE, text, false);
  }
}

/** However it changes, closing included. */
const changed = (channel: Channel, from: connectivityState): Promise<void> =>
  new Promise((resolve) => {
    channel.watchConnectivityState(from, Number.POSITIVE_INFINITY, () => resolve());
  });
