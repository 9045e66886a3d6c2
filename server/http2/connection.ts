/**
 * One connection of a client: its frames to where they belong, its beginning and its end.
 *
 * It serves gRPC over HTTP/2 (RFC 9113) without TLS and with prior knowledge, and nothing else: no
 * push, no priorities, no upgrade. The bytes of a body are not compared with a `content-length`, which
 * no gRPC client sends.
 */
import type { Socket } from 'node:net';
import { STREAM_WINDOW_BYTES } from './call.ts';
import { ConnectionError, ErrorCode } from './error.ts';
import { FloodGuard } from './flood-guard.ts';
import {
  DEFAULT_WINDOW_BYTES,
  Flag,
  FrameType,
  MAX_WINDOW_BYTES,
  PING_BYTES,
  readUint31,
} from './frame.ts';
import { FrameReader, type FrameSink } from './frame-reader.ts';
import { HeaderBlock } from './header-block.ts';
import { HpackDecoder } from './hpack-decoder.ts';
import { KeepAlive } from './keep-alive.ts';
import type { Chunks } from './output.ts';
import { ReceiveWindow } from './receive-window.ts';
import { MAX_HEADER_LIST_BYTES, RequestHead } from './request-head.ts';
import { Sender } from './sender.ts';
import { readSettings, Setting } from './settings.ts';
import { Streams, type StreamsOptions } from './streams.ts';

export type ConnectionOptions = StreamsOptions & {
  readonly chunks: Chunks;
  /** How long the client may take for its first settings. */
  readonly silenceMs: number;
  readonly keepaliveIntervalMs: number;
  readonly keepaliveTimeoutMs: number;
  /** Told of an error that is not the client's. */
  readonly onError: (error: unknown) => void;
  readonly onClose: (connection: Connection) => void;
};

/** Bytes of requests on their way, of all streams together. */
const WINDOW_BYTES = 8 * 1024 * 1024;
/** What a client may leave unread that it has asked for itself, by pings and the like. */
const BACKLOG_BYTES = 4 * 1024 * 1024;
/** How long the peer may take to read why it is cut off, or to close an idle connection. */
const LINGER_MS = 1_000;
const PRIORITY_BYTES = 5;
const KEEP_ALIVE_PING = Buffer.from('keep-ali', 'latin1');
const DRAIN_PING = Buffer.from('draining', 'latin1');

export class Connection implements FrameSink {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #reader = new FrameReader(this);
  readonly #decoder = new HpackDecoder();
  readonly #head = new RequestHead();
  readonly #guard = new FloodGuard(performance.now());
  readonly #window = new ReceiveWindow(WINDOW_BYTES);
  readonly #sender: Sender;
  readonly #streams: Streams;
  readonly #keepAlive: KeepAlive;
  readonly #handshake: NodeJS.Timeout;
  #linger: NodeJS.Timeout | undefined;
  #block: HeaderBlock | undefined;
  #hasSettings = false;
  /** The client was told of the last call that is served. */
  #isSealed = false;
  #isDraining = false;
  /** Nothing is read any more. */
  #isOver = false;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    this.#sender = new Sender(socket, options.chunks);
    this.#streams = new Streams(this.#sender, this.#guard, options, () => this.#finishIfIdle());
    this.#keepAlive = new KeepAlive({
      intervalMs: options.keepaliveIntervalMs,
      timeoutMs: options.keepaliveTimeoutMs,
      ping: () => this.#sender.ping(KEEP_ALIVE_PING),
      onDead: () => socket.destroy(),
    });
    this.#handshake = setTimeout(() => socket.destroy(), options.silenceMs);
    this.#sender.settings([
      [Setting.MAX_CONCURRENT_STREAMS, options.maxConcurrentStreams],
      [Setting.INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES],
      [Setting.MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST_BYTES],
    ]);
    this.#sender.grant(0, WINDOW_BYTES - DEFAULT_WINDOW_BYTES);
    socket.on('error', () => socket.destroy());
    socket.on('close', () => this.#closed());
    socket.on('data', (chunk: Buffer) => this.#read(chunk));
  }

  /** Lets open calls finish, and takes those that the client began before it knew. */
  drain(): void {
    if (this.#isDraining || this.#isOver) return;
    this.#isDraining = true;
    this.#sender.goAway(MAX_WINDOW_BYTES, ErrorCode.NO_ERROR, '');
    this.#sender.ping(DRAIN_PING);
    this.#linger = setTimeout(() => this.#seal(), LINGER_MS);
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #read(chunk: Buffer): void {
    if (this.#isOver) return;
    this.#keepAlive.heard();
    try {
      this.#reader.push(chunk);
      if (this.#sender.backlogBytes > BACKLOG_BYTES) {
        throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, 'the answers are not read');
      }
    } catch (error) {
      this.#fail(error);
    }
  }

  #fail(error: unknown): void {
    if (error instanceof ConnectionError) this.#end(error.code, error.message);
    else {
      this.#options.onError(error);
      this.#end(ErrorCode.INTERNAL_ERROR, 'internal error');
    }
  }

  /** Tells the client why, and closes. */
  #end(code: ErrorCode, reason: string): void {
    this.#isOver = true;
    this.#sender.goAway(this.#streams.highest, code, reason);
    this.#sender.flush();
    this.#sender.close();
    this.#streams.close();
    this.#hangUp();
  }

  /** The client gets the time to read what was sent: closing at once could throw it away. */
  #hangUp(): void {
    clearTimeout(this.#linger);
    this.#socket.end();
    this.#linger = setTimeout(() => this.#socket.destroy(), LINGER_MS);
  }

  /** The client knows that it has to go; whatever it began until then was taken. */
  #seal(): void {
    if (this.#isSealed || this.#isOver) return;
    this.#isSealed = true;
    clearTimeout(this.#linger);
    this.#sender.goAway(this.#streams.seal(), ErrorCode.NO_ERROR, '');
    this.#finishIfIdle();
  }

  #finishIfIdle(): void {
    if (!this.#isSealed || this.#isOver || !this.#streams.isIdle) return;
    this.#isOver = true;
    this.#sender.flush();
    this.#hangUp();
  }

  #closed(): void {
    this.#isOver = true;
    clearTimeout(this.#handshake);
    clearTimeout(this.#linger);
    this.#keepAlive.stop();
    this.#sender.close();
    this.#streams.close();
    this.#options.onClose(this);
  }

  frame(
    type: number,
    flags: number,
    stream: number,
    bytes: Buffer,
    start: number,
    end: number,
  ): void {
    if (!this.#hasSettings && (type !== FrameType.SETTINGS || (flags & Flag.ACK) !== 0)) {
      throw violation('the first frame has to be SETTINGS');
    }
    if (this.#block !== undefined && type !== FrameType.CONTINUATION) {
      throw violation('a header block is interrupted by another frame');
    }
    switch (type) {
      case FrameType.DATA:
        this.#data(flags, stream, bytes, start, end);
        break;
      case FrameType.HEADERS:
        this.#headers(flags, stream, bytes, start, end);
        break;
      case FrameType.PRIORITY:
        mustHave(stream !== 0, 'PRIORITY belongs to a stream');
        mustBeSized(end - start === PRIORITY_BYTES, 'PRIORITY');
        this.#guard.spend();
        break;
      case FrameType.RST_STREAM:
        mustBeSized(end - start === 4, 'RST_STREAM');
        this.#streams.reset(stream);
        break;
      case FrameType.SETTINGS:
        mustHave(stream === 0, 'SETTINGS belongs to no stream');
        this.#settings(flags, bytes, start, end);
        break;
      case FrameType.PUSH_PROMISE:
        throw violation('a client cannot push');
      case FrameType.PING:
        mustHave(stream === 0, 'PING belongs to no stream');
        mustBeSized(end - start === PING_BYTES, 'PING');
        this.#ping(flags, bytes, start);
        break;
      case FrameType.GOAWAY:
        mustHave(stream === 0, 'GOAWAY belongs to no stream');
        mustBeSized(end - start >= 8, 'GOAWAY');
        this.#seal();
        break;
      case FrameType.WINDOW_UPDATE:
        mustBeSized(end - start === 4, 'WINDOW_UPDATE');
        this.#windowUpdate(stream, readUint31(bytes, start));
        break;
      case FrameType.CONTINUATION:
        this.#continuation(flags, stream, bytes, start, end);
        break;
      default:
        // Extensions are ignored (RFC 9113 section 5.5).
        this.#guard.spend();
    }
  }

  #data(flags: number, stream: number, bytes: Buffer, start: number, end: number): void {
    mustHave(stream !== 0, 'DATA belongs to a stream');
    const windowBytes = end - start;
    const padding = paddingOf(flags, bytes, start, end);
    const from = padding < 0 ? start : start + 1;
    const until = end - Math.max(0, padding);
    this.#streams.data(stream, (flags & Flag.END_STREAM) !== 0, bytes, from, until, windowBytes);
    // What a call holds back is its own window: others must not wait for it. As all room comes back
    // at once, nobody can use it up.
    const increment = this.#window.release(windowBytes);
    if (increment > 0) this.#sender.grant(0, increment);
  }

  #headers(flags: number, stream: number, bytes: Buffer, start: number, end: number): void {
    mustHave(stream !== 0, 'HEADERS belongs to a stream');
    const padding = paddingOf(flags, bytes, start, end);
    const priorityBytes = (flags & Flag.PRIORITY) === 0 ? 0 : PRIORITY_BYTES;
    const from = start + (padding < 0 ? 0 : 1) + priorityBytes;
    const until = end - Math.max(0, padding);
    mustBeSized(from <= until, 'HEADERS');
    const isEnd = (flags & Flag.END_STREAM) !== 0;
    if ((flags & Flag.END_HEADERS) !== 0) this.#blockDone(stream, isEnd, bytes, from, until);
    else {
      this.#block = new HeaderBlock(stream, isEnd);
      this.#block.add(bytes, from, until);
    }
  }

  #continuation(flags: number, stream: number, bytes: Buffer, start: number, end: number): void {
    const block = this.#block;
    if (block === undefined || block.stream !== stream) {
      throw violation('CONTINUATION continues nothing');
    }
    block.add(bytes, start, end);
    if ((flags & Flag.END_HEADERS) === 0) return;
    this.#block = undefined;
    const whole = block.bytes;
    this.#blockDone(stream, block.isEnd, whole, 0, whole.length);
  }

  #blockDone(stream: number, isEnd: boolean, bytes: Buffer, start: number, end: number): void {
    const begins = this.#streams.begins(stream);
    this.#head.clear();
    this.#decoder.decode(bytes, start, end, this.#head);
    if (begins) this.#streams.begin(stream, this.#head, isEnd);
    else this.#streams.trailers(stream, this.#head, isEnd);
  }

  #settings(flags: number, bytes: Buffer, start: number, end: number): void {
    if ((flags & Flag.ACK) !== 0) {
      mustBeSized(start === end, 'the acknowledgement of SETTINGS');
      return;
    }
    this.#guard.spend();
    if (!this.#hasSettings) {
      this.#hasSettings = true;
      clearTimeout(this.#handshake);
    }
    readSettings(bytes, start, end, (id, value) => {
      if (id === Setting.HEADER_TABLE_SIZE) this.#sender.limitHeaderTable(value);
      else if (id === Setting.INITIAL_WINDOW_SIZE) this.#streams.resizeWindows(value);
      else if (id === Setting.MAX_FRAME_SIZE) this.#sender.limitFrames(value);
    });
    this.#sender.acknowledgeSettings();
  }

  #ping(flags: number, bytes: Buffer, start: number): void {
    if ((flags & Flag.ACK) === 0) {
      this.#guard.spend();
      this.#sender.acknowledgePing(bytes, start);
    } else if (this.#isDraining && DRAIN_PING.compare(bytes, start, start + PING_BYTES) === 0) {
      this.#seal();
    }
  }

  #windowUpdate(stream: number, increment: number): void {
    if (stream !== 0) {
      this.#streams.windowUpdate(stream, increment);
      return;
    }
    mustHave(increment > 0, 'WINDOW_UPDATE by nothing');
    if (!this.#sender.addToConnectionWindow(increment)) {
      throw new ConnectionError(
        ErrorCode.FLOW_CONTROL_ERROR,
        'WINDOW_UPDATE gives more room than there can be',
      );
    }
  }
}

/** Bytes of padding at the end of a frame, or -1 if it has no field for it. */
function paddingOf(flags: number, bytes: Buffer, start: number, end: number): number {
  if ((flags & Flag.PADDED) === 0) return -1;
  mustBeSized(end > start, 'a padded frame');
  const padding = bytes[start] ?? 0;
  mustHave(padding < end - start, 'a frame has more padding than bytes');
  return padding;
}

function mustHave(holds: boolean, otherwise: string): void {
  if (!holds) throw violation(otherwise);
}

function mustBeSized(holds: boolean, what: string): void {
  if (holds) return;
  throw new ConnectionError(ErrorCode.FRAME_SIZE_ERROR, `${what} has the wrong length`);
}

const violation = (message: string): ConnectionError =>
  new ConnectionError(ErrorCode.PROTOCOL_ERROR, message);
