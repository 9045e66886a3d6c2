import { execFile } from 'node:child_process';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';

const run = promisify(execFile);
const examples = new URL('../../examples/', import.meta.url);
const built = new URL('../../dist/examples/', import.meta.url);
const names = (await readdir(examples)).filter((name) => /^\d\d-.*\.ts$/.test(name)).sort();

/** Something that the example prints only when it did what it shows. */
const proofs: Readonly<Record<string, RegExp>> = {
  '01-lock.ts': /still the holder: true/,
  '02-election.ts': /elected in term \d+\n(.*\n)*nobody leads/,
  '03-queue.ts': /the same key is one job: true\n(.*\n)*dead after 2 attempts/,
  '04-discovery.ts': /call 10\.0\.0\.7:8080 in eu-1\n(.*\n)*gone again/,
  '05-kv.ts': /changed: true\n(.*\n)*put examples\/config two/,
};

let directory: string;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'examples-'));
});
afterAll(() => rm(directory, { recursive: true, force: true }));

test.each(names)('%s runs by itself and shows what it says', async (name) => {
  const file = new URL(name.replace(/\.ts$/, '.js'), built).pathname;
  const { stdout } = await run(process.execPath, [file], {
    env: { ...process.env, CONCLAVE_EXAMPLE: join(directory, name) },
  });
  expect(stdout).toMatch(proofs[name] ?? /this example has no proof/);
});

test.each(names)('%s is short enough to read at a glance', async (name) => {
  const text = await readFile(new URL(name, examples), 'utf8');
  expect(text.split('\n').length).toBeLessThanOrEqual(60);
});
