/** Runs a TypeScript file as a process of its own, optionally under strace, and reads its lines. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export class Child {
  readonly lines: string[] = [];
  readonly #process: ChildProcess;
  readonly #ended: Promise<NodeJS.Signals | number | null>;
  #wake = (): void => {};

  constructor(process: ChildProcess) {
    this.#process = process;
    this.#ended = new Promise((resolve) => {
      process.on('close', (code, signal) => {
        resolve(signal ?? code);
        this.#wake();
      });
    });
    if (process.stdout === null) throw new Error('the output of the child is piped');
    createInterface({ input: process.stdout }).on('line', (line) => {
      this.lines.push(line);
      this.#wake();
    });
  }

  /** Resolves once the child has printed `count` lines, or rejects when it ends before. */
  async printed(count: number): Promise<void> {
    while (this.lines.length < count) {
      const more = new Promise<undefined>((resolve) => {
        this.#wake = () => resolve(undefined);
      });
      const ended = await Promise.race([more, this.#ended]);
      if (ended !== undefined && this.lines.length < count) {
        throw new Error(`the child ended (${ended}) after: ${this.lines.join(' | ')}`);
      }
    }
  }

  /** Kills it as a power switch would, and waits for its end. */
  async kill(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }

  ended(): Promise<NodeJS.Signals | number | null> {
    return this.#ended;
  }
}

/**
 * `file` is relative to this one. `strace`: its arguments, when the child is to run under it.
 * `threads`: of its pool; one makes the count of calls exact.
 */
export function startChild(
  file: string,
  args: readonly string[],
  {
    strace = [],
    threads = 1,
  }: { readonly strace?: readonly string[]; readonly threads?: number } = {},
): Child {
  const script = new URL(file, import.meta.url).pathname;
  const command = [process.execPath, '--import', 'tsx', script, ...args];
  const [program = '', ...rest] =
    strace.length === 0 ? command : ['strace', '-f', '-qq', ...strace, ...command];
  const child = spawn(program, rest, {
    stdio: ['ignore', 'pipe', 'ignore'],
    // Rings of calls would pass strace by.
    env: { ...process.env, UV_THREADPOOL_SIZE: String(threads), UV_USE_IO_URING: '0' },
  });
  return new Child(child);
}

export const hasStrace = ((): boolean => {
  try {
    execFileSync('strace', ['-e', 'trace=none', 'true'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();
