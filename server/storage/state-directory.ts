/**
 * Which LMDB files are the state.
 *
 * ```
 * state/data.mdb           until another state is installed
 * state/installed-2/data.mdb   afterwards
 * state/CURRENT            which of them counts, and whether the log has restarted behind it
 * ```
 *
 * LMDB files are never overwritten, renamed or truncated while they may be mapped: reading a page that
 * is no longer there would kill the process. A new state gets a directory whose name was never used
 * in this process, and replacing CURRENT, by one rename, makes it count.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { assert } from '../assert.ts';
import type { LogPosition } from '../ports.ts';
import { type Disk, nodeDisk } from './disk.ts';
import { CorruptionError, DataDirectoryError } from './errors.ts';
import { DATA_FILE, LOCK_FILE } from './lmdb-store.ts';

const CURRENT = 'CURRENT';
const PROPOSED = 'CURRENT.tmp';
const INSTALLED = /^installed-([1-9][0-9]{0,14})$/;
const FORMAT = 1;

type Pointer = {
  /** Number of the directory; 0 is the directory of everything itself. */
  readonly number: number;
  readonly installed: LogPosition | undefined;
};

export class StateDirectory {
  readonly #path: string;
  readonly #disk: Disk;
  #pointer: Pointer;
  #proposed: Pointer | undefined;
  #lastNumber: number;

  private constructor(path: string, disk: Disk, pointer: Pointer) {
    this.#path = path;
    this.#disk = disk;
    this.#pointer = pointer;
    this.#lastNumber = pointer.number;
  }

  /** Throws `CorruptionError` when the state is missing, `DataDirectoryError` when it is too new. */
  static async open(path: string, disk: Disk = nodeDisk): Promise<StateDirectory> {
    await disk.makeDirectory(path);
    const names = await disk.list(path);
    const file = join(path, CURRENT);
    if (names.includes(CURRENT)) {
      return new StateDirectory(path, disk, parsePointer(file, await readWhole(disk, file)));
    }
    // Without its pointer an installed state must not pass for an empty one.
    if (!names.includes(DATA_FILE) && names.some((name) => INSTALLED.test(name))) {
      throw new CorruptionError(file, undefined, 'the file that names the state is missing');
    }
    return new StateDirectory(path, disk, { number: 0, installed: undefined });
  }

  /** The directory of the LMDB files that count. */
  get files(): string {
    return this.#directoryOf(this.#pointer.number);
  }

  /** Where a state was installed whose log has not restarted yet. */
  get installed(): LogPosition | undefined {
    return this.#pointer.installed;
  }

  /** Throws `CorruptionError` when an installed state is gone: LMDB would begin an empty one. */
  async checkPresent(): Promise<void> {
    if (this.#pointer.number === 0) return;
    const names = await this.#disk.list(this.files).catch((): readonly string[] => []);
    if (names.includes(DATA_FILE)) return;
    throw new CorruptionError(join(this.files, DATA_FILE), undefined, 'the state is missing');
  }

  /** Moves an LMDB file into a new directory, durably, and returns that. It does not count yet. */
  async stage(file: string): Promise<string> {
    this.#lastNumber += 1;
    const directory = this.#directoryOf(this.#lastNumber);
    try {
      await this.#disk.makeDirectory(directory);
      await this.#disk.syncDirectory(this.#path);
      const target = join(directory, DATA_FILE);
      await this.#disk.rename(file, target);
      const moved = await this.#disk.open(target);
      try {
        await moved.sync();
      } finally {
        await moved.close();
      }
      await this.#disk.syncDirectory(directory);
      return directory;
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Writes down that what was staged last is the state at `position`, for `commit` to make it so. */
  async propose(position: LogPosition): Promise<void> {
    await this.#write({ number: this.#lastNumber, installed: position });
  }

  /** From here on the proposed state counts. After a rejection nobody knows which one does. */
  async commit(): Promise<void> {
    const proposed = this.#proposed;
    assert(proposed !== undefined, 'what is committed was proposed');
    this.#proposed = undefined;
    await this.#disk.rename(join(this.#path, PROPOSED), join(this.#path, CURRENT));
    await this.#disk.syncDirectory(this.#path);
    this.#pointer = proposed;
  }

  /** The log has restarted behind the installed state. */
  async confirmInstalled(): Promise<void> {
    if (this.#pointer.installed === undefined) return;
    await this.#write({ ...this.#pointer, installed: undefined });
    await this.commit();
  }

  /** At the start: removes every state that does not count. */
  async clean(): Promise<void> {
    const { number } = this.#pointer;
    for (const name of await this.#disk.list(this.#path)) {
      const other = numberOf(name);
      const isOld = other === undefined ? isRootFile(name) && number > 0 : other !== number;
      if (isOld) await rm(join(this.#path, name), { recursive: true, force: true });
    }
  }

  /** Removes what was in `files` before, and nothing else: another state may be on its way. */
  async remove(files: string): Promise<void> {
    assert(files !== this.files, 'the state that counts stays');
    const paths =
      files === this.#path ? [DATA_FILE, LOCK_FILE].map((name) => join(files, name)) : [files];
    for (const path of paths) await rm(path, { recursive: true, force: true });
  }

  async #write(pointer: Pointer): Promise<void> {
    const { number, installed } = pointer;
    const text = JSON.stringify({
      format: FORMAT,
      directory: `installed-${number}`,
      ...(installed === undefined ? {} : { installed }),
    });
    const file = await this.#disk.create(join(this.#path, PROPOSED));
    try {
      await file.write(Buffer.from(`${text}\n`), 0);
      await file.sync();
    } finally {
      await file.close();
    }
    this.#proposed = pointer;
  }

  #directoryOf(number: number): string {
    return number === 0 ? this.#path : join(this.#path, `installed-${number}`);
  }
}

function numberOf(name: string): number | undefined {
  const digits = INSTALLED.exec(name)?.[1];
  return digits === undefined ? undefined : Number(digits);
}

const isRootFile = (name: string): boolean => name === DATA_FILE || name === LOCK_FILE;

async function readWhole(disk: Disk, path: string): Promise<string> {
  const file = await disk.open(path);
  try {
    const bytes = Buffer.alloc(await file.size());
    await file.read(bytes, 0);
    return bytes.toString();
  } finally {
    await file.close();
  }
}

function parsePointer(path: string, text: string): Pointer {
  const damaged = new CorruptionError(path, undefined, 'the file that names the state is damaged');
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw damaged;
  }
  if (typeof content !== 'object' || content === null) throw damaged;
  const fields = new Map<string, unknown>(Object.entries(content));
  const format = fields.get('format');
  if (typeof format !== 'number') throw damaged;
  if (format > FORMAT) {
    throw new DataDirectoryError(
      'newer-format',
      path,
      `${path} has format ${format} and this version reads up to ${FORMAT}. Start the newer version that wrote it.`,
    );
  }
  const directory = fields.get('directory');
  const number = typeof directory === 'string' ? numberOf(directory) : undefined;
  if (number === undefined) throw damaged;
  const installed = fields.get('installed');
  return {
    number,
    installed: installed === undefined ? undefined : positionOf(installed, damaged),
  };
}

function positionOf(value: unknown, damaged: Error): LogPosition {
  if (typeof value !== 'object' || value === null) throw damaged;
  const fields = new Map<string, unknown>(Object.entries(value));
  const index = fields.get('index');
  const term = fields.get('term');
  if (!Number.isSafeInteger(index) || !Number.isSafeInteger(term)) throw damaged;
  return { index: Number(index), term: Number(term) };
}
