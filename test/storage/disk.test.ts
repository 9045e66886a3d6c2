/** The real disk: which writes go through another thread. */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { nodeDisk } from '../../server/storage/disk.ts';

const directory = fs.mkdtempSync(join(tmpdir(), 'disk-'));
afterAll(() => fs.rmSync(directory, { recursive: true }));

async function blank(name: string) {
  const path = join(directory, name);
  const created = await nodeDisk.create(path);
  await created.write(Buffer.alloc(1024 * 1024), 0);
  await created.sync();
  await created.close();
  return { path, file: await nodeDisk.open(path) };
}

/** Whether it is done before the event loop turns: another thread is heard of only then. */
async function isDoneInThisTurn(work: Promise<void>): Promise<boolean> {
  let isDone = false;
  void work.then(() => {
    isDone = true;
  });
  for (let microtasks = 0; microtasks < 100; microtasks += 1) await Promise.resolve();
  return isDone;
}

async function written(name: string, bytes: Buffer, mayBlock: boolean) {
  const { path, file } = await blank(name);
  const work = file.write(bytes, 8, mayBlock);
  const inThisTurn = await isDoneInThisTurn(work);
  await work;
  const isWritten = fs
    .readFileSync(path)
    .subarray(8, 8 + bytes.length)
    .equals(bytes);
  await file.close();
  return { inThisTurn, isWritten };
}

const isLinux = process.platform === 'linux';

test('a small write of a caller with nothing else to do is made in its thread', async () => {
  const result = await written('small', Buffer.alloc(4096, 1), true);
  expect(result).toEqual({ inThisTurn: isLinux, isWritten: true });
});

test('a small write of any other caller goes through another thread', async () => {
  const result = await written('busy', Buffer.alloc(4096, 1), false);
  expect(result).toEqual({ inThisTurn: false, isWritten: true });
});

test('a large write goes through another thread', async () => {
  const result = await written('large', Buffer.alloc(512 * 1024, 1), true);
  expect(result).toEqual({ inThisTurn: false, isWritten: true });
});

test('once a write took long, the next ones go through another thread', async () => {
  const { file } = await blank('slow');
  let nowMs = 0;
  const now = vi.spyOn(performance, 'now').mockImplementation(() => {
    nowMs += 100;
    return nowMs;
  });
  await file.write(Buffer.alloc(16, 1), 0, true);
  now.mockRestore();
  const work = file.write(Buffer.alloc(16, 2), 0, true);
  expect(await isDoneInThisTurn(work)).toBe(false);
  await work;
  await file.close();
});
