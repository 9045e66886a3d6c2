/** Starting the stores of others: a process, a directory, a port, and waiting until it listens. */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { commandExists, freePort, Launched, temporaryDirectory } from '../../support/process.ts';
import { waitFor } from '../../support/wait.ts';
import type { Cluster } from './server.ts';

const startTimeoutMs = 30_000;
const host = '127.0.0.1';

export type Member = {
  readonly number: number;
  readonly directory: string;
  readonly clientPort: number;
  readonly peerPort: number;
  /** For servers that elect on a port of its own. */
  readonly electionPort: number;
};

export type Command = {
  readonly program: string;
  readonly commandArguments: readonly string[];
};

/** Ports and directories of so many members, none of which is started yet. */
export async function placeMembers(name: string, count: number): Promise<readonly Member[]> {
  const members: Member[] = [];
  for (let number = 0; number < count; number += 1) {
    members.push({
      number,
      directory: temporaryDirectory(name),
      clientPort: await freePort(),
      peerPort: await freePort(),
      electionPort: await freePort(),
    });
  }
  return members;
}

/** Starts every member and waits until all of them listen. */
export async function launchMembers(
  members: readonly Member[],
  commandOf: (member: Member) => Command,
): Promise<Cluster> {
  const launched = members.map((member) => {
    const { program, commandArguments } = commandOf(member);
    return new Launched(program, commandArguments, { logPath: join(member.directory, 'log') });
  });
  await Promise.all(
    members.map(async ({ clientPort }, index) => {
      try {
        await waitFor(`port ${clientPort}`, () => listens(clientPort), {
          timeoutMs: startTimeoutMs,
        });
      } catch (error) {
        throw new Error(`a member does not listen:\n${launched[index]?.logTail()}`, {
          cause: error,
        });
      }
    }),
  );
  return {
    endpoints: members.map(({ clientPort }) => `${host}:${clientPort}`).join(','),
    pids: launched.map(({ pid }) => pid),
    stop: async () => {
      await Promise.all(launched.map((one) => one.kill('SIGKILL')));
      for (const { directory } of members) rmSync(directory, { recursive: true, force: true });
    },
  };
}

/** Whether somebody accepts connections there; undefined when nobody does. */
export async function listens(port: number): Promise<true | undefined> {
  return await new Promise((resolve) => {
    const socket = connect(port, host);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(undefined));
  });
}

/** Why a program cannot be run, with the Debian package that has it. */
export function missingCommand(command: string, debianPackage: string): string | undefined {
  if (commandExists(command)) return undefined;
  return `${command} is not installed (apt-get install ${debianPackage})`;
}

/** The first number with dots in what the command prints. */
export function versionPrinted(command: string, ...commandArguments: readonly string[]): string {
  const text = execFileSync(command, commandArguments, { encoding: 'utf8' });
  return /\d+(\.\d+)+/.exec(text)?.[0] ?? 'of unknown version';
}
