import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { access, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Script } from 'node:vm';
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest';
import { keepCompiledCode, useCodeCache } from '../../../recipes/cli/packed/code-cache.ts';
import { seal, unseal } from '../../../recipes/cli/packed/kept-code.ts';

vi.mock('node:fs/promises', { spy: true });

const require = createRequire(import.meta.url);
const root = realpathSync(mkdtempSync(join(tmpdir(), 'conclave-code-cache-')));
const compiled = (): string => join(program, 'compiled');
let count = 0;
let program = '';

afterAll(() => rmSync(root, { recursive: true, force: true }));

afterEach(async () => {
  vi.restoreAllMocks();
  // What a test has only loaded is not for the next one to keep.
  await keepCompiledCode();
});

beforeEach(() => {
  count += 1;
  program = join(root, `program-${count}`);
  mkdirSync(join(program, 'chunks'), { recursive: true });
  useCodeCache(join(program, 'chunks'));
});

const source = (word: 'one' | 'two'): string =>
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

/** Leaves what a start with the source leaves; returns the bytes. */
async function keep(word: 'one' | 'two'): Promise<Buffer> {
  write(source(word));
  expect(load().told).toBe(word);
  await keepCompiledCode();
  return readFileSync(keptFile());
}

/**
 * The code of one source, kept as if of the other. V8 knows a source by its length, and these are as long
 * as each other: what is told shows which was run.
 */
async function keepOneAsTwo(): Promise<Buffer> {
  const code = unseal(await keep('one'), Buffer.from(source('one')));
  const forged = seal(code ?? Buffer.of(), Buffer.from(source('two')));
  writeFileSync(keptFile(), forged);
  write(source('two'));
  return forged;
}

test('what was kept is run, and not written again', async () => {
  const forged = await keepOneAsTwo();
  expect(load().told).toBe('one');
  await keepCompiledCode();
  expect(readFileSync(keptFile()).equals(forged)).toBe(true);
});

test('code of another source as long is not run, and replaced', async () => {
  await keep('one');
  await keep('two');
  expect(unseal(readFileSync(keptFile()), Buffer.from(source('two')))).toBeDefined();
});

const zeroed = (file: Buffer, start: number, end?: number): Buffer => {
  const damaged = Buffer.from(file);
  damaged.fill(0, start, end);
  return damaged;
};

test.each<[string, (file: Buffer) => Buffer]>([
  ['with nothing in it', () => Buffer.of()],
  ['with something else in it', () => Buffer.from('something else, longer than a header')],
  ['without its second half', (file) => file.subarray(0, file.length / 2)],
  ['with zeros as its second half', (file) => zeroed(file, file.length / 2)],
  ['with zeros instead of its header', (file) => zeroed(file, 0, 16)],
  ['with another form', (file) => zeroed(file, 7, 8)],
  ['with another length', (file) => zeroed(file, 8, 12)],
  ['with one more byte', (file) => Buffer.concat([file, Buffer.of(0)])],
])('kept code %s is not run, and replaced', async (_name, damage) => {
  const forged = await keepOneAsTwo();
  writeFileSync(keptFile(), damage(forged));
  expect(load().told).toBe('two');
  await keepCompiledCode();
  expect(unseal(readFileSync(keptFile()), Buffer.from(source('two')))).toBeDefined();
});

test('no byte of kept code may differ', async () => {
  const file = await keep('one');
  for (let index = 0; index < file.length; index += 1) {
    const damaged = Buffer.from(file);
    damaged.writeUInt8(damaged.readUInt8(index) ^ 1, index);
    expect(unseal(damaged, Buffer.from(source('one'))), `byte ${index}`).toBeUndefined();
  }
});

test('code that was kept by another version of Node is not looked at', async () => {
  const forged = await keepOneAsTwo();
  const other = dirname(keptFile()).replace(process.version, 'v20.0.0');
  rmSync(keptFile());
  mkdirSync(other);
  writeFileSync(join(other, 'chunk.js.bin'), forged);
  expect(load().told).toBe('two');
});

test('where there can be no folder for it, no code is made', async () => {
  const made = vi.spyOn(Script.prototype, 'createCachedData');
  writeFileSync(compiled(), 'a file in the way');
  write(source('one'));
  expect(load().told).toBe('one');
  await keepCompiledCode();
  expect(made).not.toHaveBeenCalled();
});

test('where its folder may not be written, no code is made', async () => {
  await keep('one');
  const made = vi.spyOn(Script.prototype, 'createCachedData');
  vi.mocked(access).mockRejectedValueOnce(new Error('EROFS'));
  write(source('two'));
  expect(load().told).toBe('two');
  await keepCompiledCode();
  expect(made).not.toHaveBeenCalled();
});

test('what cannot be written to its end leaves nothing behind', async () => {
  const file = await keep('one');
  vi.mocked(writeFile).mockImplementationOnce(async (path, content) => {
    writeFileSync(String(path), (content as Buffer).subarray(0, 100));
    throw new Error('ENOSPC');
  });
  write(source('two'));
  expect(load().told).toBe('two');
  await keepCompiledCode();
  // Of files in the folder there is only the one.
  expect(readFileSync(keptFile()).equals(file)).toBe(true);
});

test('what cannot take its place leaves nothing behind', async () => {
  await keep('one');
  const path = keptFile();
  rmSync(path);
  mkdirSync(path);
  expect(load().told).toBe('one');
  await keepCompiledCode();
  expect(keptFile()).toBe(path);
});

test('two that keep at once, with the same process id, do not share a file', async () => {
  await keep('one');
  const written = vi.mocked(writeFile).mockClear().mockRejectedValue(new Error('ENOSPC'));
  write(source('two'));
  load();
  await keepCompiledCode();
  load();
  await keepCompiledCode();
  const onlyNew = expect.objectContaining({ flag: 'wx' });
  expect(written.mock.calls).toEqual(
    Array(2).fill([expect.anything(), expect.anything(), onlyNew]),
  );
  expect(new Set(written.mock.calls.map(([path]) => path)).size).toBe(2);
});

test('a module has what every CommonJS module has', () => {
  writeFileSync(join(program, 'chunks/other.js'), 'exports.value = 1;');
  write(`exports.seen = [require('./other.js').value, __filename, __dirname, this === exports];
    exports.isMine = module.exports === exports && require.resolve('./other.js').endsWith('other.js');`);
  const folder = join(program, 'chunks');
  expect(load()).toEqual({ seen: [1, join(folder, 'chunk.js'), folder, true], isMine: true });
});
