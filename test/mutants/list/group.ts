/** Defects of groups, prefix caches and configurations. */
import type { Mutant } from '../mutant.ts';
import { runsOf, test } from './killers.ts';
import { plantedIn } from './planted.ts';

const mutant = plantedIn((file) => file);

const follower = 'recipes/common/prefix-follower.ts';
const comparison = 'recipes/common/prefix-comparison.ts';
const kept = 'recipes/common/kept-entry.ts';
const cache = 'recipes/group/prefix-cache.ts';
const config = 'recipes/group/config.ts';

export const groupMutants: readonly Mutant[] = [
  mutant(
    461,
    'copy watched from two revisions after its listing',
    [follower, 'from: copy.revision + 1n', 'from: copy.revision + 2n'],
    runsOf('cache'),
  ),
  mutant(
    462,
    'member that left still shown',
    ['recipes/group/group-view.ts', '    else this.#members.delete(kv.key);\n', ''],
    test('recipes/membership', 'changes begin with a reset'),
    runsOf('group'),
  ),
  mutant(
    463,
    'store that went back is not noticed',
    [comparison, "if (listed.revision < before) return 'rewound';", ''],
    test('recipes/cache', 'restore an old snapshot that holds the same'),
  ),
  mutant(
    464,
    'comparison forgets what the watch brought meanwhile',
    [
      'recipes/common/prefix-copy.ts',
      'return known !== listed && known <= revision;',
      'return known !== listed;',
    ],
    test('recipes/prefix-copy', 'a copy that is ahead of a listing'),
  ),
  mutant(
    465,
    'cache empties while the store does not answer',
    [
      cache,
      "      case 'stale':\n      case 'fresh':\n        return notice;",
      "      case 'stale':\n      case 'fresh':\n        this.#entries.clear();\n        return notice;",
    ],
    test('recipes/cache', 'while the store cannot be reached'),
  ),
  mutant(
    466,
    'own write taken for read before the copy has it',
    [cache, 'this.revision >= revision ?', 'this.revision > 0n ?'],
    test('recipes/cache', 'who waits for a write'),
  ),
  mutant(
    467,
    'more than the limit dropped silently',
    [follower, 'entries > maxEntries) {', 'entries > maxEntries + 1) {'],
    test('recipes/cache', 'more than the cache may hold'),
  ),
  mutant(
    468,
    'slow loop loses events without a word',
    ['recipes/group/steps.ts', 'lagging = state;\n        } else', '} else'],
    test('recipes/cache', 'a loop that lags'),
  ),
  mutant(
    469,
    'lost member joins again with the data of its first joining',
    [kept, 'batch.reduce((before, { apply }) => apply(before), this.#base)', 'this.#base'],
    test('recipes/membership', 'kill the session: a member joins again'),
  ),
  mutant(
    470,
    'leaving takes away whoever has the key by now',
    [
      kept,
      ".if(compare.modRevision(key, '==', revision))\n        .then(op.delete(key))",
      '.then(op.delete(key))',
    ],
    test('recipes/membership', 'leaving takes nothing from a later member'),
  ),
  mutant(
    471,
    'member of a restored store not missed',
    [kept, 'void this.#recheck(session, over.signal, over.abort);', ''],
    test('recipes/membership', 'restore an old snapshot: a member'),
  ),
  mutant(
    472,
    'members ordered by their last update',
    [
      'recipes/group/member.ts',
      'if (a.createRevision !== b.createRevision) return a.createRevision < b.createRevision ? -1 : 1;',
      'if (a.modRevision !== b.modRevision) return a.modRevision < b.modRevision ? -1 : 1;',
    ],
    test('recipes/membership', 'members are in the order of joining'),
  ),
  mutant(
    473,
    'quorum counted while the store does not answer',
    ['recipes/group/group.ts', '!snapshot.stale && holds(', 'holds('],
    test('recipes/membership', 'waiting counts nobody'),
  ),
  mutant(
    474,
    'member keeps its share after its session',
    ['recipes/group/membership.ts', "return state === 'joined' && index >= 0", 'return index >= 0'],
    test('recipes/membership', 'knows that it has no share'),
  ),
  mutant(
    475,
    'document that is not valid in force',
    [
      'recipes/group/config-document.ts',
      'if (result.issues === undefined) return { value: result.value, stored };',
      'if (result.issues === undefined) return { value: result.value, stored };\n    return { value: stored as Output, stored };',
    ],
    test('recipes/config', 'what is not valid leaves'),
    runsOf('config'),
  ),
  mutant(
    476,
    'update of a document that cannot be read starts from the default',
    [
      config,
      'if (present !== undefined) return this.#format.read(present, this.#follower.copy.revision);',
      "if (present !== undefined && this.status.state !== 'invalid')\n      return this.#format.read(present, this.#follower.copy.revision);",
    ],
    test('recipes/config', 'what is not valid leaves'),
  ),
  mutant(
    477,
    'watch that lags takes back an own write',
    [config, 'if (own === undefined && copy.revision < this.#written) return;', ''],
    test('recipes/config', 'a watch that lags takes nothing back'),
  ),
  mutant(
    478,
    'own write forbids what a restored store holds',
    [config, "if (notice.reason === 'rewound') this.#written = 0n;", ''],
    test('recipes/config', 'restore an old snapshot'),
  ),
  mutant(
    479,
    'value written that others cannot read',
    [
      'recipes/group/config-document.ts',
      'await this.accept(decodeWith(this.#codec, bytes, field), field);',
      'await this.accept(value, field);',
    ],
    test('recipes/config', 'what is written is checked as others read it'),
  ),
];
