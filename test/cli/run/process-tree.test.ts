import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  loaderArguments,
  ProcessTree,
  systemShell,
} from '../../../recipes/cli/run/process-tree.ts';
import { eventually, isAlive, numbersIn } from './harness.ts';

// The Node guard runs from source here, with the options of this process.
process.execArgv = ['--import', 'tsx'];

let directory: string;
const wrappers: ChildProcess[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'conclave-tree-'));
});
afterEach(() => {
  for (const wrapper of wrappers.splice(0)) wrapper.kill('SIGKILL');
  rmSync(directory, { recursive: true });
});

const file = (name: string): string => join(directory, name);

/** A script whose own pid, child and grandchild are written to `pids`, none of which heeds TERM. */
const stubbornTree = (pids: string): [string, ...string[]] => [
  'sh',
  '-c',
  `trap '' TERM INT HUP
   echo $$ >> "$0"
   sh -c 'echo $$ >> "$0"; (sh -c "echo \\$\\$ >> $0; while :; do sleep 1; done") & wait' "$0" &
   while :; do sleep 1; done`,
  pids,
];

const startWrapper = (mode: string, command: readonly string[]): ChildProcess => {
  const wrapper = spawn(
    process.execPath,
    ['--import', 'tsx', new URL('./wrapper.ts', import.meta.url).pathname, mode, ...command],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  wrappers.push(wrapper);
  return wrapper;
};

describe.each([
  ['sh', systemShell],
  ['node', undefined],
] as const)('guarded by %s', (_name, shell) => {
  const run = (script: string, extra: { input?: Uint8Array } = {}): ProcessTree =>
    new ProcessTree({
      command: ['sh', '-c', script, file('out')],
      environment: process.env,
      foreground: false,
      shell,
      ...extra,
    });

  test('passes the exit code through', async () => {
    expect(await run('exit 0').ended).toEqual({ exitCode: 0, gone: true });
    expect(await run('exit 7').ended).toEqual({ exitCode: 7, gone: true });
  });

  test('reports death by a signal as 128 + n', async () => {
    expect((await run('kill -SEGV $$').ended).exitCode).toBe(128 + 11);
    const killed = run('echo 1 > "$0"; sleep 60');
    await eventually('the command to start', () => numbersIn(file('out'), 1));
    killed.signal('SIGKILL');
    expect(await killed.ended).toEqual({ exitCode: 128 + 9, gone: true });
  });

  test('hands the input to the command', async () => {
    await run('cat > "$0"', { input: Buffer.from('payload') }).ended;
    expect(readFileSync(file('out'), 'utf8')).toBe('payload');
  });

  test('survives a command that does not read its input', async () => {
    const tree = run('exit 5', { input: Buffer.alloc(4_000_000) });
    expect((await tree.ended).exitCode).toBe(5);
  });

  test('forwards signals to the whole group with their default meaning', async () => {
    const tree = run(
      `sh -c 'trap "echo 1 >> $0; exit 3" USR1; echo 0 >> "$0"; while :; do sleep 0.05; done' "$0" &
       trap 'wait; exit 9' USR1
       echo 0 >> "$0"; while :; do sleep 0.05; done`,
    );
    await eventually('both to start', () => numbersIn(file('out'), 2));
    tree.signal('SIGUSR1');
    expect((await tree.ended).exitCode).toBe(9);
    expect(numbersIn(file('out'), 3)).toEqual([0, 0, 1]);
  });

  test('does not leave SIGINT or SIGQUIT ignored in the command', async () => {
    const tree = run('echo 1 > "$0"; exec sleep 60');
    await eventually('the command to start', () => numbersIn(file('out'), 1));
    tree.signal('SIGINT');
    expect((await tree.ended).exitCode).toBe(128 + 2);
  });

  test('kills a tree that ignores TERM, down to the grandchildren', async () => {
    const tree = new ProcessTree({
      command: stubbornTree(file('pids')),
      environment: process.env,
      foreground: false,
      shell,
    });
    const pids = await eventually('three processes', () => numbersIn(file('pids'), 3));
    tree.signal('SIGTERM');
    tree.signal('SIGKILL');
    expect((await tree.ended).gone).toBe(true);
    expect(pids.filter(isAlive)).toEqual([]);
  });

  test('has nothing left running when the command ends before its children', async () => {
    const tree = run(
      `trap '' TERM; (sh -c 'echo $$ >> "$0"; sleep 60' "$0" &) ; sleep 60 & echo $! >> "$0"; exit 4`,
    );
    expect(await tree.ended).toEqual({ exitCode: 4, gone: true });
    const pids = numbersIn(file('out'), 1) ?? [];
    expect(pids.length).toBeGreaterThan(0);
    expect(pids.filter(isAlive)).toEqual([]);
  });
});

describe.each(['shell', 'no-shell'])('wrapper (%s)', (mode) => {
  test('killed by SIGKILL takes the whole tree with it', async () => {
    const wrapper = startWrapper(mode, stubbornTree(file('pids')));
    const pids = await eventually('three processes', () => numbersIn(file('pids'), 3));
    expect(pids.every(isAlive)).toBe(true);
    wrapper.kill('SIGKILL');
    await eventually('the tree to be gone', () => pids.every((pid) => !isAlive(pid)));
  });
});

describe('foreground', () => {
  test('wrapper killed by SIGKILL takes the command with it', async () => {
    const wrapper = startWrapper('foreground', [
      'sh',
      '-c',
      'echo $$ > "$0"; exec sleep 60',
      file('pids'),
    ]);
    const pids = await eventually('the command', () => numbersIn(file('pids'), 1));
    wrapper.kill('SIGKILL');
    await eventually('the command to be gone', () => pids.every((pid) => !isAlive(pid)));
  });

  test('a command may wait for all its children: the guard is not one', async () => {
    const tree = new ProcessTree({
      command: [
        process.execPath,
        '-e',
        `const { readFileSync } = require('node:fs');
         const own = readFileSync('/proc/self/task/' + process.pid + '/children', 'utf8').trim();
         process.exit(own === '' ? 0 : 1);`,
      ],
      environment: process.env,
      foreground: true,
    });
    expect((await tree.ended).exitCode).toBe(0);
  });

  test('signals reach the command alone', async () => {
    const tree = new ProcessTree({
      command: ['sh', '-c', 'echo $$ > "$0"; exec sleep 60', file('pids')],
      environment: process.env,
      foreground: true,
    });
    await eventually('the command', () => numbersIn(file('pids'), 1));
    tree.signal('SIGTERM');
    expect((await tree.ended).exitCode).toBe(128 + 15);
  });
});

test('the Node guard inherits how to read files, not what to run', () => {
  expect(
    loaderArguments([
      '--inspect',
      '--import',
      'tsx',
      '-e',
      'code',
      '--require=x',
      '--input-type=module',
    ]),
  ).toEqual(['--import', 'tsx', '--require=x']);
});
