/**
 * A disk that can lose power and fail, for the log.
 *
 * What is written is in a cache first. A durable write reaches the platter one step later; a `sync`
 * does it for a whole file, and `syncDirectory` for the names in a directory. A power cut keeps the
 * platter, and of everything in between a random part: of the sectors of 512 bytes, and of the changes
 * of names.
 */
import { dirname, join } from 'node:path';
import type { Disk, DiskFile } from '../../server/storage/disk.ts';

const SECTOR_BYTES = 512;

/** Uniform in [0, bound). */
export type Below = (bound: number) => number;

type Inode = { cached: Buffer; durable: Buffer };
type Names = Map<string, Inode>;
type NameChange = { readonly directory: string; readonly make: (names: Names) => void };

export class SimDisk implements Disk {
  #names: Names = new Map();
  #durableNames: Names = new Map();
  #pending: NameChange[] = [];
  #cut = false;
  /** Called before a step of a write takes effect; may throw, or never resolve. */
  beforeStep: ((step: string, path: string) => void | Promise<void>) | undefined;
  readonly steps: string[] = [];

  async #step(step: string, path: string): Promise<void> {
    this.steps.push(step);
    await this.beforeStep?.(step, path);
    // A disk without power answers nobody.
    if (this.#cut) await new Promise(() => {});
  }

  /** What is left after a power cut, as a new disk. Nothing that is under way on this one goes on. */
  cutPower(below: Below): SimDisk {
    this.#cut = true;
    const after = new SimDisk();
    const names = new Map(this.#durableNames);
    for (const change of this.#pending) {
      if (below(2) === 1) change.make(names);
    }
    const seen = new Map<Inode, Inode>();
    for (const [path, inode] of names) {
      const copy = seen.get(inode) ?? tear(inode, below);
      seen.set(inode, copy);
      after.#names.set(path, copy);
    }
    after.#durableNames = new Map(after.#names);
    return after;
  }

  /** What a process sees that was killed and starts again: the cache survives. */
  restart(): SimDisk {
    this.#cut = true;
    const after = new SimDisk();
    after.#names = this.#names;
    after.#durableNames = this.#durableNames;
    after.#pending = this.#pending;
    return after;
  }

  /** The bytes of a file as they are, to look at or to damage. */
  bytes(path: string): Buffer {
    const inode = this.#inode(path);
    inode.durable = inode.cached;
    return inode.cached;
  }

  /** Replaces a file, or adds one, as an accident would. */
  replace(path: string, bytes: Buffer): void {
    const inode = { cached: Buffer.from(bytes), durable: Buffer.alloc(0) };
    inode.durable = inode.cached;
    this.#names.set(path, inode);
    this.#durableNames.set(path, inode);
  }

  lose(path: string): void {
    this.#names.delete(path);
    this.#durableNames.delete(path);
  }

  files(): readonly string[] {
    return [...this.#names.keys()].sort();
  }

  copy(): SimDisk {
    const copy = new SimDisk();
    for (const path of this.files()) copy.replace(path, this.bytes(path));
    return copy;
  }

  async makeDirectory(): Promise<void> {}

  async list(directory: string): Promise<readonly string[]> {
    return this.files()
      .filter((path) => dirname(path) === directory)
      .map((path) => path.slice(directory.length + 1));
  }

  async create(path: string): Promise<DiskFile> {
    const inode: Inode = { cached: Buffer.alloc(0), durable: Buffer.alloc(0) };
    this.#change(path, (names) => names.set(path, inode));
    return this.#file(path, inode, false);
  }

  async open(path: string): Promise<DiskFile> {
    return this.#file(path, this.#inode(path), true);
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#step('rename', to);
    const inode = this.#inode(from);
    this.#change(to, (names) => {
      names.delete(from);
      names.set(to, inode);
    });
  }

  async remove(path: string): Promise<void> {
    await this.#step('remove', path);
    this.#inode(path);
    this.#change(path, (names) => names.delete(path));
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#step('sync directory', path);
    const mine = this.#pending.filter((change) => change.directory === path);
    for (const change of mine) change.make(this.#durableNames);
    this.#pending = this.#pending.filter((change) => change.directory !== path);
  }

  #change(path: string, make: (names: Names) => void): void {
    make(this.#names);
    this.#pending.push({ directory: dirname(path), make });
  }

  #inode(path: string): Inode {
    const inode = this.#names.get(path);
    if (inode === undefined) throw new Error(`ENOENT: no such file: ${path}`);
    return inode;
  }

  #file(path: string, inode: Inode, durableWrites: boolean): DiskFile {
    let isClosed = false;
    return {
      write: async (bytes, position) => {
        // Copied in full before the first wait, as a system call would.
        const written = Buffer.from(bytes);
        await this.#step('write', path);
        inode.cached = spliced(inode.cached, written, position);
        if (!durableWrites) return;
        await this.#step('flush', path);
        inode.durable = spliced(inode.durable, written, position);
      },
      read: async (target, position) => {
        if (isClosed) throw new Error(`EBADF: the file is closed: ${path}`);
        return inode.cached.copy(target, 0, position, position + target.length);
      },
      size: async () => inode.cached.length,
      sync: async () => {
        await this.#step('sync', path);
        inode.durable = Buffer.from(inode.cached);
      },
      close: async () => {
        isClosed = true;
      },
    };
  }
}

function spliced(content: Buffer, bytes: Buffer, position: number): Buffer {
  const end = position + bytes.length;
  if (end <= content.length) {
    bytes.copy(content, position);
    return content;
  }
  const longer = Buffer.alloc(end);
  content.copy(longer);
  bytes.copy(longer, position);
  return longer;
}

/** Each sector that differs is the old one or the new one. */
function tear(inode: Inode, below: Below): Inode {
  const length = below(2) === 0 ? inode.durable.length : inode.cached.length;
  const content = Buffer.alloc(Math.max(length, inode.durable.length));
  inode.durable.copy(content);
  for (let at = 0; at < inode.cached.length && at < content.length; at += SECTOR_BYTES) {
    const end = Math.min(at + SECTOR_BYTES, inode.cached.length, content.length);
    if (below(2) === 1) inode.cached.copy(content, at, at, end);
  }
  return { cached: content, durable: Buffer.from(content) };
}

export const walPath = (name: string): string => join('/wal', name);

/** A small, fast generator of a fixed sequence (mulberry32). */
export function seeded(seed: number): Below {
  let state = seed >>> 0;
  return (bound) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}
