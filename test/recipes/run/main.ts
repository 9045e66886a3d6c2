/**
 * All tests of the recipes against a store of choice:
 *
 *   npm run test:recipes -- --store conclave|etcd --members 1|3 [what else vitest takes]
 *
 * What else vitest takes: parts of file names, `-t` with part of a test's name, and so on. No two
 * files run on one store at the same time: see `shared-stores.ts`. The last line is
 * `N passed, M failed`.
 */
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { commandExists, temporaryDirectory } from '../../support/process.ts';
import { projectRoot } from '../../support/servers.ts';
import { chooseRun } from './arguments.ts';
import { count, type Report } from './count.ts';

const choice = chooseRun(process.argv.slice(2));
if (typeof choice === 'string') {
  console.error(choice);
  process.exit(2);
}
if (choice.store === 'etcd' && !commandExists('etcd')) {
  console.error('etcd is not installed (Debian: apt-get install etcd-server)');
  finish(0, 1);
}

const reportFile = join(temporaryDirectory('report'), 'report.json');
const vitest = spawn(
  process.execPath,
  [
    join(projectRoot, 'node_modules/vitest/vitest.mjs'),
    ...['run', '--config', join(projectRoot, 'test/recipes/run/vitest.config.ts')],
    ...['--reporter', 'default', '--reporter', 'json', `--outputFile.json=${reportFile}`],
    ...choice.rest,
  ],
  {
    cwd: projectRoot,
    stdio: 'inherit',
    env: {
      ...process.env,
      CONCLAVE_TEST_STORE: choice.store,
      CONCLAVE_TEST_MEMBERS: choice.members,
    },
  },
);
const exitCode = await new Promise<number>((resolve) => {
  vitest.once('exit', (code) => resolve(code ?? 1));
});
const report: Report | undefined = await readFile(reportFile, 'utf8').then(
  JSON.parse,
  () => undefined,
);
const { passed, failed, skipped } = count(report, exitCode);
if (skipped > 0)
  console.log(`${skipped} skipped: they need something that this store does not have`);
finish(passed, failed);

function finish(passed: number, failed: number): never {
  console.log(`${passed} passed, ${failed} failed`);
  process.exit(failed === 0 ? 0 : 1);
}
