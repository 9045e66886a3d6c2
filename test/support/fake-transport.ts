/** Members of a made-up cluster as transports: a test decides who accepts, who answers what, who breaks. */
import { Status } from 'nice-grpc-common';
import { AsyncBuffer } from '../../sdk/async-buffer.ts';
import type { Clock } from '../../sdk/clock.ts';
import type { Endpoint } from '../../sdk/endpoints.ts';
import type { MethodName, RequestOf, ResponseOf } from '../../sdk/methods.ts';
import {
  type AttemptOptions,
  type MemberTransport,
  type OpenTransport,
  type StreamOptions,
  TransportFailure,
  type WriteNumber,
} from '../../sdk/transport.ts';
import type {
  SnapshotResponse,
  WatchRequest,
  WatchResponse,
} from '../../server/wire/etcdserverpb/rpc.ts';

export type FakeCall = {
  readonly method: MethodName;
  readonly request: unknown;
  readonly number: WriteNumber | undefined;
  readonly atMs: number;
  answer(response: object): void;
  fail(status: number, details: string, sent?: boolean): void;
};

export class FakeTransportMember {
  readonly name: string;
  /** What becomes of attempts to connect. */
  accepts: 'yes' | 'refuses' | 'hangs' = 'yes';
  /** Does what a test wants with a call; by default nothing: calls wait to be answered. */
  onCall: (call: FakeCall) => void = () => undefined;
  /** All calls but pings. */
  readonly calls: FakeCall[] = [];
  pings = 0;
  /** Why watch streams end at once. */
  refusesWatches: string | undefined;
  /** Watch streams asked for. */
  watches = 0;
  /** Whether pings are answered. */
  alive = true;
  /** When connections were asked for. */
  readonly dialledMs: number[] = [];
  readonly transports = new Set<FakeTransport>();
  /** Requests on watch streams. */
  readonly watchRequests: WatchRequest[] = [];

  constructor(name: string) {
    this.name = name;
  }

  /** Watch streams end; their connections stay. */
  endWatches(): void {
    for (const transport of this.transports) transport.endWatches();
  }

  /** Every connection breaks; what is in flight on it fails as a lost answer. */
  cut(): void {
    for (const transport of [...this.transports]) transport.break();
  }
}

export class FakeTransport implements MemberTransport {
  readonly #member: FakeTransportMember;
  readonly #clock: Clock;
  readonly #inFlight = new Set<(failure: TransportFailure) => void>();
  readonly #streams = new Set<AsyncBuffer<WatchResponse>>();
  #break: () => void = () => undefined;
  readonly #broken: Promise<void>;
  closed = false;
  /** As a test has it. */
  received = 0;

  constructor(member: FakeTransportMember, clock: Clock) {
    this.#member = member;
    this.#clock = clock;
    member.dialledMs.push(clock.monotonicMs());
    this.#broken = new Promise((resolve) => {
      this.#break = resolve;
    });
  }

  async connected(): Promise<void> {
    if (this.#member.accepts === 'hangs') await this.#broken;
    if (this.closed || this.#member.accepts === 'refuses') {
      throw new TransportFailure('status', Status.UNAVAILABLE, 'refused', false);
    }
    this.#member.transports.add(this);
  }

  broken(): Promise<void> {
    return this.#broken;
  }

  break(): void {
    this.#fail(() => new TransportFailure('status', Status.UNAVAILABLE, 'connection lost', true));
    this.#break();
  }

  unary<M extends MethodName>(
    method: M,
    request: RequestOf<M>,
    { timeoutMs, number }: AttemptOptions,
  ): Promise<ResponseOf<M>> {
    return new Promise((resolve, reject) => {
      if (this.closed) {
        reject(new TransportFailure('closed', Status.UNAVAILABLE, 'closed', false));
        return;
      }
      const fail = (failure: TransportFailure) => {
        cancelTimer();
        this.#inFlight.delete(fail);
        reject(failure);
      };
      const cancelTimer = this.#clock.setTimer(timeoutMs, () =>
        fail(new TransportFailure('timeout', Status.DEADLINE_EXCEEDED, `no ${method}`, true)),
      );
      this.#inFlight.add(fail);
      const call: FakeCall = {
        method,
        request,
        number,
        atMs: this.#clock.monotonicMs(),
        answer: (response) => {
          cancelTimer();
          this.#inFlight.delete(fail);
          resolve(response as ResponseOf<M>);
        },
        fail: (status, details, sent = true) =>
          fail(new TransportFailure('status', status, details, sent)),
      };
      if (method === 'ping') {
        this.#member.pings += 1;
        if (this.#member.alive) call.answer({});
        return;
      }
      this.#member.calls.push(call);
      this.#member.onCall(call);
    });
  }

  async *watch(
    requests: AsyncIterable<WatchRequest>,
    { signal }: StreamOptions,
  ): AsyncIterable<WatchResponse> {
    const refusal = this.#member.refusesWatches;
    this.#member.watches += 1;
    if (refusal !== undefined) {
      throw new TransportFailure('status', Status.UNAVAILABLE, refusal, true);
    }
    const responses = new AsyncBuffer<WatchResponse>();
    this.#streams.add(responses);
    signal.addEventListener('abort', () => responses.end());
    void (async () => {
      for await (const request of requests) this.#member.watchRequests.push(request);
    })();
    yield* responses;
  }

  async *snapshot(): AsyncIterable<SnapshotResponse> {}

  endWatches(): void {
    for (const stream of this.#streams) stream.end();
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#fail((sent) => new TransportFailure('closed', Status.UNAVAILABLE, 'closed', sent));
    this.#break();
  }

  #fail(failure: (sent: boolean) => TransportFailure): void {
    this.#member.transports.delete(this);
    this.endWatches();
    for (const fail of [...this.#inFlight]) fail(failure(true));
  }
}

/** Opens transports to members by the names of their endpoints. */
export const openFake =
  (members: readonly FakeTransportMember[], clock: Clock): OpenTransport =>
  (endpoint: Endpoint) => {
    const member = members.find(({ name }) => name === endpoint.name);
    if (member === undefined) throw new Error(`there is no member ${endpoint.name}`);
    return new FakeTransport(member, clock);
  };
