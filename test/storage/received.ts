/** A state as another member would have sent it, in a file. */
import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { LogPosition, Write } from '../../server/ports.ts';
import { openLmdbState } from '../../server/storage/lmdb.ts';
import type { ReceivedSnapshot } from '../../server/storage/transfer.ts';

/** `announced`: what the sender says that it is. */
export async function receivedFile(
  directory: string,
  applied: LogPosition,
  writes: readonly Write[],
  announced: LogPosition = applied,
): Promise<ReceivedSnapshot> {
  const sender = await openLmdbState({
    path: join(directory, 'sender'),
    onFailure: (error) => {
      throw error;
    },
  });
  sender.apply(applied.index, writes, applied.term);
  const copy = join(directory, 'copy');
  await mkdir(copy);
  await sender.copyTo(copy);
  await sender.close();
  const path = join(copy, 'data.mdb');
  const { size } = await stat(path);
  return {
    ...announced,
    sizeBytes: size,
    content: { kind: 'file', path },
    discard: () => rm(path, { force: true }),
  };
}
