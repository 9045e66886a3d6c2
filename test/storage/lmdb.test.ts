/** The state on LMDB when things go wrong. What a state does in general is in `test/ports`. */
import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { open } from 'lmdb';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { State, Write } from '../../server/ports.ts';
import { nodeDisk } from '../../server/storage/disk.ts';
import { CorruptionError, DamagedValueError, NoSpaceError } from '../../server/storage/errors.ts';
import { openLmdbState } from '../../server/storage/lmdb.ts';
import { encodeRecord, RecordArena, recordBytes } from '../../server/storage/record.ts';
import { CountByTurn } from '../support/turns.ts';
import { hasStrace, startChild } from './child.ts';
import { receivedFile } from './received.ts';

const put = (key: string, value: string): Write => ({
  kind: 'put',
  key: Buffer.from(key),
  value: Buffer.from(value),
});
const text = (bytes: Uint8Array | undefined): string | undefined =>
  bytes === undefined ? undefined : Buffer.from(bytes).toString();

let path: string;
let failures: Error[];
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'conclave-lmdb-'));
  failures = [];
});
afterEach(() => rm(path, { recursive: true }));

const openState = (freeBytes?: () => Promise<number>): Promise<State> =>
  openLmdbState({
    path,
    onFailure: (error) => failures.push(error),
    ...(freeBytes === undefined ? {} : { freeBytes }),
  });

describe('damage', () => {
  const MARK = 'a value that is easy to find';

  async function damageFile(): Promise<void> {
    const state = await openState();
    state.apply(1, [put('a', 'sound'), put('b', MARK), put('c', 'sound')]);
    await state.close();
    const file = join(path, 'data.mdb');
    const bytes = await readFile(file);
    let found = 0;
    for (let at = bytes.indexOf(MARK); at !== -1; at = bytes.indexOf(MARK, at + 1)) {
      bytes.writeUInt8(bytes.readUInt8(at + 5) ^ 1, at + 5);
      found += 1;
    }
    expect(found).toBeGreaterThan(0);
    await writeFile(file, bytes);
  }

  test.each([
    ['get', (state: State) => state.get(Buffer.from('b'))],
    ['scan', (state: State) => state.scan(Buffer.from('a'), undefined, { limit: 10 })],
  ])('found by %s is reported and not served', async (_, read) => {
    await damageFile();
    const state = await openState();
    expect(text(state.get(Buffer.from('a')))).toBe('sound');
    expect(() => read(state)).toThrow(/key 0x62 has a wrong checksum/);
    expect(() => read(state)).toThrow(DamagedValueError);
    expect(text(state.get(Buffer.from('a')))).toBe('sound');
    state.apply(2, [put('b', 'mended')]);
    await state.flush();
    expect(() => read(state)).not.toThrow();
    expect(failures).toEqual([]);
    await state.close();
  });

  test('by a missing end of the file is refused at the start', async () => {
    const state = await openState();
    state.apply(
      1,
      Array.from({ length: 500 }, (_, number) => put(`key-${number}`, 'v'.repeat(500))),
    );
    await state.close();
    const { size } = await stat(join(path, 'data.mdb'));
    expect(size).toBeGreaterThan(200_000);
    for (let end = size - (size % 4_096) - 65_536; end >= 8_192; end -= 4_096) {
      await truncate(join(path, 'data.mdb'), end);
      await expect(openState()).rejects.toThrow(/the file ends here and should have/);
    }
  });

  test('of the whole file is refused at the start', async () => {
    await writeFile(join(path, 'data.mdb'), Buffer.alloc(65_536, 0x5a));
    await expect(openState()).rejects.toBeInstanceOf(CorruptionError);
  });
});

describe('another format', () => {
  async function writeOwnRecord(format: number): Promise<void> {
    const root = open<Buffer, Buffer>(path, {
      encoding: 'binary',
      keyEncoding: 'binary',
      noSubdir: false,
    });
    const key = Buffer.from([0]);
    const value = Buffer.alloc(20);
    value.writeUInt32LE(format, 0);
    value.writeBigUInt64LE(7n, 4);
    const record = Buffer.alloc(recordBytes(key, value));
    encodeRecord(record, 0, key, value);
    await root.put(key, record);
    await root.close();
  }

  test.each([
    ['older', 2, 'older-format'],
    ['newer', 4, 'newer-format'],
  ])('that is %s is refused, and nothing is changed', async (_, format, code) => {
    await writeOwnRecord(format);
    const before = await readFile(join(path, 'data.mdb'));
    await expect(openState()).rejects.toMatchObject({ code });
    await expect(openState()).rejects.toThrow(new RegExp(`has format ${format} and .* format 3`));
    expect((await readFile(join(path, 'data.mdb'))).equals(before)).toBe(true);
  });

  test('a file without its trees is not an empty one', async () => {
    await writeOwnRecord(3);
    await expect(openState()).rejects.toThrow(/the tree c is missing/);
    await expect(openState()).rejects.toBeInstanceOf(CorruptionError);
  });
});

describe('an installation', () => {
  const position = { index: 50, term: 4 };
  /** Lets through whoever waits, and everybody from then on. */
  function gate(): { readonly passed: Promise<void>; open(): void } {
    let open = (): void => {};
    const passed = new Promise<void>((resolve) => {
      open = resolve;
    });
    return { passed, open };
  }

  test('waits for the transaction under way', async () => {
    const committing = gate();
    const state = await openState(async () => {
      await committing.passed;
      return 1024 ** 4;
    });
    const received = await receivedFile(join(path, 'r'), position, [put('a', 'new')]);
    state.apply(1, [put('a', 'old')], 1);
    const flushed = state.flush();
    let isInstalled = false;
    const installed = state.install(received).then(() => {
      isInstalled = true;
    });
    // Time enough for one that does not wait.
    for (let turn = 0; turn < 100; turn++) await readdir(path);
    expect(isInstalled).toBe(false);
    committing.open();
    await Promise.all([flushed, installed]);
    expect(text(state.get(Buffer.from('a')))).toBe('new');
    expect(state.applied).toEqual(position);
    await state.close();
    expect(failures).toEqual([]);
  });

  test('lets no transaction begin: it would carry something old into the new state', async () => {
    const committing = gate();
    const staging = gate();
    let isWaiting = false;
    const state = await openLmdbState({
      path,
      onFailure: (error) => failures.push(error),
      freeBytes: async () => {
        await committing.passed;
        return 1024 ** 4;
      },
      disk: {
        ...nodeDisk,
        async rename(from, to) {
          isWaiting = true;
          await staging.passed;
          await nodeDisk.rename(from, to);
        },
      },
    });
    const received = await receivedFile(join(path, 'r'), position, [put('a', 'new')]);
    state.apply(1, [put('a', 'old'), put('b', 'old')], 1);
    const installed = state.install(received);
    await expect.poll(() => isWaiting, { timeout: 10_000 }).toBe(true);
    const flushed = state.flush();
    staging.open();
    await installed;
    committing.open();
    await flushed;
    state.apply(51, [put('c', 'new')], 4);
    await state.flush();
    expect(text(state.get(Buffer.from('a')))).toBe('new');
    expect(state.get(Buffer.from('b'))).toBeUndefined();
    await state.close();
    expect(failures).toEqual([]);
  });

  test('right after another one is not disturbed by what that one removes', async () => {
    const state = await openState();
    const received = await Promise.all(
      [1, 2, 3, 4, 5, 6].map((round) =>
        receivedFile(join(path, `r${round}`), { index: round, term: 1 }, [put('a', `${round}`)]),
      ),
    );
    for (const snapshot of received) await state.install(snapshot);
    expect(text(state.get(Buffer.from('a')))).toBe('6');
    await state.close();
    const left = (await readdir(path)).filter((name) => !name.startsWith('r'));
    expect(left).toEqual(['CURRENT', 'installed-6']);
    const again = await openState();
    expect(text(again.get(Buffer.from('a')))).toBe('6');
    await again.close();
  });

  test('closes nothing after an error, not even what it replaced before', async () => {
    const copying = gate();
    let isFailing = false;
    let isCopying = false;
    const state = await openLmdbState({
      path,
      onFailure: (error) => failures.push(error),
      freeBytes: async () => {
        isCopying = true;
        await copying.passed;
        return 1024 ** 4;
      },
      disk: {
        ...nodeDisk,
        async rename(from, to) {
          if (isFailing && to.endsWith('CURRENT')) throw new Error('EIO: injected');
          await nodeDisk.rename(from, to);
        },
      },
    });
    await mkdir(join(path, 'copy'));
    const copied = state.copyTo(join(path, 'copy'));
    await expect.poll(() => isCopying, { timeout: 10_000 }).toBe(true);
    await state.install(await receivedFile(join(path, 'r1'), position, []));
    isFailing = true;
    const second = await receivedFile(join(path, 'r2'), position, []);
    await expect(state.install(second)).rejects.toThrow(/EIO/);
    copying.open();
    await copied;
    for (let turn = 0; turn < 100; turn++) await readdir(path);
    expect(await readdir(path)).toContain('data.mdb');
    expect(failures).toHaveLength(1);
  });
});

test('without room on the disk nothing is written, and it goes on by itself', async () => {
  let free = 1024 ** 4;
  const state = await openState(async () => free);
  state.apply(1, [put('a', '1')]);
  await state.flush();
  free = 1_000_000;
  state.apply(2, [put('a', '2')]);
  const refusal = await state.flush().catch((error: unknown) => error);
  expect(refusal).toBeInstanceOf(NoSpaceError);
  expect((refusal as NoSpaceError).message).toMatch(/1000000 bytes are free/);
  expect(state.durableIndex).toBe(1);
  expect(text(state.get(Buffer.from('a')))).toBe('2');
  state.apply(3, [put('b', '3')]);
  free = 1024 ** 4;
  await expect.poll(() => state.durableIndex, { timeout: 10_000 }).toBe(3);
  expect(failures).toEqual([]);
  await state.close();
});

test('a full disk does not keep a state from closing, and what is durable stays', async () => {
  const state = await openState(async () => 0);
  state.apply(1, [put('a', '1')]);
  await state.close();
  const again = await openState();
  expect(again.appliedIndex).toBe(0);
  await again.close();
});

test('reads see every write, whatever is being flushed', async () => {
  const state = await openState();
  const all = { start: Buffer.from('k'), end: undefined };
  let index = 0;
  for (let round = 0; round < 30; round++) {
    // More than one generation at a time, most keys many times.
    for (let apply = 0; apply < 30; apply++) {
      index += 1;
      state.apply(
        index,
        Array.from({ length: 400 }, (_, number) => put(`k${(number * 7) % 1_000}`, `${index}`)),
      );
    }
    const flushed = state.flush();
    let waiting = true;
    void flushed.then(() => {
      waiting = false;
    });
    do {
      expect(text(state.get(Buffer.from('k0')))).toBe(`${index}`);
      const rows = state.scan(all.start, all.end, { limit: 2_000 });
      expect(rows).toHaveLength(400);
      expect(rows.every(([, value]) => text(value) === `${index}`)).toBe(true);
      await new Promise((resolve) => setImmediate(resolve));
    } while (waiting);
    expect(text(state.get(Buffer.from('k0')))).toBe(`${index}`);
  }
  await state.close();
});

test('what one apply writes is prepared in several turns, and durable as one', async () => {
  const encoded = new CountByTurn();
  const { encode } = RecordArena.prototype;
  const spy = vi.spyOn(RecordArena.prototype, 'encode').mockImplementation(function (
    this: RecordArena,
    ...record
  ) {
    encoded.count();
    return encode.apply(this, record);
  });
  const state = await openState();
  const keys = Array.from({ length: 10_000 }, (_, number) => `k${10_000 + number}`);
  state.apply(
    1,
    keys.map((key) => put(key, key)),
  );
  await state.flush();
  spy.mockRestore();
  expect(encoded.counts.length).toBeGreaterThan(3);
  expect(Math.max(...encoded.counts)).toBeLessThan(5_000);
  await state.close();
  const again = await openState();
  const rows = again.scan(Buffer.from('k'), undefined, { limit: 20_000 });
  expect(rows.map(([, value]) => text(value))).toEqual(keys);
  await again.close();
});

/** Every apply of the child wrote its index to the same keys. */
async function expectWholeApplies(durable: number): Promise<number> {
  const state = await openState();
  const { appliedIndex } = state;
  const rows = state.scan(Buffer.from('key-'), undefined, { limit: 100 });
  await state.close();
  expect(appliedIndex).toBeGreaterThanOrEqual(durable);
  expect(rows).toHaveLength(20);
  expect(new Set(rows.map(([, value]) => text(value)))).toEqual(new Set([String(appliedIndex)]));
  return appliedIndex;
}

const lastDurable = (lines: readonly string[]): number => Number(lines.at(-1)?.split(' ')[1]);

test('a kill at any moment keeps applies whole, and the index with them', async () => {
  let reached = 0;
  for (const lines of [1, 40]) {
    const child = startChild('applying-child.ts', [path]);
    await child.printed(lines);
    await child.kill();
    expect(lastDurable(child.lines)).toBeGreaterThan(reached);
    reached = await expectWholeApplies(lastDurable(child.lines));
  }
});

test.runIf(hasStrace)('a kill before any flush of the disk keeps applies whole', async () => {
  // Consecutive flushes: were an apply two transactions, one of these would fall between them.
  for (const at of [9, 10, 11]) {
    await rm(path, { recursive: true });
    const child = startChild('applying-child.ts', [path], {
      strace: [
        ...['-e', 'trace=fdatasync', '-o', '/dev/null'],
        ...['-e', `inject=fdatasync:signal=KILL:when=${at}`],
      ],
    });
    await child.ended();
    await expectWholeApplies(lastDurable(child.lines));
  }
});

describe.runIf(hasStrace)('a failed system call', () => {
  test.each([
    ['fdatasync', 'EIO'],
    ['pwrite64', 'ENOSPC'],
  ])('%s with %s ends all acknowledgement, at once and for good', async (call, error) => {
    for (const at of [4, 7]) {
      await rm(path, { recursive: true });
      const child = startChild('applying-child.ts', [path, '12'], {
        strace: [
          ...['-e', `trace=${call}`, '-o', '/dev/null'],
          ...['-e', `inject=${call}:error=${error}:when=${at}`],
        ],
      });
      await child.ended();
      const { lines } = child;
      const first = lines.findIndex((line) => line.startsWith('failure'));
      expect(first, lines.join()).toBeGreaterThanOrEqual(0);
      expect(lines[first]).toBe('failure StorageFailedError');
      expect(lines.slice(first + 1).filter((line) => line.startsWith('durable'))).toEqual([]);
      expect(lines.filter((line) => line.startsWith('failure'))).toHaveLength(1);
      const durable = Number(lines[first - 1]?.split(' ')[1] ?? 0);
      const state = await openState();
      expect(state.appliedIndex).toBeGreaterThanOrEqual(durable);
      await state.close();
    }
  });
});
