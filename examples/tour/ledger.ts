/**
 * The shared resource of the first act: a file that several processes change by reading, waiting a
 * moment and writing. Without exclusion it loses lines; without fencing a writer that slept through
 * its lock's end spoils it. It keeps the highest token it has seen and refuses lower ones.
 */
import { open, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

export type Line = { readonly token: string; readonly writer: number };

export type Written = 'written' | 'refused' | 'overlap';

const THINKING_MS = 2;

export async function readLedger(path: string): Promise<readonly Line[]> {
  return JSON.parse(await readFile(path, 'utf8')) as Line[];
}

export async function createLedger(path: string): Promise<void> {
  await writeFile(path, '[]');
}

/** Adds a line, unless somebody with a higher token was here before. */
export async function writeLine(path: string, token: bigint, writer: number): Promise<Written> {
  const lines = await readLedger(path);
  const newest = lines.at(-1);
  if (newest !== undefined && BigInt(newest.token) > token) return 'refused';
  const presence = await enter(`${path}.writing`);
  if (presence === undefined) return 'overlap';
  try {
    await delay(THINKING_MS);
    const next = JSON.stringify([...lines, { token: String(token), writer }]);
    await writeFile(`${path}.${writer}`, next);
    await rename(`${path}.${writer}`, path);
    return 'written';
  } finally {
    await presence.close();
    await rm(`${path}.writing`);
  }
}

/** Creating the file fails while another writer is inside: that is how an overlap is noticed. */
async function enter(path: string): Promise<{ close(): Promise<void> } | undefined> {
  try {
    return await open(path, 'wx');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return undefined;
    throw error;
  }
}
