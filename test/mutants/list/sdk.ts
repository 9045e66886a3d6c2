/** Defects of the client and the recipes. */
import type { Mutant, Patch } from '../mutant.ts';
import { test } from './killers.ts';

const mutant = (
  number: number,
  name: string,
  [file, find, replace]: readonly [file: string, find: string, replace: string],
  killer: readonly [file: string, name: string],
): Mutant => {
  const patch: Patch = { file, find, replace };
  return {
    number,
    name,
    patches: [patch],
    killers: [test(...killer)],
  };
};

/** Whatever can happen to watches that share one at the server, at random, against a naive model. */
const sharing = ['sdk/watch-sharing', 'each watch is told exactly what it asked for'] as const;

export const sdkMutants: readonly Mutant[] = [
  mutant(
    61,
    'watch resumes at the last revision, not after it',
    ['sdk/watch-upstream.ts', '        after: revision + 1n,', '        after: revision,'],
    ['sdk/watch-subscription', 'resumes after the last event'],
  ),
  mutant(
    62,
    'compaction skips events silently',
    [
      'sdk/watch-subscription.ts',
      'this.onCreated(revision);\n    this.#push(delivery);',
      'this.onCreated(revision);',
    ],
    ['sdk/watch', 'compact'],
  ),
  mutant(
    63,
    'blind retry of a transaction',
    [
      'sdk/failures.ts',
      "again: transient && (effect !== 'write' || !maybeApplied),",
      'again: transient,',
    ],
    ['sdk/batch', 'a stream that breaks fails its writes'],
  ),
  mutant(
    64,
    'lock held because its key exists, not because it is first',
    [
      'recipes/line/line.ts',
      'const blocker = policy(ahead);',
      'const blocker = policy(ahead.slice(0, 0));',
    ],
    ['recipes/line', 'no interleaving yields two holders'],
  ),
  mutant(
    65,
    'fencing token is the lease',
    ['recipes/line/holding.ts', 'this.token = grant.token;', 'this.token = session.lease;'],
    ['recipes/mutex', 'is granted in the order of joining, with rising tokens'],
  ),
  mutant(
    66,
    "resignation deletes the successor's key",
    [
      'recipes/line/line-driver.ts',
      "          .if(compare.createRevision(this.key, '==', own))\n          .then(op.delete(this.key))",
      "          .if(compare.createRevision(this.key, '>', 0n))\n          .then(op.delete(this.key))",
    ],
    ['recipes/mutex', 'a release leaves alone a key that was removed and written again'],
  ),
  mutant(
    67,
    'what the holder of a job does, without its fence',
    [
      'recipes/queue/claim-tenure.ts',
      "compare.createRevision(this.#key, '==', this.token)",
      "compare.createRevision(this.#key, '>=', 0n)",
    ],
    ['recipes/queue', 'nothing a worker with a lost claim does changes the job'],
  ),
  mutant(
    68,
    'watch of the predecessor starts after the revision that follows its read',
    [
      'recipes/line/line.ts',
      "{ kind: 'watch-ahead', place: blocker, from: revision + 1n }",
      "{ kind: 'watch-ahead', place: blocker, from: revision + 2n }",
    ],
    ['recipes/line', 'no interleaving yields two holders'],
  ),
  mutant(
    261,
    'floor runs ahead of an unanswered write',
    [
      'sdk/write-numbers.ts',
      'while (this.#released.delete(this.#floor)) this.#floor += 1;',
      'this.#floor = this.#next;',
    ],
    ['sdk/write-numbers', 'the floor follows the answers'],
  ),
  mutant(
    262,
    'repetition under a new number',
    [
      'sdk/persistent-call.ts',
      'if (verdict.unsure) this.#ambiguous = true;',
      'if (verdict.unsure) this.#dropNumber();',
    ],
    ['sdk/write-numbers', 'a write whose answer is lost is sent again under its number'],
  ),
  mutant(
    263,
    'write that may be applied sent under another name',
    ['sdk/persistent-call.ts', 'this.#again = !this.#ambiguous;', 'this.#again = true;'],
    ['sdk/write-numbers', 'a write that may be applied already is not sent under another name'],
  ),
  mutant(
    264,
    'window of numbers without bound',
    ['sdk/write-numbers.ts', 'if (this.#next - this.#floor >= this.#window) return undefined;', ''],
    ['sdk/write-numbers', 'numbers in use stay within the window'],
  ),
  mutant(
    265,
    'two clients under one floor',
    ['sdk/transport-batch.ts', 'if (client !== 0n && client !== call.clientId) break;', ''],
    ['sdk/transport-grpc', 'a message tells the floor of one client'],
  ),
  mutant(
    266,
    'watch of a member cut off from its leader stays',
    ['sdk/transport-unary.ts', 'metadata: requireLeader', ''],
    ['sdk/transport-grpc', 'watch streams ask for a leader'],
  ),
  mutant(
    267,
    'silent member kept',
    ['sdk/pulse.ts', '        onSilence(failure);\n', ''],
    ['sdk/failover', 'a member that is stopped'],
  ),
  mutant(
    268,
    'calls wait on a member that was left',
    ['sdk/link.ts', '      leave(left(true));\n', ''],
    ['sdk/failover', 'a member without a leader is left at once'],
  ),
  mutant(
    269,
    'write repeated after the server may have forgotten it',
    [
      'sdk/persistent-call.ts',
      "(effect !== 'numbered' || remembered || !verdict.unsure)",
      'remembered !== undefined',
    ],
    ['sdk/failover', 'a write is not repeated once the server may have forgotten it'],
  ),
  mutant(
    270,
    'timeout between two attempts forgets the attempt before',
    ['sdk/persistent-call.ts', 'this.#honest(error)', 'error'],
    ['sdk/failover', 'a write that was lost before says so'],
  ),
  mutant(
    610,
    'watch joins a shared one that has passed it',
    ['sdk/watch-group.ts', ' || watch.next < main.next) return false;', ') return false;'],
    sharing,
  ),
  mutant(
    611,
    'watches at the server are merged into one that has passed them',
    [
      'sdk/watch-group.ts',
      'if (main !== undefined && upstream.next >= main.next) return main;',
      'if (main !== undefined) return main;',
    ],
    sharing,
  ),
  mutant(
    612,
    'who shares is told again what it was told alone',
    ['sdk/watch-subscription.ts', '    if (after <= this.#next) return;\n', ''],
    sharing,
  ),
  mutant(
    613,
    'those who wait for what happens wait for the past of another',
    [
      'sdk/watch-group.ts',
      'if (this.#main === undefined && changed.isLive) {',
      'if (this.#main === undefined) {',
    ],
    ['sdk/watch-sharing', 'who catches up on the past delays nobody'],
  ),
  mutant(
    614,
    'shared watch goes on where the first of the watches stands',
    ['sdk/watch-upstream.ts', 'next < least', 'next > least'],
    ['sdk/watch-sharing', 'a lost connection brings back one watch for all'],
  ),
  mutant(
    615,
    'compaction resets watches that want only what comes later',
    [
      'sdk/watch-hub.ts',
      'compactRevision === 0n || next < compactRevision;',
      'compactRevision >= 0n || next < compactRevision;',
    ],
    ['sdk/watch-sharing', 'a compaction resets only those'],
  ),
  mutant(
    671,
    'renewals that travel together are told of each other’s leases',
    ['sdk/lease-renewals.ts', 'renewalOf(ttlSeconds[index])', 'renewalOf(ttlSeconds[0])'],
    ['sdk/lease-renewals', 'they share calls, and each gets its own answer'],
  ),
  mutant(
    672,
    'a lost call of many renewals leaves them without an answer',
    ['sdk/lease-renewals.ts', '      this.#renewEach(group);\n    }', '    }'],
    ['sdk/lease-renewals', 'a lost call is made again'],
  ),
  mutant(
    673,
    'stream of watches is left under a watch that came meanwhile',
    [
      'sdk/watch-hub.ts',
      '    this.#cancelRest();\n    group.watches.add(watch);',
      '    group.watches.add(watch);',
    ],
    ['sdk/watch-rest', 'it is not left under a watch'],
  ),
  mutant(
    718,
    'small requests share the stream of large ones',
    ['sdk/transport-lanes.ts', 'bytes <= smallBytes', 'bytes <= messageBytes'],
    ['sdk/lanes', 'small calls do not wait for large ones'],
  ),
  mutant(
    719,
    'only the last part of an answer counts',
    ['sdk/transport-batch.ts', 'pending.parts.push(response);', 'pending.parts = [];'],
    ['sdk/lanes', 'an answer that comes in parts is put together'],
  ),
  mutant(
    720,
    'a large answer goes first until it is through',
    [
      'server/rpc/answers.ts',
      'if (more) this.#large.push(next);',
      'if (more) this.#large.unshift(next);',
    ],
    ['rpc/answers', 'large answers take turns'],
  ),
  mutant(
    721,
    'large answers leave as soon as they are ready',
    ['server/rpc/answers.ts', 'this.#largeInFlightBytes < LARGE_WINDOW_BYTES', 'this.#call'],
    ['rpc/answers', 'a small answer overtakes large ones'],
  ),
  mutant(
    722,
    'only a call that ended is a sign of life',
    ['sdk/link.ts', 'this.#answers + this.#transport.received', 'this.#answers'],
    ['sdk/pulse', 'parts of an answer keep a link'],
  ),
  mutant(
    723,
    'one large answer keeps all calls waiting',
    ['server/rpc/answers.ts', 'this.#large.length > 1 && ', ''],
    ['rpc/batch-held', 'calls behind one answer'],
  ),
  mutant(
    724,
    'nothing is read while several large answers wait',
    [
      'server/rpc/batch.ts',
      'MAX_CALL_BYTES || answers.isStuck',
      'MAX_CALL_BYTES || answers.isFull',
    ],
    ['rpc/batch-held', 'behind several'],
  ),
  mutant(
    725,
    'a call that was held is made though it was given up',
    ['server/rpc/batch.ts', 'if (held.delete(entry)) count(entry, -1);', ''],
    ['rpc/batch-held', 'behind several'],
  ),
];
