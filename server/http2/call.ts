/**
 * One call, which is one stream: its request as it comes in, and its state towards the peer. What is
 * done with the request is up to the two kinds of calls.
 */
import { decompress } from './compression.ts';
import type { Deadlines, Expiring } from './deadlines.ts';
import { ErrorCode } from './error.ts';
import { MessageReader, type MessageSink } from './message-reader.ts';
import type { CallMetadata } from './metadata.ts';
import { ReceiveWindow } from './receive-window.ts';
import type { Sender, SendingStream, Waiting } from './sender.ts';
import { type GrpcStatus, StatusCode } from './status.ts';

/** Bytes of its request that a client may send before it has to wait for the handler. */
export const STREAM_WINDOW_BYTES = 1024 * 1024;

/** What a message that waits takes beside its bytes. */
export const MESSAGE_OVERHEAD_BYTES = 128;

/** The connection, as its calls see it. */
export interface CallHost {
  readonly sender: Sender;
  readonly deadlines: Deadlines;
  readonly maxMessageBytes: number;
  /** Memory taken for messages that wait; negative when it is given back. False: too much. */
  hold(bytes: number): boolean;
  /** The call is over for the peer, and whether because everything was sent. */
  ended(call: Call, isAnswered: boolean): void;
  /** Its handler goes on although nobody waits for it (true), or is done with that (false). */
  abandoned(isRunning: boolean): void;
}

export type CallHead = {
  readonly id: number;
  readonly windowBytes: number;
  readonly metadata: CallMetadata;
  readonly encoding: string | undefined;
};

const DEADLINE: GrpcStatus = {
  code: StatusCode.DEADLINE_EXCEEDED,
  details: 'context deadline exceeded',
};

export abstract class Call implements SendingStream, MessageSink, Expiring {
  readonly id: number;
  readonly metadata: CallMetadata;
  sendWindowBytes: number;
  readonly waiting: Waiting[] = [];
  waitingBytes = 0;
  isHeadSent = false;
  status: GrpcStatus | undefined = undefined;
  isReady = false;
  dueTick = -1;
  /** The peer has sent its whole request. */
  isHalfClosed = false;
  /** For the peer the call is over. */
  isOver = false;
  protected readonly host: CallHost;
  readonly #encoding: string | undefined;
  readonly #reader: MessageReader;
  readonly #window = new ReceiveWindow(STREAM_WINDOW_BYTES);
  /** Memory for messages that are not complete, or not taken. */
  #heldBytes = 0;
  /** What of it is the reader's. */
  #readerBytes = 0;
  /** Received bytes for which the peer does not get room back yet. */
  #unreleasedBytes = 0;
  /** Messages behind a compressed one wait until it is readable. */
  #decompressing: Promise<void> | undefined = undefined;

  constructor(host: CallHost, head: CallHead) {
    this.host = host;
    this.id = head.id;
    this.sendWindowBytes = head.windowBytes;
    this.metadata = head.metadata;
    this.#encoding = head.encoding;
    this.#reader = new MessageReader(host.maxMessageBytes, this);
  }

  /** A message of the request, in order. */
  protected abstract received(message: Buffer): void;
  /** Behind the last message. */
  protected abstract requestEnded(): void;
  /** Nothing can be sent any more, whether everything was or the client has gone. Called once. */
  protected abstract closed(): void;
  abstract drained(): void;
  /** Whether messages wait for the handler, so that the client has to wait too. */
  protected abstract get isBehind(): boolean;

  expireAfter(timeoutMs: number): void {
    this.host.deadlines.add(this, timeoutMs);
  }

  expire(): void {
    this.dueTick = -1;
    this.end(DEADLINE);
  }

  /** `windowBytes`: what the frame takes of the window. False when the peer was not allowed to. */
  data(bytes: Buffer, start: number, end: number, windowBytes: number): boolean {
    if (!this.#window.receive(windowBytes)) return false;
    this.#reader.push(bytes, start, end);
    if (this.isOver) return true;
    this.#unreleasedBytes += windowBytes;
    const { heldBytes } = this.#reader;
    if (heldBytes !== this.#readerBytes) {
      this.hold(heldBytes - this.#readerBytes);
      this.#readerBytes = heldBytes;
    }
    this.release();
    return true;
  }

  /** Takes memory for messages that wait, or gives it back. The call ends when that is too much. */
  protected hold(bytes: number): void {
    if (this.isOver) return;
    this.#heldBytes += bytes;
    if (this.host.hold(bytes) || bytes < 0) return;
    this.end({
      code: StatusCode.RESOURCE_EXHAUSTED,
      details: 'too many messages of this connection are not complete, or wait to be taken',
    });
  }

  /** Gives the peer room for what the handler has taken. */
  protected release(): void {
    if (this.isHalfClosed || this.isOver || this.isBehind) return;
    if (this.#decompressing !== undefined) return;
    const increment = this.#window.release(this.#unreleasedBytes);
    this.#unreleasedBytes = 0;
    if (increment > 0) this.host.sender.grant(this.id, increment);
  }

  halfClose(): void {
    this.isHalfClosed = true;
    if (!this.#reader.isBetweenMessages) {
      this.end({
        code: StatusCode.INTERNAL,
        details: 'the request ended in the middle of a message',
      });
    } else if (this.#decompressing === undefined) this.requestEnded();
    else this.#afterDecompressing(() => this.requestEnded());
  }

  message(bytes: Buffer, isCompressed: boolean): void {
    if (this.status !== undefined || this.isOver) return;
    if (!isCompressed && this.#decompressing === undefined) {
      this.received(bytes);
      return;
    }
    const held = bytes.length + MESSAGE_OVERHEAD_BYTES;
    this.hold(held);
    this.#afterDecompressing(() => {
      this.hold(-held);
      return isCompressed ? this.#decompress(bytes) : this.received(bytes);
    });
  }

  tooLarge(bytes: number): void {
    this.end({
      code: StatusCode.RESOURCE_EXHAUSTED,
      details: `Received message larger than max (${bytes} vs ${this.host.maxMessageBytes})`,
    });
  }

  #afterDecompressing(run: () => void | Promise<void>): void {
    const before = this.#decompressing ?? Promise.resolve();
    const all = before.then(() => (this.isOver || this.status !== undefined ? undefined : run()));
    this.#decompressing = all;
    void all.then(() => {
      if (this.#decompressing !== all) return;
      this.#decompressing = undefined;
      this.release();
    });
  }

  async #decompress(bytes: Buffer): Promise<void> {
    const message = await decompress(bytes, this.#encoding, this.host.maxMessageBytes);
    if (this.isOver || this.status !== undefined) return;
    if (Buffer.isBuffer(message)) this.received(message);
    else this.end(message);
  }

  /** Ends the call behind what it has sent. The first status counts. */
  end(status: GrpcStatus): void {
    if (this.isOver || this.status !== undefined) return;
    this.host.sender.end(this, status);
  }

  /** The peer has got everything. */
  ended(): void {
    // It need not send the rest of its request.
    if (!this.isHalfClosed) this.host.sender.reset(this.id, ErrorCode.NO_ERROR);
    this.#close(true);
  }

  /** The peer waits for nothing any more. */
  close(): void {
    this.#close(false);
  }

  #close(isAnswered: boolean): void {
    if (this.isOver) return;
    this.isOver = true;
    if (this.dueTick >= 0) this.host.deadlines.delete(this);
    if (this.waitingBytes > 0) this.host.sender.forget(this);
    if (this.#heldBytes > 0) this.host.hold(-this.#heldBytes);
    this.#heldBytes = 0;
    this.host.ended(this, isAnswered);
    this.closed();
  }
}
