/**
 * What a batched stream sends, small answers before large ones.
 *
 * Small answers that become ready in one turn of the event loop leave together, at once. Large ones are
 * handed to the transport a little at a time, and by turns, so that none keeps another waiting: in
 * parts, if the client puts them together; else one by one. What was handed over cannot be overtaken.
 */
import { bytesOf, joined, type Message, piecesOf } from '../http2/message.ts';
import { type Answer, Answers } from '../wire/conclave/v1/batch.ts';
import type { ServedStream } from './served-stream.ts';
import type { CallStatus } from './status.ts';

/** More than a frame of HTTP/2 usually has: calls of their own would be interleaved from here on. */
const LARGE_BYTES = 16 * 1024;
/** What an answer may send before it is the turn of the next, and so the size of its parts. */
const PART_BYTES = 64 * 1024;
/** Bytes of large answers handed to the transport before it has to confirm some. */
const LARGE_WINDOW_BYTES = 2 * PART_BYTES;
/** Answers are collected into one message up to this size; a larger one that is not parted travels alone. */
const MESSAGE_BYTES = 512 * 1024;
/** Bytes of small answers handed to the transport before nothing more is read. */
const WINDOW_BYTES = 4 * 1024 * 1024;
/** Bytes of several large answers that wait before no more calls begin: as much as calls of their own may. */
const WAITING_BYTES = 64 * 1024 * 1024;

export type BatchAnswersOptions = {
  /** Runs in the next turn. */
  readonly soon: (run: () => void) => void;
  /** The client puts parts of answers together. */
  readonly takesParts: boolean;
  /** Told when something was sent, or is on its way. */
  readonly onProgress: () => void;
};

type LargeAnswer = {
  readonly id: number;
  /** What was not handed over yet. */
  readonly pieces: Buffer[];
  bytes: number;
};

export class BatchAnswers {
  readonly #call: ServedStream;
  readonly #options: BatchAnswersOptions;
  #ready: Answer[] = [];
  #readyBytes = 0;
  #inFlightBytes = 0;
  /** The next one first. */
  readonly #large: LargeAnswer[] = [];
  /** What waits there, and what is in flight. */
  #largeBytes = 0;
  #largeInFlightBytes = 0;
  #isFlushScheduled = false;
  #isClosed = false;

  constructor(call: ServedStream, options: BatchAnswersOptions) {
    this.#call = call;
    this.#options = options;
  }

  /** The client does not even take what is small. Whatever is read may be answered, if with an error. */
  get isStuck(): boolean {
    return this.#inFlightBytes >= WINDOW_BYTES;
  }

  /**
   * The client takes less than it asks for: the next answer may be large too. One alone is not that,
   * whatever its size, or it would keep every small one waiting until most of it is through.
   */
  get isFull(): boolean {
    return this.#large.length > 1 && this.#largeBytes >= WAITING_BYTES;
  }

  /** Everything has been handed to the transport. */
  get isEmpty(): boolean {
    return this.#ready.length === 0 && this.#large.length === 0;
  }

  add(id: number, message: Message, status: CallStatus | undefined): void {
    const bytes = bytesOf(message);
    if (bytes >= LARGE_BYTES) {
      this.#large.push({ id, pieces: [...piecesOf(message)], bytes });
      this.#largeBytes += bytes;
    } else {
      const response = joined(message);
      if (this.#ready.length > 0 && this.#readyBytes + response.length > MESSAGE_BYTES) {
        this.#sendReady();
      }
      const code = status?.code ?? 0;
      this.#ready.push({ id, response, code, error: status?.details ?? '', more: false });
      this.#readyBytes += response.length;
    }
    this.#scheduleFlush();
  }

  /** Nobody waits for this one: what is left of it need not be sent. */
  drop(id: number): void {
    const index = this.#large.findIndex((each) => each.id === id);
    if (index < 0) return;
    for (const { bytes } of this.#large.splice(index, 1)) this.#largeBytes -= bytes;
  }

  close(): void {
    this.#isClosed = true;
    this.#ready = [];
    this.#large.length = 0;
  }

  #scheduleFlush(): void {
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    this.#options.soon(() => {
      this.#isFlushScheduled = false;
      if (this.#isClosed) return;
      this.#sendReady();
      this.#sendLarge();
      this.#options.onProgress();
    });
  }

  #sendReady(): void {
    if (this.#ready.length === 0) return;
    const message = Answers.encode({ answers: this.#ready }).finish();
    this.#ready = [];
    this.#readyBytes = 0;
    this.#inFlightBytes += message.length;
    this.#call.write(message, () => {
      this.#inFlightBytes -= message.length;
      this.#options.onProgress();
    });
  }

  #sendLarge(): void {
    while (this.#large.length > 0 && this.#largeInFlightBytes < LARGE_WINDOW_BYTES) {
      const answers = this.#options.takesParts ? this.#nextParts() : this.#nextWhole();
      const bytes = answers.reduce((sum, { response }) => sum + response.length, 0);
      this.#largeInFlightBytes += bytes;
      this.#call.write(Answers.encode({ answers }).finish(), () => {
        this.#largeInFlightBytes -= bytes;
        this.#largeBytes -= bytes;
        if (this.#large.length > 0) this.#scheduleFlush();
        this.#options.onProgress();
      });
    }
  }

  /** From each a part, as long as there is room. Whoever has more gets in line again. */
  #nextParts(): Answer[] {
    const answers: Answer[] = [];
    for (let room = PART_BYTES; room > 0; ) {
      const next = this.#large.shift();
      const piece = next?.pieces.shift();
      if (next === undefined || piece === undefined) break;
      const response = piece.subarray(0, room);
      if (response.length < piece.length) next.pieces.unshift(piece.subarray(room));
      room -= response.length;
      next.bytes -= response.length;
      const more = next.bytes > 0;
      answers.push({ id: next.id, response, code: 0, error: '', more });
      if (more) this.#large.push(next);
    }
    return answers;
  }

  #nextWhole(): Answer[] {
    const answers: Answer[] = [];
    for (let bytes = 0; ; ) {
      const next = this.#large[0];
      if (next === undefined) break;
      bytes += next.bytes;
      if (answers.length > 0 && bytes > MESSAGE_BYTES) break;
      this.#large.shift();
      const response = joined(next.pieces);
      answers.push({ id: next.id, response, code: 0, error: '', more: false });
    }
    return answers;
  }
}
