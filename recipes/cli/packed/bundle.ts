/**
 * Packs the command line into few files, `dist/cli`: what it loads is a few hundred modules, its own
 * and of libraries, and to find, read and compile each by itself is most of the time it takes to start.
 *
 * esbuild splits only ES modules, and Node loads CommonJS in half the time. So it is packed as the
 * first and then each file is rewritten as the second. What is imported lazily stays a file of its own.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, type Metafile, transform } from 'esbuild';

const root = fileURLToPath(new URL('../../..', import.meta.url));
const target = join(root, 'dist/cli');

/** Native code, which finds its parts by the place of its own files. */
const external = ['lmdb'];

/**
 * `chunks` is below `main.js` as the folders of the modules are in the tree, and holds beside the
 * chunks what is started by its file: so modules find both where they look for them.
 */
const entryPoints = {
  main: 'recipes/cli/packed/start.ts',
  'chunks/guard-process': 'recipes/cli/run/guard-process.ts',
  'chunks/keep-alive-worker': 'sdk/keep-alive-worker.ts',
};

const common = { platform: 'node', target: 'node20.19', legalComments: 'none' } as const;

/** The file as CommonJS, which is not strict by itself and has no `import.meta`. */
async function asCommonJs(text: string): Promise<string> {
  const moduleUrl = 'const moduleUrl = require("node:url").pathToFileURL(__filename).href;\n';
  const { code } = await transform(text, {
    ...common,
    format: 'cjs',
    banner: `"use strict";\n${text.includes('import.meta.url') ? moduleUrl : ''}`,
    define: {
      'import.meta.dirname': '__dirname',
      'import.meta.url': 'moduleUrl',
      'import.meta.resolve': 'undefined',
    },
    // What is loaded lazily is loaded by require() as well.
    supported: { 'dynamic-import': false },
  });
  return code.replace(/[^\0-\x7f]/g, escaped);
}

/** esbuild escapes in strings, not in patterns. A text that is ASCII is read faster, and takes half the memory. */
const escaped = (character: string): string =>
  `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;

/** The folders of the libraries that were packed. */
function librariesOf({ inputs }: Metafile): readonly string[] {
  const folders = Object.keys(inputs).flatMap(
    (path) => /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)?.[0] ?? [],
  );
  return [...new Set(folders)].sort();
}

/** Whoever passes a library on passes its licence on with it. */
function licenceOf(folder: string): string {
  const { name, version, license } = JSON.parse(
    readFileSync(join(root, folder, 'package.json'), 'utf8'),
  ) as { name: string; version: string; license: string };
  const files = readdirSync(join(root, folder)).filter((file) =>
    /^(licen[cs]e|notice)/i.test(file),
  );
  if (files.length === 0) throw new Error(`${folder} has no file with its licence`);
  const texts = files.sort().map((file) => readFileSync(join(root, folder, file), 'utf8').trim());
  return [`${name} ${version} (${license})`, ...texts].join('\n\n');
}

const { outputFiles, metafile } = await build({
  ...common,
  absWorkingDir: root,
  entryPoints,
  external,
  outdir: target,
  chunkNames: 'chunks/[name]-[hash]',
  bundle: true,
  splitting: true,
  format: 'esm',
  metafile: true,
  write: false,
});
rmSync(target, { recursive: true, force: true });
mkdirSync(join(target, 'chunks'), { recursive: true });
writeFileSync(join(target, 'package.json'), '{ "type": "commonjs" }\n');
for (const { path, text } of outputFiles) writeFileSync(path, await asCommonJs(text));
const rule = `\n\n${'-'.repeat(80)}\n\n`;
writeFileSync(
  join(target, 'third-party-licences.txt'),
  `${librariesOf(metafile).map(licenceOf).join(rule)}\n`,
);
