/**
 * Child processes for harnesses: started with their output in a file, always killed when the
 * harness ends, and observable (exit, resident memory, processor time).
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statfsSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export { freePort } from './ports.ts';

const clockTicksPerSecond = 100;
const sharedMemory = '/dev/shm';
/** A member of etcd allocates 128 MiB before it is asked for anything. */
const sharedMemoryLeastBytes = 2 * 1024 ** 3;
const running = new Set<ChildProcess>();
const directories = new Set<string>();

/** Runs when the harness ends for any reason: nothing it started may survive it. */
function cleanUp(): void {
  for (const child of running) child.kill('SIGKILL');
  for (const path of directories) removeDirectory(path);
}
process.on('exit', cleanUp);
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => process.exit(130));

export type Exit = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

export type LaunchOptions = {
  /** Output of the process, standard output and error together, is appended here. */
  readonly logPath: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly workingDirectory?: string;
};

export class Launched {
  readonly pid: number;
  readonly logPath: string;
  readonly exited: Promise<Exit>;
  #exit: Exit | undefined;
  readonly #child: ChildProcess;

  constructor(command: string, commandArguments: readonly string[], options: LaunchOptions) {
    const output = openSync(options.logPath, 'a');
    const child = spawn(command, [...commandArguments], {
      cwd: options.workingDirectory,
      env: { ...process.env, ...options.environment },
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    running.add(child);
    this.#child = child;
    this.pid = child.pid ?? -1;
    this.logPath = options.logPath;
    this.exited = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        running.delete(child);
        this.#exit = { code, signal };
        resolve(this.#exit);
      });
    });
    this.exited.catch(() => undefined);
  }

  get exit(): Exit | undefined {
    return this.#exit;
  }

  /** Sends the signal and waits for the end of the process. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<Exit> {
    if (this.#exit === undefined) this.#child.kill(signal);
    return await this.exited;
  }

  log(): string {
    return readFileSync(this.logPath, 'utf8');
  }

  logTail(lines = 20): string {
    return this.log().trimEnd().split('\n').slice(-lines).join('\n');
  }
}

/** A new directory on the disk, removed when the harness ends. `SLOW_DIR` overrides where. */
export function temporaryDirectory(name: string): string {
  const base = process.env['SLOW_DIR'] ?? tmpdir();
  mkdirSync(base, { recursive: true });
  const path = mkdtempSync(join(base, `conclave-${name}-`));
  directories.add(path);
  return path;
}

/**
 * The same in memory, where the machine has room for that: for servers whose data need not outlive
 * them, and whose every write would otherwise wait for the disk.
 */
export function memoryDirectory(name: string): string {
  if (process.env['SLOW_DIR'] !== undefined || !hasSharedMemory()) return temporaryDirectory(name);
  const path = mkdtempSync(join(sharedMemory, `conclave-${name}-`));
  directories.add(path);
  return path;
}

function hasSharedMemory(): boolean {
  try {
    const { bavail, bsize } = statfsSync(sharedMemory);
    accessSync(sharedMemory, constants.W_OK);
    return bavail * bsize >= sharedMemoryLeastBytes;
  } catch {
    return false;
  }
}

/** Before the harness ends. `KEEP_DATA` keeps it. */
export function removeDirectory(path: string): void {
  directories.delete(path);
  if (process.env['KEEP_DATA'] !== undefined) return;
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {
    // A mounted or busy directory stays behind; the temporary folder is not worth failing for.
  }
}

export function commandExists(command: string): boolean {
  return (process.env['PATH'] ?? '').split(':').some((folder) => {
    try {
      closeSync(openSync(join(folder, command), 'r'));
      return true;
    } catch {
      return false;
    }
  });
}

export type MemoryUse = {
  readonly residentBytes: number;
  /** Heap and stacks: what the process really occupies. */
  readonly anonymousBytes: number;
  /** Mapped files: page cache the kernel takes back when it needs the memory. */
  readonly fileBytes: number;
};

export function memoryOf(pid: number): MemoryUse {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0) * 1024;
  return {
    residentBytes: field('VmRSS'),
    anonymousBytes: field('RssAnon'),
    fileBytes: field('RssFile') + field('RssShmem'),
  };
}

/** Processor seconds, user and system, that the process has used so far. */
export function processorSecondsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / clockTicksPerSecond;
}
