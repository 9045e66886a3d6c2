import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package's version, from the nearest package.json above this file. */
export function packageVersion(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    try {
      const found: unknown = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      if (typeof found === 'object' && found !== null && 'version' in found) {
        return String(found.version);
      }
    } catch {
      // Not here: look further up.
    }
    const parent = dirname(folder);
    if (parent === folder) throw new Error('the package.json of conclave is missing');
    folder = parent;
  }
}
