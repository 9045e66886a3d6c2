/**
 * The package as a user gets it: packed, installed into an empty folder, its server started and its
 * command line used, its entries imported.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { exitCodes } from '../../../recipes/cli/exit-codes.ts';
import { freePort, Launched, temporaryDirectory } from '../../support/process.ts';
import { projectRoot } from '../../support/servers.ts';
import { waitFor, within } from '../../support/wait.ts';
import { Suite } from '../suite.ts';

const run = promisify(execFile);
const installTimeoutMs = 180_000;

const suite = new Suite('package');
const folder = temporaryDirectory('package');
const application = join(folder, 'application');
let server: Launched | undefined;
const port = await freePort();
const endpoint = `127.0.0.1:${port}`;

/** Runs the installed command line. */
async function conclave(...commandArguments: string[]): Promise<string> {
  const { stdout } = await run('npx', ['--no-install', 'conclave', ...commandArguments], {
    cwd: application,
    env: { ...process.env, CONCLAVE_ENDPOINTS: endpoint },
    timeout: 30_000,
  });
  return stdout.trimEnd();
}

/** Runs a program of the user's. */
async function program(name: string, source: string): Promise<string> {
  const path = join(application, name);
  writeFileSync(path, source);
  const { stdout } = await run(process.execPath, [path], { cwd: application, timeout: 30_000 });
  return stdout.trimEnd();
}

const installed = await suite.check('npm pack, and npm install in an empty folder', async () => {
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: projectRoot,
    timeout: installTimeoutMs,
    maxBuffer: 64 * 1024 * 1024,
  });
  // Scripts of the package may print before the list.
  const [packed] = JSON.parse(stdout.slice(stdout.lastIndexOf('\n[') + 1)) as {
    filename: string;
    files: { path: string }[];
  }[];
  assert.ok(packed !== undefined);
  const strangers = packed.files
    .map((file) => file.path)
    .filter((path) => /^(test|examples\/tour|\.ci)\/|^dist\/(test|examples)\//.test(path));
  assert.deepEqual(strangers, [], 'tests and the tour are not part of the package');
  const hasAllLicences = packed.files.some(({ path }) =>
    path.endsWith('/third-party-licences.txt'),
  );
  assert.ok(hasAllLicences, 'who passes libraries on passes their licences on');
  mkdirSync(application);
  writeFileSync(join(application, 'package.json'), '{ "private": true, "type": "module" }\n');
  await run(
    'npm',
    ['install', '--no-audit', '--no-fund', '--omit', 'dev', join(folder, packed.filename)],
    { cwd: application, timeout: installTimeoutMs },
  );
});

if (installed) {
  await suite.check('conclave serve', async () => {
    // What npx runs, but without npx in between: its wrapper would take the signals below.
    server = new Launched(
      join(application, 'node_modules/.bin/conclave'),
      [
        ...['serve', '--data-dir', join(folder, 'data')],
        ...['--listen-client-urls', `http://${endpoint}`],
        ...['--advertise-client-urls', `http://${endpoint}`],
      ],
      { logPath: join(folder, 'server.log'), workingDirectory: application },
    );
    await waitFor('the first answer', () => conclave('kv', 'get', 'nothing').catch(notFound), {
      timeoutMs: 30_000,
      intervalMs: 100,
    });
  });
  await suite.check('put, get and del on the command line', async () => {
    await conclave('kv', 'put', 'greeting', 'hello');
    assert.match(await conclave('kv', 'get', 'greeting'), /hello/);
    await conclave('kv', 'del', 'greeting');
    await assert.rejects(conclave('kv', 'get', 'greeting'));
  });
  await suite.check('a command under a lock, and a store without a server', async () => {
    assert.equal(await conclave('lock', 'deploy', '--', 'echo', 'alone'), 'alone');
    const embedded = ['--directory', join(folder, 'embedded')];
    await conclave('kv', 'put', 'here', 'there', ...embedded);
    assert.match(await conclave('kv', 'get', 'here', ...embedded), /there/);
  });
  await suite.check('the command line brings its modules with it', () => {
    const libraries = join(application, 'node_modules');
    assert.ok(existsSync(join(libraries, 'lmdb')));
    assert.ok(!existsSync(join(libraries, 'commander')));
    assert.ok(!existsSync(join(libraries, 'conclave/dist/recipes/cli')));
  });
  await suite.check('a program with the published entries', async () => {
    const output = await program(
      'client.js',
      `import { connect } from 'conclave';
       import { connect as connectSdk } from 'conclave/sdk';
       import { startMember } from 'conclave/server';
       if (typeof startMember !== 'function' || typeof connectSdk !== 'function') throw new Error('entries');
       const conclave = await connect('${endpoint}');
       await conclave.kv.put('from', 'a program');
       console.log(await conclave.kv.getString('from'));
       await conclave.close();`,
    );
    assert.equal(output, 'a program');
  });
  await suite.check('SIGTERM ends the server in good order', async () => {
    const exit = await within(
      (server as Launched).kill('SIGTERM'),
      15_000,
      'the end of the server',
    );
    assert.ok(exit.code === 0 || exit.signal === 'SIGTERM', JSON.stringify(exit));
  });
}
suite.finish();

/** "No such key" is an answer, too: the server is there. */
function notFound(error: unknown): string | undefined {
  return (error as { code?: unknown }).code === exitCodes.notFound ? 'not found' : undefined;
}
