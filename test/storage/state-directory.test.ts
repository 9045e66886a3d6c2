/** Which state counts after power cuts, damage and accidents. */
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { StateDirectory } from '../../server/storage/state-directory.ts';
import { SimDisk, seeded } from './sim-disk.ts';

const OLD = Buffer.from('the old state');
const NEW = Buffer.alloc(5_000, 'the new state');

/** A disk with a state on it, and a received one whose contents are in the cache alone. */
async function diskWithBoth(): Promise<SimDisk> {
  const disk = new SimDisk();
  disk.replace('/state/data.mdb', OLD);
  await (await disk.create('/incoming/ready')).write(NEW, 0);
  await disk.syncDirectory('/incoming');
  disk.steps.length = 0;
  return disk;
}

const position = { index: 9, term: 2 };

async function install(disk: SimDisk): Promise<void> {
  const directory = await StateDirectory.open('/state', disk);
  await directory.stage('/incoming/ready');
  await directory.propose(position);
  await directory.commit();
}

async function stateOn(disk: SimDisk): Promise<{ content: Buffer; installed: unknown }> {
  const directory = await StateDirectory.open('/state', disk);
  await directory.checkPresent();
  return {
    content: disk.bytes(join(directory.files, 'data.mdb')),
    installed: directory.installed,
  };
}

test('a power cut at any step leaves the old state or the new one, whole', async () => {
  const counting = await diskWithBoth();
  await install(counting);
  const { length } = counting.steps;
  expect(length).toBeGreaterThan(6);
  const outcomes = { old: 0, new: 0 };
  for (let step = 1; step <= length; step++) {
    for (let seed = 1; seed <= 40; seed++) {
      const disk = await diskWithBoth();
      let halt = (): void => {};
      const halted = new Promise<void>((resolve) => {
        halt = resolve;
      });
      let count = 0;
      disk.beforeStep = async () => {
        count += 1;
        if (count < step) return;
        halt();
        await new Promise(() => {});
      };
      await Promise.race([install(disk), halted]);
      const { content, installed } = await stateOn(disk.cutPower(seeded(step * 1_000 + seed)));
      if (installed === undefined) {
        expect(content.equals(OLD)).toBe(true);
        outcomes.old += 1;
      } else {
        expect(installed).toEqual(position);
        expect(content.equals(NEW)).toBe(true);
        outcomes.new += 1;
      }
    }
  }
  expect(outcomes.old).toBeGreaterThan(100);
  expect(outcomes.new).toBeGreaterThan(5);
});

test('what is committed survives every power cut, and so does its confirmation', async () => {
  for (let seed = 1; seed <= 50; seed++) {
    const disk = await diskWithBoth();
    await install(disk);
    const below = seeded(seed);
    const after = disk.cutPower(below);
    const { content, installed } = await stateOn(after);
    expect(content.equals(NEW)).toBe(true);
    expect(installed).toEqual(position);
    await (await StateDirectory.open('/state', after)).confirmInstalled();
    const confirmed = await stateOn(after.cutPower(below));
    expect(confirmed.content.equals(NEW)).toBe(true);
    expect(confirmed.installed).toBeUndefined();
  }
});

describe('on the real disk', () => {
  let path: string;
  beforeEach(async () => {
    path = await mkdtemp(join(tmpdir(), 'conclave-state-directory-'));
  });
  afterEach(() => rm(path, { recursive: true }));

  async function stage(directory: StateDirectory, content: string): Promise<void> {
    const file = join(path, 'received');
    await writeFile(file, content);
    await directory.stage(file);
  }

  test('a name is never used twice, and only what counts is kept', async () => {
    await writeFile(join(path, 'data.mdb'), 'first');
    await writeFile(join(path, 'lock.mdb'), '');
    const directory = await StateDirectory.open(path);
    await stage(directory, 'refused');
    await stage(directory, 'second');
    await directory.propose(position);
    await directory.commit();
    expect(await readdir(path)).toEqual([
      'CURRENT',
      'data.mdb',
      'installed-1',
      'installed-2',
      'lock.mdb',
    ]);
    await directory.clean();
    expect(await readdir(path)).toEqual(['CURRENT', 'installed-2']);
    const again = await StateDirectory.open(path);
    expect(await readFile(join(again.files, 'data.mdb'), 'utf8')).toBe('second');
    await stage(again, 'third');
    expect(await readdir(path)).toEqual(['CURRENT', 'installed-2', 'installed-3']);
    await (await StateDirectory.open(path)).clean();
    expect(await readdir(path)).toEqual(['CURRENT', 'installed-2']);
  });

  test('an installed state that is missing, or its pointer, is not an empty state', async () => {
    const directory = await StateDirectory.open(path);
    await stage(directory, 'content');
    await directory.propose(position);
    await directory.commit();
    const pointer = await readFile(join(path, 'CURRENT'), 'utf8');
    await rm(join(path, 'CURRENT'));
    await expect(StateDirectory.open(path)).rejects.toThrow(/CURRENT.*missing/);
    await writeFile(join(path, 'CURRENT'), pointer);
    await rm(join(path, 'installed-1', 'data.mdb'));
    const again = await StateDirectory.open(path);
    await expect(again.checkPresent()).rejects.toThrow(/the state is missing/);
    await mkdir(join(path, 'elsewhere'));
    await writeFile(join(path, 'CURRENT'), pointer.replace('installed-1', '../elsewhere'));
    await expect(StateDirectory.open(path)).rejects.toThrow(/damaged/);
  });

  test.each([
    '',
    'installed-1',
    '{}',
    '{"format":1}',
    '{"format":1,"directory":"installed-1","installed":{"index":1}}',
  ])('a damaged pointer is refused: %s', async (content) => {
    await writeFile(join(path, 'CURRENT'), content);
    await expect(StateDirectory.open(path)).rejects.toMatchObject({ code: 'corruption' });
  });

  test('a pointer of a newer version is refused', async () => {
    await writeFile(join(path, 'CURRENT'), '{"format":2,"directory":"installed-1"}');
    await expect(StateDirectory.open(path)).rejects.toMatchObject({ code: 'newer-format' });
  });
});
