/**
 * One connection to one member, from the moment it stands until it breaks. It is never repaired: a
 * broken link is replaced, so everything that hangs on it (watches, keep-alives) starts over cleanly.
 */
import { Status } from 'nice-grpc-common';
import type {
  SnapshotResponse,
  WatchRequest,
  WatchResponse,
} from '../server/wire/etcdserverpb/rpc.ts';
import type { Clock } from './clock.ts';
import type { Endpoint } from './endpoints.ts';
import type { MethodName, RequestOf, ResponseOf } from './methods.ts';
import {
  type AttemptOptions,
  type MemberTransport,
  type OpenTransport,
  type StreamOptions,
  type Transport,
  TransportFailure,
} from './transport.ts';

export type LinkOptions = { readonly openTransport: OpenTransport; readonly clock: Clock };

export type LinkAttempt = AttemptOptions & {
  /** The call may be made again elsewhere: it need not wait for its end on a link that is left. */
  readonly movable?: boolean;
};

/** Told of the answer to a movable call that came after the link was left, and the call with it. */
type Late<M extends MethodName> = { readonly late?: (response: ResponseOf<M>) => void };

type Leave = (failure: TransportFailure) => void;

export class Link implements Transport {
  readonly endpoint: Endpoint;
  /** The member was found to take no numbered writes. */
  withoutNumbers = false;
  /** The member was found to renew leases one by one only. */
  withoutGroups = false;
  readonly #transport: MemberTransport;
  readonly #clock: Clock;
  /** Calls that stay until they end. */
  #staying = 0;
  readonly #movable = new Set<Leave>();
  #streams = 0;
  /** Of calls, and items of streams. */
  #answers = 0;
  #retired = false;
  #closed = false;

  constructor(endpoint: Endpoint, { openTransport, clock }: LinkOptions) {
    this.endpoint = endpoint;
    this.#clock = clock;
    this.#transport = openTransport(endpoint);
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Somebody waits for something on this link. */
  get busy(): boolean {
    return this.#staying > 0 || this.#movable.size > 0 || this.#streams > 0;
  }

  /**
   * What came from the member so far, parts of answers included: as long as it grows, the member is
   * alive. One thing may count more than once.
   */
  get answers(): number {
    return this.#answers + this.#transport.received;
  }

  /** Resolves when connected; rejects with TransportFailure when that fails or takes too long. */
  async connected(timeoutMs: number): Promise<void> {
    const connected = this.#transport.connected();
    let cancelTimer = () => {};
    const late = new Promise<never>((_, reject) => {
      cancelTimer = this.#clock.setTimer(
        timeoutMs,
        () => {
          const text = `Cannot reach ${this.endpoint.name}: no connection within ${Math.ceil(timeoutMs)} ms`;
          reject(new TransportFailure('status', Status.UNAVAILABLE, text, false));
        },
        true,
      );
    });
    try {
      await Promise.race([connected, late]);
    } finally {
      cancelTimer();
      connected.catch(() => undefined);
    }
  }

  /** Resolves once the connection, having stood, is gone. */
  broken(): Promise<void> {
    return this.#transport.broken();
  }

  unary<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: LinkAttempt & Late<M>,
  ): Promise<ResponseOf<M>> {
    if (this.#retired) return Promise.reject(left(false));
    if (options.movable === true) return this.#unaryMovable(method, request, options);
    return this.#unaryStaying(method, request, options);
  }

  async #unaryStaying<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: LinkAttempt,
  ): Promise<ResponseOf<M>> {
    this.#staying += 1;
    try {
      const response = await this.#transport.unary(method, request, options);
      this.#answers += 1;
      return response;
    } finally {
      this.#staying -= 1;
      if (this.#retired && this.#staying === 0) this.close();
    }
  }

  #unaryMovable<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    options: LinkAttempt & Late<M>,
  ): Promise<ResponseOf<M>> {
    return new Promise((resolve, reject) => {
      // What cannot be sent at all throws here, and is not waited for.
      const answer = this.#transport.unary(method, request, options);
      this.#movable.add(reject);
      answer.then(
        (response) => {
          const isAwaited = this.#movable.delete(reject);
          this.#answers += 1;
          if (isAwaited) resolve(response);
          else options.late?.(response);
        },
        (failure) => {
          this.#movable.delete(reject);
          reject(failure);
        },
      );
    });
  }

  watch(
    requests: AsyncIterable<WatchRequest>,
    options: StreamOptions,
  ): AsyncIterable<WatchResponse> {
    return this.#counted(this.#transport.watch(requests, options));
  }

  snapshot(options: StreamOptions): AsyncIterable<SnapshotResponse> {
    return this.#counted(this.#transport.snapshot(options));
  }

  /**
   * No new calls come. What may be made again elsewhere fails at once, to be made there; the rest may
   * end on its own (a member that shuts down still answers it). Then the connection closes.
   */
  retire(): void {
    if (this.#retired) return;
    this.#retired = true;
    for (const leave of [...this.#movable]) {
      leave(left(true));
    }
    this.#movable.clear();
    if (this.#staying === 0) this.close();
  }

  /** Fails everything in flight and lets the socket go. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#transport.close();
  }

  async *#counted<T>(source: AsyncIterable<T>): AsyncGenerator<T, void> {
    this.#streams += 1;
    try {
      for await (const item of source) {
        this.#answers += 1;
        yield item;
      }
    } finally {
      this.#streams -= 1;
    }
  }
}

const left = (sent: boolean): TransportFailure =>
  new TransportFailure('closed', Status.UNAVAILABLE, 'the member was left for another', sent);
