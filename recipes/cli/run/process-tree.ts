/**
 * A command and everything it starts, as one thing that can be signalled, killed and waited for.
 *
 * In a group (the usual form) the command runs in its own session and process group, so a signal
 * reaches its children too, and a guard kills the group if this process dies. In the foreground
 * (on a terminal) the command shares this process's group, as job control wants it, and only the
 * command itself is signalled, as with GNU timeout.
 *
 * What leaves the group on purpose (setsid, a daemon) is out of reach.
 */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { foregroundScript, groupScript } from './guard-script.ts';
import { groupGone, signalGroup } from './process-group.ts';

export type TreeOptions = {
  readonly command: readonly [string, ...string[]];
  readonly environment: NodeJS.ProcessEnv;
  readonly foreground: boolean;
  /** What the command reads from stdin; absent: this process's own stdin. */
  readonly input?: Uint8Array;
  /** The shell that runs the guard; undefined: the Node guard. @default '/bin/sh' if it exists */
  readonly shell?: string | undefined;
};

export type Ending = {
  /** The command's own exit code, or 128 + n when signal n ended it. */
  readonly exitCode: number;
  /** False when a process of the group could not be killed within two seconds. */
  readonly gone: boolean;
};

export const systemShell: string | undefined = existsSync('/bin/sh') ? '/bin/sh' : undefined;

const GUARD_SOCKET = 3;

const exitCodeOf = (code: number | null, signal: NodeJS.Signals | null): number =>
  signal === null ? (code ?? 1) : 128 + (constants.signals[signal] ?? 0);

const loaderOptions: ReadonlySet<string> = new Set(['--import', '--require', '-r', '--loader']);

/**
 * The options of this process that let Node read its files; no others: `-e`, say, would run this
 * program again in place of the guard.
 */
export function loaderArguments(execArgv: readonly string[]): string[] {
  return execArgv.flatMap((argument, index) => {
    if (loaderOptions.has(argument)) return [argument, execArgv[index + 1] ?? ''];
    const [name = ''] = argument.split('=', 1);
    return argument !== name && loaderOptions.has(name) ? [argument] : [];
  });
}

function guardedCommand(options: TreeOptions, shell: string | undefined): [string, string[]] {
  if (shell !== undefined) {
    const script = options.foreground ? foregroundScript : groupScript;
    return [shell, ['-c', script, 'conclave-guard', ...options.command]];
  }
  if (options.foreground) {
    const [command, ...commandArguments] = options.command;
    return [command, commandArguments];
  }
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const guard = fileURLToPath(new URL(`./guard-process.${extension}`, import.meta.url));
  return [process.execPath, [...loaderArguments(process.execArgv), guard, ...options.command]];
}

export class ProcessTree {
  /** Resolves when the command has ended and nothing it left in its group runs any more. */
  readonly ended: Promise<Ending>;
  readonly #child: ChildProcess;
  readonly #foreground: boolean;
  #running = true;

  /** Starts the command. `ended` rejects when not even the guard could be started. */
  constructor(options: TreeOptions) {
    const shell = 'shell' in options ? options.shell : systemShell;
    const [file, fileArguments] = guardedCommand(options, shell);
    const stdin = options.input === undefined ? 'inherit' : 'pipe';
    // Without a shell nothing in the foreground would read the guard's socket.
    const guarded = shell !== undefined || !options.foreground;
    const stdio: StdioOptions = [
      stdin,
      'inherit',
      'inherit',
      ...(guarded ? ['pipe' as const] : []),
    ];
    this.#foreground = options.foreground;
    this.#child = spawn(file, fileArguments, {
      stdio,
      env: options.environment,
      detached: !options.foreground,
    });
    this.ended = this.#supervise();
    if (options.input !== undefined) {
      // A command that does not read its input closes it early; that is its right.
      this.#child.stdin?.on('error', () => undefined);
      this.#child.stdin?.end(options.input);
    }
  }

  /** To the whole group, or to the command alone in the foreground. Nothing once it has ended. */
  signal(signal: NodeJS.Signals): void {
    if (!this.#running) return;
    const { pid } = this.#child;
    if (pid === undefined) return;
    if (this.#foreground) this.#child.kill(signal);
    else signalGroup(pid, signal);
  }

  async #supervise(): Promise<Ending> {
    const child = this.#child;
    const guard = child.stdio[GUARD_SOCKET];
    let report = '';
    guard?.on('error', () => undefined);
    if (guard !== null && guard !== undefined && 'setEncoding' in guard) {
      guard.setEncoding('utf8');
      guard.on('data', (text: string) => {
        report += text;
      });
    }
    const closed = new Promise<void>((resolve) => child.once('close', () => resolve()));
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(
      (resolve, reject) => {
        child.once('error', reject);
        child.once('exit', (exitCode, exitSignal) => resolve([exitCode, exitSignal]));
      },
    ).finally(() => {
      this.#running = false;
    });

    if (this.#foreground) {
      // Disarms the guard: a byte, then end of file.
      if (guard !== null && guard !== undefined && 'end' in guard) guard.end('\n');
      return { exitCode: exitCodeOf(code, signal), gone: true };
    }
    const gone = child.pid === undefined || (await groupGone(child.pid));
    if (gone) await closed;
    const reported = /^(\d+)\n/.exec(report)?.[1];
    return {
      exitCode: reported === undefined ? exitCodeOf(code, signal) : Number(reported),
      gone,
    };
  }
}
