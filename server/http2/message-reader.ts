/**
 * The messages in the body of a request: each has a head of five bytes, whether it is compressed and
 * how long it is, and lies in the frames as it happens to. Messages told have memory of their own.
 */

import { MESSAGE_HEAD_BYTES } from './answer-frames.ts';
import { readUint32 } from './frame.ts';

export interface MessageSink {
  message(bytes: Buffer, isCompressed: boolean): void;
  /** Nothing more is told after that. */
  tooLarge(bytes: number): void;
}

/** Memory for a message grows with what has come of it: its length is only a claim. */
const FIRST_BYTES = 4 * 1024;

export class MessageReader {
  readonly #maxBytes: number;
  readonly #sink: MessageSink;
  /** The part of a head that has come. */
  #head: Buffer | undefined;
  #headBytes = 0;
  /** The message that is not complete. */
  #body: Buffer | undefined;
  #bodyBytes = 0;
  #neededBytes = 0;
  #isCompressed = false;
  #isStopped = false;

  constructor(maxBytes: number, sink: MessageSink) {
    this.#maxBytes = maxBytes;
    this.#sink = sink;
  }

  /** Memory that waits for the rest of a message. */
  get heldBytes(): number {
    return this.#body?.length ?? 0;
  }

  /** Whether the body may end here. */
  get isBetweenMessages(): boolean {
    return this.#headBytes === 0 && this.#body === undefined;
  }

  push(bytes: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end && !this.#isStopped) {
      if (this.#body !== undefined) at = this.#readBody(this.#body, bytes, at, end);
      else if (this.#headBytes > 0 || end - at < MESSAGE_HEAD_BYTES) {
        at = this.#readHead(bytes, at, end);
      } else {
        this.#begin(bytes, at);
        at += MESSAGE_HEAD_BYTES;
        if (!this.#isStopped) at = this.#readFirst(bytes, at, end);
      }
    }
  }

  #readHead(bytes: Buffer, at: number, end: number): number {
    this.#head ??= Buffer.alloc(MESSAGE_HEAD_BYTES);
    const copied = bytes.copy(this.#head, this.#headBytes, at, end);
    this.#headBytes += copied;
    if (this.#headBytes === MESSAGE_HEAD_BYTES) {
      this.#headBytes = 0;
      this.#begin(this.#head, 0);
      // One without content is complete with its head.
      if (!this.#isStopped) this.#readFirst(bytes, at + copied, at + copied);
    }
    return at + copied;
  }

  #begin(head: Buffer, at: number): void {
    this.#isCompressed = head[at] !== 0;
    this.#neededBytes = readUint32(head, at + 1);
    if (this.#neededBytes <= this.#maxBytes) return;
    this.#isStopped = true;
    this.#sink.tooLarge(this.#neededBytes);
  }

  /** Right behind a head: mostly the whole message is there. */
  #readFirst(bytes: Buffer, at: number, end: number): number {
    const needed = this.#neededBytes;
    if (end - at < needed) {
      this.#body = Buffer.allocUnsafe(Math.min(needed, Math.max(FIRST_BYTES, 2 * (end - at))));
      this.#bodyBytes = 0;
      return at;
    }
    const message = Buffer.allocUnsafe(needed);
    bytes.copy(message, 0, at, at + needed);
    this.#sink.message(message, this.#isCompressed);
    return at + needed;
  }

  #readBody(body: Buffer, bytes: Buffer, at: number, end: number): number {
    const until = Math.min(end, at + this.#neededBytes - this.#bodyBytes);
    const have = this.#bodyBytes + until - at;
    let target = body;
    if (have > body.length) {
      target = Buffer.allocUnsafe(Math.min(this.#neededBytes, Math.max(2 * body.length, have)));
      body.copy(target, 0, 0, this.#bodyBytes);
      this.#body = target;
    }
    bytes.copy(target, this.#bodyBytes, at, until);
    this.#bodyBytes = have;
    if (have === this.#neededBytes) {
      this.#body = undefined;
      this.#sink.message(target, this.#isCompressed);
    }
    return until;
  }
}
