/** Child processes of this suite: the same runtime as the parent's, and none that survives it. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** Runs a module beside this one, from the sources or from `dist`, with an IPC channel. */
export function startChild(module: string, settings: Readonly<Record<string, unknown>>): Child {
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const path = fileURLToPath(new URL(`./${module}.${extension}`, import.meta.url));
  const process = fork(path, [JSON.stringify(settings)], {
    execArgv: extension === 'ts' ? ['--import', 'tsx'] : [],
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  return new Child(process);
}

export class Child {
  readonly process: ChildProcess;
  readonly exited: Promise<void>;
  #ended = false;

  constructor(process: ChildProcess) {
    this.process = process;
    running.add(process);
    this.exited = new Promise((resolve) => {
      process.once('exit', () => {
        this.#ended = true;
        running.delete(process);
        resolve();
      });
    });
  }

  get isRunning(): boolean {
    return !this.#ended;
  }

  /** Resolves when it says that it is at work, or has ended. */
  atWork(): Promise<void> {
    const said = new Promise<void>((resolve) => {
      this.process.once('message', () => resolve());
    });
    return Promise.race([said, this.exited]);
  }

  kill(): Promise<void> {
    this.process.kill('SIGKILL');
    return this.exited;
  }

  /** Stands still for so long, as a process does whose machine is out of breath. */
  async freeze(ms: number): Promise<void> {
    this.process.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, ms));
    if (this.isRunning) this.process.kill('SIGCONT');
  }
}

/** What the parent gave to this child. */
export const childSettings = <Settings>(): Settings => JSON.parse(process.argv[2] ?? '{}');
