/** One gRPC call of another member. */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { Status, type StatusCode } from '../faults.ts';
import type { Timers } from '../ports.ts';
import { CallError, CONTENT_TYPE, MessageReader, statusHeaders, withPrefix } from './grpc.ts';
import { MalformedFrame } from './protobuf.ts';

/** How long messages are handed on before other work may run. */
const TURN_MS = 5;

export type ServerCallOptions = {
  readonly maxMessageBytes: number;
  readonly timers: Timers;
  readonly nowMs: () => number;
};

/**
 * Hands messages on one by one, each when the one before is done, and reads no further meanwhile: so
 * a slow receiver slows the sender down, and other calls on the connection go on.
 */
export class ServerCall {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly #stream: ServerHttp2Stream;
  readonly #options: ServerCallOptions;
  readonly #reader: MessageReader;
  readonly #waiting: Buffer[] = [];
  readonly #closed = new AbortController();
  #handle: ((message: Buffer) => Promise<void> | void) | undefined;
  #onEnd: (() => void) | undefined;
  #isBusy = false;
  #isHalfClosed = false;
  #isOver = false;

  constructor(stream: ServerHttp2Stream, headers: IncomingHttpHeaders, options: ServerCallOptions) {
    this.path = String(headers[':path']);
    this.headers = headers;
    this.#stream = stream;
    this.#options = options;
    this.#reader = new MessageReader(options.maxMessageBytes);
    stream.on('error', () => {});
    stream.on('close', () => {
      this.#isOver = true;
      this.#waiting.length = 0;
      this.#closed.abort();
    });
  }

  /** Aborts when the call is over, however it ended. */
  get signal(): AbortSignal {
    return this.#closed.signal;
  }

  /** Says to the caller that it may go on. */
  accept(headers: Readonly<Record<string, string>>): void {
    if (this.#isOver || this.#stream.headersSent) return;
    this.#stream.respond(
      { ':status': 200, 'content-type': CONTENT_TYPE, ...headers },
      { waitForTrailers: true },
    );
  }

  /**
   * Starts reading. `handle` may throw, or reject, a `CallError` to end the call with. `onEnd` is
   * called when everything the caller sent has been handled.
   */
  read(handle: (message: Buffer) => Promise<void> | void, onEnd: () => void): void {
    this.#handle = handle;
    this.#onEnd = onEnd;
    this.#stream.on('data', (chunk: Buffer) => {
      if (this.#isOver) return;
      try {
        for (const message of this.#reader.push(chunk)) this.#waiting.push(message);
      } catch (error) {
        this.fail(error);
        return;
      }
      this.#proceed();
    });
    this.#stream.on('end', () => {
      this.#isHalfClosed = true;
      this.#proceed();
    });
  }

  send(message: Uint8Array): void {
    if (this.#isOver || this.#stream.writableEnded) return;
    this.#stream.write(withPrefix(message));
  }

  /** Ends the call; status 0 is well. Later calls do nothing. */
  end(status: StatusCode | 0, message = '', refusal?: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#waiting.length = 0;
    if (this.#stream.destroyed) return;
    const trailers = statusHeaders(status, message, refusal);
    if (this.#stream.headersSent) {
      this.#stream.once('wantTrailers', () => this.#stream.sendTrailers(trailers));
      this.#stream.end();
    } else {
      this.#stream.respond(
        { ':status': 200, 'content-type': CONTENT_TYPE, ...trailers },
        { endStream: true },
      );
    }
    // What the caller still sends is not read: it must not fill the connection's window.
    this.#stream.resume();
  }

  /** Ends the call with what went wrong. */
  fail(error: unknown): void {
    if (error instanceof CallError) {
      this.end(error.status as StatusCode, error.message, error.refusal);
    } else if (error instanceof MalformedFrame) {
      this.end(Status.INVALID_ARGUMENT, `Cannot read a message: ${error.message}`);
    } else this.end(Status.INTERNAL, error instanceof Error ? error.message : String(error));
  }

  #proceed(): void {
    if (this.#isBusy || this.#isOver) return;
    const startMs = this.#options.nowMs();
    for (let message = this.#waiting.shift(); message !== undefined; ) {
      const pending = this.#handleOne(message);
      if (this.#isOver) return;
      const isLate = this.#options.nowMs() - startMs >= TURN_MS;
      if (pending !== undefined || (isLate && this.#waiting.length > 0)) {
        this.#rest(pending);
        return;
      }
      message = this.#waiting.shift();
    }
    if (this.#isHalfClosed) this.#onEnd?.();
    else if (this.#stream.isPaused()) this.#stream.resume();
  }

  #handleOne(message: Buffer): Promise<void> | undefined {
    try {
      return this.#handle?.(message) ?? undefined;
    } catch (error) {
      this.fail(error);
      return undefined;
    }
  }

  /** Reads no further until `pending` is done, or until other work has run. */
  #rest(pending: Promise<void> | undefined): void {
    this.#isBusy = true;
    this.#stream.pause();
    const resume = () => {
      this.#isBusy = false;
      this.#proceed();
    };
    if (pending === undefined) this.#options.timers.soon(resume);
    else pending.then(resume, (error: unknown) => this.fail(error));
  }
}
