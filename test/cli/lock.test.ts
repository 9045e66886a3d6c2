/** Commands under a lock, as processes of their own, against a real etcd. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Client, connect } from '../../sdk/index.ts';
import { TcpProxy } from '../support/proxy.ts';
import { TestServer } from '../support/servers.ts';
import { waitFor } from '../support/wait.ts';
import { RunningCli } from './cli.ts';
import { eventually, isAlive, numbersIn } from './run/harness.ts';

let etcd: TestServer;
let client: Client;
let directory: string;
const running: RunningCli[] = [];

beforeAll(async () => {
  etcd = await TestServer.start('etcd');
  client = await connect(etcd.endpoint);
});
afterAll(async () => {
  await client.close();
  await etcd.stop();
});
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'conclave-lock-'));
});
afterEach(async () => {
  for (const one of running) if (one.child.exitCode === null) one.kill('SIGKILL');
  await Promise.all(running.splice(0).map((one) => one.finished));
  rmSync(directory, { recursive: true });
});

const file = (name: string): string => join(directory, name);

function lock(
  name: string,
  options: readonly string[],
  command: readonly string[],
  endpoint = etcd.endpoint,
): RunningCli {
  const argv = ['lock', name, '--ttl', '3s', '--grace', '1s', ...options, '--', ...command];
  const started = new RunningCli(argv, { environment: { CONCLAVE_ENDPOINTS: endpoint } });
  running.push(started);
  return started;
}

/** Writes a line with the time in nanoseconds every few milliseconds, whatever signals say. */
const stubbornClock = (path: string): readonly string[] => [
  'sh',
  '-c',
  'trap "" TERM INT HUP; while :; do date +%s%N >> "$0"; sleep 0.02; done',
  path,
];

/** Writes its pid, then sleeps. */
const sleeper = (path: string): readonly string[] => [
  'sh',
  '-c',
  'echo $$ > "$0"; exec sleep 60',
  path,
];

/** The sessions in line for a lock, the holder first. */
async function lineOf(name: string): Promise<bigint[]> {
  const { kvs } = await client.kv.list({ prefix: `conclave/lock/${name}/` }, { order: 'create' });
  return kvs.map((kv) => kv.lease);
}

const lineReaches = (name: string, length: number) =>
  waitFor(`${length} in line for ${name}`, async () => {
    const line = await lineOf(name);
    return line.length === length ? line : undefined;
  });

test('passes streams, exit code and the facts about the lock through', async () => {
  const locked = lock(
    'facts',
    [],
    ['sh', '-c', 'cat; echo err >&2; env | grep -E "^(CONCLAVE|ETCD)_" | sort; exit 7'],
  );
  const { exitCode, stdout, stderr } = await locked.finished;
  expect(exitCode).toBe(7);
  expect(stderr).toBe('err\n');
  const facts = Object.fromEntries(
    stdout
      .trim()
      .split('\n')
      .map((line) => line.split('=')),
  );
  expect(facts).toEqual({
    CONCLAVE_ENDPOINTS: etcd.endpoint,
    CONCLAVE_KEY: expect.stringMatching(/^conclave\/lock\/facts\//),
    CONCLAVE_LOCK: 'facts',
    CONCLAVE_SESSION: expect.stringMatching(/^[0-9a-f]+$/),
    CONCLAVE_TOKEN: expect.stringMatching(/^\d+$/),
    ETCD_LOCK_KEY: facts['CONCLAVE_KEY'],
    ETCD_LOCK_REV: facts['CONCLAVE_TOKEN'],
  });
  expect(await lineOf('facts')).toEqual([]);
});

test('a command that cannot run fails before anything is locked', async () => {
  const missing = await lock('x', [], ['no-such-command'], '127.0.0.1:1').finished;
  expect(missing).toMatchObject({ exitCode: 127, stdout: '' });
  expect(missing.stderr).toContain("cannot find the command 'no-such-command'");
});

test('without a server it is the wrapper that failed: 125', async () => {
  const failed = lock('x', ['--timeout', '300ms'], ['true'], '127.0.0.1:1');
  expect((await failed.finished).exitCode).toBe(125);
});

const told = (stderr: string) =>
  stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

test('-o json tells the course on stderr and leaves stdout to the command', async () => {
  const { exitCode, stdout, stderr } = await lock(
    'told',
    ['-o', 'json'],
    [...['sh', '-c', 'echo mine; exit 7']],
  ).finished;
  expect({ exitCode, stdout }).toEqual({ exitCode: 7, stdout: 'mine\n' });
  expect(told(stderr)).toEqual([
    {
      event: 'acquired',
      name: 'told',
      token: expect.stringMatching(/^\d+$/),
      key: expect.stringMatching(/^conclave\/lock\/told\//),
      session: expect.stringMatching(/^[0-9a-f]+$/),
    },
    { event: 'finished', exitCode: 7, reason: 'command-ended' },
  ]);
});

test('-o json tells of a loss, and of an error before its verdict', async () => {
  const held = lock('deprived', ['-o', 'json'], sleeper(file('pid')));
  await eventually('the command', () => numbersIn(file('pid'), 1));
  const [lease] = await lineOf('deprived');
  await client.leases.revoke(lease ?? 0n);
  const lost = await held.finished;
  expect(lost.exitCode).toBe(123);
  expect(told(lost.stderr)).toMatchObject([
    { event: 'acquired' },
    { event: 'lost', what: "the lock 'deprived'", certain: true, onLost: 'term' },
    { event: 'finished', exitCode: 123, reason: 'lost' },
  ]);
  const failed = await lock('x', ['-o', 'json', '--timeout', '200ms'], ['true'], '127.0.0.1:1')
    .finished;
  expect(failed.exitCode).toBe(125);
  expect(told(failed.stderr)).toMatchObject([
    { error: { code: 'UNREACHABLE', message: expect.any(String), remedy: expect.any(String) } },
    { event: 'finished', exitCode: 125, reason: 'error' },
  ]);
});

test('the default of --grace fits a short --ttl', async () => {
  const argv = ['lock', 'short', '--ttl', '5s', '--', 'true'];
  const started = new RunningCli(argv, { environment: { CONCLAVE_ENDPOINTS: etcd.endpoint } });
  running.push(started);
  expect(await started.finished).toMatchObject({ exitCode: 0, stderr: '' });
});

test('-c runs a text in a shell', async () => {
  const shell = new RunningCli(['lock', 'shell', '-c', 'echo $((1+1)); kill -TERM $$'], {
    environment: { CONCLAVE_ENDPOINTS: etcd.endpoint },
  });
  running.push(shell);
  expect(await shell.finished).toMatchObject({ exitCode: 128 + 15, stdout: '2\n' });
});

describe('while another holds it', () => {
  let holder: RunningCli;
  let holderPid: number;

  const hold = async (name: string): Promise<void> => {
    holder = lock(name, [], sleeper(file('holder')));
    [holderPid = 0] = await eventually('the holder', () => numbersIn(file('holder'), 1));
  };

  test('--wait ends in 124 or the code given by -E, and leaves the line', async () => {
    await hold('busy');
    const [late, never] = await Promise.all([
      lock('busy', ['--wait', '200ms'], ['true']).finished,
      lock('busy', ['--wait', '0s', '-E', '42'], ['true']).finished,
    ]);
    expect(late.exitCode).toBe(124);
    expect(late.stderr).toContain('code: NOT_ACQUIRED');
    expect(never.exitCode).toBe(42);
    await lineReaches('busy', 1);
  });

  test('a signal ends the waiting and leaves the line', async () => {
    await hold('patient');
    const waiting = lock('patient', [], ['true']);
    await lineReaches('patient', 2);
    waiting.kill('SIGTERM');
    expect((await waiting.finished).exitCode).toBe(128 + 15);
    await lineReaches('patient', 1);
  });

  test('signals reach the command; what it makes of them is passed through', async () => {
    const trapping = lock(
      'signals',
      [],
      ['sh', '-c', 'trap "exit 9" TERM; echo $$ > "$0"; while :; do sleep 0.05; done', file('pid')],
    );
    await eventually('the command', () => numbersIn(file('pid'), 1));
    trapping.kill('SIGTERM');
    expect((await trapping.finished).exitCode).toBe(9);
  });

  test('a session revoked from outside kills the command and lets the next in', async () => {
    await hold('revoked');
    const next = lock('revoked', [], ['true']);
    const [session = 0n] = await lineReaches('revoked', 2);
    await client.leases.revoke(session);
    expect((await holder.finished).exitCode).toBe(123);
    expect(isAlive(holderPid)).toBe(false);
    expect(holder.stderr).toContain("the lock 'revoked' is lost; stopping the command");
    expect((await next.finished).exitCode).toBe(0);
  });

  test('a wrapper killed by SIGKILL takes the command with it at once', async () => {
    await hold('killed');
    holder.kill('SIGKILL');
    await eventually('the command to be gone', () => !isAlive(holderPid));
    expect(await lineOf('killed')).toHaveLength(1);
  });
});

describe('cut off from the store', () => {
  const cutOff = async (options: readonly string[], command: readonly string[], ready: string) => {
    const proxy = await TcpProxy.to(etcd.endpoint);
    const first = lock('cut', options, command, proxy.endpoint);
    await eventually('the first command', () => numbersIn(ready, 1));
    return { proxy, first };
  };

  test('the tree is gone before the next holder starts, though it ignores TERM', async () => {
    const { proxy, first } = await cutOff([], stubbornClock(file('first')), file('first'));
    const second = lock('cut', [], ['sh', '-c', 'date +%s%N > "$0"', file('second')]);
    await lineReaches('cut', 2);
    proxy.stall();
    expect((await second.finished).exitCode).toBe(0);
    expect((await first.finished).exitCode).toBe(123);
    await proxy[Symbol.asyncDispose]();
    const last = numbersIn(file('first'), 1)?.at(-1) ?? Number.POSITIVE_INFINITY;
    const [next = 0] = numbersIn(file('second'), 1) ?? [];
    expect(last).toBeLessThan(next);
  });

  test('TERM comes first, so that the command can end in order', async () => {
    const orderly =
      'trap "echo orderly > $0.end; exit 0" TERM; echo 1 > "$0"; while :; do sleep 0.05; done';
    const { proxy, first } = await cutOff([], ['sh', '-c', orderly, file('first')], file('first'));
    proxy.stall();
    expect((await first.finished).exitCode).toBe(123);
    await proxy[Symbol.asyncDispose]();
    expect(readFileSync(file('first.end'), 'utf8')).toBe('orderly\n');
  });

  test('--on-lost notify sends USR1 and lets the command go on', async () => {
    const noted =
      'trap "echo noted > $0.end; exit 0" USR1; echo 1 > "$0"; while :; do sleep 0.05; done';
    const { proxy, first } = await cutOff(
      ['--on-lost', 'notify'],
      ['sh', '-c', noted, file('first')],
      file('first'),
    );
    proxy.stall();
    expect((await first.finished).exitCode).toBe(123);
    await proxy[Symbol.asyncDispose]();
    expect(readFileSync(file('first.end'), 'utf8')).toBe('noted\n');
  });
});

test('a command that leaves children running is over when they are', async () => {
  const leaving = lock(
    'leaving',
    [],
    ['sh', '-c', 'sleep 60 & echo $! > "$0"; exit 0', file('child')],
  );
  expect((await leaving.finished).exitCode).toBe(0);
  const [child = 0] = numbersIn(file('child'), 1) ?? [];
  expect(child).toBeGreaterThan(0);
  expect(isAlive(child)).toBe(false);
});
