/**
 * Regenerates `server/wire` from `server/proto`: `npm run proto`.
 *
 * The tools are fetched for the run and are no dependency of the project; the generated code is
 * committed, and CI only type-checks it.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const proto = fileURLToPath(new URL('.', import.meta.url));
const wire = fileURLToPath(new URL('../wire', import.meta.url));

/** Written by hand: what the generated code reads and writes with. */
const runtime = 'binary.ts';

for (const name of readdirSync(wire)) {
  if (name !== runtime) rmSync(join(wire, name), { recursive: true });
}
execFileSync(
  'npx',
  ['-y', '-p', '@bufbuild/buf@1.74.0', '-p', 'ts-proto@2.18.0', 'buf', 'generate', proto],
  { cwd: proto, stdio: 'inherit' },
);

for (const entry of readdirSync(wire, { recursive: true, withFileTypes: true })) {
  if (!entry.isFile() || entry.name === runtime) continue;
  const file = join(entry.parentPath, entry.name);
  const path = relative(dirname(file), join(wire, runtime));
  const source = readFileSync(file, 'utf8')
    .replace('"@bufbuild/protobuf/wire"', `"${path}"`)
    .replace(
      /^import \{ BinaryReader, BinaryWriter \}/m,
      'import { BinaryReader, BinaryWriter, emptyBytes }',
    )
    // A default costs an allocation for every message otherwise.
    .replaceAll('Buffer.alloc(0)', 'emptyBytes')
    // The reader's bytes are a copy already.
    .replaceAll('Buffer.from(reader.bytes())', 'reader.bytes()');
  writeFileSync(file, source);
}
