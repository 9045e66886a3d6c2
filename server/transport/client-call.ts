/** One gRPC call from this side. */
import type { ClientHttp2Session, ClientHttp2Stream } from 'node:http2';
import { Status } from '../faults.ts';
import { ErrorCode } from '../http2/error.ts';
import { CallError, CONTENT_TYPE, errorOf, MessageReader, withPrefix } from './grpc.ts';

/** What another member may answer in one message. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;

export type ClientCallHandlers = {
  /** The other member has taken the call; its headers. */
  readonly accepted: (headers: Readonly<Record<string, unknown>>) => void;
  readonly message: (message: Buffer) => void;
  /** Once; undefined when the call ended well. */
  readonly end: (error: CallError | undefined) => void;
};

export class ClientCall {
  readonly #stream: ClientHttp2Stream | undefined;
  readonly #reader = new MessageReader(MAX_ANSWER_BYTES);
  readonly #handlers: ClientCallHandlers;
  #result: CallError | undefined;
  #hasStatus = false;
  #isOver = false;

  constructor(
    session: ClientHttp2Session,
    path: string,
    headers: Record<string, string>,
    handlers: ClientCallHandlers,
  ) {
    this.#handlers = handlers;
    try {
      this.#stream = session.request({
        ':method': 'POST',
        ':path': path,
        'content-type': CONTENT_TYPE,
        te: 'trailers',
        ...headers,
      });
    } catch (error) {
      queueMicrotask(() => this.#end(new CallError(Status.UNAVAILABLE, String(error))));
      return;
    }
    this.#stream.on('response', (received) => this.#respond(received));
    this.#stream.on('trailers', (received) => this.#settle(received));
    this.#stream.on('data', (chunk: Buffer) => this.#read(chunk));
    // The answer ends the call, whether or not there was more to ask.
    this.#stream.on('end', () => this.cancel());
    this.#stream.on('error', (error) => {
      this.#result ??= new CallError(Status.UNAVAILABLE, error.message);
      this.#hasStatus = true;
    });
    this.#stream.on('close', () => {
      this.#end(
        this.#hasStatus ? this.#result : new CallError(Status.UNAVAILABLE, 'the call broke off'),
      );
    });
  }

  /** Sends the pieces as they are: the first begins with the prefix. `sent` is always called. */
  sendPieces(pieces: readonly Buffer[], sent: () => void): void {
    const stream = this.#stream;
    if (stream === undefined || this.#isOver || stream.destroyed || stream.writableEnded) {
      sent();
      return;
    }
    stream.cork();
    pieces.forEach((piece, index) => {
      if (index === pieces.length - 1) stream.write(piece, sent);
      else stream.write(piece);
    });
    stream.uncork();
  }

  send(message: Uint8Array): void {
    this.sendPieces([withPrefix(message)], () => {});
  }

  /** Nothing more will be sent. */
  finish(): void {
    this.#stream?.end();
  }

  /** Ends it on both sides; `end` is called. */
  cancel(): void {
    this.#stream?.close(ErrorCode.CANCEL);
  }

  #respond(headers: Readonly<Record<string, unknown>>): void {
    if (headers[':status'] !== 200) {
      this.#fail(new CallError(Status.UNAVAILABLE, `HTTP status ${headers[':status']}`));
      return;
    }
    if (headers['grpc-status'] !== undefined) this.#settle(headers);
    else this.#handlers.accepted(headers);
  }

  #settle(headers: Readonly<Record<string, unknown>>): void {
    this.#hasStatus = true;
    this.#result ??= errorOf(headers);
  }

  #read(chunk: Buffer): void {
    if (this.#isOver) return;
    try {
      for (const message of this.#reader.push(chunk)) this.#handlers.message(message);
    } catch (error) {
      this.#fail(
        error instanceof CallError ? error : new CallError(Status.INTERNAL, String(error)),
      );
    }
  }

  #fail(error: CallError): void {
    this.#hasStatus = true;
    this.#result = error;
    this.cancel();
  }

  #end(error: CallError | undefined): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#handlers.end(error);
  }
}
