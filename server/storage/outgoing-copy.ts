/** A copy of the state in a file, as long as somebody sends it. */
import { type FileHandle, rm } from 'node:fs/promises';
import { assert } from '../assert.ts';
import type { Configuration } from '../raft/configuration.ts';
import {
  type OutgoingSnapshot,
  SNAPSHOT_CHUNK_BYTES,
  type SnapshotDescription,
} from './transfer.ts';

export type OutgoingCopyOptions = {
  readonly description: SnapshotDescription;
  readonly configuration: Configuration;
  /** Holds nothing but the copy, and goes with it. */
  readonly directory: string;
  /** The copy, open for reading; closed here. */
  readonly file: FileHandle;
  /** How long it stays when nobody sends it. */
  readonly keepMs: number;
  readonly onRemoved: (copy: OutgoingCopy) => void;
};

export class OutgoingCopy {
  readonly #options: OutgoingCopyOptions;
  #users = 0;
  #isOutdated = false;
  #expiry: NodeJS.Timeout | undefined;
  #removed: Promise<void> | undefined;

  constructor(options: OutgoingCopyOptions) {
    this.#options = options;
  }

  get index(): number {
    return this.#options.description.index;
  }

  get isRemoved(): boolean {
    return this.#removed !== undefined;
  }

  /** For one more receiver. */
  share(): OutgoingSnapshot {
    assert(!this.isRemoved, 'the copy is there');
    clearTimeout(this.#expiry);
    this.#users += 1;
    let isReleased = false;
    return {
      ...this.#options.description,
      configuration: this.#options.configuration,
      chunk: (offset) => this.#read(offset),
      release: () => {
        if (isReleased) return;
        isReleased = true;
        this.#users -= 1;
        this.#settle();
      },
    };
  }

  /** A newer one is going to be made: it goes with its last receiver. */
  outdate(): void {
    this.#isOutdated = true;
    this.#settle();
  }

  remove(): Promise<void> {
    this.#removed ??= this.#remove();
    return this.#removed;
  }

  #settle(): void {
    if (this.#users > 0 || this.isRemoved) return;
    clearTimeout(this.#expiry);
    const remove = (): void => void this.remove().catch(() => undefined);
    if (this.#isOutdated) remove();
    else this.#expiry = setTimeout(remove, this.#options.keepMs).unref();
  }

  async #read(offset: number): Promise<Buffer> {
    const target = Buffer.allocUnsafe(SNAPSHOT_CHUNK_BYTES);
    const { bytesRead } = await this.#options.file.read(target, 0, target.length, offset);
    return target.subarray(0, bytesRead);
  }

  async #remove(): Promise<void> {
    clearTimeout(this.#expiry);
    this.#options.onRemoved(this);
    await this.#options.file.close();
    // What cannot be removed now is removed at the next start.
    await rm(this.#options.directory, { recursive: true, force: true });
  }
}
