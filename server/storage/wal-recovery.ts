/**
 * Reads a log back after a stop or a crash.
 *
 * What a crash can leave: one unfinished frame at the very end, because one write is in flight at a
 * time and nothing later is written before it is durable. Exactly that is repaired. Everything else
 * (a frame that does not follow from the one before, a file that is missing or shorter than it was
 * made, an intact frame behind a damaged one) is damage to data that was acknowledged, and refused.
 */
import { join } from 'node:path';
import type { LogPosition } from '../ports.ts';
import type { Entry, HardState } from '../raft/message.ts';
import type { Disk, DiskFile } from './disk.ts';
import { CorruptionError, DataDirectoryError } from './errors.ts';
import {
  decodeFooter,
  decodeFrame,
  decodeSegmentHeader,
  FORMAT,
  type Frame,
  findFrameAfter,
  HEADER_BYTES,
  isBlank,
  type SegmentHeader,
} from './wal-format.ts';
import { WalIndex } from './wal-index.ts';
import { isLeftover, Segment, segmentName, segmentNumber } from './wal-segment.ts';

export type WalIdentity = { readonly clusterId: bigint; readonly memberId: bigint };

export type RecoveredWal = {
  readonly segments: readonly Segment[];
  readonly index: WalIndex;
  readonly start: LogPosition;
  readonly entries: readonly Entry[];
  readonly hardState: HardState;
  /** Where the next frame goes in the newest segment, and what it continues. */
  readonly offset: number;
  readonly sequence: number;
  readonly checksum: number;
};

/** undefined: there is no log yet. Throws `CorruptionError` or `DataDirectoryError`. */
export async function recoverWal(
  disk: Disk,
  directory: string,
  identity: WalIdentity,
): Promise<RecoveredWal | undefined> {
  const numbers = await listSegments(disk, directory);
  if (numbers.length === 0) return undefined;
  // A process that was killed may have left a name that is not durable yet. Sealing the segment before
  // it is: after a power loss the log would miss what the seal says must follow.
  await disk.syncDirectory(directory);
  const recovery = new Recovery(identity);
  try {
    for (const number of numbers) {
      await recovery.add(disk, directory, number, number === numbers.at(-1));
    }
    return recovery.result();
  } catch (error) {
    await recovery.abandon();
    throw error;
  }
}

async function listSegments(disk: Disk, directory: string): Promise<readonly number[]> {
  const numbers: number[] = [];
  for (const name of await disk.list(directory)) {
    const number = segmentNumber(name);
    if (number !== undefined) numbers.push(number);
    else if (isLeftover(name)) await disk.remove(join(directory, name));
    else {
      throw new CorruptionError(
        join(directory, name),
        undefined,
        'this file does not belong in a log; move it elsewhere if you put it there',
      );
    }
  }
  numbers.sort((left, right) => left - right);
  for (const [position, number] of numbers.entries()) {
    const before = numbers[position - 1];
    if (before === undefined || before + 1 === number) continue;
    const missing = join(directory, segmentName(before + 1));
    throw new CorruptionError(missing, undefined, 'this file of the log is missing');
  }
  return numbers;
}

class Recovery {
  readonly #identity: WalIdentity;
  readonly #segments: Segment[] = [];
  readonly #files: DiskFile[] = [];
  #index = new WalIndex({ index: 0, term: 0 });
  #entries: Entry[] = [];
  #hardState: HardState = { term: 0, votedFor: 0n, commit: 0 };
  #offset = 0;
  #sequence = 0;
  #checksum = 0;

  constructor(identity: WalIdentity) {
    this.#identity = identity;
  }

  async add(disk: Disk, directory: string, number: number, newest: boolean): Promise<void> {
    const path = join(directory, segmentName(number));
    const file = await disk.open(path);
    this.#files.push(file);
    const head = Buffer.alloc(HEADER_BYTES);
    await file.read(head, 0);
    const header = this.#checkHeader(path, head, await file.size(), number);
    const bytes = Buffer.allocUnsafeSlow(header.bytes);
    if ((await file.read(bytes, 0)) < bytes.length) {
      throw new CorruptionError(path, undefined, 'the file became shorter while it was read');
    }
    const segment = new Segment(header, path, file);
    this.#checkFooter(segment, bytes, newest);
    if (this.#segments.length === 0) {
      this.#sequence = header.sequence - 1;
      this.#checksum = header.previousChecksum;
    } else this.#checkContinuation(path, header);
    if (this.#segments.length === 0 || header.restart) this.#begin(header);
    this.#segments.push(segment);

    const last = this.#readFrames(segment, bytes, newest);
    if (newest) await this.#settle(segment, bytes, last);
    else if (isBlank(bytes, segment.limit, header.bytes)) await segment.seal();
  }

  #checkHeader(path: string, head: Buffer, fileBytes: number, number: number): SegmentHeader {
    const header = decodeSegmentHeader(head);
    if (header === undefined) throw new CorruptionError(path, 0, 'the file has no intact header');
    if (header.format > FORMAT) {
      throw new DataDirectoryError(
        'newer-format',
        path,
        `${path} has format ${header.format} and this version reads up to ${FORMAT}. Start the newer version that wrote it.`,
      );
    }
    const { clusterId, memberId } = this.#identity;
    if (header.clusterId !== clusterId || header.memberId !== memberId) {
      throw new DataDirectoryError(
        'other-identity',
        path,
        `${path} belongs to member ${header.memberId.toString(16)} of cluster ${header.clusterId.toString(16)}, not to member ${memberId.toString(16)} of cluster ${clusterId.toString(16)}. Use the data directory of this member.`,
      );
    }
    if (header.number !== number) {
      throw new CorruptionError(path, 32, `the file was written as ${segmentName(header.number)}`);
    }
    if (header.bytes !== fileBytes) {
      const damage = `the file has ${fileBytes} bytes and was made with ${header.bytes}`;
      throw new CorruptionError(path, Math.min(fileBytes, header.bytes), damage);
    }
    return header;
  }

  #checkFooter(segment: Segment, bytes: Buffer, newest: boolean): void {
    const footer = decodeFooter(bytes.subarray(segment.limit), segment.header.salt);
    if (footer === undefined) {
      throw new CorruptionError(segment.path, segment.limit, 'the end mark is damaged');
    }
    if (newest && footer.next !== 'none') {
      const missing = join(segment.path, '..', segmentName(footer.next));
      throw new CorruptionError(missing, undefined, 'this file, the newest of the log, is missing');
    }
  }

  /** What came before was released, or counts no more; the header says what must be known of it. */
  #begin(header: SegmentHeader): void {
    this.#index = new WalIndex(header.base);
    this.#entries = [];
    this.#hardState = header.hardState;
  }

  #checkContinuation(path: string, header: SegmentHeader): void {
    const { last } = this.#index;
    const continues =
      header.sequence === this.#sequence + 1 &&
      header.previousChecksum === this.#checksum &&
      (header.restart || (header.base.index === last.index && header.base.term === last.term));
    if (!continues) {
      throw new CorruptionError(path, 48, 'the file does not continue the one before it');
    }
  }

  /** Returns the last frame of the segment, and leaves `#offset` behind it. */
  #readFrames(segment: Segment, bytes: Buffer, newest: boolean): Frame | undefined {
    const { salt } = segment.header;
    let last: Frame | undefined;
    this.#offset = HEADER_BYTES;
    for (;;) {
      const result = decodeFrame(bytes, this.#offset, segment.limit, salt);
      if (result.kind === 'frame') {
        last = result.frame;
        this.#addFrame(segment, last);
        continue;
      }
      if (result.kind === 'blank' && isBlank(bytes, this.#offset, segment.limit)) return last;
      const damage = result.kind === 'blank' ? 'a frame has lost its beginning' : result.damage;
      const torn =
        newest &&
        this.#endsAt(bytes, segment, result.kind === 'invalid' ? result.endOffset : undefined);
      if (!torn) throw new CorruptionError(segment.path, this.#offset, damage);
      return last;
    }
  }

  /** Is there nothing behind the invalid frame at `#offset`, so that it can be an unfinished write? */
  #endsAt(bytes: Buffer, segment: Segment, endOffset: number | undefined): boolean {
    if (endOffset !== undefined && !isBlank(bytes, endOffset, segment.limit)) return false;
    const { salt } = segment.header;
    return findFrameAfter(bytes, this.#offset, segment.limit, salt) === undefined;
  }

  #addFrame(segment: Segment, frame: Frame): void {
    const { path } = segment;
    if (frame.sequence !== this.#sequence + 1 || frame.previousChecksum !== this.#checksum) {
      throw new CorruptionError(path, frame.offset, 'a frame does not continue the one before it');
    }
    const first = frame.entries[0]?.index;
    if (first !== undefined) {
      const { start, last } = this.#index;
      if (first > last.index + 1) {
        const damage = `entries ${last.index + 1} to ${first - 1} are missing`;
        throw new CorruptionError(path, frame.offset, damage);
      }
      if (first > start.index && this.#index.termAt(first - 1) !== frame.termBefore) {
        const damage = `entry ${first} does not follow the one before it`;
        throw new CorruptionError(path, frame.offset, damage);
      }
      this.#entries.length = Math.max(0, first - start.index - 1);
      for (const entry of frame.entries) this.#entries.push(entry);
    }
    this.#index.add(segment, frame);
    if (frame.hardState !== undefined) this.#hardState = frame.hardState;
    this.#offset = frame.offset + frame.bytes;
    this.#sequence = frame.sequence;
    this.#checksum = frame.checksum;
  }

  /**
   * Makes what was read durable. After a failed flush the system may show bytes that never reached
   * the disk and will never write them by itself; the write in flight was the last frame, so writing
   * it once more settles it. Then clears what an unfinished write left.
   */
  async #settle(segment: Segment, bytes: Buffer, last: Frame | undefined): Promise<void> {
    const from = last?.offset ?? 0;
    await segment.write(bytes.subarray(from, this.#offset), from);
    // Almost always, and byte by byte it would take a while to find out.
    if (isBlank(bytes, this.#offset, segment.limit)) return;
    let end = segment.limit;
    while (end > this.#offset && bytes[end - 1] === 0) end -= 1;
    if (end > this.#offset) await segment.write(Buffer.alloc(end - this.#offset), this.#offset);
  }

  result(): RecoveredWal {
    return {
      segments: this.#segments,
      index: this.#index,
      start: this.#index.start,
      entries: this.#entries,
      hardState: this.#hardState,
      offset: this.#offset,
      sequence: this.#sequence,
      checksum: this.#checksum,
    };
  }

  async abandon(): Promise<void> {
    for (const file of this.#files) await file.close();
  }
}
