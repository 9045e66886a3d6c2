/**
 * The state on LMDB, behind an overlay of recent writes.
 *
 * `apply` writes to memory and returns. In the background the oldest part of the overlay goes to
 * LMDB in one transaction that also writes the applied index, prepared on the event loop and
 * committed on the thread pool. Reads merge overlay and LMDB.
 *
 * Invariants:
 * - an apply and its index are in one LMDB transaction, and transactions are in order of applies;
 * - a part of the overlay is dropped only after a fresh LMDB snapshot was seen to contain it;
 * - every value read is checked; a damaged one is refused to whoever asks, and never served;
 * - after the first failed write nothing is written, acknowledged or closed: closing could flush a
 *   half-written file. The owner is told once, and must end the process without cleaning up.
 */
import { assert } from '../assert.ts';
import type { Bytes } from '../mvcc/types.ts';
import type { Counted, LogPosition, State, Write } from '../ports.ts';
import type { Disk } from './disk.ts';
import { CorruptionError, DamagedValueError, NoSpaceError, StorageFailedError } from './errors.ts';
import { prepareInstall } from './lmdb-install.ts';
import { freeBytesOf, RESERVE_BYTES, withStallLimit } from './lmdb-limits.ts';
import { LmdbStore } from './lmdb-store.ts';
import { MergedReader } from './merged-reader.ts';
import { type Generation, Overlay } from './overlay.ts';
import { StateDirectory } from './state-directory.ts';
import type { ReceivedSnapshot } from './transfer.ts';

export type LmdbStateOptions = {
  /** Directory of the LMDB files; made when it does not exist. The caller owns it exclusively. */
  readonly path: string;
  /**
   * Called once, when a write failed or stored data is damaged. The process must end at once, with
   * `process.abort()`.
   */
  readonly onFailure: (error: Error) => void;
  /** Bytes free on the disk of `path`. @default asks the file system */
  readonly freeBytes?: () => Promise<number>;
  /** For everything but LMDB's own files. @default the real one */
  readonly disk?: Disk;
};

/** Writes are collected for so long, unless one of the next two is reached first. */
const FLUSH_DELAY_MS = 1_000;
const FLUSH_BYTES = 2 * 1024 * 1024;
const FLUSH_WRITES = 8_192;
const NO_SPACE_RETRY_MS = 1_000;

/** A changed key may dirty a leaf and its branch. */
const PAGES_PER_WRITE = 2;

/** A state that can be copied while it is in use. */
export interface CopyableState extends State {
  /** Writes everything applied before the call to LMDB files in `directory`, which must exist and be empty. */
  copyTo(directory: string): Promise<void>;
  /** Where a state was installed whose log has not restarted yet. */
  readonly installed: LogPosition | undefined;
  /** The log has restarted. Durable when it resolves. */
  confirmInstalled(): Promise<void>;
}

/** Throws `CorruptionError` when the files are damaged. */
export async function openLmdbState(options: LmdbStateOptions): Promise<CopyableState> {
  const directory = await StateDirectory.open(options.path, options.disk);
  await directory.checkPresent();
  await directory.clean();
  return new LmdbState(options, directory, LmdbStore.open(directory.files));
}

type Waiter = {
  /** Of the apply that must become durable. */
  readonly sequence: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
};

class LmdbState implements CopyableState {
  readonly #path: string;
  readonly #onFailure: (error: Error) => void;
  readonly #freeBytes: () => Promise<number>;
  readonly #directory: StateDirectory;
  #store: LmdbStore;
  #overlay: Overlay;
  #reader: MergedReader;
  #durableIndex: number;
  #durableSequence = 0;
  #waiters: Waiter[] = [];
  #draining = false;
  /** Settles when the last flush that was begun has ended. */
  #drained: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | undefined;
  /** LMDB must stay open while it is copied. */
  #copying: Promise<void> = Promise.resolve();
  #installing = false;
  /** Settles when what installations have replaced is closed and removed. */
  #retired: Promise<void> = Promise.resolve();
  #failure: Error | undefined;
  #closed = false;

  constructor(options: LmdbStateOptions, directory: StateDirectory, store: LmdbStore) {
    this.#path = options.path;
    this.#onFailure = options.onFailure;
    this.#freeBytes = options.freeBytes ?? (() => freeBytesOf(options.path));
    this.#directory = directory;
    this.#store = store;
    const applied = store.applied();
    this.#durableIndex = applied.index;
    this.#overlay = new Overlay(applied);
    this.#reader = new MergedReader(this.#path, store, this.#overlay);
  }

  get applied(): LogPosition {
    return this.#overlay.applied;
  }

  get appliedIndex(): number {
    return this.#overlay.applied.index;
  }

  get durableIndex(): number {
    return this.#durableIndex;
  }

  get backlogBytes(): number {
    return this.#overlay.bytes;
  }

  apply(index: number, writes: readonly Write[], term = this.applied.term): void {
    this.#checkUsable();
    assert(!this.#installing, 'nothing is applied while a state is installed');
    assert(index >= this.appliedIndex, 'entries are applied in order');
    this.#overlay.apply({ index, term }, writes);
    if (this.#draining) return;
    if (this.#isFlushDue()) this.#drain();
    else this.#timer ??= this.#flushLater(FLUSH_DELAY_MS);
  }

  get(key: Bytes): Bytes | undefined {
    this.#checkUsable();
    return this.#guarded(() => this.#reader.get(key));
  }

  scan(
    start: Bytes,
    end: Bytes | undefined,
    options: { readonly limit: number; readonly reverse?: boolean },
  ): readonly (readonly [key: Bytes, value: Bytes])[] {
    this.#checkUsable();
    return this.#guarded(() => this.#reader.scan(start, end, options));
  }

  count(start: Bytes, end: Bytes | undefined, step: number): Counted {
    this.#checkUsable();
    return this.#guarded(() => this.#reader.count(start, end, step));
  }

  flush(): Promise<void> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const { sequence } = this.#overlay;
    if (this.#durableSequence === sequence) return Promise.resolve();
    const flushed = new Promise<void>((resolve, reject) => {
      this.#waiters.push({ sequence, resolve, reject });
    });
    this.#drain();
    return flushed;
  }

  /** One at a time: each needs room for a whole copy. */
  copyTo(directory: string): Promise<void> {
    const copied = this.#copying.then(() => this.#copy(directory));
    this.#copying = copied.catch(() => undefined);
    return copied;
  }

  async #copy(directory: string): Promise<void> {
    this.#checkUsable();
    await this.flush();
    const needed = RESERVE_BYTES + this.#store.size().usedBytes;
    const free = await this.#freeBytes();
    if (free < needed) throw new NoSpaceError(this.#path, free, needed);
    await this.#store.copyTo(directory);
  }

  async install(snapshot: ReceivedSnapshot): Promise<void> {
    this.#checkUsable();
    assert(!this.#installing, 'installations do not overlap');
    assert(snapshot.index >= this.appliedIndex, 'an installed state is not older');
    this.#installing = true;
    try {
      // What is still to be flushed is superseded, but a transaction under way must end.
      clearTimeout(this.#timer);
      this.#timer = undefined;
      await this.#drained;
      this.#checkUsable();
      const store = await prepareInstall(this.#directory, snapshot);
      const replaced = this.#directory.files;
      try {
        await this.#directory.commit();
      } catch (error) {
        throw this.#fail(new StorageFailedError(this.#path, error));
      }
      this.#switchTo(store, replaced);
    } finally {
      this.#installing = false;
      if (this.#isFlushDue()) this.#drain();
      else if (this.#overlay.sequence > this.#durableSequence) {
        this.#timer ??= this.#flushLater(FLUSH_DELAY_MS);
      }
    }
  }

  /** In one turn: nobody ever sees something of both. */
  #switchTo(store: LmdbStore, replaced: string): void {
    const before = this.#store;
    this.#store = store;
    const applied = store.applied();
    this.#overlay = new Overlay(applied);
    this.#reader = new MergedReader(this.#path, store, this.#overlay);
    this.#durableIndex = applied.index;
    this.#durableSequence = 0;
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.resolve();
    const unused = Promise.all([this.#retired, this.#copying]);
    this.#retired = this.#retire(before, replaced, unused);
  }

  /** A store is closed when nothing uses it, and never after an error. */
  async #retire(store: LmdbStore, files: string, unused: Promise<unknown>): Promise<void> {
    await unused;
    if (this.#failure !== undefined) return;
    await store.close();
    // What cannot be removed now is removed at the next start.
    await this.#directory.remove(files).catch(() => undefined);
  }

  get installed(): LogPosition | undefined {
    return this.#directory.installed;
  }

  async confirmInstalled(): Promise<void> {
    this.#checkUsable();
    try {
      await this.#directory.confirmInstalled();
    } catch (error) {
      throw this.#fail(new StorageFailedError(this.#path, error));
    }
  }

  size(): { readonly totalBytes: number; readonly usedBytes: number } {
    const size = this.#store.size();
    return {
      totalBytes: size.totalBytes,
      usedBytes: size.usedBytes + this.#overlay.bytes,
    };
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    await this.#copying;
    try {
      await this.flush();
    } catch (error) {
      // The log holds what did not fit: nothing is lost by closing.
      if (!(error instanceof NoSpaceError)) throw error;
    }
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#drained;
    await this.#retired;
    await this.#store.close();
  }

  #isFlushDue(): boolean {
    return this.#waiters.length > 0 || this.#overlay.isWorthFlushing(FLUSH_BYTES, FLUSH_WRITES);
  }

  #flushLater(delayMs: number): NodeJS.Timeout {
    return setTimeout(() => {
      this.#timer = undefined;
      this.#drain();
    }, delayMs).unref();
  }

  #drain(): void {
    if (this.#draining || this.#installing || this.#failure !== undefined || this.#closed) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#draining = true;
    this.#drained = this.#writeGenerations();
  }

  /** Never rejects: waiters and `onFailure` learn what went wrong. */
  async #writeGenerations(): Promise<void> {
    try {
      do {
        const generation = this.#overlay.freezeOldest();
        await this.#checkSpace(generation);
        await withStallLimit(this.#store.write(generation));
        this.#settle(generation);
      } while (this.#isFlushDue());
      if (this.#overlay.sequence > this.#durableSequence) {
        this.#timer = this.#flushLater(FLUSH_DELAY_MS);
      }
    } catch (error) {
      if (error instanceof NoSpaceError) {
        this.#rejectWaiters(error);
        this.#timer = this.#flushLater(NO_SPACE_RETRY_MS);
        return;
      }
      this.#rejectWaiters(
        this.#fail(
          error instanceof CorruptionError ? error : new StorageFailedError(this.#path, error),
        ),
      );
    } finally {
      // In the turn that found nothing left to do: whoever applies next starts the next flush.
      this.#draining = false;
    }
  }

  /** The generation is durable. It leaves the overlay once a new snapshot was seen to contain it. */
  #settle(generation: Generation): void {
    this.#store.renewSnapshot();
    const shown = this.#store.applied();
    const { index } = generation.applied;
    assert(shown.index === index, 'a new snapshot shows what was committed');
    this.#overlay.drop(generation);
    this.#reader.renew();
    this.#durableIndex = index;
    this.#durableSequence = generation.sequence;
    const done = this.#waiters.filter(({ sequence }) => sequence <= generation.sequence);
    this.#waiters = this.#waiters.filter(({ sequence }) => sequence > generation.sequence);
    for (const waiter of done) waiter.resolve();
  }

  async #checkSpace(generation: Generation): Promise<void> {
    const { pageBytes } = this.#store;
    const needed =
      RESERVE_BYTES + 2 * generation.bytes + PAGES_PER_WRITE * pageBytes * generation.changes.size;
    const free = await this.#freeBytes();
    if (free < needed) throw new NoSpaceError(this.#path, free, needed);
  }

  #rejectWaiters(error: Error): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(error);
  }

  #guarded<Result>(read: () => Result): Result {
    try {
      return read();
    } catch (error) {
      const isLost = error instanceof CorruptionError && !(error instanceof DamagedValueError);
      throw isLost ? this.#fail(error) : error;
    }
  }

  #fail(error: Error): Error {
    if (this.#failure === undefined) {
      this.#failure = error;
      this.#onFailure(error);
    }
    return this.#failure;
  }

  #checkUsable(): void {
    if (this.#failure !== undefined) throw this.#failure;
    assert(!this.#closed, 'the state is open');
  }
}
