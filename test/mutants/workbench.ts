/** A private copy of the tree, in which one mutant at a time lives. */
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Mutant } from './mutant.ts';

const COPIED = [
  'server',
  'sdk',
  'recipes',
  'test/sim',
  'test/storage',
  'package.json',
  'tsconfig.json',
];

export type Verdict =
  | {
      readonly killed: true;
      readonly seeds: number;
      readonly invariant: number;
      readonly detail: string;
    }
  | { readonly killed: false; readonly seeds: number };

export class Workbench implements Disposable {
  readonly #directory: string;

  /** @param commit what to copy; the working tree when undefined */
  constructor(root: string, commit: string | undefined) {
    this.#directory = mkdtempSync(join(tmpdir(), 'mutants-'));
    if (commit === undefined) {
      for (const path of COPIED) {
        cpSync(join(root, path), join(this.#directory, path), { recursive: true });
      }
    } else {
      const archive = execFileSync('git', ['archive', commit, ...COPIED], {
        cwd: root,
        maxBuffer: 256 * 1024 * 1024,
      });
      execFileSync('tar', ['-x'], { cwd: this.#directory, input: archive });
    }
    symlinkSync(join(root, 'node_modules'), join(this.#directory, 'node_modules'));
  }

  [Symbol.dispose](): void {
    rmSync(this.#directory, { recursive: true });
  }

  /** @throws Error when the patch does not apply exactly once */
  async try(mutant: Mutant, seeds: number, from: number): Promise<Verdict> {
    const path = join(this.#directory, mutant.file);
    const original = readFileSync(path, 'utf8');
    const parts = original.split(mutant.find);
    if (parts.length !== 2) {
      throw new Error(
        `mutant ${mutant.number} (${mutant.name}) must apply once: its text occurs ${parts.length - 1} times in ${mutant.file}`,
      );
    }
    writeFileSync(path, parts.join(mutant.replace));
    try {
      return verdictOf(await this.#simulate(mutant, seeds, from), seeds, from);
    } finally {
      writeFileSync(path, original);
    }
  }

  #simulate(mutant: Mutant, seeds: number, from: number): Promise<string> {
    const options = [
      '--layer',
      mutant.layer,
      '--seeds',
      `${seeds}`,
      '--from',
      `${from}`,
      '--no-shrink',
    ];
    const child = spawn(process.execPath, ['--import', 'tsx', 'test/sim/main.ts', ...options], {
      cwd: this.#directory,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout.on('data', (data: Buffer) => {
      output += data.toString();
    });
    child.stderr.on('data', (data: Buffer) => {
      output += data.toString();
    });
    return new Promise((resolve, reject) => {
      child.on('error', reject);
      child.on('close', () => resolve(output));
    });
  }
}

function verdictOf(output: string, seeds: number, from: number): Verdict {
  const broken = /seed (\d+) breaks invariant (\d+) \([^)]*\): (.*)/.exec(output);
  if (broken !== null) {
    const [, seed = '', invariant = '', detail = ''] = broken;
    const count = Number(seed) - from + 1;
    return { killed: true, seeds: count, invariant: Number(invariant), detail };
  }
  if (!output.includes('seeds a minute')) throw new Error(`the simulator failed: ${output}`);
  return { killed: false, seeds };
}
