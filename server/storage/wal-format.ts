/**
 * The bytes of the log. All integers are little-endian; u53 is an unsigned integer below 2^53 in
 * eight bytes.
 *
 * ```
 * segment  header (256)  frame*  zeros  footer (16)
 *
 * header   0 "CONCLAVE"   8 format u32      12 salt u32        16 cluster u64   24 member u64
 *         32 number u53  40 bytes u53      48 sequence u53    56 previous u32
 *         64 base index  72 base term      80 hard state (24) 104 restart u32  252 crc u32
 * frame    0 magic u32    4 payload u32     8 sequence u53    16 previous u32   20 crc u32   24 payload
 * payload  0 flags u32    4 entries u32     8 first index u53 16 term before u53
 *         24 hard state (24, if flag 1), then per entry: term u53, kind u32, data bytes u32, data
 * footer   0 magic u32    4 crc u32         8 number of the following segment u53
 * ```
 *
 * A frame is what one append wrote in one write, so it is there entirely or not at all. Its checksum
 * covers everything else in it, up to the next multiple of 8, with the checksum of the frame before
 * (the chain) and starts from the segment's random salt: bytes that a client stored can never pass
 * for a frame. Frames begin at multiples of 8, and the rest of a segment is zero. A frame names the
 * term of the entry before its first, as Raft's own messages do: where that entry was released,
 * nothing else remembers it. In a segment with `restart` the log begins anew after the base: nothing
 * in older segments counts.
 */
import { crc32 } from 'node:zlib';
import type { LogPosition } from '../ports.ts';
import type { Entry, EntryKind, HardState } from '../raft/message.ts';

export const FORMAT = 1;
export const HEADER_BYTES = 256;
const FRAME_HEADER_BYTES = 24;
export const FOOTER_BYTES = 16;

const SEGMENT_MAGIC = Buffer.from('CONCLAVE', 'latin1');
const FRAME_MAGIC = 0xc0_1c_1a_fe;
const FRAME_MAGIC_BYTES = Buffer.alloc(4);
FRAME_MAGIC_BYTES.writeUInt32LE(FRAME_MAGIC);
const FOOTER_MAGIC = 0xc0_1c_5e_a1;

const HARD_STATE_BYTES = 24;
const PAYLOAD_HEADER_BYTES = 24;
const ENTRY_HEADER_BYTES = 16;
const FLAG_HARD_STATE = 1;
const TWO_32 = 2 ** 32;

/** On disk a kind is its position here: only ever append to it. */
const ENTRY_KINDS = ['command', 'no-op', 'configuration'] as const satisfies readonly EntryKind[];

export type SegmentHeader = {
  readonly format: number;
  readonly salt: number;
  readonly clusterId: bigint;
  readonly memberId: bigint;
  readonly number: number;
  /** Size of the whole file. */
  readonly bytes: number;
  /** Sequence of the first frame. */
  readonly sequence: number;
  /** Checksum of the last frame of the segment before. */
  readonly previousChecksum: number;
  /** The last entry when the segment began: what older segments held may be gone. */
  readonly base: LogPosition;
  readonly hardState: HardState;
  /** The base comes from an installed state and not from the segment before. */
  readonly restart: boolean;
};

export type Frame = {
  readonly sequence: number;
  readonly previousChecksum: number;
  readonly checksum: number;
  readonly offset: number;
  /** Bytes from this frame to the next. */
  readonly bytes: number;
} & FrameContent;

export type FrameContent = {
  readonly hardState: HardState | undefined;
  /** Term of the entry before the first one of these; 0 when there are none. */
  readonly termBefore: number;
  readonly entries: readonly Entry[];
};

export type FrameResult =
  | { readonly kind: 'frame'; readonly frame: Frame }
  /** No frame was ever begun here. */
  | { readonly kind: 'blank' }
  /** `endOffset`: where this frame would end; undefined when not even its length can be trusted. */
  | {
      readonly kind: 'invalid';
      readonly damage: string;
      readonly endOffset: number | undefined;
    };

const alignUp = (bytes: number): number => Math.ceil(bytes / 8) * 8;

function writeU53(target: Buffer, value: number, offset: number): void {
  target.writeUInt32LE(value % TWO_32, offset);
  target.writeUInt32LE(Math.floor(value / TWO_32), offset + 4);
}

function readU53(source: Buffer, offset: number): number {
  return source.readUInt32LE(offset + 4) * TWO_32 + source.readUInt32LE(offset);
}

function writeHardState(target: Buffer, state: HardState, offset: number): void {
  writeU53(target, state.term, offset);
  target.writeBigUInt64LE(state.votedFor, offset + 8);
  writeU53(target, state.commit, offset + 16);
}

function readHardState(source: Buffer, offset: number): HardState {
  return {
    term: readU53(source, offset),
    votedFor: source.readBigUInt64LE(offset + 8),
    commit: readU53(source, offset + 16),
  };
}

/** Writes the header into the first `HEADER_BYTES` of `target`. */
export function encodeSegmentHeader(target: Buffer, header: SegmentHeader): void {
  target.fill(0, 0, HEADER_BYTES);
  SEGMENT_MAGIC.copy(target, 0);
  target.writeUInt32LE(header.format, 8);
  target.writeUInt32LE(header.salt, 12);
  target.writeBigUInt64LE(header.clusterId, 16);
  target.writeBigUInt64LE(header.memberId, 24);
  writeU53(target, header.number, 32);
  writeU53(target, header.bytes, 40);
  writeU53(target, header.sequence, 48);
  target.writeUInt32LE(header.previousChecksum, 56);
  writeU53(target, header.base.index, 64);
  writeU53(target, header.base.term, 72);
  writeHardState(target, header.hardState, 80);
  target.writeUInt32LE(header.restart ? 1 : 0, 104);
  const end = HEADER_BYTES - 4;
  target.writeUInt32LE(crc32(target.subarray(0, end)), end);
}

/** undefined: these bytes are not an intact header. */
export function decodeSegmentHeader(source: Buffer): SegmentHeader | undefined {
  const end = HEADER_BYTES - 4;
  if (source.length < HEADER_BYTES) return undefined;
  if (!source.subarray(0, SEGMENT_MAGIC.length).equals(SEGMENT_MAGIC)) return undefined;
  if (crc32(source.subarray(0, end)) !== source.readUInt32LE(end)) return undefined;
  return {
    format: source.readUInt32LE(8),
    salt: source.readUInt32LE(12),
    clusterId: source.readBigUInt64LE(16),
    memberId: source.readBigUInt64LE(24),
    number: readU53(source, 32),
    bytes: readU53(source, 40),
    sequence: readU53(source, 48),
    previousChecksum: source.readUInt32LE(56),
    base: { index: readU53(source, 64), term: readU53(source, 72) },
    hardState: readHardState(source, 80),
    restart: source.readUInt32LE(104) === 1,
  };
}

/** Size on disk of the frame that holds these. */
export function frameBytes(hardState: HardState | undefined, entries: readonly Entry[]): number {
  let bytes = FRAME_HEADER_BYTES + PAYLOAD_HEADER_BYTES;
  if (hardState !== undefined) bytes += HARD_STATE_BYTES;
  for (const entry of entries) bytes += ENTRY_HEADER_BYTES + entry.data.length;
  return alignUp(bytes);
}

/** Writes one frame at `offset` and returns its checksum. `target` has room for `frameBytes`. */
export function encodeFrame(
  target: Buffer,
  offset: number,
  frame: {
    readonly salt: number;
    readonly sequence: number;
    readonly previousChecksum: number;
  } & FrameContent,
): number {
  const { hardState, termBefore, entries } = frame;
  let at = offset + FRAME_HEADER_BYTES;
  target.writeUInt32LE(hardState === undefined ? 0 : FLAG_HARD_STATE, at);
  target.writeUInt32LE(entries.length, at + 4);
  writeU53(target, entries[0]?.index ?? 0, at + 8);
  writeU53(target, termBefore, at + 16);
  at += PAYLOAD_HEADER_BYTES;
  if (hardState !== undefined) {
    writeHardState(target, hardState, at);
    at += HARD_STATE_BYTES;
  }
  for (const entry of entries) {
    writeU53(target, entry.term, at);
    target.writeUInt32LE(ENTRY_KINDS.indexOf(entry.kind), at + 8);
    target.writeUInt32LE(entry.data.length, at + 12);
    target.set(entry.data, at + ENTRY_HEADER_BYTES);
    at += ENTRY_HEADER_BYTES + entry.data.length;
  }
  target.fill(0, at, alignUp(at));
  target.writeUInt32LE(FRAME_MAGIC, offset);
  target.writeUInt32LE(at - offset - FRAME_HEADER_BYTES, offset + 4);
  writeU53(target, frame.sequence, offset + 8);
  target.writeUInt32LE(frame.previousChecksum, offset + 16);
  const checksum = frameChecksum(target, offset, alignUp(at), frame.salt);
  target.writeUInt32LE(checksum, offset + 20);
  return checksum;
}

function frameChecksum(source: Buffer, offset: number, end: number, salt: number): number {
  const head = crc32(source.subarray(offset, offset + 20), salt);
  return crc32(source.subarray(offset + FRAME_HEADER_BYTES, end), head);
}

/** Reads the frame at `offset` of a buffer whose frames end at `limit`. Never throws. */
export function decodeFrame(
  source: Buffer,
  offset: number,
  limit: number,
  salt: number,
): FrameResult {
  if (offset + FRAME_HEADER_BYTES > limit || source.readUInt32LE(offset) === 0) {
    return isBlank(source, offset, Math.min(offset + FRAME_HEADER_BYTES, limit))
      ? { kind: 'blank' }
      : { kind: 'invalid', damage: 'a frame begins without its mark', endOffset: undefined };
  }
  if (source.readUInt32LE(offset) !== FRAME_MAGIC) {
    return { kind: 'invalid', damage: 'a frame has a wrong mark', endOffset: undefined };
  }
  const payloadBytes = source.readUInt32LE(offset + 4);
  const payloadEnd = offset + FRAME_HEADER_BYTES + payloadBytes;
  const end = alignUp(payloadEnd);
  if (payloadBytes < PAYLOAD_HEADER_BYTES || end > limit) {
    const damage = `a frame has the impossible length ${payloadBytes}`;
    return { kind: 'invalid', damage, endOffset: undefined };
  }
  const checksum = source.readUInt32LE(offset + 20);
  if (frameChecksum(source, offset, end, salt) !== checksum) {
    return { kind: 'invalid', damage: 'a frame has a wrong checksum', endOffset: end };
  }
  const payload = decodePayload(source, offset + FRAME_HEADER_BYTES, payloadEnd);
  if (payload === undefined) {
    return { kind: 'invalid', damage: 'a frame has impossible contents', endOffset: end };
  }
  return {
    kind: 'frame',
    frame: {
      sequence: readU53(source, offset + 8),
      previousChecksum: source.readUInt32LE(offset + 16),
      checksum,
      offset,
      bytes: end - offset,
      ...payload,
    },
  };
}

function decodePayload(source: Buffer, start: number, end: number): FrameContent | undefined {
  const flags = source.readUInt32LE(start);
  const count = source.readUInt32LE(start + 4);
  const firstIndex = readU53(source, start + 8);
  const termBefore = readU53(source, start + 16);
  let at = start + PAYLOAD_HEADER_BYTES;
  let hardState: HardState | undefined;
  if (flags === FLAG_HARD_STATE) {
    if (at + HARD_STATE_BYTES > end) return undefined;
    hardState = readHardState(source, at);
    at += HARD_STATE_BYTES;
  } else if (flags !== 0) return undefined;
  const entries: Entry[] = [];
  for (let position = 0; position < count; position++) {
    if (at + ENTRY_HEADER_BYTES > end) return undefined;
    const kind = ENTRY_KINDS[source.readUInt32LE(at + 8)];
    const dataEnd = at + ENTRY_HEADER_BYTES + source.readUInt32LE(at + 12);
    if (kind === undefined || dataEnd > end) return undefined;
    entries.push({
      index: firstIndex + position,
      term: readU53(source, at),
      kind,
      data: source.subarray(at + ENTRY_HEADER_BYTES, dataEnd),
    });
    at = dataEnd;
  }
  return at === end ? { hardState, termBefore, entries } : undefined;
}

/** The first intact frame after `offset`, at any alignment of 8; undefined when there is none. */
export function findFrameAfter(
  source: Buffer,
  offset: number,
  limit: number,
  salt: number,
): Frame | undefined {
  let at = source.indexOf(FRAME_MAGIC_BYTES, offset + 1);
  while (at !== -1 && at < limit) {
    if (at % 8 === 0) {
      const result = decodeFrame(source, at, limit, salt);
      if (result.kind === 'frame') return result.frame;
    }
    at = source.indexOf(FRAME_MAGIC_BYTES, at + 1);
  }
  return undefined;
}

/** Written into a segment once another follows it, so that a missing newest segment is noticed. */
export function encodeFooter(nextNumber: number, salt: number): Buffer {
  const footer = Buffer.alloc(FOOTER_BYTES);
  footer.writeUInt32LE(FOOTER_MAGIC, 0);
  writeU53(footer, nextNumber, 8);
  footer.writeUInt32LE(crc32(footer.subarray(8), salt), 4);
  return footer;
}

/** `open`: nothing follows yet. undefined: damaged. */
export function decodeFooter(
  source: Buffer,
  salt: number,
): { readonly next: number | 'none' } | undefined {
  if (isBlank(source, 0, FOOTER_BYTES)) return { next: 'none' };
  if (source.readUInt32LE(0) !== FOOTER_MAGIC) return undefined;
  if (source.readUInt32LE(4) !== crc32(source.subarray(8, FOOTER_BYTES), salt)) return undefined;
  return { next: readU53(source, 8) };
}

const ZEROS = Buffer.alloc(64 * 1024);

/** Are all bytes from `start` up to `end` zero? */
export function isBlank(source: Buffer, start: number, end: number): boolean {
  for (let at = start; at < end; at += ZEROS.length) {
    const length = Math.min(ZEROS.length, end - at);
    if (source.compare(ZEROS, 0, length, at, at + length) !== 0) return false;
  }
  return true;
}
