/** The command line as users run it: a process of its own, with its own stdout, stderr and exit code. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import { Readable } from 'node:stream';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { runCommandLine } from '../../recipes/cli/command-line.ts';
import { conclaveProgram } from '../support/servers.ts';

const source = fileURLToPath(new URL('../../recipes/cli/main.ts', import.meta.url));

export type CliOptions = {
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: string | Uint8Array;
  readonly directory?: string;
};

export type Finished = {
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
};

/** By its place: the command runs in directories from which its name would not be found. */
export const loader = pathToFileURL(createRequire(import.meta.url).resolve('tsx')).href;

/** CONCLAVE_TEST_BUILT=1 says that what is built is of these sources: it starts in half the time. */
const command: readonly string[] =
  process.env['CONCLAVE_TEST_BUILT'] === undefined
    ? ['--import', loader, source]
    : [conclaveProgram];

/** Variables of whoever runs the tests must not decide what the tests see. */
function environmentFor(extra: CliOptions['environment']): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(CONCLAVE|ETCD|ETCDCTL)_|^(NO_COLOR|FORCE_COLOR)$/.test(name),
  );
  return { ...Object.fromEntries(kept), ...extra };
}

export class RunningCli {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
  stdout = '';
  stderr = '';

  constructor(argv: readonly string[], options: CliOptions = {}) {
    const child = spawn(process.execPath, [...command, ...argv], {
      cwd: options.directory,
      env: environmentFor(options.environment),
      stdio: 'pipe',
    });
    this.child = child;
    child.stdout.setEncoding('latin1');
    child.stderr.setEncoding('utf8');
    child.stdout.on('data', (text: string) => {
      this.stdout += text;
    });
    child.stderr.on('data', (text: string) => {
      this.stderr += text;
    });
    child.stdin.on('error', () => undefined);
    child.stdin.end(options.input);
    this.finished = once(child, 'close').then(([exitCode, signal]) => ({
      exitCode: exitCode as number | null,
      signal: signal as NodeJS.Signals | null,
      stdout: Buffer.from(this.stdout, 'latin1').toString('utf8'),
      stderr: this.stderr,
    }));
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  kill(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

export const cli = (argv: readonly string[], options: CliOptions = {}): Promise<Finished> =>
  new RunningCli(argv, options).finished;

type Write = typeof process.stdout.write;

/**
 * The same, within this process: for the many verbs that need no process of their own. Not for
 * several at once.
 */
export async function cliInProcess(
  argv: readonly string[],
  options: CliOptions = {},
): Promise<Finished> {
  const output: Record<'stdout' | 'stderr', Buffer[]> = { stdout: [], stderr: [] };
  const { env, stdin } = process;
  const writes = { stdout: process.stdout.write, stderr: process.stderr.write };
  const capture =
    (name: 'stdout' | 'stderr'): Write =>
    (chunk: Uint8Array | string, ...rest: unknown[]) => {
      output[name].push(Buffer.from(chunk as string));
      const done = rest.find((argument) => typeof argument === 'function');
      if (done !== undefined) queueMicrotask(done as () => void);
      return true;
    };
  process.stdout.write = capture('stdout');
  process.stderr.write = capture('stderr');
  process.env = environmentFor(options.environment);
  const input = Readable.from(options.input === undefined ? [] : [Buffer.from(options.input)]);
  Object.defineProperty(process, 'stdin', { value: input, configurable: true });
  process.exitCode = undefined;
  try {
    const exitCode = await runCommandLine(argv);
    return {
      exitCode,
      signal: null,
      stdout: Buffer.concat(output.stdout).toString('utf8'),
      stderr: Buffer.concat(output.stderr).toString('utf8'),
    };
  } finally {
    process.stdout.write = writes.stdout;
    process.stderr.write = writes.stderr;
    process.env = env;
    Object.defineProperty(process, 'stdin', { value: stdin, configurable: true });
    process.exitCode = undefined;
  }
}
