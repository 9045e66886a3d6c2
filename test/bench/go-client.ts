/** etcd's own Go client: built from go/main.go when it is first needed, with the libraries of Debian's packages. */
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { commandExists } from '../support/process.ts';
import { projectRoot } from '../support/servers.ts';
import { type LoopMeasurement, settleMs, type Times, warmUpMs } from './measure.ts';

const run = promisify(execFile);
const source = join(projectRoot, 'test/bench/go/main.go');
const program = join(projectRoot, 'dist/test/bench/go/load');
const libraries = '/usr/share/gocode';
const buildTimeoutMs = 600_000;
const runOverheadMs = 30_000;

let built: Promise<void> | undefined;

/** To be called before anything is measured. A failure is told by whoever needs the client. */
export async function prepareGoClient(): Promise<void> {
  built ??= build();
  await built.catch(() => undefined);
}

/** Why the Go client cannot be used here; undefined when it can. */
export function missingGoClient(): string | undefined {
  if (!commandExists('go')) return 'go is not installed (apt-get install golang)';
  if (!existsSync(join(libraries, 'src/go.etcd.io/etcd/clientv3')))
    return "etcd's Go client is not installed (apt-get install golang-etcd-server-dev)";
  return undefined;
}

const isBuilt = (): boolean =>
  existsSync(program) && statSync(program).mtimeMs > statSync(source).mtimeMs;

async function build(): Promise<void> {
  if (isBuilt()) return;
  console.log('building the Go client, once: it takes minutes');
  mkdirSync(dirname(program), { recursive: true });
  await run('go', ['build', '-o', program, source], {
    // Debian's libraries lie in the form from before modules.
    env: { ...process.env, GO111MODULE: 'off', GOPATH: libraries, GOFLAGS: '' },
    timeout: buildTimeoutMs,
  });
}

export async function runGoClient(
  endpoints: string,
  operation: 'put' | 'get',
  callers: number,
  { durationMs, isQuick }: Times,
): Promise<LoopMeasurement> {
  built ??= build();
  await built;
  const { stdout } = await run(
    program,
    [
      ...['-endpoints', endpoints, '-operation', operation, '-callers', `${callers}`],
      ...['-settle', `${settleMs}ms`, '-duration', `${durationMs}ms`],
      ...(isQuick ? [] : ['-warm-up', `${warmUpMs}ms`]),
    ],
    { timeout: warmUpMs + 2 * durationMs + runOverheadMs },
  );
  return JSON.parse(stdout) as LoopMeasurement;
}
