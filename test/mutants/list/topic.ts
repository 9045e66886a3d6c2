/** Defects of topics. */
import type { Mutant } from '../mutant.ts';
import { runsOf, test } from './killers.ts';
import { plantedIn } from './planted.ts';

const mutant = plantedIn((file) => `recipes/topic/${file}.ts`);

export const topicMutants: readonly Mutant[] = [
  mutant(
    481,
    'retention removes messages without moving the floor',
    ['trimmer', 'op.put(floorKey, writeFloor(floor))', 'op.put(floorKey, writeFloor(index.floor))'],
    test('recipes/topic-retention', 'a subscriber that is behind finds every message that is kept'),
  ),
  mutant(
    482,
    'topic followed from the cursor, not from behind it',
    [
      'message-reader',
      "...(cursor === 'now' ? {} : { from: cursor + 1n })",
      "...(cursor === 'now' ? {} : { from: cursor })",
    ],
    test('recipes/topic', 'restart a watch mid-replay'),
  ),
  mutant(
    483,
    'gap behind compaction kept silent',
    ['message-reader', 'else yield* this.#gapTo(index.floor);', 'else this.#cursor = index.floor;'],
    test('recipes/topic-retention', 'a subscriber that is behind finds every message that is kept'),
  ),
  mutant(
    484,
    'acknowledgement by who is not the active consumer any more',
    [
      'acknowledgements',
      "this.#holding\n        .guard(client.kv.txn().if(compare.modRevision(this.#key, '==', this.#position.modRevision)))",
      "client.kv.txn().if(compare.modRevision(this.#key, '==', this.#position.modRevision))",
    ],
    test('recipes/topic-durable', 'an acknowledgement that arrives late'),
  ),
  mutant(
    485,
    'watch that compaction passed goes on as if nothing were missing',
    [
      'message-reader',
      "if (notice === undefined || notice.type === 'reset') return;",
      "if (notice === undefined) return;\n        if (notice.type === 'reset') continue;",
    ],
    test('recipes/topic', 'compact under every watch'),
  ),
  mutant(
    486,
    'messages of a key handed over without their order',
    [
      'group-feed',
      'state: group === undefined ? state : { ...state, group }',
      'state: group === undefined ? state : { ...state }',
    ],
    test('recipes/topic-group', 'messages of a key are handled in order'),
    runsOf('topic'),
  ),
  mutant(
    487,
    'hand-over behind the back of another feeder',
    ['group-feed', '      producer.heard(position.modRevision);\n', ''],
    test('recipes/topic-group', 'what another feeder handed over meanwhile'),
  ),
  mutant(
    488,
    'removal of what a new subscription is about to read',
    [
      'trimmer',
      "          compare.range.createRevision({ prefix: position }, '<', look.revision + 1n),\n",
      '',
    ],
    test('recipes/topic-retention', 'a removal is fenced by the floor'),
  ),
  mutant(
    489,
    'record of a publication removed while a copy of it may be under way',
    [
      'publisher',
      'if (outcome.alone && named === undefined) records.push(key);',
      'records.push(key);',
    ],
    test('recipes/topic', 'a publication that arrives late'),
  ),
  mutant(
    490,
    'silent watch believed',
    [
      'message-reader',
      'if (isIdle && owed !== undefined && owed > this.#position) return undefined;',
      '',
    ],
    test('recipes/topic', 'a watch that keeps silent is found out'),
  ),
  mutant(
    491,
    'cursor beyond what a restored store has, waited for',
    [
      'message-reader',
      "if (isConclaveError(error, 'FUTURE_REVISION')) return 'restored';",
      "if (isConclaveError(error, 'FUTURE_REVISION')) return 'known';",
    ],
    test('recipes/topic', 'restore an old snapshot'),
  ),
];
