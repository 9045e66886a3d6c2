/**
 * The few file operations that the log needs, as a port: tests put a disk underneath that loses
 * power, tears writes and fails.
 *
 * Linux writes through O_DSYNC: one trip to the thread pool makes a write durable, or none where the disk
 * is quicker than that trip. Elsewhere a write is followed by fdatasync, which libuv turns into
 * F_FULLFSYNC on macOS and FlushFileBuffers on Windows.
 */
import * as fs from 'node:fs';
import { promisify } from 'node:util';
import { WritePace } from './write-pace.ts';

export interface DiskFile {
  /**
   * Writes all of `bytes`. When it resolves they are durable, unless the file is being created.
   * `mayBlock`: the caller has nothing else to do until then.
   */
  write(bytes: Uint8Array, position: number, mayBlock?: boolean): Promise<void>;
  /** Fills `target` from `position`; resolves with the bytes read, fewer only at the end of the file. */
  read(target: Uint8Array, position: number): Promise<number>;
  size(): Promise<number>;
  /** Makes earlier writes and the file's size durable. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

export interface Disk {
  makeDirectory(path: string): Promise<void>;
  /** Names in the directory. */
  list(directory: string): Promise<readonly string[]>;
  /** A new, empty file; an older one of that name is emptied. Its writes need `sync`. */
  create(path: string): Promise<DiskFile>;
  /** An existing file, for reading and durable writing. */
  open(path: string): Promise<DiskFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** Makes creations, renames and removals in the directory durable. */
  syncDirectory(path: string): Promise<void>;
}

const writeAsync = promisify(fs.write);
const readAsync = promisify(fs.read);
const closeAsync = promisify(fs.close);
const fsyncAsync = promisify(fs.fsync);
const fdatasyncAsync = promisify(fs.fdatasync);
const openAsync = promisify(fs.open);
const fstatAsync = promisify(fs.fstat);

const USE_DSYNC = process.platform === 'linux';
/** Larger writes always go through the thread pool. */
const BLOCKING_BYTES = 128 * 1024;

class NodeFile implements DiskFile {
  readonly #fd: number;
  readonly #syncAfterWrite: boolean;
  readonly #pace = new WritePace();

  constructor(fd: number, syncAfterWrite: boolean) {
    this.#fd = fd;
    this.#syncAfterWrite = syncAfterWrite;
  }

  async write(bytes: Uint8Array, position: number, mayBlock = false): Promise<void> {
    const beganMs = performance.now();
    const blocks =
      mayBlock && !this.#syncAfterWrite && bytes.length <= BLOCKING_BYTES && this.#pace.isQuick;
    // What a short write leaves over goes the other way.
    const done = blocks ? fs.writeSync(this.#fd, bytes, 0, bytes.length, position) : 0;
    if (done < bytes.length) await this.#writeFrom(done, bytes, position);
    this.#pace.took(performance.now() - beganMs);
  }

  async #writeFrom(begin: number, bytes: Uint8Array, position: number): Promise<void> {
    let done = begin;
    while (done < bytes.length) {
      const { bytesWritten } = await writeAsync(
        this.#fd,
        bytes,
        done,
        bytes.length - done,
        position + done,
      );
      if (bytesWritten === 0) throw new Error('the disk accepted no more bytes');
      done += bytesWritten;
    }
    if (this.#syncAfterWrite) await fdatasyncAsync(this.#fd);
  }

  async read(target: Uint8Array, position: number): Promise<number> {
    let done = 0;
    while (done < target.length) {
      const { bytesRead } = await readAsync(
        this.#fd,
        target,
        done,
        target.length - done,
        position + done,
      );
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return done;
  }

  async size(): Promise<number> {
    return (await fstatAsync(this.#fd)).size;
  }

  async sync(): Promise<void> {
    await fsyncAsync(this.#fd);
  }

  async close(): Promise<void> {
    await closeAsync(this.#fd);
  }
}

export const nodeDisk: Disk = {
  async makeDirectory(path) {
    await fs.promises.mkdir(path, { recursive: true, mode: 0o700 });
  },
  async list(directory) {
    return fs.promises.readdir(directory);
  },
  async create(path) {
    return new NodeFile(await openAsync(path, 'w+', 0o600), false);
  },
  async open(path) {
    const flags = fs.constants.O_RDWR | (USE_DSYNC ? fs.constants.O_DSYNC : 0);
    return new NodeFile(await openAsync(path, flags, 0o600), !USE_DSYNC);
  },
  async rename(from, to) {
    await fs.promises.rename(from, to);
  },
  async remove(path) {
    await fs.promises.unlink(path);
  },
  async syncDirectory(path) {
    // Windows cannot open a directory for fsync; NTFS journals its names by itself.
    if (process.platform === 'win32') return;
    const fd = await openAsync(path, 'r');
    try {
      await fsyncAsync(fd);
    } finally {
      await closeAsync(fd);
    }
  },
};
