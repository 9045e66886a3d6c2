/** One transfer on its way into a file. */
import { type FileHandle, rename, rm } from 'node:fs/promises';
import { isNoSpace, NoSpaceError } from './errors.ts';
import { hashOfFile } from './hashing.ts';
import { checkChunk, checkWhole, incomplete, superseded } from './incoming.ts';
import { RESERVE_BYTES } from './lmdb-limits.ts';
import type { IncomingSnapshot, ReceivedSnapshot, SnapshotDescription } from './transfer.ts';

/**
 * Bytes after which what came is flushed and the disk looked at again: the end of a transfer is not
 * one long flush, and the log, which must never meet a full disk, keeps its room.
 */
const FLUSH_BYTES = 16 * 1024 * 1024;

export type IncomingFileOptions = {
  readonly announced: SnapshotDescription;
  readonly path: string;
  /** Open for reading and writing; closed here. */
  readonly file: FileHandle;
  /** Bytes that are in the file already. */
  readonly offset: number;
  readonly freeBytes: () => Promise<number>;
  /** A name for the whole copy that was never used. */
  readonly readyPath: () => string;
  /** The file is closed: at the end, or because the transfer was given up. */
  readonly onEnded: () => void;
};

export class IncomingFile implements IncomingSnapshot {
  readonly #options: IncomingFileOptions;
  #offset: number;
  #flushedOffset: number;
  #ended = false;
  /** What is under way: the inbox may end the transfer at any moment. */
  #busy: Promise<unknown> = Promise.resolve();

  constructor(options: IncomingFileOptions) {
    this.#options = options;
    this.#offset = options.offset;
    this.#flushedOffset = options.offset;
  }

  get offset(): number {
    return this.#offset;
  }

  /** Removes what came and rejects with `NoSpaceError` when the rest would fill the disk. */
  checkSpace(): Promise<void> {
    return this.#exclusively(() => this.#checkSpace());
  }

  write(offset: number, bytes: Uint8Array, checksum: number): Promise<void> {
    return this.#exclusively(async () => {
      const { announced, file } = this.#options;
      checkChunk(announced, this.#offset, { offset, bytes, checksum });
      try {
        for (let done = 0; done < bytes.length; ) {
          const { bytesWritten } = await file.write(
            bytes,
            done,
            bytes.length - done,
            offset + done,
          );
          done += bytesWritten;
        }
        this.#offset = offset + bytes.length;
        if (this.#offset - this.#flushedOffset < FLUSH_BYTES) return;
        await file.datasync();
        this.#flushedOffset = this.#offset;
      } catch (error) {
        throw isNoSpace(error) ? await this.#outOfSpace() : error;
      }
      await this.#checkSpace();
    });
  }

  finish(): Promise<ReceivedSnapshot> {
    return this.#exclusively(async () => {
      const { announced, path, file, readyPath } = this.#options;
      if (this.#offset < announced.sizeBytes) throw incomplete(announced, this.#offset);
      await file.truncate(announced.sizeBytes);
      await file.sync();
      await this.#end();
      try {
        checkWhole(announced, await hashOfFile(path));
      } catch (error) {
        await rm(path, { force: true });
        throw error;
      }
      const ready = readyPath();
      await rename(path, ready);
      return {
        index: announced.index,
        term: announced.term,
        sizeBytes: announced.sizeBytes,
        content: { kind: 'file', path: ready },
        discard: () => rm(ready, { force: true }),
      };
    });
  }

  async suspend(): Promise<void> {
    const ended = this.#busy.then(() => this.#end());
    this.#busy = ended;
    await ended;
  }

  #exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
    const done = this.#busy.then(() => {
      if (this.#ended) throw superseded(this.#options.announced);
      return work();
    });
    this.#busy = done.catch(() => undefined);
    return done;
  }

  async #checkSpace(): Promise<void> {
    const { announced, freeBytes } = this.#options;
    const rest = announced.sizeBytes - this.#offset;
    if ((await freeBytes()) < RESERVE_BYTES + rest) throw await this.#outOfSpace();
  }

  /** Gives back what the part took: another transfer can come when there is room. */
  async #outOfSpace(): Promise<NoSpaceError> {
    const { announced, path, freeBytes } = this.#options;
    const free = await freeBytes();
    const required = RESERVE_BYTES + announced.sizeBytes - this.#offset;
    await this.#end();
    await rm(path, { force: true });
    return new NoSpaceError(path, free, required);
  }

  async #end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#options.file.close();
    this.#options.onEnded();
  }
}
