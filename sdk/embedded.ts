/**
 * A store in a directory, shared by the processes of one machine. Whoever owns the directory (a lock
 * the kernel holds and frees when the process ends, however it ends) hosts the store and listens on a
 * socket; the others attach to the socket. When the host goes, the connections to it break at once and
 * everybody tries to become the host: one succeeds, the rest attach to it.
 */
import { realpath } from 'node:fs/promises';
import { resolve } from 'node:path';
import { makeDirectory, socketPath } from './directories.ts';
import { ConclaveError } from './errors.ts';

export type EmbeddedStore = {
  /** 'unix:/path' */
  readonly endpoint: string;
  /**
   * To call when nobody answers at the endpoint: sees to it that somebody hosts the store. Resolves
   * with what stands in the way and may pass, if anything does.
   *
   * @throws ConclaveError when the directory cannot hold a store
   */
  provide(): Promise<ConclaveError | undefined>;
  /** Lets go of the store; the last user in this process closes it, if hosted here. */
  release(): Promise<void>;
};

type Member = { close(): Promise<void> };

/** What the server says when another process owns the directory. */
const inUse = 'in-use';

/** One host for all clients of this process, by directory. */
const hosts = new Map<string, Host>();

/** @throws ConclaveError INVALID_ARGUMENT when the directory cannot be made or cannot hold a store */
export const openEmbedded = async (directory: string): Promise<EmbeddedStore> => {
  const { path, socket } = await prepare(directory);
  const host = hosts.get(path) ?? new Host(path, socket);
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
  #starting: Promise<ConclaveError | undefined> | undefined;

  constructor(directory: string, socket: string) {
    this.#directory = directory;
    this.socket = socket;
  }

  /** Hosts the store, unless it is hosted here, or by another process: then resolves with that. */
  ensure(): Promise<ConclaveError | undefined> {
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

  async #start(): Promise<ConclaveError | undefined> {
    if (this.#member !== undefined) return undefined;
    const { startMember } = await loadServer();
    try {
      this.#member = await startMember({
        directory: this.#directory,
        listenClientUrls: [`unix:${this.socket}`],
      });
      return undefined;
    } catch (error) {
      if (codeOf(error) !== inUse) throw refusal(this.#directory, error);
      return ownedByAnother(this.#directory, error);
    }
  }
}

const loadServer = async () => {
  try {
    return await import('../server/index.ts');
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ConclaveError('FAILED_PRECONDITION', `Cannot load the embedded store: ${reason}`, {
      cause,
      remedy:
        "Install this package again with its optional dependencies, which hold LMDB's binary for this system; or connect to a server by 'endpoints'.",
    });
  }
};

const prepare = async (directory: string): Promise<{ path: string; socket: string }> => {
  const given = resolve(directory);
  try {
    await makeDirectory(given);
    const path = await realpath(given);
    return { path, socket: await socketPath(path, 'conclave.sock') };
  } catch (cause) {
    throw refusal(given, cause);
  }
};

/** A host that is just starting or ending looks the same: an error only to who has waited in vain. */
const ownedByAnother = (directory: string, cause: unknown): ConclaveError =>
  new ConclaveError(
    'DATA_DIRECTORY_IN_USE',
    `Another program serves '${directory}' and does not answer on the socket there`,
    {
      cause,
      remedy: 'If it is a server (conclave serve), connect to its endpoints instead.',
    },
  );

/** The server's own sentence says what is wrong and what to do. */
const refusal = (directory: string, cause: unknown): ConclaveError => {
  const reason = cause instanceof Error ? cause.message : String(cause);
  const code = codeOf(cause) === 'corruption' ? 'CORRUPT' : 'INVALID_ARGUMENT';
  return new ConclaveError(code, `Cannot use '${directory}' as 'directory': ${reason}`, {
    cause,
    remedy: "Mend that, name another directory, or connect to a server by 'endpoints'.",
  });
};

const codeOf = (error: unknown): unknown =>
  typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
