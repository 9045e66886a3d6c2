/** The server as it is started by hand or by a service manager. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { freePort } from '../support/process.ts';
import { cliInProcess, RunningCli } from './cli.ts';
import { eventually } from './run/harness.ts';

let directory: string;
const running: RunningCli[] = [];

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'conclave-serve-'));
});
afterEach(async () => {
  for (const one of running) if (one.child.exitCode === null) one.kill('SIGKILL');
  await Promise.all(running.splice(0).map((one) => one.finished));
});
afterAll(() => rmSync(directory, { recursive: true }));

async function serve(flags: readonly string[]): Promise<{ server: RunningCli; endpoint: string }> {
  const endpoint = `127.0.0.1:${await freePort()}`;
  const server = new RunningCli(
    [
      'serve',
      ...['--listen-client-urls', `http://${endpoint}`],
      ...['--advertise-client-urls', `http://${endpoint}`],
      ...flags,
    ],
    { directory },
  );
  running.push(server);
  await eventually('the server', () => /ready to serve/.test(server.stderr), 25_000);
  return { server, endpoint };
}

test('says in one line on stderr that it is ready and where, keeps data, stops at TERM with 0', async () => {
  const first = await serve(['--name', 'a']);
  expect(first.server.stderr).toBe(
    `conclave a: ready to serve clients on ${first.endpoint} (data in a.conclave)\n`,
  );
  const put = ['kv', 'put', 'k', 'kept', '--endpoints', first.endpoint];
  expect((await cliInProcess(put)).exitCode).toBe(0);
  first.server.kill('SIGTERM');
  expect(await first.server.finished).toMatchObject({ exitCode: 0, signal: null, stdout: '' });

  const second = await serve(['--name', 'a', '--log-format', 'json', '--pre-vote']);
  const lines = second.server.stderr
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines).toMatchObject([
    { level: 40, msg: '--pre-vote is ignored: it is always on' },
    { level: 30, msg: 'ready to serve clients', endpoints: [second.endpoint] },
  ]);
  const get = ['kv', 'get', 'k', '-o', 'raw', '--endpoints', second.endpoint];
  expect((await cliInProcess(get)).stdout).toBe('kept');
  second.server.kill('SIGINT');
  expect((await second.server.finished).exitCode).toBe(0);
});

test.each<[readonly string[], RegExp, number]>([
  [['--data-dri', 'x'], /unknown flag "--data-dri": did you mean --data-dir\?/, 2],
  [['--heartbeat-interval', '0x10'], /"0x10" as --heartbeat-interval.*whole number from 1/, 2],
  [['--cert-file', 'x'], /--cert-file.*TLS is not supported yet/, 2],
  [
    ['--listen-peer-urls', 'https://127.0.0.1:1'],
    /--listen-peer-urls.*TLS is not supported yet/,
    2,
  ],
  [['--initial-cluster-state', 'old'], /"old" as --initial-cluster-state.*one of new, existing/, 2],
  [['--initial-cluster', 'a=http://localhost:2380'], /as --initial-cluster: .*"default"/, 2],
  [['--data-dir', '/dev/null/x'], /\/dev\/null/, 1],
])(
  '%j is refused with one line, and usage with where to look it up',
  async (flags, message, code) => {
    const { exitCode, stdout, stderr } = await cliInProcess(['serve', ...flags]);
    expect({ exitCode, stdout }).toEqual({ exitCode: code, stdout: '' });
    const [sentence, ...more] = stderr.trimEnd().split('\n');
    expect(sentence).toMatch(message);
    expect(more).toEqual(code === 2 ? ["  remedy: see 'conclave serve --help'"] : []);
  },
);

test('a port in use: one line with the flag, the value and what to do', async () => {
  const { endpoint } = await serve(['--name', 'first']);
  const url = `http://${endpoint}`;
  const data = join(directory, 'second');
  const own = ['--listen-client-urls', url, '--advertise-client-urls', url, '--data-dir', data];
  const { exitCode, stderr } = await cliInProcess(['serve', ...own]);
  expect(exitCode).toBe(1);
  expect(stderr).toBe(
    `error: cannot use '${url}' as --listen-client-urls: another program listens there: stop it or name another port (listen EADDRINUSE: address already in use ${endpoint})\n`,
  );
});

test('the help says what differs from etcd', async () => {
  const { exitCode, stdout } = await cliInProcess(['serve', '--help']);
  expect(exitCode).toBe(0);
  expect(stdout).toContain('compacted automatically by default, after one hour');
  expect(stdout).toContain('NAME.conclave by default');
  expect(stdout).toContain('--auto-compaction-retention');
});

test('verbs that only talk to a server do not load the storage engine', async () => {
  const module = fileURLToPath(new URL('../../recipes/cli/command-line.ts', import.meta.url));
  const loaded = async (argv: readonly string[]): Promise<boolean> => {
    const script = `
      const { runCommandLine } = await import(${JSON.stringify(module)});
      await runCommandLine(${JSON.stringify(argv)});
      const { readFileSync } = await import('node:fs');
      process.exit(readFileSync('/proc/self/maps', 'utf8').includes('lmdb') ? 1 : 0);`;
    const child = spawn(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '-e', script],
      { stdio: 'ignore' },
    );
    return (await new Promise((resolve) => child.once('exit', resolve))) === 1;
  };
  const nowhere = ['--endpoints', '127.0.0.1:1', '--timeout', '100ms'];
  expect(await loaded(['kv', 'get', 'k', ...nowhere])).toBe(false);
  expect(await loaded(['lock', 'x', ...nowhere, '--', 'true'])).toBe(false);
  // The same look does find it where it is.
  expect(await loaded(['kv', 'get', 'k', '--directory', join(directory, 'embedded')])).toBe(true);
});
