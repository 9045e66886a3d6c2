/** Calls by path with messages as bytes, and what they were refused with. */
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2';
import { type Client, type ClientDuplexStream, Metadata } from '@grpc/grpc-js';

export type Refusal = { readonly code: number; readonly details: string };

const identity = (bytes: Buffer): Buffer => bytes;

export function unary(
  client: Client,
  path: string,
  request: Buffer,
  metadata = new Metadata(),
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(path, identity, identity, request, metadata, (error, response) =>
      error === null && response !== undefined ? resolve(response) : reject(error),
    );
  });
}

/** The code and text that the server refused with; throws when it did not. */
export async function refusal(call: Promise<unknown>): Promise<Refusal> {
  try {
    await call;
  } catch (error) {
    return statusOf(error);
  }
  throw new Error('the call was answered, not refused');
}

export function statusOf(error: unknown): Refusal {
  if (typeof error !== 'object' || error === null) throw error;
  if (!('code' in error) || typeof error.code !== 'number') throw error;
  const details = 'details' in error ? String(error.details) : '';
  return { code: error.code, details };
}

/** A bidirectional stream of bytes that remembers how it ended. */
export class ByteStream {
  readonly call: ClientDuplexStream<Buffer, Buffer>;
  readonly received: Buffer[] = [];
  readonly ended: Promise<Refusal>;
  #waiting: (() => void)[] = [];

  constructor(client: Client, path: string, metadata = new Metadata()) {
    this.call = client.makeBidiStreamRequest(path, identity, identity, metadata);
    // An error is followed by a status, which is what `ended` tells.
    this.call.on('error', () => {});
    this.ended = new Promise((resolve) => {
      this.call.on('status', ({ code, details }) => resolve({ code, details }));
    });
  }

  /** Until this is called nothing is read: the transport's window fills up. */
  read(): this {
    this.call.on('data', (message: Buffer) => {
      this.received.push(message);
      for (const wake of this.#waiting.splice(0)) wake();
    });
    return this;
  }

  /** Resolves with the messages once `condition` holds for them; rejects when the stream ends first. */
  async until(condition: (received: readonly Buffer[]) => boolean): Promise<readonly Buffer[]> {
    const ended = this.ended.then(({ code, details }) => {
      throw new Error(`the stream ended with ${code} ${details}`);
    });
    ended.catch(() => {});
    while (!condition(this.received)) {
      const more = new Promise<void>((resolve) => this.#waiting.push(resolve));
      await Promise.race([more, ended]);
    }
    return this.received;
  }
}

/** A stream on HTTP/2 itself: what is not read stays in the transport, as with any strict client. */
export class Http2Stream implements Disposable {
  readonly #session: ClientHttp2Session;
  readonly #stream: ClientHttp2Stream;
  readonly received: Buffer[] = [];
  #rest: Buffer = Buffer.alloc(0);

  constructor(url: string, path: string) {
    this.#session = connect(url);
    this.#stream = this.#session.request({
      ':method': 'POST',
      ':path': path,
      'content-type': 'application/grpc',
      te: 'trailers',
    });
    this.#stream.pause();
  }

  send(message: Buffer): void {
    const frame = Buffer.alloc(5 + message.length);
    frame.writeUInt32BE(message.length, 1);
    message.copy(frame, 5);
    this.#stream.write(frame);
  }

  read(): void {
    this.#stream.on('data', (chunk: Buffer) => {
      let bytes = Buffer.concat([this.#rest, chunk]);
      while (bytes.length >= 5 && bytes.length >= 5 + bytes.readUInt32BE(1)) {
        const end = 5 + bytes.readUInt32BE(1);
        this.received.push(bytes.subarray(5, end));
        bytes = bytes.subarray(end);
      }
      this.#rest = bytes;
    });
    this.#stream.resume();
  }

  [Symbol.dispose](): void {
    this.#session.destroy();
  }
}
