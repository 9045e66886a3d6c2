/** One gRPC call for each request. */
import type { Channel } from '@grpc/grpc-js';
import { createClient } from 'nice-grpc';
import { ClientError, Metadata, Status } from 'nice-grpc-common';
import { MembershipDefinition } from '../server/wire/conclave/v1/membership.ts';
import {
  ClusterDefinition,
  KVDefinition,
  LeaseDefinition,
  type LeaseKeepAliveRequest,
  type LeaseKeepAliveResponse,
  MaintenanceDefinition,
  type SnapshotResponse,
  WatchDefinition,
  type WatchRequest,
  type WatchResponse,
} from '../server/wire/etcdserverpb/rpc.ts';
import type { Cancel, Clock } from './clock.ts';
import { KeepAliveStream } from './keep-alive-stream.ts';
import type { MethodName, RequestOf, ResponseOf } from './methods.ts';
import {
  type AttemptOptions,
  neverConnected,
  type StreamOptions,
  type Transport,
  TransportFailure,
} from './transport.ts';

type Call<M extends MethodName> = (
  request: RequestOf<M>,
  options: { readonly signal: AbortSignal },
) => Promise<ResponseOf<M>>;

/** What there is no gRPC call of its own for. */
type BatchedOnly =
  | 'txnWhenFalse'
  | 'clientRegister'
  | 'clientForget'
  | 'ping'
  | 'leaseKeepAliveMany';

type Calls = { readonly [M in Exclude<MethodName, BatchedOnly>]: Call<M> } & {
  readonly [M in BatchedOnly]?: undefined;
};

/** A member that the leader does not reach then ends the stream, instead of falling silent on it. */
const requireLeader = Metadata({ hasleader: 'true' });

export class UnaryTransport implements Transport {
  readonly #calls: Calls;
  readonly #clock: Clock;
  readonly #keepAlives: KeepAliveStream;
  readonly #watch: (
    requests: AsyncIterable<WatchRequest>,
    options: StreamOptions,
  ) => AsyncIterable<WatchResponse>;
  readonly #snapshot: (options: StreamOptions) => AsyncIterable<SnapshotResponse>;
  readonly #inFlight = new Set<AbortController>();
  #closed = false;

  constructor(channel: Channel, clock: Clock) {
    this.#clock = clock;
    const kv = createClient(KVDefinition, channel);
    const lease = createClient(LeaseDefinition, channel);
    const cluster = createClient(ClusterDefinition, channel);
    const maintenance = createClient(MaintenanceDefinition, channel);
    const watch = createClient(WatchDefinition, channel);
    const membership = createClient(MembershipDefinition, channel);
    this.#keepAlives = new KeepAliveStream((requests, options) =>
      lease.leaseKeepAlive(requests, options),
    );
    this.#watch = (requests, options) =>
      watch.watch(requests, { ...options, metadata: requireLeader });
    this.#snapshot = (options) => maintenance.snapshot({}, options);
    this.#calls = {
      range: kv.range,
      put: kv.put,
      deleteRange: kv.deleteRange,
      txn: kv.txn,
      compact: kv.compact,
      leaseGrant: lease.leaseGrant,
      leaseRevoke: lease.leaseRevoke,
      leaseKeepAlive: (
        request: LeaseKeepAliveRequest,
        { signal },
      ): Promise<LeaseKeepAliveResponse> => this.#keepAlives.renew(request, signal),
      leaseTimeToLive: lease.leaseTimeToLive,
      leaseLeases: lease.leaseLeases,
      status: maintenance.status,
      memberList: cluster.memberList,
      memberAdd: cluster.memberAdd,
      memberRemove: cluster.memberRemove,
      memberUpdate: cluster.memberUpdate,
      memberPromote: cluster.memberPromote,
      alarm: maintenance.alarm,
      defragment: maintenance.defragment,
      hashKV: maintenance.hashKV,
      moveLeader: maintenance.moveLeader,
      memberReplace: membership.replace,
    };
  }

  async unary<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    { signal, timeoutMs, number }: AttemptOptions,
  ): Promise<ResponseOf<M>> {
    if (this.#closed) throw closedFailure(false);
    const call = this.#calls[method] as Call<M> | undefined;
    if (method === 'txnWhenFalse') throw notOffered(method);
    if (number !== undefined || call === undefined) throw unnumberedFailure(method);
    if (signal?.aborted) throw new TransportFailure('aborted', Status.CANCELLED, 'aborted', false);
    const controller = new AbortController();
    let ended: 'timeout' | 'aborted' | undefined;
    const onAbort = () => {
      ended = 'aborted';
      controller.abort();
    };
    signal?.addEventListener('abort', onAbort);
    const cancelTimer: Cancel | undefined = Number.isFinite(timeoutMs)
      ? this.#clock.setTimer(
          timeoutMs,
          () => {
            ended = 'timeout';
            controller.abort();
          },
          true,
        )
      : undefined;
    this.#inFlight.add(controller);
    try {
      return await call(request, { signal: controller.signal });
    } catch (cause) {
      if (ended === 'timeout') throw timeoutFailure(method, timeoutMs, true);
      if (ended === 'aborted') {
        throw new TransportFailure('aborted', Status.CANCELLED, 'aborted', true);
      }
      if (controller.signal.aborted) throw closedFailure(true);
      throw failureOf(cause);
    } finally {
      this.#inFlight.delete(controller);
      cancelTimer?.();
      signal?.removeEventListener('abort', onAbort);
    }
  }

  watch(
    requests: AsyncIterable<WatchRequest>,
    options: StreamOptions,
  ): AsyncIterable<WatchResponse> {
    return translated(this.#watch(requests, options));
  }

  snapshot(options: StreamOptions): AsyncIterable<SnapshotResponse> {
    return translated(this.#snapshot(options));
  }

  close(): void {
    this.#closed = true;
    this.#keepAlives.close();
    for (const controller of this.#inFlight) controller.abort();
  }
}

export const closedFailure = (sent: boolean): TransportFailure =>
  new TransportFailure('closed', Status.UNAVAILABLE, 'the connection was closed', sent);

/** Nothing else does it: the caller has another way. */
const notOffered = (method: MethodName): TransportFailure =>
  new TransportFailure('status', Status.UNIMPLEMENTED, `${method} is not offered here`, false);

/** The call needs what only the batched stream has. */
export const unnumberedFailure = (method: MethodName): TransportFailure =>
  new TransportFailure(
    'unnumbered',
    Status.UNIMPLEMENTED,
    `${method} cannot be sent with a number here`,
    false,
  );

export const timeoutFailure = (
  method: MethodName,
  timeoutMs: number,
  sent: boolean,
): TransportFailure =>
  new TransportFailure(
    'timeout',
    Status.DEADLINE_EXCEEDED,
    `No answer to ${method} within ${Math.ceil(timeoutMs)} ms`,
    sent,
  );

/** A gRPC error as a failure of the transport; anything else as it is. */
const failureOf = (cause: unknown): unknown => {
  if (!(cause instanceof ClientError)) return cause;
  const { code, details } = cause;
  return new TransportFailure('status', code, details, !neverConnected(details), { cause });
};

async function* translated<T>(source: AsyncIterable<T>): AsyncGenerator<T, void> {
  try {
    yield* source;
  } catch (cause) {
    throw failureOf(cause);
  }
}
