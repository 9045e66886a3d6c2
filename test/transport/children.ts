/** Starts `peer-child.ts` and talks to it by signals; its lines come back. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { waitFor } from '../support/wait.ts';

export class PeerChild {
  readonly lines: string[] = [];
  readonly #process: ChildProcess;
  readonly #ended: Promise<void>;

  constructor(args: readonly string[]) {
    const script = new URL('peer-child.ts', import.meta.url).pathname;
    const child = spawn(process.execPath, ['--import', 'tsx', script, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    this.#process = child;
    this.#ended = new Promise((resolve) => child.on('close', () => resolve()));
    createInterface({ input: child.stdout }).on('line', (line) => this.lines.push(line));
  }

  url(): Promise<string> {
    return waitFor('the child', () => this.lines.find((line) => line.startsWith('http')));
  }

  signal(name: NodeJS.Signals): void {
    this.#process.kill(name);
  }

  async end(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }
}
