/**
 * `once DIRECTORY FILE`: installs the file in a data directory, as a member does.
 * `often DIRECTORY ROUNDS`: installs one state after the other while others read, write and copy.
 */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { openDataDirectory } from '../../server/storage/data-directory.ts';
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
  let copied = 0;
  for (let round = 1; round <= rounds; round++) {
    const index = round * 100;
    const snapshot = await receivedFile(
      join(path, '..', `r${round}`),
      { index, term: 1 },
      contents(round),
    );
    // A large overlay, a flush and a copy are under way when it comes.
    state.apply(index - 10, contents(round + 100), 1);
    const flushed = state.flush();
    state.apply(index - 9, contents(round + 100), 1);
    let copying: Promise<void> | undefined;
    if (round % 2 === 1) {
      const target = join(path, '..', `copy-${round}`);
      await mkdir(target);
      copying = state.copyTo(target).then(() => {
        copied += 1;
      });
    }
    const before = state.scan(Buffer.from('key-'), undefined, { limit: 1_000 });
    const installed = state.install(snapshot);
    await installed;
    await log.reset({ index, term: 1 }, { term: 1, votedFor: 0n, commit: index });
    checkRows(round);
    await Promise.all([flushed, copying]);
    for (const [, value] of before) {
      if (value[0] !== round + 100) throw new Error('what was read before has changed');
    }
    state.apply(index + 1, contents(round), 1);
    if (round % 3 === 0) await state.flush();
    checkRows(round);
  }
  await directory.close();
  process.stdout.write(`installed ${rounds} copied ${copied}\n`);
}

await (mode === 'once' ? once() : often(Number(argument)));
