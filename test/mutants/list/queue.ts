/** Defects of queues and schedules. */
import type { Killer, Mutant } from '../mutant.ts';
import { runsOf, test } from './killers.ts';
import { plantedIn } from './planted.ts';

const mutant = plantedIn((file) => `recipes/queue/${file}.ts`);

const recipe = (file: string, name: string): Killer => test(`recipes/${file}`, name);

export const queueMutants: readonly Mutant[] = [
  mutant(
    571,
    'attempts not counted at the claim',
    ['claim-attempt', 'attempts: before.attempts + 1,', 'attempts: before.attempts,'],
    recipe('queue', 'attempts are counted when claiming'),
  ),
  mutant(
    572,
    'claim taken back although it was extended since',
    ['sweep', 'unchanged({ key: claim.key, revision: claim.modRevision }),', ''],
    recipe('queue', 'a sweep leaves alone what was extended since it looked'),
  ),
  mutant(
    573,
    'turn of a finished job never free',
    ['job-moves', '    ...freeTurn(kv, keys, id, state),\n', ''],
    recipe('queue-order', 'a group runs one job at a time'),
    runsOf('queue'),
  ),
  mutant(
    574,
    'free turn that nobody calls for',
    ['job-moves', '.else(op.put(keys.pass + group, id));', '.else();'],
    recipe('queue-order', 'a turn that nobody passed on'),
  ),
  mutant(
    575,
    "slot freed that is another claim's by now",
    ['job-moves', '[deleteIf(kv, slotKey(keys, slot), nonce)]', '[]'],
    recipe('queue-order', 'no more jobs run than the queue’s concurrency'),
  ),
  mutant(
    576,
    'order to stop outlives the job',
    ['stop-order', 'operations: [gone, ...operations]', 'operations'],
    recipe('queue-stop', 'a running job with the same key is aborted'),
  ),
  mutant(
    577,
    'parent waits for a child that is gone',
    ['child-ends', ' && !isGone) return []', ') return []'],
    recipe('queue-flows', 'nobody waits for a child'),
    runsOf('queue'),
  ),
  mutant(
    578,
    'last child does not let its parent go',
    ['child-ends', 'fails ? free : freeIfLast)', '...(fails ? [free] : []))'],
    recipe('queue-flows', 'a parent waits for its children'),
  ),
  mutant(
    579,
    'key of a finished job never free',
    ['job-moves', '    ...(dedup === undefined ? [] : [keyEnds]),\n', ''],
    recipe('queue', 'a job with a key is pushed once'),
  ),
  mutant(
    580,
    'slot of a schedule pushed without moving the schedule on',
    ['cron', '      along,\n    });', '    });'],
    recipe('cron', 'each slot is run once'),
    runsOf('queue'),
  ),
  mutant(
    581,
    'of the slots that were missed only the last is run',
    ['schedule', 'runs = due.slice(-atMost).map(slot);', 'runs = [last];'],
    recipe('schedule', 'of what was missed each policy runs what it says'),
  ),
  mutant(
    582,
    'delayed jobs ready before their time',
    ['sweep', 'if (leftMs > 0) {', 'if (leftMs > 3_600_000) {'],
    recipe('queue', 'a delayed job becomes ready when it is due'),
  ),
  mutant(
    583,
    'higher priorities offered last',
    ['job-places', '(priority > 0 ? 0xff - priority : -priority)', 'Math.abs(priority)'],
    recipe('queue-order', 'higher priorities are offered first'),
  ),
  mutant(
    584,
    'push repeated after a lost answer',
    [
      'push-attempt',
      'if (inLane && textOf(inLane.value) === this.#mark) return this.#all(replacement?.replaced);',
      '',
    ],
    recipe('queue', 'a push whose answer is lost'),
  ),
  mutant(
    585,
    'replay with the attempts used up',
    ['dead-letters', '{ ...state, attempts: 0 }', 'state'],
    recipe('queue', 'dead letters can be listed, replayed and discarded'),
  ),
  mutant(
    640,
    'key of a job that was done is taken for ever',
    ['job-moves', '.then(op.put(key, id, { lease }))', '.then(op.put(key, id))'],
    recipe('queue-keys', 'is taken until the time is over'),
  ),
  mutant(
    641,
    'key remembered for a job that another has replaced',
    [
      'job-moves',
      ".if(compare.value(key, '==', id))\n      .then(op.put",
      '.if()\n      .then(op.put',
    ],
    recipe('queue-keys', 'goes to the job that replaces a running one'),
  ),
  mutant(
    642,
    'job that was done is replaced and runs again',
    ['push-attempt', ' && !isRemembered(occupant)', ''],
    recipe('queue-keys', 'is taken until the time is over'),
  ),
  mutant(
    643,
    'key not remembered',
    [
      'claim',
      'return acknowledged(kept, limits.forParent, lease);',
      'return acknowledged(kept, limits.forParent);',
    ],
    recipe('queue-keys', 'is taken until the time is over'),
  ),
  mutant(
    690,
    'light job that was given back counts as acknowledged',
    ['claim-history', '[keys.job + id, keys.ready + id]', '[keys.job + id]'],
    recipe('queue-light', 'is told from a job that was given back'),
  ),
  mutant(
    691,
    'light job goes where its id does not lead, without a record',
    [
      'claim-endings',
      'dueMs === undefined ? { state: left, operations: [] } : recorded(keys, id, left)',
      '{ state: left, operations: [] as Operation[] }',
    ],
    recipe('queue-light', 'gets a record, and keeps its payload'),
    runsOf('queue'),
  ),
  mutant(
    692,
    'jobs that run take no room in a bounded queue',
    ['queue-room', "'ready', 'claim', 'at'", "'ready', 'at'"],
    recipe('queue-light', 'take room, until they are done'),
  ),
  mutant(
    693,
    'job that is to replace a running one takes no room in a bounded queue',
    ['queue-room', 'successors.length + added', 'added'],
    recipe('queue-keys', 'takes room for its new job'),
  ),
];
