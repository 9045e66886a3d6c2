/** The frames of which answers consist, written behind each other. Flow control is the caller's. */
import { Flag, FRAME_HEAD_BYTES, FrameType, writeFrameHead, writeUint32 } from './frame.ts';
import {
  BLOCK_START_BYTES,
  HpackEncoder,
  KEPT,
  KEPT_FIELD_BYTES,
  literalBytes,
} from './hpack-encoder.ts';
import type { Output } from './output.ts';
import { encodeDetails, type GrpcStatus } from './status.ts';

/** Whether a message is compressed, and how long it is. */
export const MESSAGE_HEAD_BYTES = 5;
const SUCCESS = 200;
const HEAD_BLOCK_BYTES = BLOCK_START_BYTES + KEPT_FIELD_BYTES + 8;
const END_BLOCK_BYTES = BLOCK_START_BYTES + KEPT_FIELD_BYTES;
const LAST = Flag.END_HEADERS | Flag.END_STREAM;

export class AnswerFrames {
  readonly #output: Output;
  readonly #encoder = new HpackEncoder();

  constructor(output: Output) {
    this.#output = output;
  }

  /** The most that the peer will keep of header fields. */
  limitTable(bytes: number): void {
    this.#encoder.limitTable(bytes);
  }

  head(id: number): void {
    const chunk = this.#output.reserve(FRAME_HEAD_BYTES + HEAD_BLOCK_BYTES);
    const { buffer, used } = chunk;
    const start = used + FRAME_HEAD_BYTES;
    const end = this.#headBlock(buffer, start);
    writeFrameHead(buffer, used, end - start, FrameType.HEADERS, Flag.END_HEADERS, id);
    this.#output.filled(chunk, end);
  }

  #headBlock(out: Buffer, at: number): number {
    const fields = this.#encoder.status(out, this.#encoder.begin(out, at), SUCCESS);
    return this.#encoder.kept(out, fields, KEPT.CONTENT_TYPE);
  }

  /** A whole message in one frame. */
  message(id: number, message: Buffer): void {
    const bytes = MESSAGE_HEAD_BYTES + message.length;
    const chunk = this.#output.reserve(FRAME_HEAD_BYTES + MESSAGE_HEAD_BYTES);
    const { buffer, used } = chunk;
    const start = writeFrameHead(buffer, used, bytes, FrameType.DATA, 0, id);
    this.#output.filled(chunk, writeMessageHead(buffer, start, message.length));
    this.#output.append(message, 0, message.length);
  }

  /** The trailers of a call that went well. */
  success(id: number): void {
    const chunk = this.#output.reserve(FRAME_HEAD_BYTES + END_BLOCK_BYTES);
    const { buffer, used } = chunk;
    const start = used + FRAME_HEAD_BYTES;
    const fields = this.#encoder.begin(buffer, start);
    const end = this.#encoder.kept(buffer, fields, KEPT.STATUS_OK);
    writeFrameHead(buffer, used, end - start, FrameType.HEADERS, LAST, id);
    this.#output.filled(chunk, end);
  }

  /** The trailers of any call, with the head if that was not sent yet. */
  status(id: number, isHeadSent: boolean, { code, details, accepts }: GrpcStatus): void {
    const text = encodeDetails(details);
    const fields: (readonly [string, string])[] = [['grpc-status', String(code)]];
    if (text !== '') fields.push(['grpc-message', text]);
    if (accepts !== undefined) fields.push(['grpc-accept-encoding', accepts]);
    const most = fields.reduce((sum, [name, value]) => sum + literalBytes(name, value), 0);
    const chunk = this.#output.reserve(FRAME_HEAD_BYTES + HEAD_BLOCK_BYTES + most);
    const { buffer, used } = chunk;
    const start = used + FRAME_HEAD_BYTES;
    let end = isHeadSent ? this.#encoder.begin(buffer, start) : this.#headBlock(buffer, start);
    for (const [name, value] of fields) end = this.#encoder.literal(buffer, end, name, value);
    writeFrameHead(buffer, used, end - start, FrameType.HEADERS, LAST, id);
    this.#output.filled(chunk, end);
  }

  /** An answer that is none of gRPC. */
  refusal(id: number, httpStatus: number): void {
    const chunk = this.#output.reserve(FRAME_HEAD_BYTES + HEAD_BLOCK_BYTES);
    const { buffer, used } = chunk;
    const start = used + FRAME_HEAD_BYTES;
    const end = this.#encoder.status(buffer, this.#encoder.begin(buffer, start), httpStatus);
    writeFrameHead(buffer, used, end - start, FrameType.HEADERS, LAST, id);
    this.#output.filled(chunk, end);
  }
}

export function writeMessageHead(out: Buffer, at: number, bytes: number): number {
  out[at] = 0;
  return writeUint32(out, at + 1, bytes);
}
