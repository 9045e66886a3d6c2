/** Transfers of states when disks are full, and what they leave on them. */
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { Write } from '../../server/ports.ts';
import { NoSpaceError } from '../../server/storage/errors.ts';
import { openInbox } from '../../server/storage/inbox.ts';
import { type CopyableState, openLmdbState } from '../../server/storage/lmdb.ts';
import { Outbox } from '../../server/storage/outbox.ts';
import { chunkChecksum, type SnapshotInbox } from '../../server/storage/transfer.ts';
import { configurationOf } from '../ports/transfer.ts';

const MiB = 1024 * 1024;
let base: string;
let inbox: SnapshotInbox | undefined;
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'conclave-transfer-'));
});
afterEach(async () => {
  await inbox?.close();
  inbox = undefined;
  await rm(base, { recursive: true });
});

const incoming = (): Promise<string[]> => readdir(join(base, 'incoming')).catch(() => []);
const bytes = Buffer.alloc(40 * MiB, 'a copy of a state');
const sha256 = createHash('sha256').update(bytes).digest();
const announced = {
  id: sha256.toString('hex'),
  index: 5,
  term: 1,
  sizeBytes: bytes.length,
  sha256,
};
const partOf = (name: string): string => join(base, 'incoming', `${name}.part`);

async function open(
  options: { freeBytes?: () => Promise<number>; keepMs?: number } = {},
): Promise<SnapshotInbox> {
  await inbox?.close();
  inbox = await openInbox({ directory: join(base, 'incoming'), ...options });
  return inbox;
}

async function sendTo(target: Awaited<ReturnType<SnapshotInbox['open']>>, end = bytes.length) {
  while (target.offset < end) {
    const chunk = bytes.subarray(target.offset, target.offset + 256 * 1024);
    await target.write(target.offset, chunk, chunkChecksum(chunk));
  }
}

test('what does not fit on the disk is refused before the first byte', async () => {
  const full = await open({ freeBytes: async () => 50 * MiB });
  const refusal = await full.open(announced).catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(NoSpaceError);
  expect((refusal as Error).message).toMatch(
    /52428800 bytes are free and at least 58720256 are required\. Free some space/,
  );
  expect(await incoming()).toEqual([]);
});

test('a disk that fills up on the way stays usable: the part goes, and it begins anew', async () => {
  let free = 100 * MiB;
  const target = await (await open({ freeBytes: async () => free })).open(announced);
  await sendTo(target, 10 * MiB);
  expect(await incoming()).toHaveLength(1);
  free = 20 * MiB;
  await expect(sendTo(target)).rejects.toBeInstanceOf(NoSpaceError);
  expect(await incoming()).toEqual([]);
  await expect(sendTo(target)).rejects.toMatchObject({ code: 'superseded' });
  free = 100 * MiB;
  const again = await inbox?.open(announced);
  expect(again?.offset).toBe(0);
});

test('a whole copy that was not installed before a stop is not sent again', async () => {
  const target = await (await open()).open(announced);
  await sendTo(target);
  await target.finish();
  expect((await incoming())[0]).toMatch(/\.ready$/);
  const again = await (await open()).open(announced);
  expect(again.offset).toBe(announced.sizeBytes);
  await (await again.finish()).discard();
  expect(await incoming()).toEqual([]);
});

test('bytes that a power cut took are noticed at the end', async () => {
  const target = await (await open()).open(announced);
  await sendTo(target, 10 * MiB);
  await target.suspend();
  await writeFile(partOf(announced.id), Buffer.alloc(10 * MiB));
  const again = await inbox?.open(announced);
  if (again === undefined) throw new Error('the inbox is open');
  expect(again.offset).toBe(10 * MiB);
  await sendTo(again);
  await expect(again.finish()).rejects.toMatchObject({ code: 'damaged' });
  expect(await incoming()).toEqual([]);
});

test('a part that nobody goes on with does not stay, neither now nor after a restart', async () => {
  const target = await (await open({ keepMs: 30 })).open(announced);
  await sendTo(target, MiB);
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(await incoming()).toHaveLength(1);
  await target.suspend();
  await expect.poll(incoming, { timeout: 10_000 }).toEqual([]);
  await writeFile(partOf('a'.repeat(64)), 'left');
  await writeFile(partOf('b'.repeat(64)), 'left');
  const anHourAgo = new Date(Date.now() - 3_700_000);
  await utimes(partOf('a'.repeat(64)), anHourAgo, anHourAgo);
  await open();
  expect(await incoming()).toEqual([`${'b'.repeat(64)}.part`]);
});

async function filled(freeBytes?: () => Promise<number>): Promise<CopyableState> {
  const state = await openLmdbState({
    path: join(base, 'state'),
    onFailure: (error) => {
      throw error;
    },
    ...(freeBytes === undefined ? {} : { freeBytes }),
  });
  const write: Write = { kind: 'put', key: Buffer.from('k'), value: Buffer.alloc(1_000_000) };
  state.apply(1, [write], 1);
  return state;
}

test('copies go with their last receiver, after a while, or when a newer one is made', async () => {
  const state = await filled();
  const directory = join(base, 'outbox');
  const outbox = new Outbox({ state, configurationOf, directory, keepMs: 30 });
  const first = await outbox.take(1);
  const second = await outbox.take(1);
  state.apply(2, [], 1);
  const newer = await outbox.take(2);
  expect(await readdir(directory)).toHaveLength(2);
  first.release();
  expect(await second.chunk(0)).toHaveLength(256 * 1024);
  second.release();
  await expect.poll(() => readdir(directory), { timeout: 10_000 }).toHaveLength(1);
  newer.release();
  const resumed = await outbox.take(2);
  expect(resumed.id).toBe(newer.id);
  resumed.release();
  await expect.poll(() => readdir(directory), { timeout: 10_000 }).toEqual([]);
  const last = await outbox.take(2);
  expect(last.index).toBe(2);
  await outbox.close();
  expect(await readdir(directory)).toEqual([]);
  await state.close();
});

test('a copy for which there is no room is refused and leaves nothing', async () => {
  let free = 1024 ** 4;
  const state = await filled(async () => free);
  await state.flush();
  free = 16 * MiB;
  const outbox = new Outbox({ state, configurationOf, directory: join(base, 'outbox') });
  await expect(outbox.take(1)).rejects.toBeInstanceOf(NoSpaceError);
  expect(await readdir(join(base, 'outbox'))).toEqual([]);
  free = 1024 ** 4;
  (await outbox.take(1)).release();
  await outbox.close();
  await state.close();
});
