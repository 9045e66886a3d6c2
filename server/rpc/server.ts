/**
 * The gRPC server: every service on one grpc-js `Server`, fed with connections by the listener.
 *
 * grpc-js sees bytes only. Messages are decoded and encoded by the methods themselves, which lets the
 * batched stream run the very same ones.
 */

import type { Duplex } from 'node:stream';
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js';
import type { Logger } from 'pino';
import { limits } from '../limits.ts';
import type { Member } from './member.ts';
import { checkMetadata } from './metadata.ts';
import type { CallContext, UnaryMethod } from './method.ts';
import { type CallKind, type RpcObserver, silentObserver } from './observer.ts';
import { type ServiceOptions, serveAll } from './registry.ts';
import { type CallStatus, isUnexpected, statusOf } from './status.ts';
import type { OpenStreams } from './streams.ts';

export type RpcOptions = Omit<ServiceOptions, 'report'> & {
  /** Streams of one connection. @default 10000. Flag: --max-concurrent-streams. */
  readonly maxConcurrentStreams?: number;
  /** Server pings on idle connections. @default 2 hours and 20 seconds, as in etcd. */
  readonly keepaliveIntervalMs?: number;
  readonly keepaliveTimeoutMs?: number;
  readonly observer?: RpcObserver;
};

const MINUTE_MS = 60_000;
const MAX_CONCURRENT_STREAMS = 10_000;
/** Memory of one HTTP/2 session in megabytes: headers and frames that wait, not our queues. */
const SESSION_MEMORY_MB = 64;

export class RpcServer {
  readonly #server: Server;
  readonly #injector: ReturnType<Server['createConnectionInjector']>;
  readonly #streams: OpenStreams;
  readonly #member: Member;
  readonly #logger: Logger;
  readonly #observer: RpcObserver;
  #stopped: Promise<void> | undefined;

  constructor(options: RpcOptions) {
    const maxRequestBytes = options.maxRequestBytes ?? limits.requestBytes;
    const maxMessageBytes = maxRequestBytes + limits.requestOverheadBytes;
    this.#member = options.member;
    this.#logger = options.logger;
    this.#observer = options.observer ?? silentObserver;
    this.#server = new Server({
      'grpc.max_receive_message_length': maxMessageBytes,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': options.maxConcurrentStreams ?? MAX_CONCURRENT_STREAMS,
      'grpc-node.max_session_memory': SESSION_MEMORY_MB,
      'grpc.keepalive_time_ms': options.keepaliveIntervalMs ?? 120 * MINUTE_MS,
      'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs ?? 20_000,
      'grpc.enable_channelz': 0,
    });
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());

    const { streams } = serveAll(
      { ...options, maxRequestBytes, report: (error, path) => this.#report(error, path) },
      {
        unary: (method) => this.#serveUnary(method),
        bidi: (path, serve) => this.#serveBidi(path, serve),
        serverStream: (path, serve) => this.#serveServerStream(path, serve),
      },
    );
    this.#streams = streams;
  }

  /** Takes over a connection that speaks HTTP/2. */
  accept(connection: Duplex): void {
    this.#injector.injectConnection(connection);
  }

  get openStreams(): number {
    return this.#streams.size;
  }

  /**
   * Ends streams with `server stopped`, lets unary calls finish, and closes the connections; what is
   * left after `graceMs` is cut. The first call decides; later ones wait for the same end.
   */
  stop(graceMs: number): Promise<void> {
    this.#stopped ??= this.#shutDown(graceMs);
    return this.#stopped;
  }

  async #shutDown(graceMs: number): Promise<void> {
    this.#streams.close();
    const timer = setTimeout(() => this.#server.forceShutdown(), graceMs);
    await new Promise<void>((resolve) => {
      this.#server.tryShutdown(() => resolve());
    });
    clearTimeout(timer);
  }

  #report(error: unknown, path: string): CallStatus {
    const status = statusOf(error);
    if (isUnexpected(status)) this.#logger.error({ err: error, path }, 'call failed unexpectedly');
    return status;
  }

  #serveUnary(method: UnaryMethod): void {
    const { path } = method;
    const calls = this.#observer.method(path, 'unary');
    const handler = (call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) => {
      const finished = calls.started();
      const context = new SingleCall(call);
      const answer = async (): Promise<Buffer> => {
        checkMetadata(call.metadata, this.#member);
        return method.invoke(call.request, context);
      };
      answer().then(
        (response) => {
          finished(0);
          done(null, response);
        },
        (error: unknown) => {
          const status = this.#report(error, path);
          finished(status.code);
          done(status);
        },
      );
    };
    this.#server.register(path, handler, identity, identity, 'unary');
  }

  #serveBidi(path: string, serve: (call: ServerDuplexStream<Buffer, Buffer>) => void): void {
    const calls = this.#observer.method(path, 'bidi_stream');
    this.#server.register(
      path,
      (call: ServerDuplexStream<Buffer, Buffer>) => this.#open(call, calls, () => serve(call)),
      identity,
      identity,
      'bidi',
    );
  }

  #serveServerStream(
    path: string,
    serve: (call: ServerWritableStream<Buffer, Buffer>) => void,
  ): void {
    const calls = this.#observer.method(path, 'server_stream');
    this.#server.register(
      path,
      (call: ServerWritableStream<Buffer, Buffer>) => this.#open(call, calls, () => serve(call)),
      identity,
      identity,
      'serverStream',
    );
  }

  /** Streams are checked once, when they open. */
  #open(
    call: ServerDuplexStream<Buffer, Buffer> | ServerWritableStream<Buffer, Buffer>,
    calls: CallKind,
    serve: () => void,
  ): void {
    const finished = calls.started();
    let code = 0;
    call.on('error', (error: unknown) => {
      code = isCallStatus(error) ? error.code : statusOf(error).code;
    });
    call.on('cancelled', () => finished(code));
    try {
      checkMetadata(call.metadata, this.#member);
      serve();
    } catch (error) {
      call.emit('error', statusOf(error));
    }
  }
}

/** A call that travels by itself. */
class SingleCall implements CallContext {
  readonly #call: ServerUnaryCall<Buffer, Buffer>;
  #abort: AbortController | undefined;

  constructor(call: ServerUnaryCall<Buffer, Buffer>) {
    this.#call = call;
  }

  get requestBytes(): number {
    return this.#call.request.length;
  }

  get signal(): AbortSignal {
    if (this.#abort !== undefined) return this.#abort.signal;
    const abort = new AbortController();
    this.#abort = abort;
    if (this.#call.cancelled) abort.abort();
    else this.#call.on('cancelled', () => abort.abort());
    return abort.signal;
  }
}

const identity = (bytes: Buffer): Buffer => bytes;

const isCallStatus = (error: unknown): error is CallStatus =>
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'number';
