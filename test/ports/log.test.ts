import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LogReleasedError } from '../../server/storage/errors.ts';
import { MemoryLog } from '../../server/storage/memory.ts';
import { openWal } from '../../server/storage/wal.ts';
import { SimDisk } from '../storage/sim-disk.ts';
import { describeLog, type LogUnderTest } from './log.ts';

const identity = { clusterId: 0xc1n, memberId: 0x3en };

const memory = (log: MemoryLog): LogUnderTest => ({
  log,
  recovered: log.recovered(),
  reopen: async () => memory(log),
  async dispose() {},
});

/** Segments so small that a few appends fill one. */
const SEGMENT_BYTES = 8_192;

async function onSimDisk(disk: SimDisk): Promise<LogUnderTest> {
  const { log, recovered } = await openWal({
    path: '/wal',
    identity,
    disk,
    segmentBytes: SEGMENT_BYTES,
  });
  return {
    log,
    recovered,
    async reopen() {
      await log.close();
      return onSimDisk(disk.restart());
    },
    dispose: () => log.close(),
  };
}

async function onDisk(path: string): Promise<LogUnderTest> {
  const { log, recovered } = await openWal({ path, identity, segmentBytes: SEGMENT_BYTES });
  return {
    log,
    recovered,
    async reopen() {
      await log.close();
      return onDisk(path);
    },
    async dispose() {
      await log.close();
      await rm(path, { recursive: true });
    },
  };
}

describeLog('MemoryLog', async () => memory(new MemoryLog()), { runs: 300 });
describeLog('the log on a simulated disk', async () => onSimDisk(new SimDisk()), { runs: 300 });
describeLog(
  'the log on the real disk',
  async () => onDisk(await mkdtemp(join(tmpdir(), 'conclave-log-'))),
  { runs: 15 },
);

test.each([
  ['MemoryLog', async () => memory(new MemoryLog())],
  ['the log on a simulated disk', async () => onSimDisk(new SimDisk())],
])('%s refuses to read what it released', async (_, open) => {
  const { log } = await open();
  for (let index = 1; index <= 100; index++) {
    const data = Buffer.alloc(1_000);
    await log.append({ entries: [{ index, term: 1, kind: 'command', data }] });
  }
  await log.release(50);
  await expect(log.entries(1, 5, 100)).rejects.toBeInstanceOf(LogReleasedError);
  expect(await log.entries(51, 100, 1)).toHaveLength(1);
});
