import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readableLogLine } from '../../recipes/cli/dev/log-line.ts';
import { freePort } from '../support/process.ts';
import { cliInProcess, RunningCli } from './cli.ts';
import { eventually } from './run/harness.ts';

const isFree = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });

/** This one and the next. */
async function freePortPair(): Promise<number> {
  for (;;) {
    const port = await freePort();
    if (port < 65_535 && (await isFree(port + 1))) return port;
  }
}

test('a log line is a sentence with what it is about, and anything else stays as it is', () => {
  const line = '{"level":40,"time":1,"pid":2,"hostname":"h","name":"conclave","url":"u","msg":"m"}';
  expect(readableLogLine(line)).toBe('m (url u)');
  expect(readableLogLine('{"level":40,"msg":"m"}')).toBe('m');
  expect(readableLogLine('plain text')).toBe('plain text');
  expect(readableLogLine('null')).toBe('null');
});

test('the number of members is checked', async () => {
  const { exitCode, stderr } = await cliInProcess(['dev', '--members', '7']);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/'7' as --members.*from 1 to 6/);
});

test('ports that there are not are refused', async () => {
  const { exitCode, stderr } = await cliInProcess(['dev', '--members', '6', '--port', '15535']);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/15535 as --port: with 6 members at most 15534/);
});

test('a port in use is said, and which option helps', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'conclave-dev-'));
  const other = createServer();
  try {
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as AddressInfo;
    const argv = ['dev', '--members', '1', '--port', `${port}`, '--dir', directory];
    const { exitCode, stderr } = await new RunningCli(argv, { directory }).finished;
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/another program listens there/);
    expect(stderr).toContain('remedy: choose other ports with --port');
  } finally {
    other.close();
    rmSync(directory, { recursive: true, force: true });
  }
}, 60_000);

test('runs a cluster until it is told to stop, and leaves no process behind', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'conclave-dev-'));
  const port = await freePortPair();
  const argv = ['dev', '--members', '1', '--port', `${port}`, '--dir', directory];
  const dev = new RunningCli(argv, { directory });
  try {
    await eventually('the cluster', () => /ready; in another/.test(dev.stderr), 30_000);
    const endpoint = /CONCLAVE_ENDPOINTS=(\S+)/.exec(dev.stderr)?.[1] ?? '';
    expect(endpoint).toBe(`127.0.0.1:${port}`);
    const put = await cliInProcess(['kv', 'put', 'k', 'v', '--endpoints', endpoint]);
    expect(put.exitCode).toBe(0);
    dev.kill('SIGTERM');
    expect(await dev.finished).toMatchObject({ exitCode: 0, signal: null });
    const after = await cliInProcess(['kv', 'get', 'k', '--endpoints', endpoint]);
    expect(after.exitCode).toBe(5);
  } finally {
    dev.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  }
}, 60_000);
