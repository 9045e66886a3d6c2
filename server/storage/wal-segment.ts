/** The files of the log: their names, how they are made ready, and how they are read. */
import { join } from 'node:path';
import type { Disk, DiskFile } from './disk.ts';
import { CorruptionError } from './errors.ts';
import {
  decodeFrame,
  encodeFooter,
  FOOTER_BYTES,
  type Frame,
  type SegmentHeader,
} from './wal-format.ts';

const NAME = /^([0-9]{16})\.wal$/;
const PREPARED = 'prepared.tmp';
const FIRST_SEGMENT_BYTES = 1024 * 1024;
const GROWTH = 4;
const ZEROS = Buffer.alloc(1024 * 1024);
/** Segments are whole pages, so the footer never crosses a sector. */
const PAGE_BYTES = 4096;

export const segmentName = (number: number): string => `${String(number).padStart(16, '0')}.wal`;

/** The number in a segment's name; undefined for other files. */
export function segmentNumber(name: string): number | undefined {
  const digits = NAME.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

/** One file of the log, open. */
export class Segment {
  readonly header: SegmentHeader;
  readonly path: string;
  readonly #file: DiskFile;
  #readers = 0;
  #retired = false;

  constructor(header: SegmentHeader, path: string, file: DiskFile) {
    this.header = header;
    this.path = path;
    this.#file = file;
  }

  /** Frames end here at the latest. */
  get limit(): number {
    return this.header.bytes - FOOTER_BYTES;
  }

  /** Nothing can be read from it any more. */
  get isRetired(): boolean {
    return this.#retired;
  }

  /** Durable when it resolves. */
  write(bytes: Uint8Array, position: number, mayBlock = false): Promise<void> {
    return this.#file.write(bytes, position, mayBlock);
  }

  /** Records that a newer segment exists. */
  seal(): Promise<void> {
    return this.#file.write(encodeFooter(this.header.number + 1, this.header.salt), this.limit);
  }

  /** The frames in `bytes` bytes at `offset`, checked again: a disk may rot under a running process. */
  async readFrames(offset: number, bytes: number): Promise<readonly Frame[]> {
    const buffer = Buffer.allocUnsafeSlow(bytes);
    this.#readers += 1;
    try {
      const read = await this.#file.read(buffer, offset);
      if (read < bytes) {
        throw new CorruptionError(this.path, offset + read, 'the file has become shorter');
      }
    } finally {
      this.#readers -= 1;
      if (this.#retired && this.#readers === 0) await this.#file.close();
    }
    const frames: Frame[] = [];
    for (let at = 0; at < bytes; ) {
      const result = decodeFrame(buffer, at, bytes, this.header.salt);
      if (result.kind !== 'frame') {
        const damage = result.kind === 'blank' ? 'a frame has vanished' : result.damage;
        throw new CorruptionError(this.path, offset + at, damage);
      }
      frames.push(result.frame);
      at += result.frame.bytes;
    }
    return frames;
  }

  /** Closes the file as soon as nobody reads from it. */
  async retire(): Promise<void> {
    this.#retired = true;
    if (this.#readers === 0) await this.#file.close();
  }
}

/**
 * Makes segments ready ahead of need: full of zeros that are on the disk, so that a later write
 * changes no metadata and O_DSYNC costs one write. A prepared file has a temporary name and no
 * meaning until `install` renames it.
 */
export class SegmentFactory {
  readonly #disk: Disk;
  readonly #directory: string;
  readonly #maxBytes: number;
  #nextBytes: number;
  #prepared: Promise<{ file: DiskFile; bytes: number }> | undefined;

  constructor(disk: Disk, directory: string, maxBytes: number) {
    this.#disk = disk;
    this.#directory = directory;
    this.#maxBytes = maxBytes;
    this.#nextBytes = Math.min(FIRST_SEGMENT_BYTES, maxBytes);
  }

  /** Small stores keep small files: sizes grow from one segment to the next. */
  grownFrom(currentBytes: number): void {
    this.#nextBytes = Math.min(currentBytes * GROWTH, this.#maxBytes);
  }

  /** Starts to prepare the next segment. A failure shows at `install`, which tries once more. */
  prepare(): void {
    if (this.#prepared !== undefined) return;
    const prepared = this.#make(this.#nextBytes);
    prepared.catch(() => {
      if (this.#prepared === prepared) this.#prepared = undefined;
    });
    this.#prepared = prepared;
  }

  /**
   * A new segment whose first bytes are those of `begin`, in one write. The segment exists, durably,
   * when this resolves, and does not exist before: a crash leaves only a temporary file.
   */
  async install(
    beginBytes: number,
    begin: (segmentBytes: number) => { header: SegmentHeader; bytes: Buffer },
  ): Promise<Segment> {
    const { file, bytes } = await this.#take(beginBytes + FOOTER_BYTES);
    const first = begin(bytes);
    await file.write(first.bytes, 0);
    const path = join(this.#directory, segmentName(first.header.number));
    await this.#disk.rename(join(this.#directory, PREPARED), path);
    await this.#disk.syncDirectory(this.#directory);
    this.grownFrom(bytes);
    return new Segment(first.header, path, file);
  }

  async #take(minBytes: number): Promise<{ file: DiskFile; bytes: number }> {
    const prepared = await this.#prepared?.catch(() => undefined);
    this.#prepared = undefined;
    if (prepared !== undefined) {
      if (prepared.bytes >= minBytes) return prepared;
      await prepared.file.close();
    }
    return this.#make(Math.max(this.#nextBytes, Math.ceil(minBytes / PAGE_BYTES) * PAGE_BYTES));
  }

  async #make(bytes: number): Promise<{ file: DiskFile; bytes: number }> {
    const path = join(this.#directory, PREPARED);
    const blank = await this.#disk.create(path);
    try {
      for (let at = 0; at < bytes; at += ZEROS.length) {
        await blank.write(ZEROS.subarray(0, Math.min(ZEROS.length, bytes - at)), at);
      }
      await blank.sync();
    } finally {
      await blank.close();
    }
    return { file: await this.#disk.open(path), bytes };
  }

  /** Gives up a prepared segment. Its file stays; the next start removes it. */
  async close(): Promise<void> {
    const prepared = await this.#prepared?.catch(() => undefined);
    this.#prepared = undefined;
    await prepared?.file.close();
  }
}

/** Is this what an interrupted preparation left behind? */
export const isLeftover = (name: string): boolean => name === PREPARED;
