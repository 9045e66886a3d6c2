/**
 * The batched stream: many unary calls in one message, and their answers in as few.
 *
 * Calls are independent: they run side by side, are answered as they become ready, and a bad one gets
 * an error answer of its own.
 */
import type { ClientCall } from '../clients/call.ts';
import { Fault, Status } from '../faults.ts';
import type { Message } from '../http2/message.ts';
import type { Clock, Timers } from '../ports.ts';
import { type Call, Calls } from '../wire/conclave/v1/batch.ts';
import { BatchAnswers } from './answers.ts';
import { toNumber } from './convert.ts';
import { type CallContext, decodeViews, type UnaryMethod } from './method.ts';
import type { ServedStream } from './served-stream.ts';
import { type CallStatus, CONTEXT_DEADLINE, statusOf } from './status.ts';
import type { OpenStream, OpenStreams } from './streams.ts';

/**
 * Calls, and bytes of requests, that are worked on for one stream before it is read no further. Those
 * that were cancelled or have expired count until their handlers are done.
 */
const MAX_CALLS = 8_192;
const MAX_CALL_BYTES = 8 * 1024 * 1024;
/** Calls that wait for something to happen, and bytes of their requests, for one stream. */
const MAX_WAITS = 16_384;
const MAX_WAIT_BYTES = 8 * 1024 * 1024;

export type BatchOptions = {
  readonly streams: OpenStreams;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly needsLeader: boolean;
  /** The client puts parts of answers together. */
  readonly takesParts: boolean;
  /** By the number of `Method`. */
  readonly methods: ReadonlyMap<number, UnaryMethod>;
  /** Told of every failure that is not an answer. */
  readonly onError: (error: unknown, path: string) => void;
};

/** A call under way. The signal is made only if its handler asks for one. */
class Pending implements CallContext {
  readonly requestBytes: number;
  readonly client: ClientCall | undefined;
  /** Does not count among those that are worked on. */
  readonly waits: boolean;
  /** On the member's clock; Infinity means never. */
  readonly deadlineMs: number;
  #abort: AbortController | undefined = undefined;

  constructor(
    { waits }: UnaryMethod,
    requestBytes: number,
    client: ClientCall | undefined,
    deadlineMs: number,
  ) {
    this.waits = waits;
    this.requestBytes = requestBytes;
    this.client = client;
    this.deadlineMs = deadlineMs;
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    return this.#abort.signal;
  }

  /** The client no longer waits for it. */
  drop(): void {
    this.#abort?.abort();
  }
}

/** Longest delay that a timer can have. */
const MAX_TIMER_MS = 2 ** 31 - 1;

const NOTHING: Buffer = Buffer.alloc(0);

export function serveBatch(
  call: ServedStream,
  { streams, clock, timers, needsLeader, takesParts, methods, onError }: BatchOptions,
): void {
  /** Whose answers are waited for. */
  const pending = new Map<number, Pending>();
  /**
   * Those that may be answered at length, to begin when less waits to be sent. Meanwhile the stream is read:
   * gets, puts, renewals, pings and cancellations count at once.
   */
  const held = new Map<Pending, () => void>();
  /**
   * Whose handlers run, or are to: a handler may go on for a while after its call was cancelled or has
   * expired.
   */
  let running = 0;
  let runningBytes = 0;
  let waiting = 0;
  let waitingBytes = 0;
  /** When the timer rings; Infinity while none runs. */
  let timerMs = Number.POSITIVE_INFINITY;
  let stopTimer = () => {};
  let isHalfClosed = false;
  /**
   * Set when the server stops: the stream ends as soon as everything is answered. Calls that come in
   * until then are refused by their methods, certainly without effect.
   */
  let stopping: Fault | undefined;
  let isOver = false;

  const isFull = () => running >= MAX_CALLS || runningBytes >= MAX_CALL_BYTES || answers.isStuck;

  /** Begins what was held, and reads on, when there is room; ends when all is answered. */
  const proceed = () => {
    if (isOver) return;
    if (held.size > 0 && !answers.isFull) {
      const begins = [...held.values()];
      held.clear();
      for (const each of begins) each();
    }
    const isAnswered = pending.size === 0 && answers.isEmpty;
    if (stopping !== undefined) {
      if (isAnswered) finish(stopping);
    } else if (isHalfClosed && isAnswered) finish(undefined);
    else if (call.isPaused() && !isFull()) call.resume();
  };
  const answers = new BatchAnswers(call, {
    soon: (run) => timers.soon(run),
    takesParts,
    onProgress: proceed,
  });
  const answer = (id: number, response: Message, status: CallStatus | undefined) => {
    if (!isOver) answers.add(id, response, status);
  };

  const drop = (id: number): boolean => {
    const entry = pending.get(id);
    if (entry === undefined) return false;
    pending.delete(id);
    entry.drop();
    if (held.delete(entry)) count(entry, -1);
    return true;
  };

  const count = ({ waits, requestBytes }: Pending, change: 1 | -1) => {
    if (waits) {
      waiting += change;
      waitingBytes += change * requestBytes;
    } else {
      running += change;
      runningBytes += change * requestBytes;
    }
  };

  const end = (id: number, entry: Pending, response: Message, status: CallStatus | undefined) => {
    count(entry, -1);
    if (pending.get(id) === entry) {
      pending.delete(id);
      answer(id, response, status);
    } else {
      // Cancelled, timed out, or its id in use again: nobody waits for this answer.
      proceed();
    }
  };

  const run = (id: number, method: UnaryMethod, request: Buffer, entry: Pending) => {
    method.invoke(request, entry).then(
      (response) => end(id, entry, response, undefined),
      (error: unknown) => {
        onError(error, method.path);
        end(id, entry, NOTHING, statusOf(error));
      },
    );
  };

  /** One timer for all calls: it may ring for one that is over, and then looks for the next. */
  const watchDeadline = (deadlineMs: number) => {
    if (deadlineMs >= timerMs) return;
    stopTimer();
    timerMs = deadlineMs;
    const delayMs = Math.max(0, deadlineMs - clock.nowMs());
    stopTimer = timers.after(Math.min(delayMs, MAX_TIMER_MS), expire);
  };
  const expire = () => {
    timerMs = Number.POSITIVE_INFINITY;
    const nowMs = clock.nowMs();
    let nextMs = Number.POSITIVE_INFINITY;
    for (const [id, { deadlineMs }] of pending) {
      if (deadlineMs > nowMs) nextMs = Math.min(nextMs, deadlineMs);
      else if (drop(id)) answer(id, NOTHING, CONTEXT_DEADLINE);
    }
    watchDeadline(nextMs);
  };

  const begin = (call: Call, floor: number) => {
    const { id, method: number, request, timeoutMs, cancel } = call;
    if (cancel) {
      if (!drop(id)) answers.drop(id);
      return;
    }
    if (pending.has(id)) {
      answer(id, NOTHING, {
        code: Status.INVALID_ARGUMENT,
        details: `call id ${id} is already in use by a call in flight on this stream`,
      });
      return;
    }
    const method = methods.get(number);
    if (method === undefined) {
      answer(id, NOTHING, {
        code: Status.UNIMPLEMENTED,
        details: `method ${number} is not served on the batched stream`,
      });
      return;
    }
    if (method.waits && (waiting >= MAX_WAITS || waitingBytes >= MAX_WAIT_BYTES)) {
      answer(id, NOTHING, {
        code: Status.RESOURCE_EXHAUSTED,
        details: `${waiting} calls on this stream wait for something to happen: no more are taken`,
      });
      return;
    }
    const deadlineMs = timeoutMs > 0 ? clock.nowMs() + timeoutMs : Number.POSITIVE_INFINITY;
    const entry = new Pending(method, request.length, clientOf(call, floor), deadlineMs);
    pending.set(id, entry);
    count(entry, 1);
    watchDeadline(deadlineMs);
    if (answers.isFull && method.answersAtLength(request))
      held.set(entry, () => run(id, method, request, entry));
    else run(id, method, request, entry);
  };

  const finish = (error: unknown) => {
    if (isOver) return;
    isOver = true;
    streams.delete(stream);
    stopTimer();
    answers.close();
    for (const entry of pending.values()) entry.drop();
    pending.clear();
    held.clear();
    if (error === undefined) call.end();
    else call.emit('error', statusOf(error));
  };
  const fail = (fault: Fault) => {
    if (fault.code !== 'stopped') {
      finish(fault);
      return;
    }
    stopping = fault;
    proceed();
  };
  const stream: OpenStream = { needsLeader, fail };
  streams.add(stream);

  call.on('data', (bytes: Buffer) => {
    if (isOver) return;
    try {
      const { calls, floor } = decodeViews(Calls, bytes);
      for (const each of calls) begin(each, toNumber(floor));
    } catch (error) {
      finish(error);
      return;
    }
    if (isFull()) call.pause();
    // A cancellation may have been all that a stream that is to end was waiting for.
    proceed();
  });
  call.on('end', () => {
    isHalfClosed = true;
    proceed();
  });
  call.on('cancelled', () => finish(new Fault('canceled')));
}

/** A call is numbered when both numbers are set. */
function clientOf({ clientId, sequence }: Call, floor: number): ClientCall | undefined {
  if (clientId === 0n || sequence === 0n) return undefined;
  return { id: clientId, sequence: toNumber(sequence), floor };
}
