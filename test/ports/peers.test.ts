/** What every `PeerBook` must do. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { PeerBook } from '../../server/ports.ts';
import { IncarnationError } from '../../server/storage/errors.ts';
import { MemoryPeerBook } from '../../server/storage/memory-transfer.ts';
import { openPeerBook } from '../../server/storage/peers.ts';

let path: string;
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'conclave-peers-'));
});
afterEach(() => rm(path, { recursive: true }));

const MAX_ID = 2n ** 64n - 1n;

describe.each<[string, () => Promise<{ book: PeerBook; reopen(): Promise<PeerBook> }>]>([
  [
    'MemoryPeerBook',
    async () => {
      const book = new MemoryPeerBook();
      return {
        book,
        async reopen() {
          book.crash();
          return book;
        },
      };
    },
  ],
  [
    'the book of peers on disk',
    async () => ({ book: await openPeerBook(path), reopen: () => openPeerBook(path) }),
  ],
])('%s', (_, open) => {
  test('remembers what it said that it remembers, across restarts', async () => {
    const { book, reopen } = await open();
    expect(book.known(1n)).toBeUndefined();
    await Promise.all([book.remember(1n, 10n), book.remember(MAX_ID, 2n ** 63n - 1n)]);
    const again = await reopen();
    expect(again.known(1n)).toBe(10n);
    expect(again.known(MAX_ID)).toBe(2n ** 63n - 1n);
    await again.remember(1n, 10n);
  });

  test('knows nobody before it is durable', async () => {
    const { book } = await open();
    const remembered = book.remember(1n, 10n);
    expect(book.known(1n)).toBeUndefined();
    await remembered;
    expect(book.known(1n)).toBe(10n);
  });

  test('refuses another incarnation of a member, also of two at the same time', async () => {
    const { book } = await open();
    const [first, second] = await Promise.allSettled([
      book.remember(0xabcn, 10n),
      book.remember(0xabcn, 11n),
    ]);
    expect(first.status).toBe('fulfilled');
    expect(second).toMatchObject({ status: 'rejected', reason: expect.any(IncarnationError) });
    await expect(book.remember(0xabcn, 12n)).rejects.toThrow(
      /Member abc came with another data directory than before.*conclave member replace/,
    );
    expect(book.known(0xabcn)).toBe(10n);
  });
});

test('what could not be written is not known', async () => {
  const book = await openPeerBook(path);
  await rm(path, { recursive: true });
  await expect(book.remember(1n, 10n)).rejects.toThrow(/ENOENT/);
  expect(book.known(1n)).toBeUndefined();
  await mkdir(path);
  await book.remember(1n, 11n);
  expect((await openPeerBook(path)).known(1n)).toBe(11n);
});

test('a book in memory forgets at a crash what was not durable', async () => {
  const due: (() => void)[] = [];
  const book = new MemoryPeerBook({ schedule: (complete) => due.push(complete) });
  let isRemembered = false;
  void book.remember(1n, 10n).then(() => {
    isRemembered = true;
  });
  book.crash();
  for (const complete of due) complete();
  await new Promise((resolve) => setImmediate(resolve));
  expect(isRemembered).toBe(false);
  expect(book.known(1n)).toBeUndefined();
});

test.each([
  '',
  '[]',
  '{"format":1}',
  '{"format":1,"peers":{"xyz":"1"}}',
  '{"format":1,"peers":{"1":1}}',
])('a damaged file is refused, not taken for an empty one: %s', async (content) => {
  await writeFile(join(path, 'peers.json'), content);
  await expect(openPeerBook(path)).rejects.toMatchObject({
    code: 'incomplete',
    message: expect.stringMatching(/peers\.json is damaged\. Restore it/),
  });
});

test('a file of a newer version is refused', async () => {
  await (await openPeerBook(path)).remember(1n, 2n);
  const file = join(path, 'peers.json');
  const content = await readFile(file, 'utf8');
  await writeFile(file, content.replace('"format": 1', '"format": 2'));
  await expect(openPeerBook(path)).rejects.toMatchObject({ code: 'newer-format' });
});
