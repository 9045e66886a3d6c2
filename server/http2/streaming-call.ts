/** Calls that stream their responses, and what their handlers see of them. */
import { EventEmitter } from 'node:events';
import { Call, type CallHead, type CallHost, MESSAGE_OVERHEAD_BYTES } from './call.ts';
import type { CallMetadata } from './metadata.ts';
import { type GrpcStatus, OK, StatusCode } from './status.ts';

export type ServeStream = (stream: MessageStream) => void;

/** `many`: the handler gets the messages as they come. `one`: it begins with the only one. */
export type Requests = 'one' | 'many';

/** Bytes that wait from which `write` says so. */
const HIGH_WATER_BYTES = 64 * 1024;
const NOTHING: Buffer = Buffer.alloc(0);

/**
 * The stream as handlers see it: the part of grpc-js' server streams that they use, for they are
 * served by either. Events: `data`, `end` of the request, `drain`, and `cancelled` once nothing can be
 * sent any more, for whatever reason. Emitting `error` with a status ends it with that.
 */
export class MessageStream extends EventEmitter {
  readonly metadata: CallMetadata;
  readonly request: Buffer;
  cancelled = false;
  readonly #call: StreamingCall;

  constructor(call: StreamingCall, request: Buffer) {
    super();
    this.#call = call;
    this.metadata = call.metadata;
    this.request = request;
    this.on('error', (error: unknown) => call.end(toStatus(error)));
  }

  /** `written` is told when the message is on its way. False: `drain` tells when to go on. */
  write(message: Buffer, written?: () => void): boolean {
    return this.#call.write(message, written);
  }

  end(): void {
    this.#call.end(OK);
  }

  pause(): this {
    this.#call.pause();
    return this;
  }

  resume(): this {
    this.#call.resume();
    return this;
  }

  isPaused(): boolean {
    return this.#call.isPaused;
  }
}

export class StreamingCall extends Call {
  readonly #path: string;
  readonly #requests: Requests;
  readonly #serve: ServeStream;
  #stream: MessageStream | undefined = undefined;
  #request: Buffer | undefined = undefined;
  /** Messages that the handler does not take yet. */
  readonly #received: Buffer[] = [];
  #isEnded = false;
  #isEndTold = false;
  #isDelivering = false;
  #needsDrain = false;
  isPaused = false;

  constructor(
    host: CallHost,
    head: CallHead,
    { path, requests, serve }: { path: string; requests: Requests; serve: ServeStream },
  ) {
    super(host, head);
    this.#path = path;
    this.#requests = requests;
    this.#serve = serve;
  }

  /** Called once everything about the call is known, before its request is read. */
  begin(): void {
    if (this.#requests === 'many') this.#open(NOTHING);
  }

  #open(request: Buffer): void {
    this.#stream = new MessageStream(this, request);
    this.#serve(this.#stream);
  }

  write(message: Buffer, written: (() => void) | undefined): boolean {
    if (this.isOver || this.status !== undefined) return true;
    this.host.sender.message(this, message, written);
    if (this.waitingBytes < HIGH_WATER_BYTES) return true;
    this.#needsDrain = true;
    return false;
  }

  pause(): void {
    this.isPaused = true;
  }

  resume(): void {
    this.isPaused = false;
    this.#deliver();
    this.release();
  }

  drained(): void {
    if (!this.#needsDrain) return;
    this.#needsDrain = false;
    this.#stream?.emit('drain');
  }

  protected get isBehind(): boolean {
    return this.#received.length > 0;
  }

  protected received(message: Buffer): void {
    if (this.#requests === 'one') {
      if (this.#request === undefined) {
        this.#request = message;
        this.hold(message.length);
      } else this.#refuse('a second request message');
      return;
    }
    if (this.isPaused) {
      this.#received.push(message);
      this.hold(message.length + MESSAGE_OVERHEAD_BYTES);
    } else this.#stream?.emit('data', message);
  }

  protected requestEnded(): void {
    if (this.#requests === 'many') {
      this.#isEnded = true;
      this.#deliver();
    } else if (this.status !== undefined || this.isOver) return;
    else if (this.#request === undefined) this.#refuse('no request message');
    else {
      this.hold(-this.#request.length);
      this.#open(this.#request);
    }
  }

  /** Handlers resume from within what they are told; it is told in order nevertheless. */
  #deliver(): void {
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    while (!this.isPaused && !this.isOver) {
      const message = this.#received.shift();
      if (message === undefined) break;
      this.hold(-message.length - MESSAGE_OVERHEAD_BYTES);
      this.#stream?.emit('data', message);
    }
    this.#isDelivering = false;
    if (!this.#isEnded || this.#isEndTold || this.isPaused || this.isOver) return;
    this.#isEndTold = true;
    this.#stream?.emit('end');
  }

  #refuse(what: string): void {
    this.end({
      code: StatusCode.UNIMPLEMENTED,
      details: `Received ${what} for server streaming method ${this.#path}`,
    });
  }

  protected closed(): void {
    this.#received.length = 0;
    const stream = this.#stream;
    if (stream === undefined) return;
    stream.cancelled = true;
    stream.emit('cancelled', 'cancelled');
  }
}

function toStatus(error: unknown): GrpcStatus {
  if (typeof error === 'object' && error !== null && 'code' in error && 'details' in error) {
    const { code, details } = error;
    if (typeof code === 'number' && typeof details === 'string') return { code, details };
  }
  return { code: StatusCode.INTERNAL, details: 'internal error' };
}
