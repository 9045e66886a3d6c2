/** The calls of a connection: which ones are open, and what frames mean to them. */
import type { Call, CallHost } from './call.ts';
import { ACCEPTED_ENCODINGS } from './compression.ts';
import type { Deadlines } from './deadlines.ts';
import { ConnectionError, ErrorCode } from './error.ts';
import type { FloodGuard } from './flood-guard.ts';
import { DEFAULT_WINDOW_BYTES } from './frame.ts';
import type { RequestHead } from './request-head.ts';
import type { Sender } from './sender.ts';
import { StatusCode } from './status.ts';
import { type ServeStream, StreamingCall } from './streaming-call.ts';
import { parseTimeout } from './timeout.ts';
import { type ServeUnary, UnaryCall } from './unary-call.ts';

export type Method =
  | { readonly kind: 'unary'; readonly serve: ServeUnary }
  | { readonly kind: 'server-stream'; readonly serve: ServeStream }
  | { readonly kind: 'bidi'; readonly serve: ServeStream };

export type StreamsOptions = {
  readonly methods: ReadonlyMap<string, Method>;
  readonly deadlines: Deadlines;
  readonly maxMessageBytes: number;
  readonly maxConcurrentStreams: number;
};

/** What one connection may hold here for messages that are not complete, or not taken. */
const HELD_BYTES = 64 * 1024 * 1024;
const GRPC = 'application/grpc';
const HttpStatus = {
  METHOD_NOT_ALLOWED: 405,
  UNSUPPORTED_MEDIA_TYPE: 415,
  HEADERS_TOO_LARGE: 431,
} as const;

export class Streams implements CallHost {
  readonly sender: Sender;
  readonly #options: StreamsOptions;
  readonly #guard: FloodGuard;
  readonly #open = new Map<number, Call>();
  readonly #onIdle: () => void;
  #highest = 0;
  /** Calls that are over for the client while their handlers still run. */
  #abandoned = 0;
  #heldBytes = 0;
  #initialWindowBytes = DEFAULT_WINDOW_BYTES;
  /** Streams above this one are none of ours: the client was told to go. */
  #last = Number.POSITIVE_INFINITY;

  constructor(sender: Sender, guard: FloodGuard, options: StreamsOptions, onIdle: () => void) {
    this.sender = sender;
    this.#guard = guard;
    this.#options = options;
    this.#onIdle = onIdle;
  }

  get deadlines(): Deadlines {
    return this.#options.deadlines;
  }

  get maxMessageBytes(): number {
    return this.#options.maxMessageBytes;
  }

  get isIdle(): boolean {
    return this.#open.size === 0;
  }

  /** Of those that the client began. */
  get highest(): number {
    return this.#highest;
  }

  /** Takes no more calls. Returns the last one taken. */
  seal(): number {
    this.#last = this.#highest;
    return this.#last;
  }

  hold(bytes: number): boolean {
    this.#heldBytes += bytes;
    return this.#heldBytes <= HELD_BYTES;
  }

  ended(call: Call, isAnswered: boolean): void {
    this.#open.delete(call.id);
    if (isAnswered) this.#guard.answered();
    if (this.#open.size === 0) this.#onIdle();
  }

  abandoned(isRunning: boolean): void {
    this.#abandoned += isRunning ? 1 : -1;
  }

  /** Ends all calls: the connection is gone. */
  close(): void {
    for (const call of [...this.#open.values()]) call.close();
  }

  /**
   * Whether a header block on this stream begins one. It has to be decoded in any case.
   *
   * @throws {ConnectionError} for a stream that clients cannot begin or have begun before.
   */
  begins(id: number): boolean {
    if (this.#open.has(id)) return false;
    if (id % 2 === 0) throw violation(`stream ${id} is not one of a client`);
    if (id <= this.#highest) throw violation(`stream ${id} was begun before`);
    this.#highest = id;
    return true;
  }

  begin(id: number, head: RequestHead, isEnd: boolean): void {
    if (id > this.#last) return;
    if (this.#open.size + this.#abandoned >= this.#options.maxConcurrentStreams) {
      this.#guard.spend();
      this.sender.reset(id, ErrorCode.REFUSED_STREAM);
    } else if (this.sender.waitingBytes > HELD_BYTES) {
      this.sender.reset(id, ErrorCode.ENHANCE_YOUR_CALM);
    } else if (head.isTooLarge) this.#refuse(id, HttpStatus.HEADERS_TOO_LARGE, isEnd);
    else if (head.isMalformed || !head.isComplete) {
      this.#guard.spend();
      this.sender.reset(id, ErrorCode.PROTOCOL_ERROR);
    } else if (head.contentType?.startsWith(GRPC) !== true) {
      this.#refuse(id, HttpStatus.UNSUPPORTED_MEDIA_TYPE, isEnd);
    } else if (head.method !== 'POST') this.#refuse(id, HttpStatus.METHOD_NOT_ALLOWED, isEnd);
    else this.#call(id, head, isEnd);
  }

  #refuse(id: number, httpStatus: number, isEnd: boolean): void {
    this.#guard.spend();
    this.sender.refuse(id, httpStatus);
    if (!isEnd) this.sender.reset(id, ErrorCode.NO_ERROR);
  }

  #reject(id: number, code: number, details: string, isEnd: boolean): void {
    this.sender.reject(id, { code, details, accepts: ACCEPTED_ENCODINGS });
    if (!isEnd) this.sender.reset(id, ErrorCode.NO_ERROR);
  }

  #call(id: number, head: RequestHead, isEnd: boolean): void {
    const path = head.path ?? '';
    const method = this.#options.methods.get(path);
    if (method === undefined) {
      const details = `The server does not implement the method ${path}`;
      this.#reject(id, StatusCode.UNIMPLEMENTED, details, isEnd);
      return;
    }
    const timeoutMs = head.timeout === undefined ? Infinity : parseTimeout(head.timeout);
    if (timeoutMs === undefined) {
      const details = `Invalid grpc-timeout value "${head.timeout}"`;
      this.#reject(id, StatusCode.INTERNAL, details, isEnd);
      return;
    }
    const { metadata, encoding } = head;
    const start = { id, windowBytes: this.#initialWindowBytes, metadata, encoding };
    if (method.kind === 'unary') {
      const call = new UnaryCall(this, start, path, method.serve);
      this.#open.set(id, call);
      if (timeoutMs !== Infinity) call.expireAfter(timeoutMs);
      if (isEnd) call.halfClose();
      return;
    }
    const requests = method.kind === 'bidi' ? 'many' : 'one';
    const call = new StreamingCall(this, start, { path, requests, serve: method.serve });
    this.#open.set(id, call);
    if (timeoutMs !== Infinity) call.expireAfter(timeoutMs);
    call.begin();
    if (isEnd && !call.isOver) call.halfClose();
  }

  /** The header block behind the body. */
  trailers(id: number, head: RequestHead, isEnd: boolean): void {
    const call = this.#open.get(id);
    if (call === undefined) return;
    if (call.isHalfClosed) this.#break(call, ErrorCode.STREAM_CLOSED);
    else if (head.isMalformed || head.hasPseudoHeaders || !isEnd) {
      this.#break(call, ErrorCode.PROTOCOL_ERROR);
    } else call.halfClose();
  }

  /** `windowBytes`: the length of the frame, padding and all. */
  data(
    id: number,
    isEnd: boolean,
    bytes: Buffer,
    start: number,
    end: number,
    windowBytes: number,
  ): void {
    const call = this.#find(id);
    if (call === undefined || (start === end && !isEnd)) this.#guard.spend();
    if (call === undefined) {
      if (id <= this.#last) this.sender.reset(id, ErrorCode.STREAM_CLOSED);
      return;
    }
    if (call.isHalfClosed) this.#break(call, ErrorCode.STREAM_CLOSED);
    else if (!call.data(bytes, start, end, windowBytes)) {
      this.#break(call, ErrorCode.FLOW_CONTROL_ERROR);
    } else if (isEnd && !call.isOver) call.halfClose();
  }

  reset(id: number): void {
    this.#guard.spend();
    this.#find(id)?.close();
  }

  windowUpdate(id: number, increment: number): void {
    const call = this.#find(id);
    if (call === undefined) return;
    if (increment === 0) this.#break(call, ErrorCode.PROTOCOL_ERROR);
    else if (!this.sender.addToWindow(call, increment)) {
      this.#break(call, ErrorCode.FLOW_CONTROL_ERROR);
    }
  }

  /** Applies to streams that are open as well (RFC 9113 section 6.9.2). */
  resizeWindows(initialWindowBytes: number): void {
    const change = initialWindowBytes - this.#initialWindowBytes;
    this.#initialWindowBytes = initialWindowBytes;
    for (const call of this.#open.values()) {
      if (this.sender.addToWindow(call, change)) continue;
      throw new ConnectionError(
        ErrorCode.FLOW_CONTROL_ERROR,
        `SETTINGS_INITIAL_WINDOW_SIZE gives stream ${call.id} more room than there can be`,
      );
    }
  }

  /** Undefined for a stream that is over. @throws {ConnectionError} for one that was never begun */
  #find(id: number): Call | undefined {
    const call = this.#open.get(id);
    if (call === undefined && (id > this.#highest || id % 2 === 0)) {
      throw violation(`stream ${id} has not begun`);
    }
    return call;
  }

  /** The client has broken the rules, on this stream alone. */
  #break(call: Call, code: ErrorCode): void {
    this.#guard.spend();
    this.sender.reset(call.id, code);
    call.close();
  }
}

const violation = (message: string): ConnectionError =>
  new ConnectionError(ErrorCode.PROTOCOL_ERROR, message);
