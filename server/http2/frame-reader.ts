/**
 * Bytes to frames. Frames are told where they lie in the chunk that brought them; only one that is
 * spread over chunks is put together first. What is told is valid during the call.
 */
import { ConnectionError, ErrorCode } from './error.ts';
import { FRAME_HEAD_BYTES, MAX_FRAME_BYTES, PREFACE, readUint31 } from './frame.ts';

export interface FrameSink {
  /** The payload is what `bytes` has from `start` to `end`. */
  frame(
    type: number,
    flags: number,
    stream: number,
    bytes: Buffer,
    start: number,
    end: number,
  ): void;
}

const NOTHING: Buffer = Buffer.alloc(0);

export class FrameReader {
  readonly #sink: FrameSink;
  #prefaceBytes = 0;
  /** A frame that began in an earlier chunk, with room for what is known of its length. */
  #begun: Buffer = NOTHING;
  #begunBytes = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /**
   * Tells the frames that are complete.
   *
   * @throws {ConnectionError} PROTOCOL_ERROR without the preface, FRAME_SIZE_ERROR for a frame that is
   *   too long; and what the sink throws, after which nothing must be pushed any more.
   */
  push(chunk: Buffer): void {
    let at = this.#prefaceBytes < PREFACE.length ? this.#readPreface(chunk) : 0;
    if (this.#begunBytes > 0) at = this.#complete(chunk, at);
    const { length } = chunk;
    while (length - at >= FRAME_HEAD_BYTES) {
      const end = at + FRAME_HEAD_BYTES + payloadBytes(chunk, at);
      if (end > length) break;
      this.#tell(chunk, at, end);
      at = end;
    }
    if (at < length) this.#begin(chunk, at);
  }

  #readPreface(chunk: Buffer): number {
    const bytes = Math.min(PREFACE.length - this.#prefaceBytes, chunk.length);
    const from = this.#prefaceBytes;
    if (PREFACE.compare(chunk, 0, bytes, from, from + bytes) !== 0) {
      throw new ConnectionError(ErrorCode.PROTOCOL_ERROR, 'the connection preface is wrong');
    }
    this.#prefaceBytes += bytes;
    return bytes;
  }

  #tell(bytes: Buffer, at: number, end: number): void {
    this.#sink.frame(
      bytes[at + 3] ?? 0,
      bytes[at + 4] ?? 0,
      readUint31(bytes, at + 5),
      bytes,
      at + FRAME_HEAD_BYTES,
      end,
    );
  }

  #begin(chunk: Buffer, at: number): void {
    const payload = chunk.length - at < FRAME_HEAD_BYTES ? 0 : payloadBytes(chunk, at);
    this.#begun = Buffer.allocUnsafeSlow(FRAME_HEAD_BYTES + payload);
    this.#begunBytes = chunk.copy(this.#begun, 0, at);
  }

  /** Puts to the frame begun what belongs to it, and returns where that ends. */
  #complete(chunk: Buffer, from: number): number {
    let at = from;
    if (this.#begunBytes < FRAME_HEAD_BYTES) {
      at = this.#fill(chunk, at, FRAME_HEAD_BYTES);
      if (this.#begunBytes < FRAME_HEAD_BYTES) return at;
      const head = this.#begun;
      this.#begun = Buffer.allocUnsafeSlow(FRAME_HEAD_BYTES + payloadBytes(head, 0));
      head.copy(this.#begun);
    }
    at = this.#fill(chunk, at, this.#begun.length);
    if (this.#begunBytes < this.#begun.length) return at;
    const frame = this.#begun;
    this.#begun = NOTHING;
    this.#begunBytes = 0;
    this.#tell(frame, 0, frame.length);
    return at;
  }

  #fill(chunk: Buffer, at: number, until: number): number {
    const end = Math.min(chunk.length, at + until - this.#begunBytes);
    this.#begunBytes += chunk.copy(this.#begun, this.#begunBytes, at, end);
    return end;
  }
}

function payloadBytes(bytes: Buffer, at: number): number {
  const length = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
  if (length > MAX_FRAME_BYTES) {
    throw new ConnectionError(
      ErrorCode.FRAME_SIZE_ERROR,
      `a frame has ${length} bytes: allowed are ${MAX_FRAME_BYTES}`,
    );
  }
  return length;
}
