/**
 * What a connection is about to write: small things one behind the other in shared memory, large
 * payloads as they are.
 */

const CHUNK_BYTES = 64 * 1024;
/** From here on copying costs more than another piece of a write. */
const LARGE_BYTES = 8 * 1024;
/** What is left of a chunk is worth keeping from here on. */
const KEEP_BYTES = 4 * 1024;
/** Connections that write at the same time beyond these take new chunks. */
const SPARE_CHUNKS = 64;

type Chunk = { readonly buffer: Buffer; used: number };

/** Chunks with room left, for all connections: an idle one holds none. */
export class Chunks {
  readonly #spare: Chunk[] = [];

  take(bytes: number): Chunk {
    const spare = this.#spare.pop();
    if (spare !== undefined && spare.buffer.length - spare.used >= bytes) return spare;
    return { buffer: Buffer.allocUnsafeSlow(Math.max(CHUNK_BYTES, bytes)), used: 0 };
  }

  /** What is used of it is never written to again: it may still be on its way. */
  give(chunk: Chunk): void {
    if (chunk.buffer.length - chunk.used < KEEP_BYTES || this.#spare.length >= SPARE_CHUNKS) return;
    this.#spare.push(chunk);
  }
}

export class Output {
  readonly #chunks: Chunks;
  #chunk: Chunk | undefined;
  /** Where the part of the chunk begins that is not among the pieces yet. */
  #start = 0;
  #pieces: Buffer[] = [];
  #bytes = 0;

  constructor(chunks: Chunks) {
    this.#chunks = chunks;
  }

  /** Bytes that wait to be taken. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * A chunk with room for so many bytes from `used` on. Whoever fills it says where it ended with
   * `filled`, before anything else is asked for.
   */
  reserve(bytes: number): Chunk {
    if (this.#chunk !== undefined && this.#chunk.buffer.length - this.#chunk.used >= bytes) {
      return this.#chunk;
    }
    this.#seal();
    if (this.#chunk !== undefined) this.#chunks.give(this.#chunk);
    const chunk = this.#chunks.take(bytes);
    this.#chunk = chunk;
    this.#start = chunk.used;
    return chunk;
  }

  filled(chunk: Chunk, end: number): void {
    this.#bytes += end - chunk.used;
    chunk.used = end;
  }

  /** Part of a payload, which must not change any more. */
  append(payload: Buffer, start: number, end: number): void {
    if (end - start < LARGE_BYTES) {
      const chunk = this.reserve(end - start);
      payload.copy(chunk.buffer, chunk.used, start, end);
      this.filled(chunk, chunk.used + end - start);
      return;
    }
    this.#seal();
    this.#pieces.push(payload.subarray(start, end));
    this.#bytes += end - start;
  }

  /** Everything since the last time, in order. */
  take(): readonly Buffer[] {
    this.#seal();
    if (this.#chunk !== undefined) this.#chunks.give(this.#chunk);
    this.#chunk = undefined;
    const pieces = this.#pieces;
    this.#pieces = [];
    this.#bytes = 0;
    return pieces;
  }

  #seal(): void {
    const chunk = this.#chunk;
    if (chunk === undefined || chunk.used === this.#start) return;
    this.#pieces.push(chunk.buffer.subarray(this.#start, chunk.used));
    this.#start = chunk.used;
  }
}
