/** A private copy of the sources, in which one mutant at a time lives. */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Mutant } from './mutant.ts';
import type { TestReport, TestRequest } from './tester.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const copied = [
  'server',
  'sdk',
  'recipes',
  'test',
  'package.json',
  'package-lock.json',
  'tsconfig.json',
];

/** The code is not what the mutant was made for. */
export class MisfitError extends Error {}

export type Finished = { readonly exitCode: number; readonly output: string };

export class Workshop implements AsyncDisposable {
  readonly #directory: string;
  /** Files that its tester has not heard of. */
  readonly #changed = new Set<string>();
  #tester: Promise<ChildProcess> | undefined;

  private constructor(directory: string) {
    this.#directory = directory;
    process.once('exit', this.#removeNow);
  }

  static async open(): Promise<Workshop> {
    const directory = await mkdtemp(join(tmpdir(), 'conclave-mutants-'));
    for (const name of copied) {
      await cp(join(root, name), join(directory, name), { recursive: true });
    }
    await symlink(join(root, 'node_modules'), join(directory, 'node_modules'));
    return new Workshop(directory);
  }

  /**
   * Runs `use` while the mutant is in place.
   *
   * @throws MisfitError when a patch does not fit the code exactly once
   */
  async with<T>({ patches }: Pick<Mutant, 'patches'>, use: () => Promise<T>): Promise<T> {
    const originals = new Map<string, string>();
    try {
      for (const { file, find, replace } of patches) {
        const path = join(this.#directory, file);
        const text = await readFile(path, 'utf8');
        if (!originals.has(path)) originals.set(path, text);
        const parts = text.split(find);
        if (parts.length !== 2) {
          throw new MisfitError(
            `the text to replace occurs ${parts.length - 1} times in ${file}, not once: ${find}`,
          );
        }
        await this.#write(path, parts.join(replace));
      }
      return await use();
    } finally {
      for (const [path, text] of originals) await this.#write(path, text);
    }
  }

  /** Runs tests of the copy; undefined when they take longer than `limitMs`. */
  async test(
    files: readonly string[],
    names: string,
    limitMs: number,
  ): Promise<TestReport | undefined> {
    this.#tester ??= this.#startTester();
    const tester = await this.#tester;
    const request: TestRequest = { files, names, changed: [...this.#changed] };
    this.#changed.clear();
    return new Promise((resolve) => {
      const end = (report: TestReport | undefined): void => {
        clearTimeout(timer);
        tester.off('message', end).off('exit', died);
        resolve(report);
      };
      const died = (): void => {
        this.#tester = undefined;
        end(undefined);
      };
      const timer = setTimeout(() => endGroup(tester), limitMs);
      tester.on('message', end).on('exit', died);
      tester.send(request);
    });
  }

  #startTester(): Promise<ChildProcess> {
    const tester = fork('test/mutants/tester.ts', {
      cwd: this.#directory,
      execArgv: ['--import', 'tsx'],
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
      detached: true,
    });
    const stop = (): void => endGroup(tester);
    process.once('exit', stop);
    tester.once('exit', () => process.off('exit', stop));
    return new Promise((resolve, reject) => {
      tester.once('error', reject);
      tester.once('message', () => resolve(tester));
    });
  }

  async #write(path: string, text: string): Promise<void> {
    this.#changed.add(path);
    await writeFile(path, text);
  }

  /** Runs a program of the copy; a run that takes longer than `limitMs` is stopped and has failed. */
  run(args: readonly string[], limitMs: number): Promise<Finished> {
    return new Promise((resolve, reject) => {
      const child = spawn(process.execPath, args, {
        cwd: this.#directory,
        env: { ...process.env, NO_COLOR: '1' },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      });
      const stop = (): void => endGroup(child);
      process.once('exit', stop);
      let output = '';
      const collect = (chunk: Buffer): void => {
        output += chunk.toString();
      };
      child.stdout.on('data', collect);
      child.stderr.on('data', collect);
      const timer = setTimeout(() => {
        output += '\nstopped: it took too long';
        stop();
      }, limitMs);
      child.once('error', reject);
      child.once('close', (code) => {
        clearTimeout(timer);
        process.off('exit', stop);
        resolve({ exitCode: code ?? 1, output });
      });
    });
  }

  readonly #removeNow = (): void => rmSync(this.#directory, { recursive: true, force: true });

  async [Symbol.asyncDispose](): Promise<void> {
    process.off('exit', this.#removeNow);
    const tester = await this.#tester;
    if (tester !== undefined) endGroup(tester);
    await rm(this.#directory, { recursive: true, force: true });
  }
}

/** With what it has started. */
function endGroup({ pid }: ChildProcess): void {
  if (pid !== undefined) process.kill(-pid, 'SIGKILL');
}
