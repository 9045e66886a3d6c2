/** Defects of elections and migrations. */
import type { Mutant } from '../mutant.ts';
import { runsOf, test } from './killers.ts';
import { plantedIn } from './planted.ts';

const mutant = plantedIn((file) => `recipes/election/${file}.ts`);

const priority = (name: string) => test('recipes/election-priority', name);
const machine = (name: string) => test('recipes/election-machine', name);
const races = (name: string) => test('recipes/election-races', name);
const migrations = (name: string) => test('recipes/migrations', name);

export const electionMutants: readonly Mutant[] = [
  mutant(
    421,
    'a vacancy is filled whether or not there is one',
    ['priority-writes', "compare.createRevision(keys.leader, '==', 0n), ", ''],
    runsOf('election-priority'),
  ),
  mutant(
    422,
    'a hand-over is not bound to the term of who hands over',
    ['priority-writes', "      compare.modRevision(keys.leader, '==', term),\n", ''],
    priority('moves the leadership once'),
  ),
  mutant(
    423,
    'a candidate leads without looking whether its own key still stands',
    [
      'priority',
      "  if (roll.own !== state.own) return finish({ kind: 'place-lost' });\n  if (roll.leader?.key === self) return grant(state.own, roll.leader.term, [cancelTurn]);",
      '  if (roll.leader?.key === self) return grant(state.own, roll.leader.term, [cancelTurn]);',
    ],
    priority('delete own key by hand'),
  ),
  mutant(
    424,
    'what was seen while a race was lost is forgotten',
    [
      'priority',
      'return latest === undefined ? stay(next) : wait(self, next, latest);',
      'return stay(next);',
    ],
    machine('is not forgotten'),
  ),
  mutant(
    425,
    'the term is when the leader key was created, not when it was written',
    [
      'candidates',
      'key: keys.prefix + memberNamed(named), term: named.modRevision',
      'key: keys.prefix + memberNamed(named), term: named.createRevision',
    ],
    priority('handing over takes one'),
  ),
  mutant(
    426,
    'a request that was away is weighed as if it had stood all the while',
    ['priority', "{ kind: 'cancel-weighing' }],\n  };", "{ kind: 'follow', soon: true }],\n  };"],
    machine('weighed from the start'),
  ),
  mutant(
    427,
    'a leader makes way at once',
    ['priority-driver', 'this.#after(timing.preemptAfterMs,', 'this.#after(0,'],
    priority('a candidate that comes and goes'),
  ),
  mutant(
    428,
    'followers take the latest candidate for the leader',
    ['candidates', '    const [first] = inLine;\n', '    const first = inLine.at(-1);\n'],
    races('etcd#18163'),
  ),
  mutant(
    429,
    'a guard by priority asks for the candidate, not for the term',
    [
      'tenure',
      "return txn.if(compare.modRevision(this.#keys.leader, '==', this.token));",
      "return txn.if(compare.createRevision(this.key, '==', this.createRevision));",
    ],
    priority('guarded writes and sequencers'),
  ),
  mutant(
    430,
    'a candidate does not look whether others stand in the other form',
    ['election', ": formMismatch(this.name, 'fifo'),", ': undefined,'],
    priority('do not mix'),
  ),
  mutant(
    431,
    'a migration is recorded whatever is recorded already',
    ['migration-run', "      .if(compare.modRevision(key, '==', before?.modRevision ?? 0n))\n", ''],
    migrations('a late copy of a write'),
    runsOf('migrations'),
  ),
  mutant(
    432,
    'a migration that was interrupted is run again without being asked for',
    [
      'migration-run',
      'if (before && !migration.idempotent) throw',
      'if (before?.kv.key === "") throw',
    ],
    migrations('stops everybody else'),
  ),
  mutant(
    433,
    'who is not first in line any more still records what it did',
    [
      'migration-run',
      '    const txn = this.#holding\n      .guard(client.kv.txn())\n      .if(compare.modRevision(key,',
      '    const txn = client.kv\n      .txn()\n      .if(compare.modRevision(key,',
    ],
    migrations('freeze the process past its TTL'),
  ),
  mutant(
    434,
    'the version of a migration is not compared',
    ['migration-record', 'planned.version !== record.version', 'planned.id !== record.id'],
    migrations('others in their places'),
  ),
  mutant(
    435,
    'a withdrawal leaves the leader key of a candidate that was just made the leader',
    [
      'priority-writes',
      'return kv.txn().then(withdraw, abdicate, ...request);',
      'return kv.txn().then(withdraw, ...request);',
    ],
    priority('not a ghost'),
  ),
  mutant(
    436,
    'a leader hands over before its function has ended',
    [
      'leadership',
      '      heir = candidate;\n      passing ??=',
      '      heir = candidate;\n      void this.#passTo(candidate);\n      passing ??=',
    ],
    priority('once the function is done'),
  ),
];
