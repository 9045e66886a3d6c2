/** Commands as leaders and as workers of a queue, against a real etcd. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type Client, connect } from '../../sdk/index.ts';
import { TestServer } from '../support/servers.ts';
import { waitFor } from '../support/wait.ts';
import { cliInProcess, RunningCli } from './cli.ts';
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
  directory = mkdtempSync(join(tmpdir(), 'conclave-work-'));
});
afterEach(async () => {
  for (const one of running) if (one.child.exitCode === null) one.kill('SIGKILL');
  await Promise.all(running.splice(0).map((one) => one.finished));
  rmSync(directory, { recursive: true });
});

const file = (name: string): string => join(directory, name);
const environment = () => ({ CONCLAVE_ENDPOINTS: etcd.endpoint });

function start(verb: string, options: readonly string[], script: string): RunningCli {
  const argv = [
    verb,
    ...options,
    '--ttl',
    '3s',
    '--grace',
    '1s',
    '--',
    'sh',
    '-c',
    script,
    directory,
  ];
  const started = new RunningCli(argv, { environment: environment() });
  running.push(started);
  return started;
}

const verb = async (argv: readonly string[]): Promise<Record<string, unknown>> => {
  const { stdout, stderr } = await cliInProcess([...argv, '-o', 'json'], {
    environment: environment(),
  });
  expect(stderr).toBe('');
  return JSON.parse(stdout) as Record<string, unknown>;
};

describe('elect', () => {
  const session = (name: string) =>
    waitFor(`a leader of ${name}`, async () => {
      const { kvs } = await client.kv.list({ prefix: `conclave/election/${name}/` });
      return kvs[0]?.lease;
    });

  test('passes the exit code and the term through, and resigns', async () => {
    const elected = start(
      'elect',
      ['once', '--once'],
      'echo $CONCLAVE_TERM $CONCLAVE_TOKEN; exit 3',
    );
    const { exitCode, stdout } = await elected.finished;
    expect(exitCode).toBe(3);
    const [term, token] = stdout.trim().split(' ');
    expect(Number(term)).toBeGreaterThan(0);
    expect(token).toBe(term);
    expect(await client.kv.count({ prefix: 'conclave/election/once/' })).toBe(0n);
  });

  test('starts the command again in each term, with a higher one', async () => {
    const elected = start(
      'elect',
      ['again'],
      // The pid is what is waited for: the term must be there by then.
      'echo $CONCLAVE_TERM >> $0/terms; echo $$ >> $0/pids; exec sleep 60',
    );
    const [first = 0] = await eventually('the first term', () => numbersIn(file('pids'), 1));
    await client.leases.revoke(await session('again'));
    const [, second = 0] = await eventually('the second term', () => numbersIn(file('pids'), 2));
    expect(isAlive(first)).toBe(false);
    const [firstTerm = 0, secondTerm = 0] = numbersIn(file('terms'), 2) ?? [];
    expect(secondTerm).toBeGreaterThan(firstTerm);
    elected.kill('SIGTERM');
    expect((await elected.finished).exitCode).toBe(128 + 15);
    expect(isAlive(second)).toBe(false);
  });

  test('--once ends with 123 when the leadership is lost', async () => {
    const elected = start('elect', ['lost', '--once'], 'echo $$ > $0/pid; exec sleep 60');
    await eventually('the command', () => numbersIn(file('pid'), 1));
    await client.leases.revoke(await session('lost'));
    expect((await elected.finished).exitCode).toBe(123);
  });
});

describe('work', () => {
  const push = async (queue: string, ...payloads: string[]): Promise<void> => {
    for (const payload of payloads) await verb(['queue', 'push', queue, payload]);
  };

  test('the exit code decides what becomes of a job', async () => {
    await push('codes', 'good', 'bad', 'later', 'fails');
    const script = `read payload
      echo "$payload $CONCLAVE_JOB_ATTEMPT/$CONCLAVE_JOB_MAX_ATTEMPTS $CONCLAVE_QUEUE"
      [ "$CONCLAVE_TOKEN" -gt 0 ] && [ -n "$CONCLAVE_JOB_ID" ] || exit 0
      case $payload in bad) exit 65;; later) exit 75;; fails) kill -SEGV $$;; esac`;
    const worker = start('work', ['codes', '--drain', '--max-attempts', '1'], script);
    const { exitCode, stdout } = await worker.finished;
    expect(exitCode).toBe(0);
    expect(stdout.trim().split('\n')).toEqual([
      'good 1/1 codes',
      'bad 1/1 codes',
      'later 1/1 codes',
      'fails 1/1 codes',
    ]);
    expect(await verb(['queue', 'stats', 'codes'])).toMatchObject({
      ...{ ready: 0, delayed: 1, active: 0, dead: 2 },
    });
    expect(await verb(['queue', 'dead', 'list', 'codes'])).toEqual({
      jobs: [
        expect.objectContaining({ payload: 'bad', attempts: 1, lastError: 'exit code 65' }),
        expect.objectContaining({ payload: 'fails', attempts: 1, lastError: 'exit code 139' }),
      ],
    });
    expect(await verb(['queue', 'dead', 'replay', 'codes', '--error', '139'])).toEqual({
      replayed: 1,
    });
    expect(await verb(['queue', 'dead', 'discard', 'codes', '--all', '--yes'])).toEqual({
      discarded: 1,
    });
    expect(await verb(['queue', 'peek', 'codes'])).toMatchObject({ jobs: [{ payload: 'fails' }] });
  });

  test('-o json tells of each job and of the end on stderr', async () => {
    const id = (await verb(['queue', 'push', 'told', 'x']))['id'];
    const worker = start('work', ['told', '--drain', '-o', 'json'], 'cat; exit 65');
    const { exitCode, stdout, stderr } = await worker.finished;
    expect({ exitCode, stdout }).toEqual({ exitCode: 0, stdout: 'x' });
    const lines = stderr.trimEnd().split('\n');
    expect(lines.map((line) => JSON.parse(line))).toMatchObject([
      { event: 'acquired', name: 'told', job: id, attempt: 1, token: expect.any(String) },
      { event: 'settling', job: id, attempt: 1, exitCode: 65, result: 'dead', delayMs: null },
      { event: 'finished', exitCode: 0, reason: 'drained' },
    ]);
  });

  test('runs so many at a time', async () => {
    await push('many', 'a', 'b');
    // Each waits for the other: one at a time would never end.
    const script =
      'read me; touch $0/$me; while ! { [ -e $0/a ] && [ -e $0/b ]; }; do sleep 0.02; done';
    const worker = start('work', ['many', '--drain', '--concurrency', '2'], script);
    expect((await worker.finished).exitCode).toBe(0);
    expect(await verb(['queue', 'stats', 'many'])).toMatchObject({ ready: 0, dead: 0 });
  });

  test('the claim is extended while the command runs', async () => {
    await push('long', 'x');
    const options = ['long', '--drain', '--visibility', '3s'];
    const first = start('work', options, 'echo $$ >> $0/pids; sleep 4.5; echo done');
    await eventually('the command', () => numbersIn(file('pids'), 1));
    const other = start('work', ['long', '--visibility', '3s'], 'echo $$ >> $0/pids');
    expect(await first.finished).toMatchObject({ exitCode: 0, stdout: 'done\n' });
    other.kill('SIGTERM');
    expect((await other.finished).exitCode).toBe(0);
    expect(numbersIn(file('pids'), 1)).toHaveLength(1);
  });

  test('TERM lets the running job finish and takes no other', async () => {
    await push('drain', 'a', 'b');
    const script =
      'read me; echo $me >> $0/order; echo 1 >> $0/started; sleep 1; echo finished $me';
    const worker = start('work', ['drain'], script);
    await eventually('the job', () => numbersIn(file('started'), 1));
    worker.kill('SIGTERM');
    expect(await worker.finished).toMatchObject({ exitCode: 0, stdout: 'finished a\n' });
    expect(readFileSync(file('order'), 'utf8')).toBe('a\n');
    expect(await verb(['queue', 'stats', 'drain'])).toMatchObject({ ready: 1, active: 0 });
  });

  test('a worker killed by SIGKILL takes the command with it; the job runs elsewhere', async () => {
    await push('crash', 'x');
    const script = 'trap "" TERM; echo $$ >> $0/pids; while [ ! -e $0/go ]; do sleep 0.05; done';
    const first = start('work', ['crash'], script);
    const [pid = 0] = await eventually('the command', () => numbersIn(file('pids'), 1));
    first.kill('SIGKILL');
    await eventually('the command to be gone', () => !isAlive(pid));
    const second = start(
      'work',
      ['crash'],
      'echo "attempt $CONCLAVE_JOB_ATTEMPT"; echo $$ >> $0/pids',
    );
    await eventually('the job to run again', () => numbersIn(file('pids'), 2));
    second.kill('SIGTERM');
    expect((await second.finished).stdout).toBe('attempt 2\n');
  });

  test('a claim lost to an operator kills the command', async () => {
    await push('taken', 'x');
    const worker = start(
      'work',
      ['taken'],
      'trap "" TERM; echo $$ >> $0/pids; while :; do sleep 0.05; done',
    );
    const [pid = 0] = await eventually('the command', () => numbersIn(file('pids'), 1));
    const { kvs } = await client.kv.list({ prefix: 'conclave/queue/taken/worker/' });
    await client.leases.revoke(kvs[0]?.lease ?? 0n);
    await eventually('the command to be gone', () => !isAlive(pid));
    // It may still be on its way through the pipe.
    await eventually('the news', () => /the claim on job .* is lost/.test(worker.stderr));
  });
});
