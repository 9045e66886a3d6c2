/** Defects of barriers and latches. */
import type { Mutant } from '../mutant.ts';
import { runsOf, test } from './killers.ts';
import { plantedIn } from './planted.ts';

const mutant = plantedIn((file) => `recipes/barriers/${file}.ts`);

export const barrierMutants: readonly Mutant[] = [
  mutant(
    441,
    'id counted each time that it arrives',
    [
      'latch',
      "const isNew = [this.#gateIs(guess), compare.createRevision(key, '==', 0n)];",
      'const isNew = [this.#gateIs(guess)];',
    ],
    test('recipes/latch', 'an id counts once, whoever repeats it'),
  ),
  mutant(
    442,
    'latch opens one arrival late',
    ['latch', 'BigInt(this.count - 1)', 'BigInt(this.count)'],
    test('recipes/latch', 'an arrival stands after its session has ended'),
    runsOf('latch'),
  ),
  mutant(
    443,
    'waiter let through by a watch that ends',
    ['key-wait', 'look: () => void look(),', 'look: () => settle({ kv: null, revision: 0n }),'],
    test('recipes/barrier', 'a watch that dies lets nobody through'),
  ),
  mutant(
    444,
    'barrier lowered by a late repetition',
    ['barrier-gate', ".if(compare.createRevision(key, '==', createRevision))", '.if()'],
    test('recipes/barrier', 'a late release does not lower the next one'),
  ),
  mutant(
    445,
    'waiter let through by an older gate of an old snapshot',
    ['barrier', 'kv.createRevision > first)', 'kv.createRevision !== first)'],
    test('recipes/barrier', 'restore an old snapshot'),
  ),
  mutant(
    446,
    'generation complete though a counted party is gone',
    ['muster', '.if(...conditions, ...keys.map(stands))', '.if(...conditions)'],
    test('recipes/double-barrier', 'a party that dies between count and ready'),
    runsOf('double-barrier'),
  ),
  mutant(
    447,
    'party in excess let in',
    ['double', 'if (own > ready.through) return moveOn();', ''],
    test('recipes/double-barrier', 'is inside only if its own key is among the counted'),
    test('recipes/double-barrier', 'excess and late parties form the next generation'),
  ),
  mutant(
    448,
    'who leaves waits for nobody',
    ['double', 'if (oldest === undefined || oldest.over) return', 'return'],
    test('recipes/double-barrier', 'nobody leaves before all do'),
  ),
  mutant(
    449,
    'crowd complete without a party that gave up after the seals',
    ['double-calls', '...(parties > directMusterMax ? seals : [])', ''],
    test('recipes/double-barrier', 'a crowd that loses one between its seals and its end'),
  ),
  mutant(
    450,
    'death of a party noticed by nobody who waits',
    ['cyclic-party', "if (isGone) this.#machine.dispatch({ kind: 'party-gone' });", 'void isGone;'],
    test('recipes/cyclic-barrier', 'whoever dies breaks it for all'),
  ),
  mutant(
    451,
    'generation that was reset passes for complete',
    ['cyclic-record', '[...past, generation].slice(-pastMax)', 'past.slice(-pastMax)'],
    test('recipes/cyclic-barrier', 'reset while parties wait breaks it for them'),
  ),
  mutant(
    452,
    'more parties let into a generation than it takes',
    ['cyclic-calls', "compare.version(arrivals, '<', BigInt(parties)),", ''],
    test('recipes/cyclic-barrier', 'more than it takes wait for the next generation'),
  ),
  mutant(
    453,
    'generation complete though a party has died',
    ['cyclic-calls', 'keys: counted,', 'keys: [],'],
    test('recipes/cyclic-barrier', 'who dies between the count and the end is not counted'),
    runsOf('cyclic-barrier'),
  ),
  mutant(
    454,
    'watch from two revisions after its look',
    ['follower', 'from: turn.since + 1n', 'from: turn.since + 2n'],
    test('recipes/barrier', 'a gate that falls between the look and the watch'),
  ),
  mutant(
    455,
    'barrier that holds nobody back',
    ['barrier', 'first = kv.createRevision;\n      return undefined;', 'return true;'],
    runsOf('barrier'),
  ),
];
