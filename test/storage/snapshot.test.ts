import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openDataDirectory } from '../../server/storage/data-directory.ts';
import { restoreSnapshot } from '../../server/storage/restore.ts';
import { takeSnapshot } from '../../server/storage/snapshot.ts';

const identity = { name: 'one', clusterId: 7n, memberId: 9n };
const onFailure = (error: Error): void => {
  throw error;
};
let base: string;

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), 'snapshot-'));
});
afterEach(() => rm(base, { recursive: true, force: true }));

const restore = (file: string, directory: string) =>
  restoreSnapshot({
    file,
    directory,
    identity,
    adapt: () => [{ kind: 'remove', key: bytes('k1') }],
  });

const bytes = (text: string): Buffer => Buffer.from(text);

/** A directory with 100 entries applied and logged, and a saved snapshot of it. */
async function saved(): Promise<string> {
  const path = join(base, 'source');
  const directory = await openDataDirectory({ path, identity, onFailure });
  for (let index = 1; index <= 100; index++) {
    const entry = { index, term: 6, kind: 'command', data: bytes('x') } as const;
    await directory.log.append({ entries: [entry] });
    const write = { kind: 'put', key: bytes(`k${index}`), value: bytes(`v${index}`) } as const;
    directory.state.apply(index, [write], 6);
  }
  const copy = await takeSnapshot(path, directory.state);
  directory.state.apply(101, [{ kind: 'put', key: bytes('later'), value: bytes('no') }]);
  const chunks: Uint8Array[] = [];
  for await (const chunk of copy.chunks) chunks.push(chunk);
  const payload = Buffer.concat(chunks);
  expect(payload.length).toBe(copy.sizeBytes);
  expect(await readdir(join(path, 'snapshots'))).toEqual([]);
  await directory.close().catch(() => undefined);
  const file = join(base, 'saved');
  await writeFile(file, Buffer.concat([payload, createHash('sha256').update(payload).digest()]));
  return file;
}

test('a restored directory holds the state of the snapshot and goes on behind it', async () => {
  const file = await saved();
  const path = join(base, 'restored');
  expect(await restore(file, path)).toEqual({ appliedIndex: 100 });

  const directory = await openDataDirectory({ path, identity, onFailure });
  expect(directory.state.appliedIndex).toBe(100);
  expect(directory.takeRecovered().start).toEqual({ index: 100, term: 6 });
  expect(Buffer.from(directory.state.get(bytes('k100')) ?? []).toString()).toBe('v100');
  expect(directory.state.get(bytes('later'))).toBeUndefined();
  expect(directory.state.get(bytes('k1'))).toBeUndefined();
  await directory.close();
});

test('every member restored from one file has the same state and a log that begins alike', async () => {
  const file = await saved();
  const members = [1n, 2n, 3n].map((memberId) => ({
    path: join(base, `member-${memberId}`),
    identity: { name: `member ${memberId}`, clusterId: 11n, memberId },
  }));
  const found: unknown[] = [];
  const incarnations = new Set<bigint>();
  for (const { path, identity } of members) {
    await restoreSnapshot({
      file,
      directory: path,
      identity,
      adapt: () => [{ kind: 'put', key: bytes('roster'), value: bytes('1,2,3') }],
    });
    const directory = await openDataDirectory({ path, identity, onFailure });
    const { state } = directory;
    incarnations.add(directory.identity.incarnation);
    const rows = state.scan(Buffer.alloc(0), undefined, { limit: 1_000 });
    const texts = rows.map(([key, value]) =>
      [key, value].map((part) => Buffer.from(part).toString()),
    );
    expect(texts).toHaveLength(101);
    found.push({ applied: state.applied, recovered: directory.takeRecovered(), texts });
    await directory.close();
  }
  const [first, ...others] = found;
  expect(first).toMatchObject({
    applied: { index: 100, term: 6 },
    recovered: {
      hardState: { term: 6, votedFor: 0n, commit: 100 },
      start: { index: 100, term: 6 },
      entries: [],
    },
  });
  for (const other of others) expect(other).toEqual(first);
  expect(incarnations.size).toBe(3);
});

test('a damaged snapshot is refused and leaves nothing that looks like data', async () => {
  const file = await saved();
  const contents = await readFile(file);
  contents[5000] = (contents[5000] ?? 0) ^ 1;
  await writeFile(file, contents);
  const path = join(base, 'restored');
  await expect(restore(file, path)).rejects.toMatchObject({ code: 'corruption' });
  expect(await readdir(path)).toEqual([]);
});

test('a directory that belongs to a member is not overwritten', async () => {
  const file = await saved();
  await expect(restore(file, join(base, 'source'))).rejects.toMatchObject({
    code: 'not-empty',
  });
});

test("a snapshot of etcd is recognised, and a directory of somebody else's is left as it is", async () => {
  const bolt = Buffer.alloc(8192);
  bolt.writeUInt32LE(0xed0cdaed, 16);
  const file = join(base, 'bolt');
  await writeFile(file, Buffer.concat([bolt, createHash('sha256').update(bolt).digest()]));
  await expect(restore(file, join(base, 'restored'))).rejects.toThrow(/snapshot of etcd/);

  const foreign = join(base, 'foreign');
  await mkdir(foreign, { mode: 0o755 });
  await writeFile(join(foreign, 'package.json'), '{}');
  await expect(restore(file, foreign)).rejects.toMatchObject({ code: 'not-empty' });
  expect((await stat(foreign)).mode & 0o777).toBe(0o755);
});
