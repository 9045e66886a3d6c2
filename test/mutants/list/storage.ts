/** Defects of the log, the state on disk, and the transfer of states. */
import type { Mutant } from '../mutant.ts';
import { test } from './killers.ts';

const mutant = (
  number: number,
  name: string,
  [file, find, replace]: readonly [file: string, find: string, replace: string],
  killer: readonly [file: string, name: string],
): Mutant => ({
  number,
  name,
  patches: [{ file: `server/storage/${file}.ts`, find, replace }],
  killers: [test(...killer)],
});

const powerCuts = ['storage/wal-crash', 'power cuts lose nothing'] as const;
const killsAtEveryStep = ['storage/install', 'a kill before any step'] as const;

export const storageMutants: readonly Mutant[] = [
  mutant(
    19,
    'error of the flush swallowed',
    [
      'wal',
      'await segment.write(scratch.subarray(0, bytes), this.#offset, mayBlock);',
      'await segment.write(scratch.subarray(0, bytes), this.#offset, mayBlock).catch(() => {});',
    ],
    ['storage/wal-crash', 'after a failed write'],
  ),
  mutant(
    20,
    'rename without a flush of the directory',
    [
      'wal-segment',
      '    await this.#disk.rename(join(this.#directory, PREPARED), path);\n    await this.#disk.syncDirectory(this.#directory);\n',
      '    await this.#disk.rename(join(this.#directory, PREPARED), path);\n',
    ],
    powerCuts,
  ),
  mutant(
    21,
    'repair of a torn end also cuts damage in the middle',
    ['wal-recovery', 'const torn =\n        newest &&', 'const torn =\n        newest ||'],
    ['storage/wal-corruption', 'a damaged frame with an intact one behind it'],
  ),
  mutant(
    22,
    'checksum of a frame unchecked',
    [
      'wal-format',
      'if (frameChecksum(source, offset, end, salt) !== checksum) {',
      'if (salt < 0) {',
    ],
    ['storage/wal-corruption', 'a flipped bit anywhere'],
  ),
  mutant(
    23,
    'hard state written after the entries',
    [
      'wal',
      '      if (this.#offset + bytes > this.#current.limit) await this.#roll(content, bytes);\n      else await this.#write(content, bytes, mayBlock);',
      '      if (this.#offset + 2 * bytes > this.#current.limit) await this.#roll(content, bytes);\n      else {\n        const late = { hardState, termBefore: 0, entries: [] };\n        const first = { ...content, hardState: undefined };\n        await this.#write(first, frameBytes(undefined, entries), false);\n        await this.#write(late, frameBytes(hardState, []), false);\n      }',
    ],
    powerCuts,
  ),
  mutant(
    24,
    'installed state used before it is durable',
    ['state-directory', '        await moved.sync();\n', ''],
    ['storage/state-directory', 'a power cut at any step'],
  ),
  mutant(
    328,
    'a tail that conflicts with a snapshot is kept',
    [
      'wal-index',
      'index <= this.#lastIndex && this.termAt(index) === term;',
      'index <= this.#lastIndex && term > 0;',
    ],
    ['ports/log', 'without a tail that conflicts'],
  ),
  mutant(
    329,
    'two snapshots in quick succession: one removes the other',
    [
      'lmdb',
      'await this.#directory.remove(files).catch(() => undefined);',
      'await this.#directory.clean().catch(() => undefined);',
    ],
    ['storage/lmdb', 'right after another one'],
  ),
  {
    number: 39,
    name: 'applied position outside of the transaction of its writes',
    patches: [
      {
        file: 'server/storage/lmdb-store.ts',
        find: '      void this.#root.put(OWN_KEY, ownRecord(generation.applied));\n',
        replace: '',
      },
      {
        file: 'server/storage/lmdb-store.ts',
        find: '      await committed;\n',
        replace:
          '      await committed;\n      await this.#root.put(OWN_KEY, ownRecord(generation.applied));\n',
      },
    ],
    killers: [{ kind: 'test', file: 'test/storage/lmdb.test.ts', name: 'a kill before any flush' }],
  },
  mutant(
    301,
    'pointer to the state not flushed before it is renamed',
    ['state-directory', '      await file.sync();\n', ''],
    ['storage/state-directory', 'a power cut at any step'],
  ),
  mutant(
    302,
    'decision for a state not flushed',
    [
      'state-directory',
      '    await this.#disk.syncDirectory(this.#path);\n    this.#pointer',
      '    this.#pointer',
    ],
    ['storage/state-directory', 'what is committed survives'],
  ),
  mutant(
    303,
    'a lost pointer passes for an empty state',
    ['state-directory', '!names.includes(DATA_FILE) && names', 'names.length < 0 && names'],
    ['storage/state-directory', 'is not an empty state'],
  ),
  mutant(
    304,
    'any state ahead of its log makes the log restart',
    [
      'agreement',
      'if (installed?.index === applied.index && installed.term === applied.term)',
      'if (applied.index > 0)',
    ],
    ['storage/install', 'without an interrupted installation'],
  ),
  mutant(
    305,
    'an interrupted installation is not finished',
    [
      'agreement',
      'if (installed?.index === applied.index && installed.term === applied.term)',
      'if (installed?.index === -1)',
    ],
    killsAtEveryStep,
  ),
  mutant(
    306,
    'a vote of an earlier term counts in the term of a snapshot',
    ['agreement', 'votedFor: isLater ? NO_NODE : votedFor', 'votedFor'],
    killsAtEveryStep,
  ),
  mutant(
    307,
    'the mark of an installation is never taken away',
    ['wal', '    await this.#afterReset();\n', ''],
    ['storage/install', 'without an interrupted installation'],
  ),
  mutant(
    308,
    'an installation does not wait for the transaction under way',
    [
      'lmdb',
      '      await this.#drained;\n      this.#checkUsable();\n',
      '      this.#checkUsable();\n',
    ],
    ['storage/lmdb', 'waits for the transaction under way'],
  ),
  mutant(
    309,
    'a transaction begins during an installation',
    ['lmdb', 'this.#draining || this.#installing ||', 'this.#draining ||'],
    ['storage/lmdb', 'lets no transaction begin'],
  ),
  mutant(
    310,
    'a state is closed while it is copied',
    [
      'lmdb',
      'const unused = Promise.all([this.#retired, this.#copying]);',
      'const unused = Promise.all([this.#retired]);',
    ],
    ['storage/install', 'a copy under way'],
  ),
  mutant(
    311,
    'after an error a state is closed',
    [
      'lmdb',
      '    if (this.#failure !== undefined) return;\n    await store.close();',
      '    await store.close();',
    ],
    ['storage/lmdb', 'closes nothing after an error'],
  ),
  mutant(
    312,
    'what was flushed late of the old state shows in the new one',
    [
      'lmdb',
      '    this.#overlay = new Overlay(applied);\n    this.#reader = new MergedReader(this.#path, store, this.#overlay);\n    this.#durableIndex',
      '    this.#reader = new MergedReader(this.#path, store, this.#overlay);\n    this.#durableIndex',
    ],
    ['ports/state', 'replaces what was durable'],
  ),
  mutant(
    313,
    'a copy that is not the announced one is installed',
    [
      'lmdb-install',
      'if (applied.index !== index || applied.term !== term)',
      'if (applied.index < 0)',
    ],
    ['ports/state', 'is refused when it is not the one'],
  ),
  mutant(
    314,
    'a restarted log is read as the end of the old one',
    [
      'wal-recovery',
      '    this.#entries = [];\n    this.#hardState = header',
      '    this.#hardState = header',
    ],
    powerCuts,
  ),
  mutant(
    315,
    'the log before a restart is not marked as followed',
    ['wal', '    this.#inBackground(async () => before.at(-1)?.seal());\n', ''],
    ['storage/wal-crash', 'its loss is noticed'],
  ),
  mutant(
    316,
    'entries are read from a file that was removed meanwhile',
    ['wal', 'if (run.segment.isRetired)', 'if (from < 0)'],
    ['storage/wal-crash', 'at the same time'],
  ),
  mutant(
    317,
    'whole of a received state unchecked',
    ['incoming', 'if (Buffer.compare(sha256, announced.sha256) === 0) return;', 'return;'],
    ['ports/transfer', 'a whole with a wrong hash'],
  ),
  mutant(
    318,
    'chunks unchecked',
    ['incoming', 'if (chunkChecksum(bytes) === checksum) return;', 'return;'],
    ['ports/transfer', 'a damaged chunk'],
  ),
  mutant(
    319,
    'a gap between chunks is not seen',
    ['incoming', 'offset > haveBytes || ', ''],
    ['ports/transfer', 'chunks that do not follow'],
  ),
  mutant(
    320,
    'two transfers write one file',
    [
      'inbox',
      '    await this.#current?.suspend();\n    clearTimeout(this.#expiry);\n    await mkdir',
      '    clearTimeout(this.#expiry);\n    await mkdir',
    ],
    ['ports/transfer', 'whoever writes to a transfer'],
  ),
  mutant(
    321,
    'a received state fills the disk',
    [
      'incoming-file',
      '      await this.#checkSpace();\n    });\n  }\n\n  finish',
      '    });\n  }\n\n  finish',
    ],
    ['storage/transfer', 'a disk that fills up on the way'],
  ),
  mutant(
    322,
    'a copy is said to be of the moment when it was finished',
    [
      'outbox',
      'const { applied, configuration } = await describe(own, configurationOf);',
      'const { configuration } = await describe(own, configurationOf);\n      const { applied } = state;',
    ],
    ['ports/transfer', 'is a copy of one moment'],
  ),
  mutant(
    323,
    'a copy goes while others still send it',
    [
      'outgoing-copy',
      'if (this.#users > 0 || this.isRemoved) return;',
      'if (this.isRemoved) return;',
    ],
    ['ports/transfer', 'is shared by receivers'],
  ),
  mutant(
    324,
    'a peer is trusted before it is remembered',
    ['peers', '    await replaceFile(this', '    this.#known = next;\n    await replaceFile(this'],
    ['ports/peers', 'what could not be written'],
  ),
  mutant(
    325,
    'a wiped peer takes the place of the one that was known',
    ['peers', '    if (known !== undefined) throw new IncarnationError(member);\n', ''],
    ['ports/peers', 'refuses another incarnation'],
  ),
  mutant(
    326,
    'an incarnation lasts for one start',
    ['data-directory', 'existing?.incarnation ?? drawIncarnation()', 'drawIncarnation()'],
    ['storage/data-directory', 'has an incarnation of its own'],
  ),
  mutant(
    327,
    'a restored state forgets the term of its last entry',
    ['restore', 'index === 0 ? 0 : Math.max(1, term)', '1'],
    ['storage/snapshot', 'every member restored'],
  ),
  mutant(
    330,
    'what comes before all tables is not looked for',
    ['trees', 'last > 0 && end.length', 'end.length'],
    ['storage/trees', 'a range of keys'],
  ),
  mutant(
    331,
    'a state of an older format passes for one of this format',
    ['lmdb-store', 'if (format !== FORMAT)', 'if (format > FORMAT)'],
    ['storage/lmdb', 'that is older is refused'],
  ),
  mutant(
    694,
    'changed keys counted as new ones',
    ['merged-reader', ' - Number(wasThere)', ''],
    ['ports/state', 'counts thousands of keys'],
  ),
  mutant(
    695,
    'changes behind a step counted twice',
    ['merged-reader', 'if (counted !== undefined && name >= counted) break;', ''],
    ['ports/state', 'counts thousands of keys'],
  ),
  mutant(
    696,
    'a step of a count ends in the middle of a bucket',
    ['lmdb-store', 'if (isBucketMember(next)) {', 'if (isBucketMember(next) && step === 0) {'],
    ['ports/state', 'scans with limits across memory and disk'],
  ),
];
