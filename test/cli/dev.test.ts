import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { readableLogLine } from '../../recipes/cli/dev/log-line.ts';
import { cliInProcess, RunningCli } from './cli.ts';
import { eventually } from './run/harness.ts';

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

test('runs a cluster until it is told to stop, and leaves no process behind', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'conclave-dev-'));
  const dev = new RunningCli(['dev', '--members', '1', '--dir', directory], { directory });
  try {
    await eventually(
      'the cluster, or a port that another program has',
      () => /ready; in another|--listen-client-urls/.test(dev.stderr),
      30_000,
    );
    if (/--listen-client-urls/.test(dev.stderr)) {
      // Something else has etcd's port on this machine: then that is what is said.
      expect(await dev.finished).toMatchObject({ exitCode: 1 });
      return;
    }
    const endpoint = /CONCLAVE_ENDPOINTS=(\S+)/.exec(dev.stderr)?.[1] ?? '';
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
