/**
 * A store in a directory, shared by the processes of one machine. Whoever owns the directory (a lock
 * the kernel holds and frees when the process ends, however it ends) hosts the store and listens on a
 * socket; the others attach to the socket. When the host goes, the connections to it break at once and
 * everybody tries to become the host: one succeeds, the rest attach to it.
 */
import { createHash } from 'node:crypto';
import { mkdir, realpath } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { ConclaveError } from './errors.ts';

export type EmbeddedStore = {
  /** 'unix:/path' */
  readonly endpoint: string;
  /** To call when nobody answers at the endpoint: sees to it that somebody hosts the store. */
  provide(): Promise<void>;
  /** Lets go of the store; the last user in this process closes it, if hosted here. */
  release(): Promise<void>;
};

type Member = { close(): Promise<void> };

/** What the server says when another process owns the directory. */
const inUse = 'in-use';

/** The longest path of a socket that every system accepts, its final zero byte included. */
const longestSocketPath = 100;

/** One host for all clients of this process, by directory. */
const hosts = new Map<string, Host>();

/** @throws ConclaveError INVALID_ARGUMENT when the directory cannot be made or cannot hold a store */
export const openEmbedded = async (directory: string): Promise<EmbeddedStore> => {
  const path = await makeDirectory(directory);
  const host = hosts.get(path) ?? new Host(path);
  hosts.set(path, host);
  host.users += 1;
  let released = false;
  return {
    endpoint: `unix:${host.socket}`,
    provide: () => host.ensure(),
    async release() {
      if (released) return;
      released = true;
      host.users -= 1;
      if (host.users > 0) return;
      hosts.delete(path);
      await host.close();
    },
  };
};

class Host {
  readonly socket: string;
  users = 0;
  readonly #directory: string;
  #member: Member | undefined;
  #starting: Promise<void> | undefined;

  constructor(directory: string) {
    this.#directory = directory;
    this.socket = socketOf(directory);
  }

  /** Hosts the store, unless it is hosted here or by another process. */
  ensure(): Promise<void> {
    this.#starting ??= this.#start().finally(() => {
      this.#starting = undefined;
    });
    return this.#starting;
  }

  async close(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    const member = this.#member;
    this.#member = undefined;
    await member?.close();
  }

  async #start(): Promise<void> {
    if (this.#member !== undefined) return;
    const { startMember } = await import('../server/index.ts');
    try {
      this.#member = await startMember({
        directory: this.#directory,
        listenClientUrls: [`unix:${this.socket}`],
      });
    } catch (error) {
      if (codeOf(error) !== inUse) throw refusal(this.#directory, error);
    }
  }
}

const makeDirectory = async (directory: string): Promise<string> => {
  const path = resolve(directory);
  try {
    await mkdir(path, { recursive: true, mode: 0o700 });
    return await realpath(path);
  } catch (cause) {
    throw refusal(path, cause);
  }
};

const socketOf = (directory: string): string => {
  const path = join(directory, 'conclave.sock');
  if (Buffer.byteLength(path) <= longestSocketPath) return path;
  const name = createHash('sha256').update(directory).digest('hex').slice(0, 32);
  return join(tmpdir(), `conclave-${name}.sock`);
};

/** The server's own sentence says what is wrong and what to do. */
const refusal = (directory: string, cause: unknown): ConclaveError => {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const code = codeOf(cause) === 'corruption' ? 'CORRUPT' : 'INVALID_ARGUMENT';
  return new ConclaveError(code, `Cannot use '${directory}' as 'directory': ${reason}`, { cause });
};

const codeOf = (error: unknown): unknown =>
  typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
