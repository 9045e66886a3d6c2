/**
 * `once DIRECTORY FILE`: installs the file in a data directory, as a member does.
 * `often DIRECTORY ROUNDS`: installs one state after the other while others read, write and flush.
 * `copying DIRECTORY`: installs a state while the one before is being copied.
 */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openDataDirectory } from '../../server/storage/data-directory.ts';
import { openLmdbState } from '../../server/storage/lmdb.ts';
import { receivedFile } from './received.ts';

const [mode = '', path = '', argument = ''] = process.argv.slice(2);
const directory = await openDataDirectory({
  path,
  identity: { name: 'one', clusterId: 1n, memberId: 2n },
  walSegmentBytes: 32_768,
  onFailure: (error) => {
    throw error;
  },
});
const { state, log } = directory;
process.stdout.write('open\n');

const put = (key: string, value: Buffer) =>
  ({ kind: 'put', key: Buffer.from(key), value }) as const;

async function once(): Promise<void> {
  await state.install({
    index: 50,
    term: 4,
    sizeBytes: 0,
    content: { kind: 'file', path: argument },
    async discard() {},
  });
  await log.reset({ index: 50, term: 4 }, { term: 5, votedFor: 0n, commit: 50 });
  await directory.close();
}

const KEYS = 60;
const keys = Array.from({ length: KEYS }, (_, number) => `key-${String(number).padStart(3, '0')}`);
/** Every key has the round as its value; some values are larger than a page, some than a buffer. */
const contents = (round: number) =>
  keys.map((key, number) => put(key, Buffer.alloc(number % 10 === 0 ? 70_000 : 2_000, round)));

function checkRows(expected: number | undefined): void {
  const rows = state.scan(Buffer.from('key-'), Buffer.from('key.'), { limit: 1_000 });
  const rounds = new Set(rows.flatMap(([, value]) => [value[0], value.at(-1)]));
  if (expected === undefined && rows.length === 0) return;
  if (rows.length === KEYS && rounds.size === 1 && (expected ?? rows[0]?.[1][0]) === [...rounds][0])
    return;
  throw new Error(`${rows.length} rows of rounds ${[...rounds].join()}, not ${expected}`);
}

async function often(rounds: number): Promise<void> {
  for (let round = 1; round <= rounds; round++) {
    const index = round * 100;
    const snapshot = await receivedFile(
      join(path, '..', `r${round}`),
      { index, term: 1 },
      contents(round),
    );
    // A large overlay and a flush are under way when it comes.
    state.apply(index - 10, contents(round + 100), 1);
    const flushed = state.flush();
    state.apply(index - 9, contents(round + 100), 1);
    const before = state.scan(Buffer.from('key-'), undefined, { limit: 1_000 });
    const installed = state.install(snapshot);
    await installed;
    await log.reset({ index, term: 1 }, { term: 1, votedFor: 0n, commit: index });
    checkRows(round);
    await flushed;
    for (const [, value] of before) {
      if (value[0] !== round + 100) throw new Error('what was read before has changed');
    }
    state.apply(index + 1, contents(round), 1);
    if (round % 3 === 0) await state.flush();
    checkRows(round);
  }
  await directory.close();
  process.stdout.write(`installed ${rounds}\n`);
}

/** The old state is large enough for its copy to be under way when it could be closed. */
async function whileCopying(round: number): Promise<boolean> {
  const value = Buffer.alloc(1_000_000, round);
  const index = round * 100;
  const old = keys.map((key) => put(key, value));
  state.apply(index - 1, old, 1);
  await state.flush();
  const beside = join(path, '..', `round-${round}`);
  const snapshot = await receivedFile(beside, { index, term: 1 }, contents(round));
  const target = join(beside, 'target');
  await mkdir(target);
  let isCopied = false;
  const copying = state.copyTo(target).then(() => {
    isCopied = true;
  });
  while (!existsSync(join(target, 'data.mdb'))) {
    await new Promise((resolve) => setImmediate(resolve));
  }
  await state.install(snapshot);
  const wasCopying = !isCopied;
  checkRows(round);
  await copying;
  const copied = await openLmdbState({
    path: target,
    onFailure: (error) => {
      throw error;
    },
  });
  const rows = copied.scan(Buffer.from('key-'), undefined, { limit: 1_000 });
  if (wasCopying && (copied.appliedIndex !== index - 1 || rows.length !== KEYS)) {
    throw new Error(`the copy is of entry ${copied.appliedIndex} with ${rows.length} rows`);
  }
  await copied.close();
  return wasCopying;
}

async function copying(): Promise<void> {
  let round = 1;
  while (round < 8 && !(await whileCopying(round))) round += 1;
  await directory.close();
  process.stdout.write(round < 8 ? 'installed while copying\n' : 'never met\n');
}

switch (mode) {
  case 'once':
    await once();
    break;
  case 'often':
    await often(Number(argument));
    break;
  default:
    await copying();
}
