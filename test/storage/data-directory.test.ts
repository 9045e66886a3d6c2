import {
  chmod,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { type DataDirectory, openDataDirectory } from '../../server/storage/data-directory.ts';
import { DataDirectoryInUse } from '../../server/storage/errors.ts';
import { readIdentity, recordRemoval } from '../../server/storage/identity.ts';
import { chunkChecksum } from '../../server/storage/transfer.ts';
import { startChild } from './child.ts';

const identity = { name: 'one', clusterId: 0xc1n, memberId: 2n ** 64n - 1n };
const isRoot = process.getuid?.() === 0;

let parent: string;
let path: string;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'conclave-data-'));
  path = join(parent, 'member');
});
afterEach(() => rm(parent, { recursive: true }));

const open = (overrides: { identity?: typeof identity; path?: string } = {}) =>
  openDataDirectory({
    path,
    identity,
    walSegmentBytes: 32_768,
    onFailure: (error) => {
      throw error;
    },
    ...overrides,
  });

/** Appends entries up to `last`, and applies up to `applied`. */
async function fill(directory: DataDirectory, last: number, applied: number): Promise<void> {
  for (let index = 1; index <= last; index++) {
    const data = Buffer.alloc(1_000, index);
    await directory.log.append({
      entries: [{ index, term: 1, kind: 'command', data }],
      hardState: { term: 1, votedFor: identity.memberId, commit: index },
    });
  }
  for (let index = 1; index <= applied; index++) {
    directory.state.apply(index, [
      { kind: 'put', key: Buffer.from('k'), value: Buffer.from(String(index)) },
    ]);
  }
}

test('is made with everything in it, readable by its owner only', async () => {
  const directory = await open();
  expect((await readdir(path)).sort()).toEqual(['identity.json', 'state', 'wal']);
  expect((await stat(path)).mode & 0o777).toBe(0o700);
  expect((await stat(join(path, 'identity.json'))).mode & 0o777).toBe(0o600);
  for (const file of await readdir(join(path, 'wal'))) {
    expect((await stat(join(path, 'wal', file))).mode & 0o077).toBe(0);
  }
  await directory.close();
  expect(await readIdentity(path)).toMatchObject(identity);
});

test('opens again with what was written', async () => {
  const directory = await open();
  await fill(directory, 5, 3);
  await directory.close();
  await directory.close();
  const again = await open();
  const recovered = again.takeRecovered();
  expect(recovered.entries).toHaveLength(5);
  expect(recovered.hardState.votedFor).toBe(identity.memberId);
  expect(again.state.appliedIndex).toBe(3);
  expect(Buffer.from(again.state.get(Buffer.from('k')) ?? []).toString()).toBe('3');
  await again.close();
});

test('has an incarnation of its own for all its life, and another one when it is made anew', async () => {
  const directory = await open();
  const { incarnation } = directory.identity;
  expect(incarnation).toBeGreaterThan(0n);
  expect(incarnation).toBeLessThan(2n ** 63n);
  await directory.close();
  const renamed = await open({ identity: { ...identity, name: 'renamed' } });
  expect(renamed.identity.incarnation).toBe(incarnation);
  await renamed.close();
  await rm(path, { recursive: true });
  const anew = await open();
  expect(anew.identity.incarnation).not.toBe(incarnation);
  await anew.close();
});

test('remembers that its member was removed, and is otherwise as before', async () => {
  const directory = await open();
  await recordRemoval(path, directory.identity, 'it was removed');
  await directory.close();
  const found = await readIdentity(path);
  expect(found).toEqual({ ...directory.identity, removed: 'it was removed' });
  await (await open()).close();
  expect(await readIdentity(path)).toEqual(found);
});

test('from before there were incarnations gets one, and keeps it', async () => {
  await (await open()).close();
  const file = join(path, 'identity.json');
  const content = await readFile(file, 'utf8');
  await writeFile(file, content.replace(/,\s*"incarnation": "[0-9a-f]+"/, ''));
  expect((await readIdentity(path))?.incarnation).toBeUndefined();
  const directory = await open();
  const { incarnation } = directory.identity;
  await directory.close();
  expect((await readIdentity(path))?.incarnation).toBe(incarnation);
});

test('remembers peers, and hands over its state and takes another', async () => {
  const other = await openDataDirectory({
    path: join(parent, 'other'),
    identity: { ...identity, memberId: 7n },
    onFailure: (error) => {
      throw error;
    },
  });
  await fill(other, 3, 3);
  const outbox = other.openOutbox(() => ({
    voters: [7n],
    outgoing: [],
    learners: [],
    learnersNext: [],
    autoLeave: false,
  }));
  const source = await outbox.take(3);
  const directory = await open();
  await directory.peers.remember(7n, other.identity.incarnation);
  const target = await directory.inbox.open(source);
  const bytes = await source.chunk(0);
  await target.write(0, bytes, chunkChecksum(bytes));
  await directory.state.install(await target.finish());
  await directory.log.reset(source, { term: 1, votedFor: 0n, commit: 3 });
  await other.close();
  expect(await readdir(join(parent, 'other', 'snapshots'))).toEqual([]);
  await directory.close();
  const again = await open();
  expect(again.peers.known(7n)).toBe(other.identity.incarnation);
  expect(again.takeRecovered().start.index).toBe(3);
  expect(Buffer.from(again.state.get(Buffer.from('k')) ?? []).toString()).toBe('3');
  expect((await readdir(path)).sort()).toEqual([
    'identity.json',
    'incoming',
    'peers.json',
    'state',
    'wal',
  ]);
  await again.close();
});

test('takes a new name for the same member', async () => {
  await (await open()).close();
  await (await open({ identity: { ...identity, name: 'renamed' } })).close();
  expect((await readIdentity(path))?.name).toBe('renamed');
});

describe('ownership', () => {
  test('is refused while this process has it, whatever the path', async () => {
    const directory = await open();
    await expect(open()).rejects.toBeInstanceOf(DataDirectoryInUse);
    await symlink(path, join(parent, 'link'));
    await expect(open({ path: join(parent, 'link') })).rejects.toMatchObject({ code: 'in-use' });
    await directory.close();
    await (await open()).close();
  });

  test('of another process ends with that process, also when it is killed', async () => {
    const child = startChild('owning-child.ts', [path]);
    await child.printed(1);
    const mine = { identity: { name: 'child', clusterId: 1n, memberId: 2n } };
    await expect(open(mine)).rejects.toThrow(/in use by another process/);
    await child.kill();
    await (await open(mine)).close();
  });

  test('is given up when opening fails', async () => {
    await (await open()).close();
    const other = { identity: { ...identity, memberId: 1n } };
    await expect(open(other)).rejects.toMatchObject({ code: 'other-identity' });
    await (await open()).close();
  });
});

describe('is refused', () => {
  test('when it is a file', async () => {
    await writeFile(path, '');
    await expect(open()).rejects.toMatchObject({ code: 'not-a-directory' });
    await expect(open({ path: join(path, 'below') })).rejects.toMatchObject({
      code: 'not-a-directory',
    });
  });

  test('when it holds something else', async () => {
    await mkdir(path, { mode: 0o700 });
    await writeFile(join(path, 'thesis.tex'), '');
    await expect(open()).rejects.toThrow(/contains thesis\.tex/);
    await rm(join(path, 'thesis.tex'));
    await (await open()).close();
  });

  test.each(['wal', 'snap'])('when it is etcd’s (member/%s)', async (part) => {
    await mkdir(join(path, 'member', part), { recursive: true, mode: 0o700 });
    await expect(open()).rejects.toThrow(/data directory of an etcd server/);
  });

  test('when it is another member’s or another cluster’s, naming both', async () => {
    await (await open()).close();
    await expect(open({ identity: { ...identity, clusterId: 0xc2n } })).rejects.toThrow(
      /belongs to member ffffffffffffffff of cluster c1, not to member ffffffffffffffff of cluster c2/,
    );
  });

  test('when a newer version wrote it', async () => {
    await (await open()).close();
    const file = join(path, 'identity.json');
    const content = await readFile(file, 'utf8');
    await writeFile(file, content.replace('"format": 1', '"format": 2'));
    await expect(open()).rejects.toMatchObject({ code: 'newer-format' });
  });

  test.each([
    '',
    '{',
    '[]',
    '{"format":1}',
    '{"format":1,"name":"x","clusterId":"zz","memberId":"1"}',
    '{"format":1,"name":"x","clusterId":"1","memberId":"1","incarnation":"zz"}',
  ])('when its identity is damaged: %s', async (content) => {
    await (await open()).close();
    await writeFile(join(path, 'identity.json'), content);
    await expect(open()).rejects.toThrow(/identity\.json is damaged/);
  });

  test('when others can write to it', async () => {
    await mkdir(path);
    await chmod(path, 0o777);
    await expect(open()).rejects.toThrow(/mode 777.*chmod 700/);
    await chmod(path, 0o770);
    await expect(open()).rejects.toMatchObject({ code: 'unsafe-permissions' });
  });

  test('when it may not be written to', async () => {
    await mkdir(path, { mode: 0o700 });
    await chmod(parent, 0o755);
    if (isRoot) process.seteuid?.(65_534);
    else await chmod(path, 0o500);
    try {
      await expect(open()).rejects.toMatchObject({ code: 'not-writable' });
      const beside = join(parent, 'beside', 'below');
      if (isRoot) await expect(open({ path: beside })).rejects.toThrow(/permission is denied/);
    } finally {
      if (isRoot) process.seteuid?.(0);
    }
  });

  test('when its log has lost its identity file', async () => {
    const directory = await open();
    await fill(directory, 3, 3);
    await directory.close();
    await rm(join(path, 'identity.json'));
    await expect(open()).rejects.toMatchObject({ code: 'incomplete' });
  });

  test('when its log is missing', async () => {
    await (await open()).close();
    await rm(join(path, 'wal'), { recursive: true });
    await expect(open()).rejects.toMatchObject({ code: 'corruption' });
  });
});

test('is tightened when others could only read it', async () => {
  await mkdir(path);
  await chmod(path, 0o755);
  await (await open()).close();
  expect((await stat(path)).mode & 0o777).toBe(0o700);
});

test('is completed after an interrupted creation', async () => {
  await (await open()).close();
  await rm(join(path, 'identity.json'));
  await writeFile(join(path, 'identity.json.tmp'), '{');
  await (await open()).close();
  expect(await readIdentity(path)).toMatchObject(identity);
});

describe('log and state', () => {
  test('an older state is replayed: the log reaches back to it', async () => {
    const directory = await open();
    await fill(directory, 20, 5);
    await directory.close();
    const again = await open();
    expect(again.state.appliedIndex).toBe(5);
    expect(again.takeRecovered().start.index).toBeLessThanOrEqual(5);
    await again.close();
  });

  test('a missing state is replayed from a whole log, and refused with a released one', async () => {
    const directory = await open();
    await fill(directory, 200, 200);
    await directory.close();
    await rm(join(path, 'state'), { recursive: true });
    const whole = await open();
    expect(whole.state.appliedIndex).toBe(0);
    expect(whole.takeRecovered().start.index).toBe(0);
    await whole.log.release(150);
    await whole.close();
    await rm(join(path, 'state'), { recursive: true });
    await expect(open()).rejects.toThrow(/up to entry 0 and the log begins at \d+/);
  });

  test('a state ahead of its log is refused', async () => {
    const directory = await open();
    await fill(directory, 10, 5);
    await directory.close();
    await cp(join(path, 'wal'), join(parent, 'old-wal'), { recursive: true });
    const later = await open();
    for (let index = 11; index <= 20; index++) {
      const data = Buffer.alloc(10);
      await later.log.append({ entries: [{ index, term: 1, kind: 'command', data }] });
    }
    later.state.apply(20, []);
    await later.close();
    await rm(join(path, 'wal'), { recursive: true });
    await cp(join(parent, 'old-wal'), join(path, 'wal'), { recursive: true });
    await expect(open()).rejects.toThrow(/up to entry 20 and the log ends at 10/);
  });
});
