/** How much room LMDB needs and how long it may take. */
import { statfs } from 'node:fs/promises';

/** Room that must stay free on the disk besides what a write may need: LMDB must never meet ENOSPC. */
export const RESERVE_BYTES = 16 * 1024 * 1024;

/** A commit that takes longer is not slow but lost: lmdb-js does not report every failure. */
const STALL_TICK_MS = 10_000;
const STALL_TICKS = 12;

/** Bytes that this user may still write on the disk of `path`. */
export async function freeBytesOf(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return bavail * bsize;
}

/** Counts ticks rather than time, so that a process that was stopped for a while does not give up. */
export async function withStallLimit(work: Promise<void>): Promise<void> {
  let ticks = 0;
  let timer: NodeJS.Timeout | undefined;
  const stalled = new Promise<never>((_, reject) => {
    timer = setInterval(() => {
      ticks += 1;
      if (ticks < STALL_TICKS) return;
      reject(new Error(`a commit did not finish in ${(STALL_TICKS * STALL_TICK_MS) / 1000} s`));
    }, STALL_TICK_MS).unref();
  });
  try {
    await Promise.race([work, stalled]);
  } finally {
    clearInterval(timer);
  }
}
