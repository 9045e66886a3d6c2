/**
 * The streams of batches on one connection: a lane for small requests and one for large ones. Within a
 * stream a large request keeps what is behind it waiting; HTTP/2 interleaves streams. A lane begins with
 * its first call. Nothing may rely on the order of calls: whoever needs one waits for the answer.
 */
import type { Channel } from '@grpc/grpc-js';
import type { Clock } from './clock.ts';
import { type MethodName, methods, type RequestOf, type ResponseOf } from './methods.ts';
import type { AttemptOptions, UnaryCaller } from './transport.ts';
import { BatchCaller, messageBytes } from './transport-batch.ts';
import { unnumberedFailure } from './transport-unary.ts';

/** Larger requests take the other lane. What many small jobs are pushed with stays below. */
const smallBytes = 64 * 1024;

/**
 * What is larger than a message of many is a gRPC call of its own. A write with a number has no such
 * way: up to this size, which is over what servers accept as a request, it has a message of the stream
 * to itself.
 */
const numberedBytes = 1600 * 1024;

export class Lanes implements UnaryCaller {
  readonly #single: UnaryCaller;
  readonly #small: BatchCaller;
  readonly #large: BatchCaller;

  /**
   * @param channel stays the caller's to close
   * @param single takes the calls that are too large for a batch
   */
  constructor(channel: Channel, single: UnaryCaller, clock: Clock) {
    this.#single = single;
    this.#small = new BatchCaller(channel, clock);
    this.#large = new BatchCaller(channel, clock);
  }

  /** The server answered something on a stream in use, so it serves batches. */
  get served(): boolean {
    return this.#small.served || this.#large.served;
  }

  /** Messages that came so far. */
  get received(): number {
    return this.#small.received + this.#large.received;
  }

  /** Rejects with status UNIMPLEMENTED, and not sent, when the server does not serve batches. */
  unary<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: AttemptOptions,
  ): Promise<ResponseOf<M>> {
    const encoded = encodeRequest(method, request);
    const bytes = encoded.length;
    if (bytes <= smallBytes) return this.#small.call(method, encoded, options);
    if (options.number === undefined && bytes > messageBytes) {
      return this.#single.unary(method, request, options);
    }
    if (bytes > numberedBytes) return Promise.reject(unnumberedFailure(method));
    return this.#large.call(method, encoded, options);
  }

  close(): void {
    this.#small.close();
    this.#large.close();
  }
}

const encodeRequest = <M extends MethodName>(method: M, request: RequestOf<M>): Buffer => {
  const { encode } = methods[method].request as {
    encode(message: RequestOf<M>): { finish(): Buffer };
  };
  return encode(request).finish();
};
