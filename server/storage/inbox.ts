/**
 * States that other members send, spooled to files of the data directory:
 *
 * ```
 * incoming/<sha256>.part       what has arrived of one copy
 * incoming/<sha256>-1.ready    a whole copy, checked, that is about to be installed
 * ```
 *
 * The name is the hash that the copy must have, so what a file may be continued with is certain, also
 * after a restart. That its bytes are right is not: the hash of the whole decides, read back at the end.
 */
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { IncomingFile } from './incoming-file.ts';
import { freeBytesOf } from './lmdb-limits.ts';
import type { IncomingSnapshot, SnapshotDescription, SnapshotInbox } from './transfer.ts';

export type InboxOptions = {
  /** Of the inbox alone; made when something arrives. */
  readonly directory: string;
  /** Bytes free on its disk. @default asks the file system */
  readonly freeBytes?: () => Promise<number>;
  /** How long an interrupted transfer may take to go on before its part is removed. @default 1 h */
  readonly keepMs?: number;
};

const KEEP_MS = 3_600_000;
const READY = /^([0-9a-f]{64})-[0-9]+\.ready$/;

export async function openInbox(options: InboxOptions): Promise<SnapshotInbox> {
  const inbox = new FileInbox(options);
  await inbox.tidy();
  return inbox;
}

class FileInbox implements SnapshotInbox {
  readonly #directory: string;
  readonly #freeBytes: () => Promise<number>;
  readonly #keepMs: number;
  #current: IncomingFile | undefined;
  /** Transfers are opened one after the other. */
  #opening: Promise<unknown> = Promise.resolve();
  #ready = 0;
  #expiry: NodeJS.Timeout | undefined;

  constructor(options: InboxOptions) {
    this.#directory = options.directory;
    this.#freeBytes = options.freeBytes ?? (() => freeBytesOf(options.directory));
    this.#keepMs = options.keepMs ?? KEEP_MS;
  }

  /** A whole copy that was not installed before a restart may be sent again, from its end. */
  async tidy(): Promise<void> {
    for (const name of await this.#names()) {
      const path = join(this.#directory, name);
      const sha256 = READY.exec(name)?.[1];
      if (Date.now() - (await stat(path)).mtimeMs > this.#keepMs) await rm(path, { force: true });
      else if (sha256 !== undefined) await rename(path, this.#partOf(sha256));
    }
    this.#expireLater();
  }

  open(announced: SnapshotDescription): Promise<IncomingSnapshot> {
    const opened = this.#opening.then(() => this.#open(announced));
    this.#opening = opened.catch(() => undefined);
    return opened;
  }

  async #open(announced: SnapshotDescription): Promise<IncomingSnapshot> {
    await this.#current?.suspend();
    clearTimeout(this.#expiry);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    const path = this.#partOf(Buffer.from(announced.sha256).toString('hex'));
    await this.#removeParts(path);
    await (await open(path, 'a', 0o600)).close();
    const file = await open(path, 'r+');
    const { size } = await file.stat();
    const current = new IncomingFile({
      announced,
      path,
      file,
      offset: Math.min(size, announced.sizeBytes),
      freeBytes: this.#freeBytes,
      readyPath: () => path.replace(/\.part$/, `-${++this.#ready}.ready`),
      onEnded: () => this.#expireLater(),
    });
    this.#current = current;
    await current.checkSpace();
    return current;
  }

  async close(): Promise<void> {
    await this.#opening;
    await this.#current?.suspend();
    clearTimeout(this.#expiry);
  }

  /** Nobody may ever go on with a part that was left: it must not lie there for good. */
  #expireLater(): void {
    clearTimeout(this.#expiry);
    this.#expiry = setTimeout(() => {
      this.#opening = this.#opening
        .then(async () => {
          await this.#current?.suspend();
          await this.#removeParts(undefined);
        })
        .catch(() => undefined);
    }, this.#keepMs).unref();
  }

  async #removeParts(except: string | undefined): Promise<void> {
    for (const name of await this.#names()) {
      const path = join(this.#directory, name);
      if (name.endsWith('.part') && path !== except) await rm(path, { force: true });
    }
  }

  #names(): Promise<readonly string[]> {
    return readdir(this.#directory).catch(() => []);
  }

  #partOf(sha256: string): string {
    return join(this.#directory, `${sha256}.part`);
  }
}
