/**
 * Everything that a connection sends, in as few writes as there are turns of the event loop.
 *
 * Invariant: no stream, nor all together, send more than the peer gave room for. What does not fit
 * waits at its stream; streams take turns, a frame each. While the socket holds a lot already, all of
 * them wait: a peer that does not read is held what its calls have been answered and no more.
 */
import type { Socket } from 'node:net';
import { AnswerFrames, MESSAGE_HEAD_BYTES, writeMessageHead } from './answer-frames.ts';
import type { ErrorCode } from './error.ts';
import {
  DEFAULT_WINDOW_BYTES,
  Flag,
  FRAME_HEAD_BYTES,
  FrameType,
  MAX_FRAME_BYTES,
  MAX_WINDOW_BYTES,
  PING_BYTES,
  writeFrameHead,
  writeUint32,
} from './frame.ts';
import { bytesOf, joined, type Message, piecesOf } from './message.ts';
import { type Chunks, Output } from './output.ts';
import { type GrpcStatus, OK, StatusCode } from './status.ts';

/** The sending half of a stream. */
export interface SendingStream {
  readonly id: number;
  /** Bytes that the peer lets it send; negative when the peer took back more than was left. */
  sendWindowBytes: number;
  readonly waiting: Waiting[];
  waitingBytes: number;
  isHeadSent: boolean;
  /** Follows what waits. */
  status: GrpcStatus | undefined;
  /** Whether the sender is to serve it when it can. */
  isReady: boolean;
  /** Nothing waits any more. */
  drained(): void;
  /** Everything has been sent, the status too. */
  ended(): void;
}

/** A part of a message that waits for room. */
export type Waiting = {
  readonly bytes: Buffer;
  at: number;
  /** Told when all of it is on its way. */
  readonly done: (() => void) | undefined;
};

/** What the socket may hold before streams wait. */
const SOCKET_BYTES = 256 * 1024;
/** Larger frames save nothing, and keep other streams waiting. */
const FRAME_BYTES = 64 * 1024;
/** What is written in one turn: other connections want theirs. */
const TURN_BYTES = 256 * 1024;

export class Sender {
  readonly #socket: Socket;
  readonly #output: Output;
  readonly #frames: AnswerFrames;
  #windowBytes = DEFAULT_WINDOW_BYTES;
  #frameBytes = MAX_FRAME_BYTES;
  /** Streams with something to send and room for it. */
  readonly #ready: SendingStream[] = [];
  #written: (() => void)[] = [];
  #waitingBytes = 0;
  #isFlushScheduled = false;
  #isClosed = false;

  constructor(socket: Socket, chunks: Chunks) {
    this.#socket = socket;
    this.#output = new Output(chunks);
    this.#frames = new AnswerFrames(this.#output);
    socket.on('drain', () => this.#scheduleFlush());
  }

  /** What streams hold because it cannot be sent yet. */
  get waitingBytes(): number {
    return this.#waitingBytes;
  }

  /** What the peer does not take although it asks for it: frames about the connection. */
  get backlogBytes(): number {
    return this.#output.bytes + this.#socket.writableLength;
  }

  limitFrames(bytes: number): void {
    this.#frameBytes = Math.min(bytes, FRAME_BYTES);
  }

  limitHeaderTable(bytes: number): void {
    this.#frames.limitTable(bytes);
  }

  /** The one message of a call and its success. */
  respond(stream: SendingStream, message: Message): void {
    const bytes = MESSAGE_HEAD_BYTES + bytesOf(message);
    if (!this.#fits(stream, bytes)) {
      this.message(stream, message, undefined);
      this.end(stream, OK);
      return;
    }
    this.#writeHead(stream);
    this.#writeMessage(stream, message);
    this.#frames.success(stream.id);
    this.#scheduleFlush();
    stream.ended();
  }

  /** `done` is told when the message is on its way, and never if the stream ends before. */
  message(stream: SendingStream, message: Message, done: (() => void) | undefined): void {
    if (!stream.isHeadSent) this.#writeHead(stream);
    const messageBytes = bytesOf(message);
    const bytes = MESSAGE_HEAD_BYTES + messageBytes;
    if (this.#fits(stream, bytes)) {
      this.#writeMessage(stream, message);
      if (done !== undefined) this.#written.push(done);
    } else {
      const head = Buffer.allocUnsafe(MESSAGE_HEAD_BYTES);
      writeMessageHead(head, 0, messageBytes);
      const pieces = [head, ...piecesOf(message)].filter(({ length }) => length > 0);
      const last = pieces.length - 1;
      pieces.forEach((piece, index) => {
        stream.waiting.push({ bytes: piece, at: 0, done: index === last ? done : undefined });
      });
      stream.waitingBytes += bytes;
      this.#waitingBytes += bytes;
      this.#makeReady(stream);
    }
    this.#scheduleFlush();
  }

  /** Sends the status behind everything that waits. */
  end(stream: SendingStream, status: GrpcStatus): void {
    stream.status = status;
    if (stream.waiting.length > 0) return;
    this.#writeEnd(stream, status);
    this.#scheduleFlush();
  }

  /** An answer that is none of gRPC, to a request that is no call. */
  refuse(id: number, httpStatus: number): void {
    this.#frames.refusal(id, httpStatus);
    this.#scheduleFlush();
  }

  /** The whole answer to a call that is not begun. */
  reject(id: number, status: GrpcStatus): void {
    this.#frames.status(id, false, status);
    this.#scheduleFlush();
  }

  /** The stream is over: what waits there is nobody's any more. */
  forget(stream: SendingStream): void {
    this.#waitingBytes -= stream.waitingBytes;
    stream.waitingBytes = 0;
    stream.waiting.length = 0;
  }

  reset(id: number, code: ErrorCode): void {
    this.#writeNumbers(FrameType.RST_STREAM, 0, id, [code]);
  }

  grant(id: number, increment: number): void {
    this.#writeNumbers(FrameType.WINDOW_UPDATE, 0, id, [increment]);
  }

  settings(values: readonly (readonly [id: number, value: number])[]): void {
    const payload = Buffer.alloc(values.length * 6);
    values.forEach(([id, value], index) => {
      payload.writeUInt16BE(id, index * 6);
      payload.writeUInt32BE(value, index * 6 + 2);
    });
    this.#writeFrame(FrameType.SETTINGS, 0, payload, 0, payload.length);
  }

  acknowledgeSettings(): void {
    this.#writeNumbers(FrameType.SETTINGS, Flag.ACK, 0, []);
  }

  ping(payload: Buffer): void {
    this.#writeFrame(FrameType.PING, 0, payload, 0, PING_BYTES);
  }

  acknowledgePing(payload: Buffer, start: number): void {
    this.#writeFrame(FrameType.PING, Flag.ACK, payload, start, start + PING_BYTES);
  }

  goAway(lastStream: number, code: ErrorCode, reason: string): void {
    const payload = Buffer.alloc(8 + Buffer.byteLength(reason));
    writeUint32(payload, writeUint32(payload, 0, lastStream), code);
    payload.write(reason, 8);
    this.#writeFrame(FrameType.GOAWAY, 0, payload, 0, payload.length);
  }

  /** False when the peer gives more room than there can be. */
  addToConnectionWindow(bytes: number): boolean {
    this.#windowBytes += bytes;
    if (this.#ready.length > 0) this.#scheduleFlush();
    return this.#windowBytes <= MAX_WINDOW_BYTES;
  }

  /** `bytes` may be negative. False when the peer gives more room than there can be. */
  addToWindow(stream: SendingStream, bytes: number): boolean {
    stream.sendWindowBytes += bytes;
    if (stream.waiting.length > 0) this.#makeReady(stream);
    if (this.#ready.length > 0) this.#scheduleFlush();
    return stream.sendWindowBytes <= MAX_WINDOW_BYTES;
  }

  /** Writes what there is, now. */
  readonly flush = (): void => {
    this.#isFlushScheduled = false;
    if (this.#isClosed) return;
    this.#sendWaiting();
    const pieces = this.#output.take();
    if (pieces.length === 1 && pieces[0] !== undefined) this.#socket.write(pieces[0]);
    else if (pieces.length > 1) {
      this.#socket.cork();
      for (const piece of pieces) this.#socket.write(piece);
      this.#socket.uncork();
    }
    if (this.#ready.length > 0 && this.#windowBytes > 0 && !this.#isBlocked) this.#flushLater();
    if (this.#written.length === 0) return;
    const written = this.#written;
    this.#written = [];
    for (const done of written) done();
  };

  /** Nothing is written any more. */
  close(): void {
    this.#isClosed = true;
    this.#ready.length = 0;
    this.#written = [];
  }

  get #isBlocked(): boolean {
    return this.#socket.writableLength >= SOCKET_BYTES;
  }

  /** Once everything has run that is ready now, so that its answers leave together. */
  #scheduleFlush(): void {
    if (this.#isFlushScheduled) return;
    this.#isFlushScheduled = true;
    process.nextTick(this.flush);
  }

  /** After others had their turn. */
  #flushLater(): void {
    this.#isFlushScheduled = true;
    setImmediate(this.flush);
  }

  /** Whether so many bytes can go in one frame, now, without overtaking anything. */
  #fits(stream: SendingStream, bytes: number): boolean {
    return (
      stream.waiting.length === 0 &&
      bytes <= this.#frameBytes &&
      bytes <= stream.sendWindowBytes &&
      bytes <= this.#windowBytes &&
      this.#output.bytes < TURN_BYTES &&
      !this.#isBlocked
    );
  }

  #makeReady(stream: SendingStream): void {
    if (stream.isReady || stream.sendWindowBytes <= 0) return;
    stream.isReady = true;
    this.#ready.push(stream);
  }

  /** A frame of each stream that waits, again and again, as long as there is room. */
  #sendWaiting(): void {
    while (
      this.#windowBytes > 0 &&
      this.#output.bytes < TURN_BYTES &&
      this.#ready.length > 0 &&
      !this.#isBlocked
    ) {
      const stream = this.#ready.shift();
      if (stream === undefined) return;
      stream.isReady = false;
      if (stream.waiting.length === 0 || stream.sendWindowBytes <= 0) continue;
      this.#sendFrame(stream);
      if (stream.waiting.length > 0) this.#makeReady(stream);
      else {
        stream.drained();
        if (stream.status !== undefined && stream.waiting.length === 0) {
          this.#writeEnd(stream, stream.status);
        }
      }
    }
  }

  #sendFrame(stream: SendingStream): void {
    const room = Math.min(stream.sendWindowBytes, this.#windowBytes, this.#frameBytes);
    const bytes = Math.min(room, stream.waitingBytes);
    const chunk = this.#output.reserve(FRAME_HEAD_BYTES);
    const start = writeFrameHead(chunk.buffer, chunk.used, bytes, FrameType.DATA, 0, stream.id);
    this.#output.filled(chunk, start);
    this.#spend(stream, bytes);
    stream.waitingBytes -= bytes;
    this.#waitingBytes -= bytes;
    let left = bytes;
    while (left > 0) {
      const part = stream.waiting[0];
      if (part === undefined) return;
      const end = Math.min(part.bytes.length, part.at + left);
      this.#output.append(part.bytes, part.at, end);
      left -= end - part.at;
      part.at = end;
      if (end < part.bytes.length) return;
      stream.waiting.shift();
      if (part.done !== undefined) this.#written.push(part.done);
    }
  }

  #spend(stream: SendingStream, bytes: number): void {
    stream.sendWindowBytes -= bytes;
    this.#windowBytes -= bytes;
  }

  #writeHead(stream: SendingStream): void {
    stream.isHeadSent = true;
    this.#frames.head(stream.id);
  }

  /** The caller has made sure that there is room. */
  #writeMessage(stream: SendingStream, message: Message): void {
    this.#frames.message(stream.id, joined(message));
    this.#spend(stream, MESSAGE_HEAD_BYTES + bytesOf(message));
  }

  #writeEnd(stream: SendingStream, status: GrpcStatus): void {
    if (stream.isHeadSent && status.code === StatusCode.OK) this.#frames.success(stream.id);
    else this.#frames.status(stream.id, stream.isHeadSent, status);
    stream.ended();
  }

  #writeNumbers(type: number, flags: number, stream: number, numbers: readonly number[]): void {
    const bytes = numbers.length * 4;
    const chunk = this.#output.reserve(FRAME_HEAD_BYTES + bytes);
    let end = writeFrameHead(chunk.buffer, chunk.used, bytes, type, flags, stream);
    for (const number of numbers) end = writeUint32(chunk.buffer, end, number);
    this.#output.filled(chunk, end);
    this.#scheduleFlush();
  }

  /** A frame about the connection. */
  #writeFrame(type: number, flags: number, payload: Buffer, start: number, end: number): void {
    const chunk = this.#output.reserve(FRAME_HEAD_BYTES + end - start);
    const { buffer, used } = chunk;
    const at = writeFrameHead(buffer, used, end - start, type, flags, 0);
    payload.copy(buffer, at, start, end);
    this.#output.filled(chunk, at + end - start);
    this.#scheduleFlush();
  }
}
