/**
 * gRPC's framing over HTTP/2, for both ends of a connection between members.
 *
 * The platform's own `http2` is used directly: grpc-js, which serves the clients, has no say about
 * the flow control window of a server, copies every message once more on each side, and hides the
 * connection, whose break has to be known at once.
 */
import { Status, type StatusCode } from '../faults.ts';

/** Before every message: a byte for compression, which is not used, and the length. */
export const PREFIX_BYTES = 5;

export function writePrefix(target: Buffer, length: number): void {
  target[0] = 0;
  target.writeUInt32BE(length, 1);
}

export function withPrefix(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(PREFIX_BYTES + message.length);
  writePrefix(framed, message.length);
  framed.set(message, PREFIX_BYTES);
  return framed;
}

/** How a call ended when it did not end well. */
export class CallError extends Error {
  override name = 'CallError';
  readonly code = 'peer-call';
  readonly status: number;
  /** Of the gatekeeper, when that was the reason. */
  readonly refusal: string | undefined;

  constructor(status: number, message: string, refusal?: string) {
    super(message);
    this.status = status;
    this.refusal = refusal;
  }
}

/** Cuts a stream of bytes into messages. */
export class MessageReader {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #buffered = 0;
  /** Of the message that is being read; undefined while its prefix is. */
  #length: number | undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * The messages that `chunk` completes. A message that lies within it is a view on it. Throws
   * `CallError` for a message that is too long, before its content has come.
   */
  push(chunk: Buffer): Buffer[] {
    const messages: Buffer[] = [];
    let at = 0;
    while (at < chunk.length) {
      const target = this.#length ?? PREFIX_BYTES;
      const part = chunk.subarray(at, at + target - this.#buffered);
      at += part.length;
      this.#chunks.push(part);
      this.#buffered += part.length;
      if (this.#buffered < target) break;
      const whole = this.#chunks.length === 1 ? part : Buffer.concat(this.#chunks, target);
      this.#chunks = [];
      this.#buffered = 0;
      if (this.#length === undefined) {
        const length = this.#lengthOf(whole);
        if (length > 0) this.#length = length;
        else messages.push(NOTHING);
      } else {
        this.#length = undefined;
        messages.push(whole);
      }
    }
    return messages;
  }

  #lengthOf(prefix: Buffer): number {
    if (prefix[0] !== 0) throw new CallError(Status.UNIMPLEMENTED, 'compression is not supported');
    const length = prefix.readUInt32BE(1);
    if (length <= this.#maxBytes) return length;
    throw new CallError(
      Status.RESOURCE_EXHAUSTED,
      `a message of ${length} bytes is longer than ${this.#maxBytes} bytes`,
    );
  }
}

const NOTHING: Buffer = Buffer.alloc(0);

export const CONTENT_TYPE = 'application/grpc';
const REFUSAL = 'conclave-refusal';

/** The trailers of a call. */
export function statusHeaders(
  status: StatusCode | 0,
  message = '',
  refusal?: string,
): Record<string, string> {
  return {
    'grpc-status': String(status),
    ...(message === '' ? {} : { 'grpc-message': encodeURIComponent(message) }),
    ...(refusal === undefined ? {} : { [REFUSAL]: refusal }),
  };
}

/** Undefined when the call ended well, or when these headers do not end it. */
export function errorOf(headers: Record<string, unknown>): CallError | undefined {
  const status = headers['grpc-status'];
  if (status === undefined || status === '0') return undefined;
  const message = String(headers['grpc-message'] ?? '');
  const refusal = headers[REFUSAL];
  return new CallError(
    Number(status),
    decoded(message),
    typeof refusal === 'string' ? refusal : undefined,
  );
}

function decoded(message: string): string {
  try {
    return decodeURIComponent(message);
  } catch {
    return message;
  }
}
