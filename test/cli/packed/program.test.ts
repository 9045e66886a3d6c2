/** The program as `npm run build` packs it: only `npm test` builds it. */
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { conclaveProgram } from '../../support/servers.ts';
import { waitFor } from '../../support/wait.ts';
import { RunningCli } from '../cli.ts';

const isBuilt = process.env['CONCLAVE_TEST_BUILT'] !== undefined;
const folder = mkdtempSync(join(tmpdir(), 'conclave-packed-'));

afterAll(() => rmSync(folder, { recursive: true, force: true }));

test.runIf(isBuilt)('a server loads a few files, and none that it may never need', async () => {
  const teller = join(folder, 'teller.cjs');
  writeFileSync(
    teller,
    `process.on('exit', () => require('node:fs').writeSync(1, Object.keys(require.cache).join('\\n')));`,
  );
  const anywhere = 'http://127.0.0.1:0';
  const server = new RunningCli(
    [
      ...['serve', '--data-dir', join(folder, 'data')],
      ...['--listen-client-urls', anywhere, '--advertise-client-urls', anywhere],
    ],
    { environment: { NODE_OPTIONS: `--require ${teller}` } },
  );
  await waitFor('the server', () => server.stderr.includes('ready to serve clients') || undefined);
  server.kill('SIGTERM');
  const { exitCode, stdout } = await server.finished;
  expect(exitCode).toBe(0);
  const loaded = stdout.split('\n').filter((path) => path !== teller);
  const own = loaded.filter((path) => path.startsWith(dirname(conclaveProgram)));
  expect(own).toContain(conclaveProgram);
  expect(own.length).toBeLessThan(20);
  // Of libraries only the storage engine, which is native, and what that loads.
  const libraries = loaded.filter((path) => !own.includes(path)).map(libraryOf);
  expect(libraries).toContain('lmdb');
  expect(libraries).not.toContain('pino');
  expect(own.filter((path) => /exposition|grpc-js|dev-/.test(path))).toEqual([]);
});

test.runIf(isBuilt).each(['guard-process', 'keep-alive-worker'])(
  '%s, which is started by its file, is beside the chunks',
  (name) => {
    expect(existsSync(join(dirname(conclaveProgram), 'chunks', `${name}.js`))).toBe(true);
  },
);

const libraryOf = (path: string): string | undefined =>
  /.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1];
