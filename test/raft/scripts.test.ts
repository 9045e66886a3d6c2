/** Replays every script and compares the trace; `vitest -u` rewrites the files for review. */
import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runScript } from './script.ts';

const directory = new URL('scripts/', import.meta.url).pathname;

for (const name of readdirSync(directory).filter((file) => file.endsWith('.txt'))) {
  test(name.replace('.txt', '').replaceAll('_', ' '), async () => {
    const file = `${directory}${name}`;
    await expect(runScript(readFileSync(file, 'utf8'))).toMatchFileSnapshot(file);
  });
}
