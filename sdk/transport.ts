/**
 * What a connection to one member can do. Two ways of making unary calls stand behind it (one gRPC
 * call each, or many on one stream), or a simulation, and nothing above this file knows which is in use.
 */

import { Status } from 'nice-grpc-common';
import type {
  SnapshotResponse,
  WatchRequest,
  WatchResponse,
} from '../server/wire/etcdserverpb/rpc.ts';
import type { Endpoint } from './endpoints.ts';
import type { MethodName, RequestOf, ResponseOf } from './methods.ts';

/** Tells a write from all others: the server applies one write of this number and no second. */
export type WriteNumber = {
  /** As registered by `clientRegister`. */
  readonly client: bigint;
  /** From 1n. */
  readonly sequence: bigint;
  /** No call with a sequence below this one will be made again: what was remembered of it may go. */
  floor(): bigint;
};

export type AttemptOptions = {
  readonly signal?: AbortSignal | undefined;
  /** Infinity means no limit. */
  readonly timeoutMs: number;
  /** Rejects with kind 'unnumbered' where the transport cannot send it along. */
  readonly number?: WriteNumber | undefined;
};

export type StreamOptions = { readonly signal: AbortSignal };

export interface UnaryCaller {
  /** One attempt. Rejects with TransportFailure. */
  unary<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: AttemptOptions,
  ): Promise<ResponseOf<M>>;
  /** Fails what is in flight. */
  close(): void;
}

export interface Transport extends UnaryCaller {
  watch(
    requests: AsyncIterable<WatchRequest>,
    options: StreamOptions,
  ): AsyncIterable<WatchResponse>;
  snapshot(options: StreamOptions): AsyncIterable<SnapshotResponse>;
}

/** A transport that is made, stands, and breaks once. Waits on it take their time from its maker's clock. */
export interface MemberTransport extends Transport {
  /** Messages that came from the member on streams of calls, parts of answers among them. Only grows. */
  readonly received: number;
  /** Resolves when calls can be made; rejects with TransportFailure when that fails or on `close`. */
  connected(): Promise<void>;
  /** Resolves once the connection, having stood, takes no new calls. Those under way may still end. */
  broken(): Promise<void>;
}

/** Begins to connect. A transport that breaks is never mended: another is opened. */
export type OpenTransport = (endpoint: Endpoint) => MemberTransport;

export type FailureKind =
  /** The server or gRPC answered with a status. */
  | 'status'
  /** The time given passed. */
  | 'timeout'
  /** The signal given aborted. */
  | 'aborted'
  /** The transport was closed, or left for another. */
  | 'closed'
  /** A number was given that cannot travel with this call; nothing was sent. */
  | 'unnumbered';

/** Why one attempt failed. */
export class TransportFailure extends Error {
  override readonly name = 'TransportFailure';
  readonly kind: FailureKind;
  /** The gRPC status code. */
  readonly status: number;
  /** Its text. */
  readonly details: string;
  /** Whether the server may have seen the request. */
  readonly sent: boolean;

  constructor(
    kind: FailureKind,
    status: number,
    details: string,
    sent: boolean,
    options?: ErrorOptions,
  ) {
    super(details, options);
    this.kind = kind;
    this.status = status;
    this.details = details;
    this.sent = sent;
  }
}

/** The server does not know this call. */
export const isUnimplemented = ({ kind, status }: TransportFailure): boolean =>
  kind === 'status' && status === Status.UNIMPLEMENTED;

/**
 * Whether gRPC gave up before it had a connection to send on. These are the texts of @grpc/grpc-js,
 * which reports it in no other way.
 */
export const neverConnected = (details: string): boolean =>
  /No connection established|Name resolution failed|Channel has been shut down|Channel closed before call/.test(
    details,
  );
