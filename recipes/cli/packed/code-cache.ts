/**
 * Keeps what V8 compiled of the packed program beside it: the next start need not compile it again,
 * which is a fifth of the way to the first request.
 *
 * Only code of the same version of Node is looked at, and V8 refuses what does not fit. Where nothing
 * can be kept, as in an installation that is only read, everything is compiled at each start.
 */
import { readFileSync } from 'node:fs';
import { mkdir, open, rename } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { Script } from 'node:vm';

type ModuleFunction = (
  exports: unknown,
  require: NodeJS.Require,
  module: NodeJS.Module,
  path: string,
  folder: string,
) => void;

/** What was compiled in this process, by the file where it is to be kept. */
const compiled = new Map<string, Script>();

/**
 * From now on CommonJS modules of `folder` are loaded with the code that was kept of them. The name of a
 * module must change with its content.
 */
export function useCodeCache(folder: string): void {
  const platform = `${process.version}-${process.platform}-${process.arch}`;
  const { extensions } = createRequire(join(folder, 'index.js'));
  const load = extensions['.js'];
  extensions['.js'] = (module, path) => {
    if (dirname(path) !== folder) return load(module, path);
    const kept = join(folder, '../compiled', platform, `${basename(path)}.bin`);
    const script = compile(path, readIfThere(kept));
    if (script.cachedDataRejected !== false) compiled.set(kept, script);
    const run = script.runInThisContext() as ModuleFunction;
    run.call(module.exports, module.exports, createRequire(path), module, path, folder);
  };
}

/** Keeps what was compiled anew, with all functions that ran so far. Never rejects. */
export async function keepCompiledCode(): Promise<void> {
  const code = [...compiled].map(([path, script]) => [path, script.createCachedData()] as const);
  compiled.clear();
  // A file that cannot be written is one that will be compiled again.
  await Promise.allSettled(code.map(([path, content]) => replace(path, content)));
}

function compile(path: string, cachedData: Buffer | undefined): Script {
  const source = readFileSync(path, 'utf8');
  const text = `(function (exports, require, module, __filename, __dirname) {${source}\n})`;
  return new Script(text, {
    filename: path,
    ...(cachedData === undefined ? {} : { cachedData }),
  });
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}

/** All of it or nothing, also when the machine stops: V8 does not check every byte that it reads. */
async function replace(path: string, content: Buffer): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const unfinished = `${path}.${process.pid}`;
  const file = await open(unfinished, 'w');
  try {
    await file.writeFile(content);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(unfinished, path);
}
