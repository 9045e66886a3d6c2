import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { keepCompiledCode, useCodeCache } from '../../../recipes/cli/packed/code-cache.ts';

const require = createRequire(import.meta.url);
const root = realpathSync(mkdtempSync(join(tmpdir(), 'conclave-code-cache-')));
const compiled = (): string => join(program, 'compiled');
let count = 0;
let program = '';

afterAll(() => rmSync(root, { recursive: true, force: true }));

beforeEach(() => {
  count += 1;
  program = join(root, `program-${count}`);
  mkdirSync(join(program, 'chunks'), { recursive: true });
  useCodeCache(join(program, 'chunks'));
});

/** V8 knows a source by its length: of two as long as each other it runs the one whose code was kept. */
const source = (word: 'one' | 'two' | 'six'): string =>
  `exports.word = () => '${word}'; exports.told = exports.word();`;

const write = (content: string): void => {
  writeFileSync(join(program, 'chunks/chunk.js'), content);
};

/** As a new process would. */
function load(): { readonly told: string } {
  const path = join(program, 'chunks/chunk.js');
  delete require.cache[path];
  return require(path);
}

function keptFile(): string {
  const [platform = ''] = readdirSync(compiled());
  expect(readdirSync(join(compiled(), platform))).toEqual(['chunk.js.bin']);
  return join(compiled(), platform, 'chunk.js.bin');
}

test('what was kept is run, and not compiled again', async () => {
  write(source('one'));
  expect(load().told).toBe('one');
  await keepCompiledCode();
  write(source('two'));
  expect(load().told).toBe('one');
  const kept = readFileSync(keptFile());
  await keepCompiledCode();
  expect(readFileSync(keptFile()).equals(kept)).toBe(true);
});

test.each([
  ['of another length', 'chunk'],
  ['with nothing in it', ''],
])('kept code %s is not run, and replaced', async (_name, content) => {
  write(source('one'));
  load();
  await keepCompiledCode();
  writeFileSync(keptFile(), content);
  write(source('two'));
  expect(load().told).toBe('two');
  await keepCompiledCode();
  write(source('six'));
  expect(load().told).toBe('two');
});

test('code of a source of another length is not run', async () => {
  write(source('one'));
  load();
  await keepCompiledCode();
  write(`${source('two')} // longer`);
  expect(load().told).toBe('two');
});

test('code of another version of Node is not looked at', async () => {
  write(source('one'));
  load();
  await keepCompiledCode();
  expect(keptFile()).toContain(`/${process.version}-`);
});

test('where nothing can be kept the program runs as it would without', async () => {
  writeFileSync(compiled(), 'a file in the way');
  write(source('one'));
  expect(load().told).toBe('one');
  await keepCompiledCode();
  write(source('two'));
  expect(load().told).toBe('two');
});

test('a module has what every CommonJS module has', () => {
  writeFileSync(join(program, 'chunks/other.js'), 'exports.value = 1;');
  write(`exports.seen = [require('./other.js').value, __filename, __dirname, this === exports];
    exports.isMine = module.exports === exports && require.resolve('./other.js').endsWith('other.js');`);
  const folder = join(program, 'chunks');
  expect(load()).toEqual({ seen: [1, join(folder, 'chunk.js'), folder, true], isMine: true });
});
