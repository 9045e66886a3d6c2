/** The log under power cuts, kills and failing disks. What was acknowledged must always come back. */
import { expect, test } from 'vitest';
import type { Log } from '../../server/ports.ts';
import { LogReleasedError, StorageFailedError } from '../../server/storage/errors.ts';
import { openWal } from '../../server/storage/wal.ts';
import { type Below, SimDisk, seeded } from './sim-disk.ts';
import { type Batch, identity, Ledger, openOn, type Reset } from './wal-driver.ts';

class DiskError extends Error {
  override name = 'DiskError';
}

/** Far more than any disk here lets through. */
const MAX_OPERATIONS = 2_000;

/** Appends, releases and resets at random until the disk halts or fails; resolves with what was under way. */
async function workUntil(
  disk: SimDisk,
  log: Log,
  ledger: Ledger,
  below: Below,
): Promise<{ inFlight: Batch | Reset | undefined; failure: unknown }> {
  for (let count = 0; count < MAX_OPERATIONS; count++) {
    if (below(8) === 0) {
      const index = Math.max(ledger.released, ledger.base.index + below(ledger.entries.length + 1));
      ledger.released = index;
      const outcome = await settledOrStopped(disk, log.release(index));
      if (outcome !== 'done') return { inFlight: undefined, failure: outcome.failure };
      continue;
    }
    if (below(12) === 0) {
      const reset = ledger.drawReset(below);
      const outcome = await settledOrStopped(disk, log.reset(reset.position, reset.hardState));
      if (outcome !== 'done') return { inFlight: reset, failure: outcome.failure };
      ledger.reset(reset);
      continue;
    }
    const batch = ledger.draw(below);
    const outcome = await settledOrStopped(disk, log.append(batch));
    if (outcome !== 'done') return { inFlight: batch, failure: outcome.failure };
    ledger.add(batch);
  }
  throw new Error(`the log did ${MAX_OPERATIONS} operations and noticed nothing`);
}

const stopped = new WeakMap<SimDisk, Promise<void>>();

async function settledOrStopped(
  disk: SimDisk,
  work: Promise<void>,
): Promise<'done' | { failure: unknown }> {
  const done = work.then(
    () => 'done' as const,
    (failure: unknown) => ({ failure }),
  );
  const halted = (stopped.get(disk) ?? new Promise<never>(() => {})).then(() => ({
    failure: undefined,
  }));
  return Promise.race([done, halted]);
}

/** At step `at` the disk never answers again. */
function haltAt(disk: SimDisk, at: number): void {
  let halt = (): void => {};
  stopped.set(
    disk,
    new Promise((resolve) => {
      halt = resolve;
    }),
  );
  let count = 0;
  disk.beforeStep = async () => {
    count += 1;
    if (count < at) return;
    halt();
    await new Promise(() => {});
  };
}

test('power cuts lose nothing that was acknowledged', { timeout: 60_000 }, async () => {
  let cuts = 0;
  let kept = 0;
  const resets = { kept: 0, lost: 0 };
  for (let seed = 1; seed <= 400; seed++) {
    const below = seeded(seed);
    let disk = new SimDisk();
    let ledger = new Ledger();
    for (let life = 0; life < 4; life++) {
      haltAt(disk, 1 + below(120));
      const opened = await Promise.race([openOn(disk), stopped.get(disk)]);
      if (opened !== undefined) {
        ledger.expectToMatch(opened.recovered);
        const { inFlight } = await workUntil(disk, opened.log, ledger, below);
        disk = disk.cutPower(below);
        const { recovered, log } = await openOn(disk);
        await log.close();
        disk = disk.restart();
        const withInFlight = inFlight === undefined ? ledger : ledger.with(inFlight);
        if (inFlight !== undefined && withInFlight.matches(recovered)) {
          ledger = withInFlight;
          kept += 1;
          if ('position' in inFlight) resets.kept += 1;
        } else {
          ledger.expectToMatch(recovered);
          if (inFlight !== undefined && 'position' in inFlight) resets.lost += 1;
        }
      } else disk = disk.cutPower(below);
      cuts += 1;
    }
  }
  expect(cuts).toBe(1_600);
  // Both fates of an unacknowledged write were met.
  expect(kept).toBeGreaterThan(50);
  expect(kept).toBeLessThan(1_500);
  expect(resets.kept).toBeGreaterThan(20);
  expect(resets.lost).toBeGreaterThan(20);
});

test('after a failed write nothing is acknowledged and nothing is written', async () => {
  for (let seed = 1; seed <= 200; seed++) {
    const below = seeded(seed);
    const disk = new SimDisk();
    const { log } = await openOn(disk);
    const ledger = new Ledger();
    let countdown = 1 + below(60);
    disk.beforeStep = (step, path) => {
      // Preparing a segment is tried again and promises nothing.
      if (path.endsWith('prepared.tmp') && step !== 'flush') return;
      countdown -= 1;
      if (countdown === 0) throw new DiskError('EIO: i/o error');
    };
    const { failure } = await workUntil(disk, log, ledger, below);
    expect(failure).toBeInstanceOf(StorageFailedError);
    expect((failure as StorageFailedError).cause).toBeInstanceOf(DiskError);
    await new Promise((resolve) => setImmediate(resolve));
    const steps = disk.steps.length;
    for (let attempt = 0; attempt < 3; attempt++) {
      await expect(async () => log.append(ledger.draw(below))).rejects.toBe(failure);
    }
    await expect(async () => log.release(ledger.released)).rejects.toBe(failure);
    const { position, hardState } = ledger.drawReset(below);
    await expect(async () => log.reset(position, hardState)).rejects.toBe(failure);
    expect(disk.steps.length).toBe(steps);
  }
});

test('what a restart reports after a failed flush is made durable first', async () => {
  const disk = new SimDisk();
  const { log } = await openOn(disk);
  const ledger = new Ledger();
  const below = seeded(7);
  for (let count = 0; count < 5; count++) {
    const batch = ledger.draw(below);
    await log.append(batch);
    ledger.add(batch);
  }
  disk.beforeStep = (step) => {
    if (step === 'flush') throw new DiskError('EIO: i/o error');
  };
  const lost = ledger.draw(below);
  await expect(log.append(lost)).rejects.toBeInstanceOf(StorageFailedError);

  // The bytes are in the cache, marked clean, and not on the platter.
  const restarted = disk.restart();
  const { recovered } = await openOn(restarted);
  ledger.with(lost).expectToMatch(recovered);
  const nothingCached: Below = () => 0;
  const { recovered: afterCut } = await openOn(restarted.cutPower(nothingCached));
  ledger.with(lost).expectToMatch(afterCut);
});

test('one source of chance gives one log, byte for byte', async () => {
  const written = async (seed: number): Promise<readonly Buffer[]> => {
    const disk = new SimDisk();
    const random = { below: seeded(seed) };
    const { log } = await openWal({ path: '/wal', identity, disk, segmentBytes: 8_192, random });
    const ledger = new Ledger();
    const below = seeded(1);
    for (let count = 0; count < 30; count++) {
      const batch = ledger.draw(below);
      await log.append(batch);
      ledger.add(batch);
    }
    const hardState = { term: 99, votedFor: 0n, commit: 900 };
    await log.reset({ index: 900, term: 99 }, hardState);
    return disk.files().map((path) => disk.bytes(path));
  };
  expect(await written(1)).toEqual(await written(1));
  expect(await written(1)).not.toEqual(await written(2));
});

test('each append is one write', async () => {
  const disk = new SimDisk();
  const { log } = await openOn(disk);
  const ledger = new Ledger();
  const below = seeded(3);
  for (let count = 0; count < 20; count++) {
    const before = disk.steps.length;
    const files = disk.files().length;
    const batch = ledger.draw(below);
    await log.append(batch);
    ledger.add(batch);
    if (disk.files().length !== files) continue;
    expect(disk.steps.slice(before).slice(0, 2)).toEqual(['write', 'flush']);
    expect(disk.steps.slice(before).filter((step) => step === 'flush')).toHaveLength(1);
  }
});

test('after a reset the files of the log before are gone, and its loss is noticed', async () => {
  const disk = new SimDisk();
  const { log } = await openOn(disk);
  const ledger = new Ledger();
  const below = seeded(5);
  for (let count = 0; count < 30; count++) {
    const batch = ledger.draw(below);
    await log.append(batch);
    ledger.add(batch);
  }
  expect(disk.files().filter((path) => path.endsWith('.wal')).length).toBeGreaterThan(1);
  // Until the files before are gone, the last of them says that the log goes on.
  const before = disk.files().filter((path) => path.endsWith('.wal'));
  let removed = 0;
  let seal: SimDisk | undefined;
  disk.beforeStep = (step) => {
    if (step !== 'remove') return;
    removed += 1;
    seal ??= disk.copy();
  };
  const reset = { index: ledger.lastIndex + 10, term: 99 };
  await log.reset(reset, { term: 100, votedFor: 0n, commit: reset.index });
  expect(removed).toBe(before.length);
  const files = disk.files().filter((path) => path.endsWith('.wal'));
  expect(files).toHaveLength(1);
  const restarted = seal ?? new SimDisk();
  expect((await openOn(restarted.copy())).recovered.start).toEqual(reset);
  const [newest = ''] = files;
  restarted.lose(newest);
  await expect(openOn(restarted)).rejects.toThrow(/the newest of the log, is missing/);
});

test('reading, releasing and restarting at the same time never damages anything', async () => {
  let released = 0;
  let read = 0;
  for (let seed = 1; seed <= 60; seed++) {
    const below = seeded(seed);
    const disk = new SimDisk();
    const { log } = await openOn(disk);
    const ledger = new Ledger();
    while (ledger.lastIndex < 120) {
      const batch = ledger.draw(below);
      await log.append(batch);
      ledger.add(batch);
    }
    disk.beforeStep = async () => {
      for (let turns = below(3); turns > 0; turns--) await Promise.resolve();
    };
    const reads = [1, 2, 3].map(async () => {
      const from = 1 + below(60);
      try {
        const found = await log.entries(from, ledger.lastIndex, 1_000_000);
        expect(found.map(({ index, term }) => [index, term])).toEqual(
          ledger.entries.slice(from - 1).map(({ index, term }) => [index, term]),
        );
        read += 1;
      } catch (error) {
        expect(error).toBeInstanceOf(LogReleasedError);
        released += 1;
      }
    });
    const release = log.release(60 + below(60));
    const position = { index: 200, term: 1_000 };
    const reset = log.reset(position, { term: 1_000, votedFor: 0n, commit: 200 });
    const again = log.release(110);
    await Promise.all([...reads, release, reset, again]);
    await log.append({
      entries: [{ index: 201, term: 1_000, kind: 'no-op', data: Buffer.alloc(0) }],
    });
    const { recovered } = await openOn(disk.restart());
    expect(recovered.start).toEqual(position);
    expect(recovered.entries).toHaveLength(1);
  }
  expect(read).toBeGreaterThan(10);
  expect(released).toBeGreaterThan(10);
});

/** Killed between giving the next segment its name and making the name durable. */
async function killedWithANewName(): Promise<{ disk: SimDisk; ledger: Ledger }> {
  const disk = new SimDisk();
  const { log } = await openOn(disk);
  const ledger = new Ledger();
  const below = seeded(1);
  let named = false;
  const killed = new Promise<void>((resolve) => {
    disk.beforeStep = async (step) => {
      if (step === 'rename') named = true;
      if (step !== 'sync directory' || !named) return;
      resolve();
      await new Promise(() => {});
    };
  });
  const working = (async () => {
    for (;;) {
      const batch = ledger.draw(below);
      await log.append(batch);
      ledger.add(batch);
    }
  })();
  await Promise.race([killed, working]);
  return { disk: disk.restart(), ledger };
}

test('a name that a killed process had not made durable is, before anything depends on it', async () => {
  const whole = (await killedWithANewName()).disk;
  await openOn(whole);
  for (let step = 0; step < whole.steps.length; step++) {
    for (let seed = 1; seed <= 10; seed++) {
      const { disk, ledger } = await killedWithANewName();
      let left = step;
      const reached = new Promise<void>((resolve) => {
        disk.beforeStep = async () => {
          if (left-- > 0) return;
          resolve();
          await new Promise(() => {});
        };
      });
      await Promise.race([openOn(disk), reached]);
      const { recovered } = await openOn(disk.cutPower(seeded(seed)));
      const last = recovered.entries.at(-1)?.index ?? recovered.start.index;
      expect(last).toBeGreaterThanOrEqual(ledger.lastIndex);
    }
  }
});
