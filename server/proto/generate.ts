/**
 * Regenerates `server/wire` from `server/proto`: `npm run proto`.
 *
 * The tools are fetched for the run and are no dependency of the project; the generated code is
 * committed, and CI only type-checks it.
 */
import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const proto = fileURLToPath(new URL('.', import.meta.url));
const wire = fileURLToPath(new URL('../wire', import.meta.url));

rmSync(wire, { recursive: true, force: true });
execFileSync(
  'npx',
  ['-y', '-p', '@bufbuild/buf@1.74.0', '-p', 'ts-proto@2.18.0', 'buf', 'generate', proto],
  { cwd: proto, stdio: 'inherit' },
);
