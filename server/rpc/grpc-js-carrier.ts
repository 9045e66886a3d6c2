/** grpc-js as carrier, with Node's HTTP/2 below it. */
import type { Socket } from 'node:net';
import {
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type sendUnaryData,
} from '@grpc/grpc-js';
import { joined, type Message } from '../http2/message.ts';
import { mendAuthority } from './authority.ts';
import type { Carrier, CarrierOptions, ServedCall } from './carrier.ts';
import type { CallMetadata } from './metadata.ts';
import type { ServedResponses, ServedStream } from './served-stream.ts';
import type { CallStatus } from './status.ts';

/** Memory of one HTTP/2 session in megabytes: headers and frames that wait, not our queues. */
const SESSION_MEMORY_MB = 64;

export class GrpcJsCarrier implements Carrier {
  readonly #server: Server;
  readonly #injector: ReturnType<Server['createConnectionInjector']>;

  constructor(options: CarrierOptions) {
    this.#server = new Server({
      'grpc.max_receive_message_length': options.maxMessageBytes,
      'grpc.max_send_message_length': -1,
      'grpc.max_concurrent_streams': options.maxConcurrentStreams,
      'grpc-node.max_session_memory': SESSION_MEMORY_MB,
      'grpc.keepalive_time_ms': options.keepaliveIntervalMs,
      'grpc.keepalive_timeout_ms': options.keepaliveTimeoutMs,
      'grpc.enable_channelz': 0,
    });
    this.#injector = this.#server.createConnectionInjector(ServerCredentials.createInsecure());
  }

  unary(path: string, serve: (call: ServedCall) => void): void {
    const handler = (call: ServerUnaryCall<Buffer, Message>, done: sendUnaryData<Message>) =>
      serve(new SingleCall(call, done));
    this.#server.register(path, handler, joined, identity, 'unary');
  }

  bidi(path: string, serve: (call: ServedStream) => void): void {
    const handler = (call: ServerDuplexStream<Buffer, Buffer>) => serve(call);
    this.#server.register(path, handler, identity, identity, 'bidi');
  }

  serverStream(path: string, serve: (call: ServedResponses) => void): void {
    const handler = (call: ServerWritableStream<Buffer, Buffer>) => serve(call);
    this.#server.register(path, handler, identity, identity, 'serverStream');
  }

  accept(connection: Socket, silenceMs: number): void {
    mendAuthority(connection, silenceMs, () => this.#injector.injectConnection(connection));
  }

  async stop(graceMs: number): Promise<void> {
    const timer = setTimeout(() => this.#server.forceShutdown(), graceMs);
    await new Promise<void>((resolve) => {
      this.#server.tryShutdown(() => resolve());
    });
    clearTimeout(timer);
  }
}

class SingleCall implements ServedCall {
  readonly #call: ServerUnaryCall<Buffer, Message>;
  readonly #done: sendUnaryData<Message>;
  #abort: AbortController | undefined;

  constructor(call: ServerUnaryCall<Buffer, Message>, done: sendUnaryData<Message>) {
    this.#call = call;
    this.#done = done;
  }

  get metadata(): CallMetadata {
    return this.#call.metadata;
  }

  get request(): Buffer {
    return this.#call.request;
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

  respond(message: Message): void {
    this.#done(null, message);
  }

  fail(status: CallStatus): void {
    this.#done(status);
  }
}

const identity = (bytes: Buffer): Buffer => bytes;
