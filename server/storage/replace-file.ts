/** Small files that are replaced as a whole or not at all. */
import { open, rename } from 'node:fs/promises';
import { dirname } from 'node:path';
import { nodeDisk } from './disk.ts';

/** Durable when it resolves. */
export async function replaceFile(path: string, text: string): Promise<void> {
  const file = await open(`${path}.tmp`, 'w', 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${path}.tmp`, path);
  await nodeDisk.syncDirectory(dirname(path));
}

/** Does the error say that there is no such file? */
export const isMissing = (error: unknown): boolean =>
  error instanceof Error &&
  'code' in error &&
  (error.code === 'ENOENT' || error.code === 'ENOTDIR');
