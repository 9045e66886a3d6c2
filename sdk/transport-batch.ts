/**
 * Many calls on one stream. All calls made in one turn of the event loop travel in one message;
 * answers are matched by id, and put together when they come in parts. While the stream is full, calls
 * wait here and travel together later.
 */
import {
  type Channel,
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
} from '@grpc/grpc-js';
import { Status } from 'nice-grpc-common';
import { BinaryReader } from '../server/wire/binary.ts';
import {
  type Answer,
  Answers,
  BatchDefinition,
  type Call,
  Calls,
  Method,
} from '../server/wire/conclave/v1/batch.ts';
import { afterThisTurn, type Cancel, type Clock } from './clock.ts';
import { type MethodName, methods, type ResponseOf } from './methods.ts';
import {
  type AttemptOptions,
  neverConnected,
  TransportFailure,
  type WriteNumber,
} from './transport.ts';
import { closedFailure, timeoutFailure } from './transport-unary.ts';

/**
 * Calls are collected into one message up to this size; one that is larger has a message to itself.
 * Servers refuse messages over 2 MiB, and a refused message ends the stream with all its calls.
 */
export const messageBytes = 1024 * 1024;

const path = `/${BatchDefinition.fullName}/${BatchDefinition.methods.exchange.name}`;
const largestTimeoutMs = 2 ** 32 - 1;

/** Answers of one message that are handed out in one turn of the event loop. */
const answersPerTurn = 32;

/** Calls given up that may stay in the outbox, however short it is. */
const fewAbandoned = 64;

/** A call from when it is made until it is answered or given up. */
class Pending {
  readonly method: MethodName;
  readonly number: WriteNumber | undefined;
  readonly timeoutMs: number;
  /** On the clock of the caller; Infinity means never. */
  readonly deadlineMs: number;
  readonly resolve: (response: never) => void;
  readonly reject: (failure: TransportFailure) => void;
  sent = false;
  /** Of the response, as far as it has come. */
  parts: Buffer[] | undefined;
  /** Stops listening to the signal, if there is one. */
  release: Cancel | undefined;

  constructor(
    method: MethodName,
    { timeoutMs, number }: AttemptOptions,
    nowMs: number,
    resolve: (response: never) => void,
    reject: (failure: TransportFailure) => void,
  ) {
    this.method = method;
    this.number = number;
    this.timeoutMs = timeoutMs;
    this.deadlineMs = nowMs + timeoutMs;
    this.resolve = resolve;
    this.reject = reject;
  }

  succeed(last: Buffer): void {
    const response = this.parts === undefined ? last : Buffer.concat([...this.parts, last]);
    try {
      this.resolve(methods[this.method].response.decode(response) as never);
    } catch (cause) {
      this.reject(
        new TransportFailure('status', Status.INTERNAL, 'unreadable answer', true, { cause }),
      );
    }
  }
}

type Stream = ClientDuplexStream<Calls, Answers>;

export class BatchCaller {
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #pending = new Map<number, Pending>();
  #outbox: Call[] = [];
  /** Received, and not handed out yet. */
  readonly #answers: Answer[] = [];
  /** How many of the outbox were given up: they stay until their turn, or until they are most of it. */
  #abandoned = 0;
  #stream: Stream | undefined;
  /** The server answered something on this stream, so it serves batches. */
  #served = false;
  /** Messages that this stream was given. */
  #messages = 0;
  /** Messages that came, on this stream and those before. */
  #received = 0;
  #flushScheduled = false;
  #full = false;
  #nextId = 1;
  /** When the timer rings, on the clock; Infinity while none runs. */
  #timerMs = Number.POSITIVE_INFINITY;
  #stopTimer: Cancel = () => undefined;
  #closed = false;

  /** @param channel stays the caller's to close */
  constructor(channel: Channel, clock: Clock) {
    this.#clock = clock;
    this.#client = new Client('channel-override', credentials.createInsecure(), {
      channelOverride: channel,
    });
  }

  /** The server answered something on the stream in use, so it serves batches. */
  get served(): boolean {
    return this.#served;
  }

  get received(): number {
    return this.#received;
  }

  /** Rejects with status UNIMPLEMENTED, and not sent, when the server does not serve batches. */
  call<M extends MethodName>(
    method: M,
    request: Buffer,
    options: AttemptOptions,
  ): Promise<ResponseOf<M>> {
    const { signal, timeoutMs, number } = options;
    if (this.#closed) return Promise.reject(closedFailure(false));
    if (signal?.aborted) return Promise.reject(abortedFailure(false));
    return new Promise((resolve, reject) => {
      const pending = new Pending(method, options, this.#clock.monotonicMs(), resolve, reject);
      const id = this.#allocateId();
      this.#pending.set(id, pending);
      if (signal !== undefined) this.#listen(signal, id, pending);
      this.#watchDeadline(pending.deadlineMs);
      const limitMs = Math.min(timeoutMs, largestTimeoutMs);
      this.#enqueue({
        id,
        method: methods[method].batch,
        request,
        timeoutMs: Number.isFinite(timeoutMs) ? Math.ceil(limitMs) : 0,
        cancel: false,
        clientId: number?.client ?? 0n,
        sequence: number?.sequence ?? 0n,
      });
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stopTimer();
    this.#handOutAll();
    this.#stream?.cancel();
    this.#failAll((pending) => closedFailure(pending.sent));
  }

  #listen(signal: AbortSignal, id: number, pending: Pending): void {
    const onAbort = () => this.#giveUp(id, pending, abortedFailure(pending.sent));
    signal.addEventListener('abort', onAbort);
    pending.release = () => signal.removeEventListener('abort', onAbort);
  }

  /** One timer for all calls: it may ring for one that is over, and then looks for the next. */
  #watchDeadline(deadlineMs: number): void {
    if (deadlineMs >= this.#timerMs) return;
    this.#stopTimer();
    this.#timerMs = deadlineMs;
    const delayMs = Math.max(0, deadlineMs - this.#clock.monotonicMs());
    // The stream holds the process as long as somebody waits; a timer that was left behind must not.
    this.#stopTimer = this.#clock.setTimer(delayMs, () => this.#expire());
  }

  #expire(): void {
    this.#timerMs = Number.POSITIVE_INFINITY;
    const nowMs = this.#clock.monotonicMs();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [id, pending] of [...this.#pending]) {
      if (pending.deadlineMs > nowMs) nextMs = Math.min(nextMs, pending.deadlineMs);
      else {
        const { method, timeoutMs, sent } = pending;
        this.#giveUp(id, pending, timeoutFailure(method, timeoutMs, sent));
      }
    }
    this.#watchDeadline(nextMs);
  }

  #giveUp(id: number, pending: Pending, failure: TransportFailure): void {
    this.#settle(id, pending);
    this.#abandon(id, pending);
    pending.reject(failure);
  }

  #settle(id: number, pending: Pending): void {
    this.#pending.delete(id);
    pending.release?.();
  }

  #allocateId(): number {
    do {
      this.#nextId = this.#nextId >= 0xffff_ffff ? 1 : this.#nextId + 1;
    } while (this.#pending.has(this.#nextId));
    return this.#nextId;
  }

  #enqueue(call: Call): void {
    // A ping asks how long the member takes to answer, not how long the line is here.
    if (call.method === Method.PING) this.#outbox.unshift(call);
    else this.#outbox.push(call);
    if (this.#flushScheduled || this.#full) return;
    this.#flushScheduled = true;
    afterThisTurn(() => {
      this.#flushScheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    while (!this.#closed && !this.#full) {
      const calls = this.#nextMessage();
      if (calls.length === 0) return;
      const stream = this.#stream ?? this.#open();
      let number: WriteNumber | undefined;
      for (const call of calls) {
        const pending = this.#pending.get(call.id);
        if (pending === undefined) continue;
        pending.sent = true;
        number ??= pending.number;
      }
      this.#messages += 1;
      this.#full = !stream.write({ calls, floor: number?.floor() ?? 0n });
    }
  }

  /** Ends before it is too large, and before a second client, as it can tell the floor of one only. */
  #nextMessage(): Call[] {
    let bytes = 0;
    let client = 0n;
    let passed = 0;
    const calls: Call[] = [];
    for (const call of this.#outbox) {
      if (this.#isWanted(call)) {
        bytes += call.request.length + 32;
        if (calls.length > 0 && bytes > messageBytes) break;
        if (call.clientId !== 0n) {
          if (client !== 0n && client !== call.clientId) break;
          client = call.clientId;
        }
        calls.push(call);
      } else {
        this.#abandoned -= 1;
      }
      passed += 1;
    }
    this.#outbox.splice(0, passed);
    return calls;
  }

  #isWanted({ id, cancel }: Call): boolean {
    return cancel || this.#pending.has(id);
  }

  #open(): Stream {
    const stream: Stream = this.#client.makeBidiStreamRequest(
      path,
      (message: Calls) => Calls.encode(message).finish(),
      // What is kept of an answer is copied when its response is decoded.
      (data: Buffer) => Answers.decode(new BinaryReader(data, 'views')),
      takesParts,
    );
    this.#stream = stream;
    this.#served = false;
    this.#messages = 0;
    this.#full = false;
    stream.on('data', (message: Answers) => this.#receive(message.answers));
    stream.on('drain', () => {
      if (this.#stream !== stream) return;
      this.#full = false;
      this.#flush();
    });
    // Every stream ends with exactly one status; without a listener the error would be thrown.
    stream.on('error', () => undefined);
    stream.on('status', ({ code, details }) => this.#ended(stream, code, details));
    return stream;
  }

  /**
   * Hands out a few in each turn: what their callers do next is on its way while the rest is still to
   * come, so that client and server work side by side rather than by turns.
   */
  #receive(answers: readonly Answer[]): void {
    this.#served = true;
    this.#received += 1;
    const isHandingOut = this.#answers.length > 0;
    for (const answer of answers) this.#answers.push(answer);
    if (!isHandingOut) this.#handOut();
  }

  #handOut(): void {
    for (const answer of this.#answers.splice(0, answersPerTurn)) this.#take(answer);
    if (this.#answers.length > 0) afterThisTurn(() => this.#handOut());
  }

  /** Those that are here count, whatever happened to the stream since. */
  #handOutAll(): void {
    for (const answer of this.#answers.splice(0)) this.#take(answer);
  }

  #take({ id, response, code, error, more }: Answer): void {
    const pending = this.#pending.get(id);
    if (pending === undefined) return;
    if (more) {
      pending.parts ??= [];
      pending.parts.push(response);
      return;
    }
    this.#settle(id, pending);
    if (code === Status.OK) pending.succeed(response);
    else pending.reject(new TransportFailure('status', code, error, true));
  }

  /** The stream is over. What it carried fails; what still waits here was never sent. */
  #ended(stream: Stream, code: number, details: string): void {
    if (this.#stream !== stream) return;
    this.#handOutAll();
    this.#stream = undefined;
    this.#full = false;
    const notServed = code === Status.UNIMPLEMENTED && !this.#served;
    const nothingSent = notServed || neverConnected(details);
    const over = 'The stream of calls ended';
    const cause = new Error(details === '' ? over : `${over}: ${details}`);
    // How a stream that worked ends says nothing about the calls it carried: neither its code nor its
    // text, which for a call would mean that it was refused, may reach them. One that was refused for a
    // message may have worked on those before.
    const [status, text] =
      this.#served || code === Status.OK
        ? [Status.UNAVAILABLE, over]
        : [code, this.#messages > 1 && code === Status.RESOURCE_EXHAUSTED ? over : cause.message];
    this.#failAll((pending) => {
      const sent = pending.sent && !nothingSent;
      return new TransportFailure('status', status, text, sent, { cause });
    });
  }

  #failAll(failure: (pending: Pending) => TransportFailure): void {
    this.#outbox = [];
    this.#abandoned = 0;
    for (const [id, pending] of [...this.#pending]) {
      this.#settle(id, pending);
      pending.reject(failure(pending));
    }
  }

  #abandon(id: number, pending: Pending): void {
    if (pending.sent) {
      const cancel = {
        id,
        method: Method.UNSPECIFIED,
        request: nothing,
        timeoutMs: 0,
        cancel: true,
        clientId: 0n,
        sequence: 0n,
      };
      this.#enqueue(cancel);
    } else {
      this.#abandoned += 1;
      // Looking through the outbox for each would take a time that grows with the square of their number.
      if (this.#abandoned < fewAbandoned || this.#abandoned * 2 < this.#outbox.length) return;
      this.#outbox = this.#outbox.filter((call) => this.#isWanted(call));
      this.#abandoned = 0;
    }
  }
}

const nothing = Buffer.alloc(0);

/** Metadata of every stream. */
const takesParts = new Metadata();
takesParts.set('conclave-parts', 'true');

const abortedFailure = (sent: boolean): TransportFailure =>
  new TransportFailure('aborted', Status.CANCELLED, 'aborted', sent);
