/** A header block that is spread over HEADERS and CONTINUATION frames. */
import { ConnectionError, ErrorCode } from './error.ts';
import { MAX_HEADER_LIST_BYTES } from './request-head.ts';

/** Frames of one block: many without content are an attack (CVE-2024-27983). */
const MAX_FRAMES = 16;

export class HeaderBlock {
  readonly stream: number;
  readonly isEnd: boolean;
  readonly #parts: Buffer[] = [];
  #bytes = 0;

  constructor(stream: number, isEnd: boolean) {
    this.stream = stream;
    this.isEnd = isEnd;
  }

  /** Copies what it is given. @throws {ConnectionError} ENHANCE_YOUR_CALM when it becomes too long */
  add(bytes: Buffer, start: number, end: number): void {
    this.#bytes += end - start;
    if (this.#bytes > MAX_HEADER_LIST_BYTES || this.#parts.length >= MAX_FRAMES) {
      throw new ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, 'a header block is too long');
    }
    this.#parts.push(Buffer.from(bytes.subarray(start, end)));
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }
}
