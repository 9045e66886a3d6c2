/**
 * Keeps what V8 compiled of the packed program beside it: the next start need not compile it again,
 * which is a fifth of the way to the first request.
 *
 * Only code of the same version of Node is looked at. What is damaged, or was compiled from something
 * else, is compiled and kept anew. Where nothing can be kept, as in an installation that is only read,
 * everything is compiled at each start.
 */
import { constants, readFileSync } from 'node:fs';
import { access, mkdir, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { Script } from 'node:vm';
import { seal, unseal } from './kept-code.ts';

type ModuleFunction = (
  exports: unknown,
  require: NodeJS.Require,
  module: NodeJS.Module,
  path: string,
  folder: string,
) => void;

interface Compiled {
  readonly script: Script;
  readonly source: Buffer;
}

/** What was compiled in this process, by the file where it is to be kept. */
const compiled = new Map<string, Compiled>();

/** From now on CommonJS modules of `folder` are loaded with the code that was kept of them. */
export function useCodeCache(folder: string): void {
  const platform = `${process.version}-${process.platform}-${process.arch}`;
  const { extensions } = createRequire(join(folder, 'index.js'));
  const load = extensions['.js'];
  extensions['.js'] = (module, path) => {
    if (dirname(path) !== folder) return load(module, path);
    const kept = join(folder, '../compiled', platform, `${basename(path)}.bin`);
    const source = readFileSync(path);
    const script = compile(path, source, readKept(kept, source));
    if (script.cachedDataRejected !== false) compiled.set(kept, { script, source });
    const run = script.runInThisContext() as ModuleFunction;
    run.call(module.exports, module.exports, createRequire(path), module, path, folder);
  };
}

/** Keeps what was compiled anew, with all functions that ran so far. Never rejects. */
export async function keepCompiledCode(): Promise<void> {
  const code = [...compiled];
  compiled.clear();
  // What cannot be kept is compiled again by the next start.
  await Promise.allSettled(code.map(([path, what]) => keep(path, what)));
}

function compile(path: string, source: Buffer, cachedData: Buffer | undefined): Script {
  const text = `(function (exports, require, module, __filename, __dirname) {${source}\n})`;
  return new Script(text, {
    filename: path,
    ...(cachedData === undefined ? {} : { cachedData }),
  });
}

function readKept(path: string, source: Buffer): Buffer | undefined {
  try {
    return unseal(readFileSync(path), source);
  } catch {
    return undefined;
  }
}

/** Looks first whether it can be kept: to make the code costs more than all the rest. */
async function keep(path: string, { script, source }: Compiled): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await access(dirname(path), constants.W_OK);
  await replace(path, seal(script.createCachedData(), source));
}

/**
 * All of it or nothing, also when the machine stops. The name until it is complete is random: containers
 * that share the folder may share their process ids as well.
 */
async function replace(path: string, content: Buffer): Promise<void> {
  const unfinished = `${path}.${crypto.randomUUID()}`;
  try {
    await writeFile(unfinished, content, { flag: 'wx', flush: true });
    await rename(unfinished, path);
  } catch (error) {
    await rm(unfinished, { force: true });
    throw error;
  }
}
