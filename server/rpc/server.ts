/**
 * The gRPC server: every service on one carrier, fed with connections by the listener.
 *
 * Carriers see bytes only. Messages are decoded and encoded by the methods themselves, which lets the
 * batched stream run the very same ones.
 */
import type { Socket } from 'node:net';
import type { Logger } from 'pino';
import type { Message } from '../http2/message.ts';
import { limits } from '../limits.ts';
import type { Carrier, CarrierOptions, ServedCall } from './carrier.ts';
import { LeanCarrier } from './lean-carrier.ts';
import type { Member } from './member.ts';
import { checkMetadata } from './metadata.ts';
import type { UnaryMethod } from './method.ts';
import { type CallKind, type RpcObserver, silentObserver } from './observer.ts';
import { type ServiceOptions, serveAll } from './registry.ts';
import type { ServedResponses, ServedStream } from './served-stream.ts';
import { type CallStatus, isUnexpected, statusOf } from './status.ts';
import type { OpenStreams } from './streams.ts';

/** `lean`: the own HTTP/2 server. `grpc-js`: that library on Node's HTTP/2. */
export type CarrierName = 'lean' | 'grpc-js';

export type RpcOptions = Omit<ServiceOptions, 'report'> & {
  /** What carries the calls. @default 'lean'. Flag: --grpc-server. */
  readonly carrier?: CarrierName;
  /** Streams of one connection. @default 10000. Flag: --max-concurrent-streams. */
  readonly maxConcurrentStreams?: number;
  /** Server pings on idle connections. @default 2 hours and 20 seconds, as in etcd. */
  readonly keepaliveIntervalMs?: number;
  readonly keepaliveTimeoutMs?: number;
  readonly observer?: RpcObserver;
};

const MINUTE_MS = 60_000;
const MAX_CONCURRENT_STREAMS = 10_000;

export class RpcServer {
  readonly #carrier: Carrier;
  readonly #streams: OpenStreams;
  readonly #member: Member;
  readonly #logger: Logger;
  readonly #observer: RpcObserver;
  #stopped: Promise<void> | undefined;

  static async open(options: RpcOptions): Promise<RpcServer> {
    const carrier = await openCarrier(options.carrier ?? 'lean', {
      maxMessageBytes: maxRequestBytesOf(options) + limits.requestOverheadBytes,
      maxConcurrentStreams: options.maxConcurrentStreams ?? MAX_CONCURRENT_STREAMS,
      keepaliveIntervalMs: options.keepaliveIntervalMs ?? 120 * MINUTE_MS,
      keepaliveTimeoutMs: options.keepaliveTimeoutMs ?? 20_000,
      onError: (error) => options.logger.error({ err: error }, 'connection failed unexpectedly'),
    });
    return new RpcServer(options, carrier);
  }

  private constructor(options: RpcOptions, carrier: Carrier) {
    this.#member = options.member;
    this.#logger = options.logger;
    this.#observer = options.observer ?? silentObserver;
    this.#carrier = carrier;
    const maxRequestBytes = maxRequestBytesOf(options);
    const { streams } = serveAll(
      { ...options, maxRequestBytes, report: (error, path) => this.#report(error, path) },
      {
        unary: (method) => this.#serveUnary(method),
        bidi: (path, serve) => {
          const calls = this.#observer.method(path, 'bidi_stream');
          this.#carrier.bidi(path, (call) => this.#open(call, calls, serve));
        },
        serverStream: (path, serve) => {
          const calls = this.#observer.method(path, 'server_stream');
          this.#carrier.serverStream(path, (call) => this.#open(call, calls, serve));
        },
      },
    );
    this.#streams = streams;
  }

  /** Takes over a connection that speaks HTTP/2. It may stay silent for `silenceMs` at its beginning. */
  accept(connection: Socket, silenceMs: number): void {
    this.#carrier.accept(connection, silenceMs);
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
    await this.#carrier.stop(graceMs);
  }

  #report(error: unknown, path: string): CallStatus {
    const status = statusOf(error);
    if (isUnexpected(status)) this.#logger.error({ err: error, path }, 'call failed unexpectedly');
    return status;
  }

  #serveUnary(method: UnaryMethod): void {
    const { path } = method;
    const calls = this.#observer.method(path, 'unary');
    const answer = async (call: ServedCall): Promise<void> => {
      calls.started();
      let response: Message;
      try {
        checkMetadata(call.metadata, this.#member);
        response = await method.invoke(call.request, call);
      } catch (error) {
        const status = this.#report(error, path);
        calls.ended(status.code);
        call.fail(status);
        return;
      }
      calls.ended(0);
      call.respond(response);
    };
    this.#carrier.unary(path, (call) => void answer(call));
  }

  /** Streams are checked once, when they open. */
  #open<Stream extends ServedStream | ServedResponses>(
    call: Stream,
    calls: CallKind,
    serve: (call: Stream) => void,
  ): void {
    calls.started();
    let code = 0;
    // Before the status is sent, which may end the call at once.
    call.prependListener('error', (error: unknown) => {
      code = isCallStatus(error) ? error.code : statusOf(error).code;
    });
    call.once('cancelled', () => calls.ended(code));
    try {
      checkMetadata(call.metadata, this.#member);
      serve(call);
    } catch (error) {
      call.emit('error', statusOf(error));
    }
  }
}

const maxRequestBytesOf = ({ maxRequestBytes }: RpcOptions): number =>
  maxRequestBytes ?? limits.requestBytes;

/** grpc-js is large: it is loaded where it is wanted, so that a start need not wait for it. */
async function openCarrier(name: CarrierName, options: CarrierOptions): Promise<Carrier> {
  if (name === 'lean') return new LeanCarrier(options);
  const { GrpcJsCarrier } = await import('./grpc-js-carrier.ts');
  return new GrpcJsCarrier(options);
}

const isCallStatus = (error: unknown): error is CallStatus =>
  typeof error === 'object' && error !== null && 'code' in error && typeof error.code === 'number';
