/** Defects of locks of every kind, of rates, counters, ids and values. */
import type { Killer, Mutant } from '../mutant.ts';
import { runsOf, test } from './killers.ts';
import { plantedIn } from './planted.ts';

const mutant = plantedIn((file) => `recipes/${file}`);

const recipe = (file: string, name: string): Killer => test(`recipes/${file}`, name);

export const lockMutants: readonly Mutant[] = [
  mutant(
    531,
    'try that overtakes those who wait',
    [
      'line/try-hold.ts',
      "let unchanged: Compare[] = [compare.range.createRevision({ prefix: aheadPrefix }, '==', 0n)];",
      'let unchanged: Compare[] = [];',
    ],
    recipe('mutex', 'tryAcquire does not overtake'),
    runsOf('mutex'),
  ),
  mutant(
    532,
    'guarded transaction without its guard',
    [
      'line/holding.ts',
      "return txn.if(compare.createRevision(this.key, '==', this.createRevision));",
      'return txn;',
    ],
    recipe('mutex', 'a guarded transaction fails'),
  ),
  mutant(
    533,
    'place in line left behind when its removal was not confirmed',
    [
      'line/line-driver.ts',
      "if (joined !== 'absent') this.session.reap(() => this.#remove(joined));",
      '',
    ],
    recipe('mutex', 'a release the store does not confirm'),
  ),
  mutant(
    534,
    'reader that comes after an upgrade was asked for does not wait for it',
    [
      'locks/rw-rules.ts',
      "return mode === 'write' || (mode === 'upgrading' && place.modRevision < reader);",
      "return mode === 'write';",
    ],
    recipe('rw-lock', 'an upgrade waits for the readers there are'),
    runsOf('rw'),
  ),
  mutant(
    535,
    'upgrade that does not look whether its gate still waits',
    [
      'locks/rw-handle.ts',
      "const change = await this.#change('write', condition);",
      "const change = await this.#change('write');",
    ],
    recipe('rw-lock', 'a writer that gives up between an upgrade and its readers'),
  ),
  mutant(
    536,
    'writer that let readers in still writes',
    [
      'locks/rw-handle.ts',
      "return guarded.if(compare.modRevision(this.key, '==', this.#changed));",
      'return guarded;',
    ],
    recipe('rw-lock', "a writer's guarded transaction fails"),
  ),
  mutant(
    537,
    'permits by what is seen of a longer line',
    [
      'locks/permits.ts',
      'return !isPartial && sum(ahead) + weight <= limit',
      'return sum(ahead) + weight <= limit',
    ],
    recipe('semaphore-line', 'what is seen of a longer line admits nobody'),
  ),
  mutant(
    538,
    'waiter of a semaphore deaf to the limit',
    ['locks/room.ts', 'this.#limit = limit;\n  }\n}', '}\n}'],
    recipe('semaphore-line', 'no interleaving admits too many'),
  ),
  mutant(
    539,
    'waiter of a semaphore that follows the nearest place only',
    ['locks/room.ts', '>= 2 * limit) break;', '>= 1 && this.#guards.size >= 1) break;'],
    recipe('semaphore-line', 'no interleaving admits too many'),
  ),
  mutant(
    540,
    'waiter too heavy for a lowered limit let in alone',
    ['locks/semaphore.ts', 'tooHeavy(weight, decodeLimit(beside)?.limit)', 'undefined'],
    recipe('semaphore', 'a waiter too heavy for a lowered limit'),
    runsOf('semaphore'),
  ),
  mutant(
    541,
    'several locks granted without a look at each',
    [
      'locks/multi-lock.ts',
      "const ahead = listed ? aheadOf(membership, keys[index] ?? '', listed as never) : [];",
      'const ahead: never[] = [];',
    ],
    recipe('multi-lock', 'waits its turn at each name'),
    runsOf('multi'),
  ),
  mutant(
    542,
    'several locks of which one is given back',
    [
      'locks/multi-lock.ts',
      '.then<readonly Operation[]>(...marks, ...deletes)',
      '.then<readonly Operation[]>(...marks, ...deletes.slice(0, 1))',
    ],
    recipe('multi-lock', 'giving up leaves every line'),
  ),
  mutant(
    543,
    'own rule asked about the nearest only',
    ['locks/custom-line.ts', "reach: 'all',", "reach: 'nearest',"],
    recipe('custom-line', 'the same rack shares'),
    runsOf('line'),
  ),
  mutant(
    544,
    'rules of different names in one line',
    ['locks/custom-line.ts', '    if (other) {', '    if (other && this.#rule === "") {'],
    recipe('custom-line', 'rules of different names'),
  ),
  mutant(
    545,
    'rate that forgets what was taken',
    ['rate/gcra.ts', 'Math.max(tatMs, nowMs)', 'nowMs'],
    recipe('rate-limiter', 'a burst, then the rate'),
    runsOf('rate-limit'),
  ),
  mutant(
    546,
    'permits past those who wait for some',
    [
      'rate/rate-limiter.ts',
      'known?.modRevision ?? 0n), condition)\n',
      'known?.modRevision ?? 0n))\n',
    ],
    recipe('rate-limiter', 'waiters take in the order they came'),
  ),
  mutant(
    547,
    'addition whose answer was lost made again',
    [
      'values/commit-once.ts',
      'if (record && !(write.fence && record.value.length === 0)) {',
      'if (record && record.version < 0n) {',
    ],
    recipe('counter', 'whichever answers get lost'),
  ),
  mutant(
    548,
    'addition without an op-record',
    [
      'values/commit-once.ts',
      ".if(compare.createRevision(write.key, '==', 0n), ...write.compares)",
      '.if(...write.compares)',
    ],
    recipe('counter', 'an opId counts once'),
    runsOf('counter'),
  ),
  mutant(
    549,
    'op-record removed while a copy is under way',
    ['values/shared-value.ts', 'if (outcome.alone) records.push(opKey);', 'records.push(opKey);'],
    recipe('shared-value', 'a copy of a change that was made'),
  ),
  mutant(
    550,
    'refused change that takes effect late',
    ['values/shared-value.ts', 'fence: true,', 'fence: false,'],
    recipe('shared-value', 'a refused change cannot take effect late'),
  ),
  mutant(
    551,
    'compare-and-set that does not compare',
    [
      'values/shared-value.ts',
      "compares: [compare.modRevision(this.#key, '==', expected)],",
      'compares: [],',
    ],
    recipe('shared-value', 'compare-and-set goes by the revision'),
    runsOf('value'),
  ),
  mutant(
    552,
    'blocks of ids that overlap by one',
    [
      'values/id-allocator.ts',
      'this.#next = last - this.#block + 1n;',
      'this.#next = last - this.#block;',
    ],
    recipe('id-allocator', 'hands out blocks'),
    runsOf('ids'),
  ),
  mutant(
    553,
    'each task that waits for ids takes a block',
    [
      'values/id-allocator.ts',
      'this.#refilling ??= this.#refill()',
      'this.#refilling = this.#refill()',
    ],
    recipe('id-allocator', 'tasks that wait share one block'),
  ),
  mutant(
    554,
    'a lease for each counter that names additions',
    [
      'values/additions.ts',
      'ResultLease.of(context, rememberMs)',
      'new ResultLease(context.session.client, rememberMs)',
    ],
    recipe('counter', 'named additions share one lease'),
  ),
  mutant(
    590,
    'sum of an adder that misses a shard',
    [
      'values/adder.ts',
      'for (const kv of kvs) sum += readNumber(kv);',
      'for (const kv of [...kvs].slice(1)) sum += readNumber(kv);',
    ],
    recipe('counter', 'an adder spreads over its shards'),
    runsOf('counter'),
  ),
  mutant(
    591,
    'repetition by another session counts in a shard of its own choice',
    [
      'values/adder.ts',
      'await this.#additions.add(delta, options,',
      'const opId = options.opId && options.opId + this.#context.session.id;\n    await this.#additions.add(delta, opId ? { ...options, opId } : options,',
    ],
    recipe('counter', 'an adder spreads over its shards'),
    runsOf('counter'),
  ),
  mutant(
    665,
    'waiter whose store refuses to tell does not watch either',
    [
      'line/line-driver.ts',
      'if (told === undefined && !wait.signal.aborted) {',
      'if (told === undefined && !wait.signal.aborted) {\n      await new Promise(() => undefined);',
    ],
    recipe('locks', 'mutex who is not told of its turn'),
  ),
  mutant(
    666,
    'place taken over while it waited is held twice',
    [
      'line/line-driver.ts',
      'return this.#membership.onOwnWrite?.(self) === true;',
      'return false;',
    ],
    recipe('resume', 'a waiter that hears late'),
  ),
];
