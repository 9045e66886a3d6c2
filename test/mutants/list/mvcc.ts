/** Defects of the keyspace and of how its entries are applied. */
import type { Killer, Mutant, Patch } from '../mutant.ts';
import { test } from './killers.ts';

const model = test('machine/machine', 'agrees with the model');
const compacted = test('machine/machine', 'compaction removes what is below');

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
    model,
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
    model,
  ),
  mvcc(
    42,
    'compaction removes the tombstone at its own revision',
    {
      file: 'server/mvcc/compaction.ts',
      find: 'if (!deleted || at.revision === compactRevision) continue;',
      replace: 'if (!deleted) continue;',
    },
    compacted,
  ),
  mvcc(
    43,
    'compaction removes a live version',
    {
      file: 'server/mvcc/compaction.ts',
      find: 'if (!deleted || at.revision === compactRevision) continue;',
      replace: 'if (at.revision === compactRevision) continue;',
    },
    test('machine/compaction', 'the newest version at or below'),
    compacted,
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
    test('machine/compaction', 'a compaction cut short by a restart'),
  ),
  {
    number: 45,
    name: 'defragmentation loses the applied position',
    patches: [],
    killers: [],
    exempt:
      'there is none: Defragment does nothing, space is reused in place. A state becomes another file only as a copy made by the database, the applied position in it; losing that is 313, 322 and 327',
  },
  mvcc(
    46,
    'applying an entry reads a clock',
    {
      file: 'server/machine.ts',
      find: 'value: encodeLease(ttlSeconds) }],',
      replace: 'value: encodeLease(ttlSeconds + (nowMs % 2)) }],',
    },
    test('machine/determinism', 'the time of an entry decides nothing'),
  ),
  mvcc(
    246,
    'compaction removes what its own revision replaced in itself',
    {
      file: 'server/mvcc/compaction.ts',
      find: 'replaces.revision < compactRevision',
      replace: 'replaces.revision <= compactRevision',
    },
    test('machine/compaction', 'everything at the compacted revision stays'),
  ),
  mvcc(
    680,
    'what a transaction deleted is still in the order of creation for it',
    {
      file: 'server/mvcc/creation-orders.ts',
      find: 'if (order.has(name)) gone.add(name);',
      replace: '',
    },
    test('machine/creation-order', 'makes and deletes again'),
  ),
  mvcc(
    681,
    'what a transaction made and deleted again is in the order of creation',
    { file: 'server/mvcc/creation-orders.ts', find: '      created.delete(name);\n', replace: '' },
    test('machine/creation-order', 'makes and deletes again'),
  ),
  mvcc(
    682,
    'the order of creation answers for an older revision',
    {
      file: 'server/mvcc/range.ts',
      find: 'at === revision ? creations?.select() : undefined',
      replace: 'creations?.select()',
    },
    test('machine/creation-order', 'an older revision is answered'),
  ),
  mvcc(
    683,
    'the order of creation outlives the state',
    { file: 'server/machine.ts', find: '    this.#orders.clear();\n', replace: '' },
    test('machine/creation-order', 'a state that was replaced'),
  ),
  mvcc(
    684,
    'orders of creation are never given up',
    {
      file: 'server/mvcc/creation-orders.ts',
      find: '    this.#keys += order.size;\n    this.#evict();\n    return order;',
      replace: '    this.#keys += order.size;\n    return order;',
    },
    test('mvcc/creation-orders', 'those used longest ago go'),
  ),
  mvcc(
    697,
    'the newest keys counted for an older revision',
    {
      file: 'server/mvcc/range.ts',
      find: '  while (at === horizon.revision) {',
      replace: '  for (;;) {',
    },
    test('machine/range', 'a long read pauses'),
  ),
  mvcc(
    698,
    'a count goes on below the compacted revision',
    {
      file: 'server/mvcc/range.ts',
      find: '    if (next !== undefined && !(yield* pause(pinned))) return undefined;',
      replace: '    if (next !== undefined) yield;',
    },
    test('machine/range', 'a long read ends when compaction'),
  ),
];
