/** Defects of the keyspace and of how its entries are applied. */
import type { Killer, Mutant, Patch } from '../mutant.ts';

const test = (file: string, name?: string): Killer =>
  name === undefined ? { kind: 'test', file } : { kind: 'test', file, name };

const machine = test('test/machine/machine.test.ts');

const mvcc = (number: number, name: string, patch: Patch, ...killers: Killer[]): Mutant => ({
  number,
  name,
  patches: [patch],
  killers,
});

export const mvccMutants: readonly Mutant[] = [
  mvcc(
    40,
    'two revisions for one transaction',
    {
      file: 'server/machine.ts',
      find: '      this.#revision = draft.nextRevision;',
      replace: '      this.#revision = draft.nextRevision + (draft.events.length > 1 ? 1 : 0);',
    },
    machine,
  ),
  mvcc(
    41,
    'a refused entry makes a revision',
    {
      file: 'server/machine.ts',
      find: '    return { writes: [], result: this.#fault(code), events: NO_EVENTS };',
      replace:
        '    const result = this.#fault(code);\n    this.#revision += 1;\n    return { writes: [], result, events: NO_EVENTS };',
    },
    machine,
  ),
  mvcc(
    42,
    'compaction removes the tombstone at its own revision',
    {
      file: 'server/mvcc/compaction.ts',
      find: 'if (!deleted || at.revision === compactRevision) continue;',
      replace: 'if (!deleted) continue;',
    },
    test('test/machine/machine.test.ts', 'compaction removes what is below'),
  ),
  mvcc(
    43,
    'compaction removes a version that is still to be read',
    {
      file: 'server/mvcc/compaction.ts',
      find: 'replaces.revision < compactRevision',
      replace: 'replaces.revision <= compactRevision',
    },
    test('test/machine/compaction.test.ts'),
    test('test/machine/machine.test.ts', 'compaction removes what is below'),
  ),
  mvcc(
    44,
    'an unfinished compaction passes for a finished one after a start',
    {
      file: 'server/mvcc/compaction-state.ts',
      find: 'progress === undefined ? NEVER_COMPACTED : decodeProgress(progress);',
      replace:
        'progress === undefined ? NEVER_COMPACTED : { ...decodeProgress(progress), finished: this.#revision };',
    },
    test('test/machine/compaction.test.ts'),
  ),
  mvcc(
    46,
    'applying an entry reads a clock',
    {
      file: 'server/machine.ts',
      find: 'value: encodeLease(ttlSeconds) }],',
      replace: 'value: encodeLease(ttlSeconds + (nowMs % 2)) }],',
    },
    test('test/machine/determinism.test.ts', 'the time of an entry decides nothing'),
  ),
];
