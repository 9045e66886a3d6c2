/** A member's data directory while a state that another member sent takes the place of its own. */
import { cp, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { State, Write } from '../../server/ports.ts';
import {
  type DataDirectory,
  type DataDirectoryOptions,
  openDataDirectory,
} from '../../server/storage/data-directory.ts';
import { type Disk, nodeDisk } from '../../server/storage/disk.ts';
import { NoSpaceError, StorageFailedError } from '../../server/storage/errors.ts';
import { hasStrace, startChild } from './child.ts';
import { receivedFile } from './received.ts';

const identity = { name: 'one', clusterId: 1n, memberId: 2n };
const position = { index: 50, term: 4 };
const hardState = { term: 5, votedFor: 0n, commit: 50 };
const oldTerm = { term: 3, votedFor: 9n, commit: 20 };

let base: string;
let path: string;
beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'conclave-install-'));
  path = join(base, 'member');
});
afterEach(() => rm(base, { recursive: true }));

const open = (options: Partial<DataDirectoryOptions> = {}): Promise<DataDirectory> =>
  openDataDirectory({
    path,
    identity,
    walSegmentBytes: 32_768,
    onFailure: (error) => {
      throw error;
    },
    ...options,
  });

const put = (key: string, value: string): Write => ({
  kind: 'put',
  key: Buffer.from(key),
  value: Buffer.from(value),
});
const text = (state: State, key: string): string | undefined => {
  const value = state.get(Buffer.from(key));
  return value === undefined ? undefined : Buffer.from(value).toString();
};

/** Entries 1 to 20 of term 3 in the log, and 10 of them applied. */
async function fill(directory: DataDirectory): Promise<void> {
  const { log, state } = directory;
  for (let index = 1; index <= 20; index++) {
    const data = Buffer.alloc(2_000);
    const entries = [{ index, term: 3, kind: 'command', data } as const];
    await log.append({ entries, hardState: oldTerm });
  }
  for (let index = 1; index <= 10; index++) {
    state.apply(index, [put('value', 'old'), put(`old-${index}`, '')], 3);
  }
  await state.flush();
}

let received = 0;
const receive = (at = position) => {
  received += 1;
  return receivedFile(join(base, `received-${received}`), at, [put('value', 'new')]);
};

/** What a member does with a snapshot, and a little more. */
async function installAndGoOn(directory: DataDirectory): Promise<void> {
  const { log, state } = directory;
  await state.install(await receive());
  await log.reset(position, hardState);
  const entry = { index: 51, term: 5, kind: 'command', data: Buffer.alloc(0) } as const;
  await log.append({ entries: [entry] });
  state.apply(51, [put('more', '')], 5);
  await state.flush();
}

/** Opens the directory after a stop at any moment of `installAndGoOn`, and says how far that had come. */
async function outcomeIn(place: string): Promise<'old' | 'installed' | 'restarted' | 'appended'> {
  const directory = await open({ path: place });
  const { state } = directory;
  const recovered = directory.takeRecovered();
  await directory.close();
  const again = await open({ path: place });
  expect(again.takeRecovered()).toEqual(recovered);
  const value = text(again.state, 'value');
  const { applied } = again.state;
  const isMixed = text(again.state, 'old-1') !== undefined && value === 'new';
  expect(isMixed).toBe(false);
  await again.close();
  const { start, entries } = recovered;
  if (value === 'old') {
    expect(applied).toEqual({ index: 10, term: 3 });
    expect(recovered.hardState).toEqual(oldTerm);
    expect(start.index + entries.length).toBe(20);
    return 'old';
  }
  expect(applied.index).toBe(state.appliedIndex);
  expect(start).toEqual(position);
  if (entries.length > 0) return 'appended';
  expect(applied).toEqual(position);
  if (recovered.hardState.term === 5) return 'restarted';
  expect(recovered.hardState).toEqual({ term: 4, votedFor: 0n, commit: 50 });
  return 'installed';
}

/** A disk that calls `before` ahead of everything that changes it. */
function watched(before: (step: string, target: string) => Promise<void>): Disk {
  return {
    ...nodeDisk,
    async makeDirectory(target) {
      await before('make', target);
      await nodeDisk.makeDirectory(target);
    },
    async create(target) {
      await before('create', target);
      const file = await nodeDisk.create(target);
      return {
        write: async (bytes, offset) => {
          await before('write', target);
          await file.write(bytes, offset);
        },
        read: (bytes, offset) => file.read(bytes, offset),
        size: () => file.size(),
        sync: async () => {
          await before('sync', target);
          await file.sync();
        },
        close: () => file.close(),
      };
    },
    async rename(from, to) {
      await before('rename', to);
      await nodeDisk.rename(from, to);
    },
    async remove(target) {
      await before('remove', target);
      await nodeDisk.remove(target);
    },
    async syncDirectory(target) {
      await before('sync directory', target);
      await nodeDisk.syncDirectory(target);
    },
  };
}

test('a kill before any step leaves the state before or after, with the log that belongs to it', async () => {
  let copies = 0;
  let isWatching = false;
  const disk = watched(async () => {
    if (!isWatching) return;
    copies += 1;
    await cp(path, join(base, `killed-${copies}`), { recursive: true });
  });
  const directory = await open({ disk });
  await fill(directory);
  isWatching = true;
  await installAndGoOn(directory);
  isWatching = false;
  await directory.close();
  const outcomes: string[] = [];
  for (let copy = 1; copy <= copies; copy++) {
    const outcome = await outcomeIn(join(base, `killed-${copy}`));
    if (outcomes.at(-1) !== outcome) outcomes.push(outcome);
  }
  // In this order, and nothing twice: there is no way back.
  expect(outcomes).toEqual(['old', 'installed', 'restarted']);
  expect(copies).toBeGreaterThan(15);
  expect(await outcomeIn(path)).toBe('appended');
  expect((await readdir(join(path, 'state'))).sort()).toEqual(['CURRENT', 'installed-1']);
});

test.runIf(hasStrace)('a real kill at each step that decides does the same', async () => {
  const directory = await open();
  await fill(directory);
  await directory.close();
  const prepared = await receive();
  if (prepared.content.kind !== 'file') throw new Error('it is a file');
  const outcomes: string[] = [];
  // Renames of the data, of the pointer to it, of the log's new segment, and of the pointer again.
  for (const at of [2, 3, 4]) {
    const place = join(base, `strace-${at}`);
    await cp(path, place, { recursive: true });
    const file = join(base, `strace-${at}.mdb`);
    await cp(prepared.content.path, file);
    const child = startChild('installing-child.ts', ['once', place, file], {
      strace: [
        ...['-e', 'trace=rename', '-o', '/dev/null'],
        ...['-e', `inject=rename:signal=KILL:when=${at}`],
      ],
    });
    expect(await child.ended()).toBe('SIGKILL');
    expect(child.lines).toEqual(['open']);
    outcomes.push(await outcomeIn(place));
  }
  expect(outcomes).toEqual(['old', 'installed', 'restarted']);
});

test('many installations under reads, writes and flushes end as they should', async () => {
  const child = startChild('installing-child.ts', ['often', join(base, 'often'), '12'], {
    threads: 4,
  });
  expect(await child.ended(), child.lines.join()).toBe(0);
  expect(child.lines.at(-1)).toBe('installed 12');
});

test('a copy under way is finished from the state before', async () => {
  const child = startChild('installing-child.ts', ['copying', join(base, 'copying')], {
    threads: 4,
  });
  expect(await child.ended(), child.lines.join()).toBe(0);
  expect(child.lines.at(-1)).toBe('installed while copying');
});

describe('what was left by a stop', () => {
  test('is finished at the next start; a vote in a later term stands', async () => {
    const directory = await open();
    await fill(directory);
    const later = { term: 9, votedFor: 7n, commit: 20 };
    await directory.log.append({ entries: [], hardState: later });
    await directory.state.install(await receive());
    await directory.close();
    const again = await open();
    expect(again.takeRecovered()).toEqual({
      hardState: { ...later, commit: 50 },
      start: position,
      entries: [],
    });
    await again.close();
  });

  test('keeps a log that has the entry', async () => {
    const directory = await open();
    await fill(directory);
    await directory.state.install(await receive({ index: 15, term: 3 }));
    await directory.close();
    const again = await open();
    expect(again.state.applied).toEqual({ index: 15, term: 3 });
    expect(again.takeRecovered().entries).toHaveLength(20);
    await again.close();
  });
});

describe('without an interrupted installation, refused is', () => {
  test('a log that lacks what was installed', async () => {
    const directory = await open();
    await fill(directory);
    await directory.close();
    await cp(join(path, 'wal'), join(base, 'old-wal'), { recursive: true });
    const later = await open();
    await later.state.install(await receive());
    await later.log.reset(position, hardState);
    await later.close();
    await rm(join(path, 'wal'), { recursive: true });
    await cp(join(base, 'old-wal'), join(path, 'wal'), { recursive: true });
    await expect(open()).rejects.toMatchObject({
      code: 'mismatch',
      message: expect.stringMatching(/up to entry 50 and the log ends at 20.*member replace/),
    });
  });

  test('a log in which the last applied entry is of another term', async () => {
    const directory = await open();
    await fill(directory);
    directory.state.apply(15, [], 2);
    await directory.close();
    await expect(open()).rejects.toThrow(
      /up to entry 15 of term 2 and in the log that entry is of term 3: they are of two histories/,
    );
  });
});

describe('an installation that fails', () => {
  /** Fails at one step, once it is told to. */
  function failing(step: string, target: RegExp, code: string): { disk: Disk; arm(): void } {
    let isArmed = false;
    const disk = watched(async (done, place) => {
      if (!isArmed || done !== step || !target.test(place)) return;
      throw Object.assign(new Error(`${code}: injected`), { code });
    });
    return {
      disk,
      arm: () => {
        isArmed = true;
      },
    };
  }

  test.each([
    ['make', /installed-1$/],
    ['rename', /installed-1.data\.mdb$/],
    ['create', /CURRENT\.tmp$/],
    ['write', /CURRENT\.tmp$/],
  ])('for want of room, at %s %s, changes nothing and leaves nothing', async (step, target) => {
    const { disk, arm } = failing(step, target, 'ENOSPC');
    const directory = await open({ disk });
    await fill(directory);
    arm();
    const snapshot = await receive();
    await expect(directory.state.install(snapshot)).rejects.toBeInstanceOf(NoSpaceError);
    expect(
      snapshot.content.kind === 'file' && (await readdir(join(snapshot.content.path, '..'))),
    ).toEqual([]);
    expect(text(directory.state, 'value')).toBe('old');
    directory.state.apply(11, [put('more', '')], 3);
    await directory.state.flush();
    await directory.close();
    expect(await readdir(join(path, 'state'))).not.toContain('installed-1');
    expect(await outcomeAfterMore()).toBe('old');
  });

  const outcomeAfterMore = async (): Promise<string | undefined> => {
    const directory = await open();
    const value = text(directory.state, 'value');
    expect(directory.state.applied).toEqual({ index: 11, term: 3 });
    await directory.close();
    return value;
  };

  test.each(['rename', 'sync directory'])(
    'when it is decided, at %s, ends everything: nobody knows which state counts',
    async (step) => {
      const target = step === 'rename' ? /CURRENT$/ : /state$/;
      const failures: Error[] = [];
      let renamed = false;
      const disk = watched(async (done, place) => {
        // The directory is flushed before, too; the flush that decides is the one after the rename.
        if (done === 'rename' && place.endsWith('CURRENT')) renamed = true;
        if (renamed && done === step && target.test(place)) throw new Error('EIO: injected');
      });
      const directory = await open({ disk, onFailure: (error) => failures.push(error) });
      await fill(directory);
      const installed = directory.state.install(await receive());
      await expect(installed).rejects.toBeInstanceOf(StorageFailedError);
      expect(failures).toHaveLength(1);
      expect(() => directory.state.apply(11, [], 3)).toThrow(StorageFailedError);
      expect(() => directory.state.get(Buffer.from('value'))).toThrow(StorageFailedError);
      await expect(directory.close()).rejects.toBeInstanceOf(StorageFailedError);
    },
  );
});
