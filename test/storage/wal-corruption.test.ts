/** Damaged logs: a clean refusal or a clean repair, and never a silent loss before the last frame. */
import { beforeAll, describe, expect, test } from 'vitest';
import type { Recovered } from '../../server/ports.ts';
import type { Entry } from '../../server/raft/message.ts';
import { CorruptionError, DataDirectoryError } from '../../server/storage/errors.ts';
import { openWal } from '../../server/storage/wal.ts';
import {
  decodeFrame,
  decodeSegmentHeader,
  encodeFrame,
  encodeSegmentHeader,
  FOOTER_BYTES,
  type Frame,
  HEADER_BYTES,
} from '../../server/storage/wal-format.ts';
import { SimDisk, seeded, walPath } from './sim-disk.ts';
import { identity, Ledger, openOn } from './wal-driver.ts';

type FramePlace = { readonly path: string; readonly offset: number; readonly bytes: number };

/** A log of several segments, and what it held after each frame. */
class Specimen {
  readonly disk = new SimDisk();
  readonly frames: FramePlace[] = [];
  /** `history[n]` is what the log held after n frames. */
  readonly history: Ledger[] = [new Ledger()];

  static async make(frames: number): Promise<Specimen> {
    const specimen = new Specimen();
    const { log } = await openOn(specimen.disk);
    const below = seeded(11);
    const ledger = new Ledger();
    for (let count = 0; count < frames; count++) {
      const batch = ledger.draw(below);
      await log.append(batch);
      ledger.add(batch);
      specimen.history.push(ledger.copy());
    }
    await log.close();
    for (const path of specimen.segments()) {
      const bytes = specimen.disk.bytes(path);
      const header = decodeSegmentHeader(bytes);
      if (header === undefined) throw new Error('the specimen is intact');
      for (let at = HEADER_BYTES; ; ) {
        const result = decodeFrame(bytes, at, bytes.length - FOOTER_BYTES, header.salt);
        if (result.kind !== 'frame') break;
        specimen.frames.push({ path, offset: at, bytes: result.frame.bytes });
        at += result.frame.bytes;
      }
    }
    expect(specimen.frames).toHaveLength(frames);
    return specimen;
  }

  segments(): readonly string[] {
    return this.disk.files().filter((path) => path.endsWith('.wal'));
  }

  get newest(): string {
    return this.segments().at(-1) ?? '';
  }

  get lastFrame(): FramePlace {
    const frame = this.frames.at(-1);
    if (frame === undefined) throw new Error('the specimen has frames');
    return frame;
  }
}

type Outcome = { kind: 'refused'; error: Error } | { kind: 'opened'; recovered: Recovered };

async function outcomeOf(disk: SimDisk): Promise<Outcome> {
  try {
    const { log, recovered } = await openWal({ path: '/wal', identity, disk, create: false });
    await log.close();
    return { kind: 'opened', recovered };
  } catch (error) {
    if (error instanceof CorruptionError || error instanceof DataDirectoryError) {
      return { kind: 'refused', error };
    }
    throw error;
  }
}

let specimen: Specimen;
beforeAll(async () => {
  specimen = await Specimen.make(40);
});

const damaged = (change: (disk: SimDisk) => void): SimDisk => {
  const disk = specimen.disk.copy();
  change(disk);
  return disk;
};

async function expectRefusal(disk: SimDisk, message: RegExp): Promise<void> {
  const outcome = await outcomeOf(disk);
  expect(outcome.kind).toBe('refused');
  if (outcome.kind === 'refused') expect(outcome.error.message).toMatch(message);
}

test('the specimen has several segments and opens', async () => {
  expect(specimen.segments().length).toBeGreaterThanOrEqual(3);
  const outcome = await outcomeOf(specimen.disk.copy());
  expect(outcome.kind === 'opened' && specimen.history.at(-1)?.matches(outcome.recovered)).toBe(
    true,
  );
});

test('a flipped bit anywhere is refused, or costs at most the last frame', async () => {
  const whole = specimen.history.at(-1);
  const withoutLast = specimen.history.at(-2);
  let refused = 0;
  let repaired = 0;
  for (const path of specimen.segments()) {
    const { length } = specimen.disk.bytes(path);
    const used = specimen.frames.filter((frame) => frame.path === path);
    const usedEnd = Math.max(...used.map(({ offset, bytes }) => offset + bytes));
    // Every third byte meets every alignment of 8.
    for (let at = 0; at < length; at += at < HEADER_BYTES ? 1 : 3) {
      // The zeros behind the last frame are all alike.
      if (at > usedEnd + 64 && at < length - FOOTER_BYTES - 64) continue;
      const outcome = await outcomeOf(
        damaged((disk) => {
          const bytes = disk.bytes(path);
          bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << (at % 8)), at);
        }),
      );
      if (outcome.kind === 'refused') {
        refused += 1;
        continue;
      }
      const inTail = path === specimen.newest && at >= specimen.lastFrame.offset;
      expect(inTail, `${path} at ${at}`).toBe(true);
      const expected = at < usedEnd ? withoutLast : whole;
      expect(expected?.matches(outcome.recovered), `${path} at ${at}`).toBe(true);
      repaired += 1;
    }
  }
  expect(refused).toBeGreaterThan(2_000);
  expect(repaired).toBeGreaterThan(50);
});

test('a file cut off at any place is refused', async () => {
  const full = specimen.disk.bytes(specimen.newest);
  for (let length = 0; length < full.length; length += 1) {
    if (length > 700 && length % 37 !== 0) continue;
    const disk = damaged((copy) => copy.replace(specimen.newest, full.subarray(0, length)));
    await expectRefusal(disk, /bytes and was made with|no intact header/);
  }
});

test('an unfinished last frame, cut at any place, is repaired', async () => {
  const { path, offset, bytes } = specimen.lastFrame;
  for (let written = 0; written < bytes; written += 7) {
    const disk = damaged((copy) => copy.bytes(path).fill(0, offset + written, offset + bytes));
    const outcome = await outcomeOf(disk);
    // The end of a frame may be zeros that were there already: then it is complete.
    const matches = (ledger: Ledger | undefined) =>
      outcome.kind === 'opened' && ledger?.matches(outcome.recovered) === true;
    expect(matches(specimen.history.at(-2)) || matches(specimen.history.at(-1))).toBe(true);
    // And the repair holds: the log goes on, and opens again.
    const { log, recovered } = await openOn(disk.restart());
    const ledger = (
      matches(specimen.history.at(-1)) ? specimen.history.at(-1) : specimen.history.at(-2)
    )?.copy();
    if (ledger === undefined) throw new Error('the specimen has a history');
    ledger.expectToMatch(recovered);
    const batch = ledger.draw(seeded(written));
    await log.append(batch);
    await log.close();
    const again = await openOn(disk.restart());
    ledger.with(batch).expectToMatch(again.recovered);
  }
});

test('an unfinished last frame that lacks its beginning is repaired', async () => {
  const { path, offset } = specimen.lastFrame;
  const outcome = await outcomeOf(damaged((disk) => disk.bytes(path).fill(0, offset, offset + 24)));
  expect(outcome.kind === 'opened' && specimen.history.at(-2)?.matches(outcome.recovered)).toBe(
    true,
  );
});

test('a damaged frame with an intact one behind it is refused', async () => {
  const inNewest = specimen.frames.filter(({ path }) => path === specimen.newest);
  expect(inNewest.length).toBeGreaterThanOrEqual(3);
  for (const frame of inNewest.slice(0, -1)) {
    const disk = damaged((copy) => {
      copy.bytes(frame.path).fill(0xee, frame.offset, frame.offset + frame.bytes);
    });
    await expectRefusal(disk, /at byte \d+: a frame has a wrong mark.*data directory/);
  }
});

test('two damaged frames at the end are refused: only one write is ever under way', async () => {
  const [first, second] = specimen.frames.slice(-2);
  if (first === undefined || second === undefined) throw new Error('the specimen has frames');
  const disk = damaged((copy) => {
    for (const { path, offset, bytes } of [first, second]) {
      const file = copy.bytes(path);
      file.writeUInt8(file.readUInt8(offset + bytes - 9) ^ 0xff, offset + bytes - 9);
    }
  });
  await expectRefusal(disk, /wrong checksum/);
});

describe('an intact frame', () => {
  /** Puts a frame with a right checksum behind the last one. */
  const withForged = (change: (frame: Frame, nextIndex: number) => Frame): SimDisk =>
    damaged((copy) => {
      const { path, offset } = specimen.lastFrame;
      const bytes = copy.bytes(path);
      const salt = decodeSegmentHeader(bytes)?.salt ?? 0;
      const result = decodeFrame(bytes, offset, bytes.length, salt);
      if (result.kind !== 'frame') throw new Error('the specimen is intact');
      const { frame } = result;
      const entries = specimen.history.at(-1)?.entries ?? [];
      const next: Frame = {
        ...frame,
        sequence: frame.sequence + 1,
        previousChecksum: frame.checksum,
        hardState: undefined,
        termBefore: entries.at(-1)?.term ?? 0,
        entries: [],
      };
      encodeFrame(bytes, offset + frame.bytes, { salt, ...change(next, entries.length + 1) });
    });
  const entry = (index: number): Entry => ({
    index,
    term: 99,
    kind: 'no-op',
    data: Buffer.alloc(0),
  });

  test('that fits is accepted', async () => {
    const disk = withForged((frame, next) => ({ ...frame, entries: [entry(next)] }));
    const outcome = await outcomeOf(disk);
    expect(outcome.kind === 'opened' && outcome.recovered.entries.at(-1)?.term).toBe(99);
  });

  test.each<[string, RegExp, (frame: Frame, nextIndex: number) => Frame]>([
    [
      'of another history',
      /does not continue the one before it/,
      (frame) => ({ ...frame, previousChecksum: (frame.previousChecksum ^ 1) >>> 0 }),
    ],
    [
      'out of sequence',
      /does not continue the one before it/,
      (frame) => ({ ...frame, sequence: frame.sequence + 1 }),
    ],
    [
      'that leaves a gap',
      /entries \d+ to \d+ are missing/,
      (frame, next) => ({ ...frame, entries: [entry(next + 3)] }),
    ],
    [
      'that follows another entry',
      /does not follow the one before it/,
      (frame, next) => ({ ...frame, termBefore: 98, entries: [entry(next)] }),
    ],
  ])('%s is refused', async (_, message, change) => {
    await expectRefusal(withForged(change), message);
  });
});

describe('segments', () => {
  test('missing at any place but the front are refused', async () => {
    const paths = specimen.segments();
    for (const path of paths.slice(1)) {
      await expectRefusal(
        damaged((disk) => disk.lose(path)),
        new RegExp(`${path}.*missing`),
      );
    }
  });

  test('missing at the front move the start, which the state must agree with', async () => {
    const [first] = specimen.segments();
    const outcome = await outcomeOf(damaged((disk) => disk.lose(first ?? '')));
    expect(outcome.kind === 'opened' && outcome.recovered.start.index).toBeGreaterThan(0);
  });

  test('with each other’s names are refused', async () => {
    const [first = '', second = ''] = specimen.segments();
    const disk = damaged((copy) => {
      const bytes = Buffer.from(copy.bytes(first));
      copy.replace(first, copy.bytes(second));
      copy.replace(second, bytes);
    });
    await expectRefusal(disk, /was written as/);
  });

  test('that occur twice are refused', async () => {
    const name = walPath('0000000000000099.wal');
    await expectRefusal(
      damaged((disk) => disk.replace(name, disk.bytes(specimen.newest))),
      /is missing/,
    );
  });

  test('of another run of the same log do not fit in', async () => {
    const other = await Specimen.make(40);
    const [, second = ''] = specimen.segments();
    await expectRefusal(
      damaged((disk) => disk.replace(second, other.disk.bytes(second))),
      /does not continue/,
    );
  });

  test('left half-prepared by a crash are removed', async () => {
    const disk = damaged((copy) => copy.replace(walPath('prepared.tmp'), Buffer.alloc(5)));
    expect((await outcomeOf(disk)).kind).toBe('opened');
    expect(disk.files()).not.toContain(walPath('prepared.tmp'));
  });

  test('strange files are named', async () => {
    const disk = damaged((copy) => copy.replace(walPath('notes.txt'), Buffer.alloc(5)));
    await expectRefusal(disk, /notes\.txt.*does not belong/);
  });

  test('that claim an enormous size are refused without allocating it', async () => {
    const disk = damaged((copy) => {
      const bytes = copy.bytes(specimen.newest);
      const header = decodeSegmentHeader(bytes);
      if (header === undefined) throw new Error('the specimen is intact');
      encodeSegmentHeader(bytes, { ...header, bytes: 2 ** 50 });
    });
    await expectRefusal(disk, /was made with 1125899906842624/);
  });

  test('of a newer format are refused with a different error', async () => {
    const disk = damaged((copy) => {
      const bytes = copy.bytes(specimen.newest);
      const header = decodeSegmentHeader(bytes);
      if (header === undefined) throw new Error('the specimen is intact');
      encodeSegmentHeader(bytes, { ...header, format: 2 });
    });
    const outcome = await outcomeOf(disk);
    expect(outcome).toMatchObject({ kind: 'refused', error: { code: 'newer-format' } });
  });

  test('of another member are refused', async () => {
    const opened = openWal({
      path: '/wal',
      identity: { ...identity, memberId: 0x77n },
      disk: specimen.disk.copy(),
    });
    await expect(opened).rejects.toMatchObject({ code: 'other-identity' });
  });

  test('all missing are refused where a log must exist', async () => {
    const opened = openWal({ path: '/wal', identity, disk: new SimDisk(), create: false });
    await expect(opened).rejects.toBeInstanceOf(CorruptionError);
  });
});

test('data that looks like a frame does not pass for one', async () => {
  const disk = new SimDisk();
  const { log } = await openOn(disk);
  const forged = Buffer.alloc(128);
  encodeFrame(forged, 0, {
    salt: 0,
    sequence: 99,
    previousChecksum: 0,
    hardState: undefined,
    termBefore: 0,
    entries: [{ index: 1, term: 1, kind: 'command', data: Buffer.from('forged') }],
  });
  // At every alignment, so that one copy lies where frames may begin.
  const data = Buffer.concat(
    Array.from({ length: 8 }, (_, shift) => Buffer.concat([forged, Buffer.alloc(shift + 1)])),
  );
  await log.append({ entries: [{ index: 1, term: 1, kind: 'command', data }] });
  await log.close();
  const path = disk.files().find((name) => name.endsWith('.wal')) ?? '';
  disk.bytes(path).fill(0, HEADER_BYTES, HEADER_BYTES + 24);
  const outcome = await outcomeOf(disk.restart());
  expect(outcome.kind === 'opened' && outcome.recovered.entries).toEqual([]);
});

test('ten thousand random injuries: refused, or nothing is missing that was whole', async () => {
  const below = seeded(2026);
  const newest = specimen.newest;
  let refused = 0;
  let opened = 0;
  for (let round = 0; round < 10_000; round++) {
    const disk = damaged((copy) => {
      for (let injuries = 1 + below(3); injuries > 0; injuries--) injure(copy, below);
    });
    const present = disk.files().includes(newest);
    const blankFrom = present ? endOfContent(disk.bytes(newest)) : 0;
    const intact = specimen.frames.filter(
      ({ path, offset }) => path !== newest || offset < blankFrom,
    ).length;
    const outcome = await outcomeOf(disk);
    if (outcome.kind === 'refused') {
      refused += 1;
      continue;
    }
    opened += 1;
    const allowed = [specimen.history[intact], specimen.history[intact - 1]];
    const { recovered } = outcome;
    // A missing front moves the start; what is there must still be right.
    const matches = allowed.some((ledger) => {
      if (ledger === undefined) return false;
      const seen = ledger.copy();
      seen.released = recovered.start.index;
      return seen.matches(recovered);
    });
    expect(matches, `round ${round}`).toBe(true);
  }
  expect(refused).toBeGreaterThan(5_000);
  expect(opened).toBeGreaterThan(100);
});

function endOfContent(bytes: Buffer): number {
  let end = bytes.length - FOOTER_BYTES;
  while (end > 0 && bytes[end - 1] === 0) end -= 1;
  return end;
}

function injure(disk: SimDisk, below: (bound: number) => number): void {
  const paths = disk.files().filter((name) => name.endsWith('.wal'));
  const path = paths[below(paths.length)];
  if (path === undefined) return;
  const bytes = disk.bytes(path);
  const content = endOfContent(bytes);
  // Mostly where something is written.
  const at = below(10) === 0 ? below(bytes.length) : below(Math.max(content, 1));
  const end = Math.min(bytes.length, at + 1 + below(below(2) === 0 ? 16 : 700));
  switch (below(8)) {
    case 0:
    case 1:
    case 2:
      bytes.writeUInt8(bytes.readUInt8(at) ^ (1 << below(8)), at);
      break;
    case 3:
      bytes.fill(0, at, end);
      break;
    case 4:
      for (let position = at; position < end; position++) bytes[position] = below(256);
      break;
    case 5:
      bytes.copy(bytes, below(bytes.length), at, end);
      break;
    case 6:
      disk.replace(path, bytes.subarray(0, at));
      break;
    default:
      disk.lose(path);
  }
}
