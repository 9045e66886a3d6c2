/** Defects of transactions of functions. */
import type { Killer, Mutant } from '../mutant.ts';
import { runsOf, test } from './killers.ts';
import { plantedIn } from './planted.ts';

const mutant = plantedIn((file) => file);

const behaves = (name: string): Killer => test('recipes/stm', name);
const bears = (name: string): Killer => test('recipes/stm-troubles', name);

export const stmMutants: readonly Mutant[] = [
  mutant(
    501,
    'insertions into a range go unnoticed',
    [
      'recipes/stm/stm-reads.ts',
      "compare.range.modRevision(rangeOf(span), '<', revision + 1n)",
      "compare.range.modRevision(rangeOf(span), '>', -1n)",
    ],
    behaves('serializable: whatever is read'),
    runsOf('stm'),
  ),
  mutant(
    502,
    'deletions in a range go unnoticed',
    [
      'recipes/stm/stm-reads.ts',
      '    for (const kv of kvs) this.#keys.set(textOf(kv.keyBytes), kv);\n',
      '',
    ],
    behaves('serializable: whatever is read'),
  ),
  mutant(
    503,
    'each read shows the latest',
    [
      'recipes/stm/stm-snapshot.ts',
      'await this.#read(range, { ...fields, revision })',
      'await this.#read(range, fields)',
    ],
    behaves('all reads of a run show one revision'),
    runsOf('stm'),
  ),
  mutant(
    504,
    'range blind to the own deletions',
    [
      'recipes/stm/stm-transaction.ts',
      'if (written === null) merged.delete(key);',
      'if (written === null) continue;',
    ],
    behaves('reads see the own writes'),
    runsOf('stm'),
  ),
  mutant(
    505,
    'fence of a refusal taken for a record',
    [
      'recipes/values/commit-once.ts',
      'if (record && !(write.fence && record.value.length === 0)) {',
      'if (record) {',
    ],
    bears('a refusal whose answer is lost'),
  ),
  mutant(
    506,
    'only written keys are compared',
    [
      'recipes/stm/stm-commit.ts',
      "if (isolation === 'serializable') return run.reads.unchanged(revision);",
      '',
    ],
    behaves('write skew'),
    runsOf('stm'),
  ),
  mutant(
    507,
    'late copies not fenced off',
    ['recipes/stm/stm-commit.ts', '        fence: true,\n', '        fence: false,\n'],
    bears('a copy that comes late'),
  ),
  mutant(
    508,
    'function that ignores a lost snapshot commits',
    [
      'recipes/stm/stm.ts',
      "return run.snapshot.outdated ? 'outdated' : { value };",
      'return { value };',
    ],
    bears('compact under a run'),
  ),
  mutant(
    509,
    'next run trusts what the last one had read',
    [
      'recipes/stm/stm-commit.ts',
      '    const snapshot = run.snapshot.later(outcome.revision);\n    run.reads.teach(snapshot, found.slice(judged.length));\n    return snapshot;\n',
      '    return run.snapshot;\n',
    ],
    behaves('a conflict costs one exchange'),
  ),
];
