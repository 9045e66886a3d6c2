/**
 * The replicated log on disk: a sequence of checksummed frames in preallocated segments.
 *
 * Invariants:
 * - one append is one frame is one write, and one write is in flight at a time;
 * - an append resolves only after its frame is durable;
 * - a segment exists, by name, only with its header and its first frame complete; one that begins or
 *   restarts a log has no frame at first, and its header alone says what the log then holds;
 * - what must outlive released segments (hard state, index and term of the last entry before) is in
 *   the header of the oldest one kept, and in the first frame of every replaced tail;
 * - after the first failed write nothing more is written and everything is refused with that error.
 */
import { randomInt } from 'node:crypto';
import { assert } from '../assert.ts';
import { limits } from '../limits.ts';
import type { Log, LogPosition, Random, Recovered } from '../ports.ts';
import type { Entry, HardState } from '../raft/message.ts';
import { type Disk, nodeDisk } from './disk.ts';
import { CorruptionError, LogReleasedError, StorageFailedError } from './errors.ts';
import {
  encodeFrame,
  encodeSegmentHeader,
  FORMAT,
  type FrameContent,
  frameBytes,
  HEADER_BYTES,
  type SegmentHeader,
} from './wal-format.ts';
import { WalIndex } from './wal-index.ts';
import { type RecoveredWal, recoverWal, type WalIdentity } from './wal-recovery.ts';
import { type Segment, SegmentFactory } from './wal-segment.ts';

type Salts = Pick<Random, 'below'>;

export type WalOptions = {
  /** Directory of the log; made when it does not exist. The caller owns it exclusively. */
  readonly path: string;
  readonly identity: WalIdentity;
  /** Size of a full segment. @default limits.walSegmentBytes */
  readonly segmentBytes?: number;
  /** May a log be begun where there is none? @default true */
  readonly create?: boolean;
  /** The entry before the first of a new log, for a state that was restored. @default none */
  readonly start?: LogPosition;
  /** Called when `reset` has taken effect and before it resolves. */
  readonly afterReset?: () => Promise<void>;
  /** @default the real one */
  readonly disk?: Disk;
  /** For the salts of segments. @default unpredictable: clients must not be able to forge frames */
  readonly random?: Salts;
};

const systemRandom: Salts = { below: randomInt };
const SALTS = 2 ** 32;

type HeaderContent = Omit<SegmentHeader, 'format' | 'salt' | 'bytes'>;

/** Throws `CorruptionError` for damage and `DataDirectoryError` for another member's log. */
export async function openWal(options: WalOptions): Promise<{ log: Log; recovered: Recovered }> {
  const { path, identity, create = true, disk = nodeDisk, random = systemRandom } = options;
  await disk.makeDirectory(path);
  const factory = new SegmentFactory(disk, path, options.segmentBytes ?? limits.walSegmentBytes);
  const found = await recoverWal(disk, path, identity);
  if (found === undefined && !create) {
    throw new CorruptionError(path, undefined, 'the log of this member is missing');
  }
  const start = options.start ?? { index: 0, term: 0 };
  const state = found ?? (await begin(factory, random, identity, start));
  const { hardState, entries } = state;
  const log = new Wal(options, disk, random, factory, state);
  return { log, recovered: { hardState, start: state.start, entries } };
}

/** The first segment has a header and no frame: nothing was promised yet. */
async function begin(
  factory: SegmentFactory,
  random: Salts,
  identity: WalIdentity,
  start: LogPosition,
): Promise<RecoveredWal> {
  const hardState = { term: start.term, votedFor: 0n, commit: start.index };
  const segment = await installEmpty(factory, random, {
    ...identity,
    number: 1,
    sequence: 1,
    previousChecksum: 0,
    base: start,
    hardState,
    restart: false,
  });
  return {
    segments: [segment],
    index: new WalIndex(start),
    start,
    entries: [],
    hardState,
    offset: HEADER_BYTES,
    sequence: 0,
    checksum: 0,
  };
}

/** A segment with a header and no frame yet. */
function installEmpty(
  factory: SegmentFactory,
  random: Salts,
  content: HeaderContent,
): Promise<Segment> {
  return factory.install(HEADER_BYTES, (segmentBytes) => {
    const header = newHeader(content, segmentBytes, random);
    const bytes = Buffer.alloc(HEADER_BYTES);
    encodeSegmentHeader(bytes, header);
    return { header, bytes };
  });
}

const newHeader = (content: HeaderContent, bytes: number, random: Salts): SegmentHeader => ({
  format: FORMAT,
  salt: random.below(SALTS),
  bytes,
  ...content,
});

/**
 * Scratch space up to this size is kept from one append to the next. V8 collects garbage the more often, the
 * more memory outside its heap comes and goes: with puts of 100 KB collections take 40 % of the main thread.
 */
const SCRATCH_BYTES = 4 * 1024 * 1024;

class Wal implements Log {
  readonly #path: string;
  readonly #disk: Disk;
  readonly #random: Salts;
  readonly #factory: SegmentFactory;
  readonly #identity: WalIdentity;
  readonly #afterReset: () => Promise<void>;
  #index: WalIndex;
  #segments: Segment[];
  #hardState: HardState;
  #offset: number;
  #sequence: number;
  #checksum: number;
  #scratch = Buffer.allocUnsafeSlow(64 * 1024);
  #appending = false;
  #failure: StorageFailedError | undefined;
  #closed = false;
  /** Writes outside the acknowledgement path: end marks and removals, in order. */
  #background: Promise<void> = Promise.resolve();

  constructor(
    options: WalOptions,
    disk: Disk,
    random: Salts,
    factory: SegmentFactory,
    state: RecoveredWal,
  ) {
    this.#random = random;
    this.#path = options.path;
    this.#disk = disk;
    this.#factory = factory;
    this.#identity = options.identity;
    this.#afterReset = options.afterReset ?? (async () => {});
    this.#segments = [...state.segments];
    this.#index = state.index;
    this.#hardState = state.hardState;
    this.#offset = state.offset;
    this.#sequence = state.sequence;
    this.#checksum = state.checksum;
    factory.grownFrom(this.#current.header.bytes);
  }

  get #current(): Segment {
    const segment = this.#segments.at(-1);
    assert(segment !== undefined, 'an open log has a segment');
    return segment;
  }

  async append(
    batch: { readonly hardState?: HardState; readonly entries: readonly Entry[] },
    mayBlock = false,
  ): Promise<void> {
    this.#checkUsable();
    assert(!this.#appending, 'appends do not overlap');
    const { hardState, entries } = batch;
    if (hardState === undefined && entries.length === 0) return;
    this.#checkEntries(entries);
    const first = entries[0]?.index;
    const termBefore = first === undefined ? 0 : this.#index.termAt(first - 1);
    const content = { hardState, termBefore, entries };
    this.#appending = true;
    try {
      const bytes = frameBytes(hardState, entries);
      if (this.#offset + bytes > this.#current.limit) await this.#roll(content, bytes);
      else await this.#write(content, bytes, mayBlock);
    } catch (error) {
      throw this.#fail(error);
    } finally {
      this.#appending = false;
    }
    if (hardState !== undefined) this.#hardState = hardState;
    if (this.#offset * 2 > this.#current.header.bytes) this.#factory.prepare();
  }

  async #write(content: FrameContent, bytes: number, mayBlock: boolean): Promise<void> {
    const segment = this.#current;
    const scratch = this.#scratchOf(bytes);
    const checksum = encodeFrame(scratch, 0, {
      salt: segment.header.salt,
      sequence: this.#sequence + 1,
      previousChecksum: this.#checksum,
      ...content,
    });
    await segment.write(scratch.subarray(0, bytes), this.#offset, mayBlock);
    this.#advance(segment, this.#offset, bytes, checksum, content);
  }

  /** The frame does not fit any more: it becomes the first of a new segment. */
  async #roll(content: FrameContent, bytes: number): Promise<void> {
    const before = this.#current;
    let checksum = 0;
    const segment = await this.#factory.install(HEADER_BYTES + bytes, (segmentBytes) => {
      const header = newHeader(
        this.#following(this.#index.last, this.#hardState),
        segmentBytes,
        this.#random,
      );
      const scratch = this.#scratchOf(HEADER_BYTES + bytes);
      encodeSegmentHeader(scratch, header);
      checksum = encodeFrame(scratch, HEADER_BYTES, {
        salt: header.salt,
        sequence: header.sequence,
        previousChecksum: header.previousChecksum,
        ...content,
      });
      return { header, bytes: scratch.subarray(0, HEADER_BYTES + bytes) };
    });
    this.#segments.push(segment);
    this.#advance(segment, HEADER_BYTES, bytes, checksum, content);
    this.#inBackground(() => before.seal());
  }

  #following(base: LogPosition, hardState: HardState): HeaderContent {
    return {
      ...this.#identity,
      number: this.#current.header.number + 1,
      sequence: this.#sequence + 1,
      previousChecksum: this.#checksum,
      base,
      hardState,
      restart: false,
    };
  }

  #advance(
    segment: Segment,
    offset: number,
    bytes: number,
    checksum: number,
    content: FrameContent,
  ): void {
    this.#index.add(segment, { offset, bytes, ...content });
    this.#offset = offset + bytes;
    this.#sequence += 1;
    this.#checksum = checksum;
  }

  async entries(from: number, to: number, maxBytes: number): Promise<readonly Entry[]> {
    this.#checkUsable();
    const { start, last } = this.#index;
    if (from <= start.index) throw new LogReleasedError(from, start.index + 1);
    assert(from <= to && to <= last.index, `entries ${from} to ${to} are within the log`);
    const found: Entry[] = [];
    let bytes = 0;
    for (const run of this.#index.runs(from, to)) {
      // Released meanwhile.
      if (run.segment.isRetired) throw new LogReleasedError(from, this.#index.start.index + 1);
      const entries: Entry[] = [];
      for (const frame of await run.segment.readFrames(run.offset, run.bytes)) {
        for (const entry of frame.entries) entries[entry.index - run.firstIndex] = entry;
      }
      const end = Math.min(to, run.lastIndex);
      for (let index = Math.max(from, run.firstIndex); index <= end; index++) {
        const entry = entries[index - run.firstIndex];
        assert(entry?.index === index, `the frames of a run hold entry ${index}`);
        bytes += entry.data.length;
        if (found.length > 0 && bytes > maxBytes) return found;
        found.push(entry);
      }
    }
    return found;
  }

  async release(index: number): Promise<void> {
    this.#checkUsable();
    const needed = this.#segments.findIndex(
      (segment) => segment === this.#current || this.#index.isNeeded(segment, index),
    );
    const removed = this.#segments.slice(0, needed);
    if (removed.length === 0) return;
    this.#index.forget(new Set(removed));
    await this.#remove(removed);
  }

  async reset({ index, term }: LogPosition, hardState: HardState): Promise<void> {
    this.#checkUsable();
    const position = { index, term };
    assert(!this.#appending, 'a reset and an append do not overlap');
    if (this.#index.holds(position)) await this.append({ hardState, entries: [] });
    else await this.#restart(position, hardState);
    await this.#afterReset();
  }

  /** The new segment says that the log begins anew, so it counts from the moment it has its name. */
  async #restart(position: LogPosition, hardState: HardState): Promise<void> {
    assert(position.index >= this.#index.start.index, 'a log never restarts below its beginning');
    let before: readonly Segment[];
    this.#appending = true;
    try {
      const content = { ...this.#following(position, hardState), restart: true };
      const segment = await installEmpty(this.#factory, this.#random, content);
      before = this.#segments;
      this.#segments = [...before, segment];
      this.#index = new WalIndex(position);
      this.#hardState = hardState;
      this.#offset = HEADER_BYTES;
    } catch (error) {
      throw this.#fail(error);
    } finally {
      this.#appending = false;
    }
    // A log whose newest file is lost must not pass for the one before: it is marked as followed.
    this.#inBackground(async () => before.at(-1)?.seal());
    await this.#remove(before);
  }

  /** Removes the oldest segments, which nothing needs. */
  async #remove(removed: readonly Segment[]): Promise<void> {
    this.#segments = this.#segments.slice(removed.length);
    this.#inBackground(async () => {
      // One at a time and oldest first: a crash never leaves a hole between segments.
      for (const segment of removed) {
        await this.#disk.remove(segment.path);
        await this.#disk.syncDirectory(this.#path);
        await segment.retire();
      }
    });
    await this.#background;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    assert(!this.#appending, 'the log is closed after the last append');
    this.#closed = true;
    await this.#background;
    await this.#factory.close();
    for (const segment of this.#segments) await segment.retire();
  }

  #inBackground(work: () => Promise<void>): void {
    this.#background = this.#background.then(work).catch((error: unknown) => {
      this.#fail(error);
    });
  }

  #fail(error: unknown): StorageFailedError {
    this.#failure ??= new StorageFailedError(this.#path, error);
    return this.#failure;
  }

  #checkUsable(): void {
    if (this.#failure !== undefined) throw this.#failure;
    assert(!this.#closed, 'the log is open');
  }

  #checkEntries(entries: readonly Entry[]): void {
    const first = entries[0];
    if (first === undefined) return;
    const { start, last } = this.#index;
    assert(first.index > start.index, 'released entries are never replaced');
    assert(first.index <= last.index + 1, 'entries continue the log');
    for (const [position, entry] of entries.entries()) {
      assert(entry.index === first.index + position, 'entries of a batch are consecutive');
    }
  }

  #scratchOf(bytes: number): Buffer {
    if (bytes <= this.#scratch.length) return this.#scratch;
    const larger = Buffer.allocUnsafeSlow(Math.max(bytes, 2 * this.#scratch.length));
    if (larger.length <= SCRATCH_BYTES) this.#scratch = larger;
    return larger;
  }
}
