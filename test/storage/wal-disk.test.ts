/** The log on the real disk: how files are opened, and what a kill leaves. */
import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { openWal } from '../../server/storage/wal.ts';
import { startChild } from './child.ts';

const identity = { clusterId: 1n, memberId: 2n };
let path: string;
beforeEach(async () => {
  path = await mkdtemp(join(tmpdir(), 'conclave-wal-'));
});
afterEach(() => rm(path, { recursive: true }));

test.runIf(process.platform === 'linux')('segments are open with O_DSYNC', async () => {
  const { log } = await openWal({ path, identity });
  const flags: number[] = [];
  for (const fd of await readdir('/proc/self/fd')) {
    const target = await readlink(`/proc/self/fd/${fd}`).catch(() => '');
    if (!target.startsWith(path) || !target.endsWith('.wal')) continue;
    const info = await readFile(`/proc/self/fdinfo/${fd}`, 'utf8');
    flags.push(Number.parseInt(/flags:\s+(\d+)/.exec(info)?.[1] ?? '0', 8));
  }
  await log.close();
  const O_DSYNC = 0o10000;
  expect(flags.map((flag) => flag & O_DSYNC)).toEqual([O_DSYNC]);
});

test('a kill at any moment loses nothing that was acknowledged', { timeout: 60_000 }, async () => {
  let reached = 0;
  for (const lines of [1, 40, 90]) {
    const child = startChild('appending-child.ts', [path]);
    await child.printed(lines);
    await child.kill();
    const acknowledged = Number(child.lines.at(-1));
    const { log, recovered } = await openWal({ path, identity, create: false });
    await log.close();
    const last = recovered.start.index + recovered.entries.length;
    expect(last).toBeGreaterThanOrEqual(acknowledged);
    expect(last).toBeLessThanOrEqual(acknowledged + 6);
    expect(acknowledged).toBeGreaterThan(reached);
    for (const { index, data } of recovered.entries) {
      expect(Buffer.compare(data, Buffer.alloc(index % 500, index))).toBe(0);
    }
    reached = last;
  }
});
