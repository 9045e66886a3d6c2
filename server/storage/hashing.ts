/** Hashes of whole files. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

const SLICE_BYTES = 256 * 1024;

/** SHA-256, in slices: other work goes on in between. */
export async function hashOfFile(path: string): Promise<Buffer> {
  const hash = createHash('sha256');
  for await (const slice of createReadStream(path, { highWaterMark: SLICE_BYTES })) {
    hash.update(slice);
  }
  return hash.digest();
}
