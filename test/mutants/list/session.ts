/** Defects of sessions, of coming back to them, and of what is measured. */
import type { Mutant } from '../mutant.ts';
import { runsOf, test } from './killers.ts';
import { plantedIn } from './planted.ts';

const mutant = plantedIn((file) => file);

export const sessionMutants: readonly Mutant[] = [
  mutant(
    402,
    'lock-delay counts as time to live',
    ['sdk/session-client.ts', 'opened.ttlMs - opened.lockDelayMs', 'opened.ttlMs'],
    test('sdk/session', 'with a lock delay the lease outlives the session'),
  ),
  mutant(
    403,
    'lock-delay counts as time to live once renewed',
    ['sdk/renewal.ts', '* 1_000 - lockDelayMs', '* 1_000'],
    test('sdk/session', 'a renewal brings back the time to live, and not the lock delay'),
  ),
  mutant(
    404,
    'key taken back in its next life',
    [
      'recipes/locks/resumption.ts',
      "      compare.createRevision(key, '==', createRevision),\n",
      "      compare.createRevision(key, '>', 0n),\n",
    ],
    test('recipes/session', 'nothing is taken back that is over, or was never held'),
  ),
  mutant(
    405,
    'lock taken back with the token it had',
    [
      'recipes/locks/resumption.ts',
      "op.put(key, '', { ignoreValue: true, lease }), op.get(key)",
      'op.get(key), op.get(key)',
    ],
    test('recipes/session', 'so may a process that had given its session up'),
    runsOf('session'),
  ),
  mutant(
    406,
    'place of a waiter taken back as a lock',
    [
      'recipes/locks/resumption.ts',
      "      compare.range.createRevision({ prefix }, '>', createRevision - 1n),\n",
      '',
    ],
    test('recipes/session', 'nothing is taken back that is over, or was never held'),
  ),
  mutant(
    407,
    'former holder goes on beside the one that came back',
    ['recipes/locks/own-writes.ts', 'return isSame;', 'return false;'],
    test('recipes/session', 'the former holder, should it still run'),
  ),
  mutant(
    408,
    'what a former process left stays in the way',
    [
      'sdk/session-opening.ts',
      'session.reapAfter(resumeWithinMs ?? session.ttlMs, () => inherited.deleteUntouched());',
      '',
    ],
    test('recipes/session', 'what is not taken over goes after a while; what is stays'),
  ),
  mutant(
    409,
    'what was taken over is removed with the rest',
    [
      'sdk/inherited-keys.ts',
      "compare.modRevision(key, '<', this.#revision + 1n)",
      "compare.modRevision(key, '>', 0n)",
    ],
    test('recipes/session', 'what is not taken over goes after a while; what is stays'),
  ),
  mutant(
    410,
    'thread renews for a process that is stuck',
    ['sdk/keep-alive-worker.ts', 'pulse.ageMs < maxBlockMs', 'pulse.ageMs < maxBlockMs * 1e6'],
    test('sdk/session-thread', 'loses it when blocked for longer than it may'),
  ),
  mutant(
    411,
    'renewals by the thread count when the loop hears of them',
    [
      'sdk/session-client.ts',
      '    if (this.#over !== undefined) return;\n    this.#learn();\n',
      '    if (this.#over !== undefined) return;\n    if (this.#seenVersion === 0n) this.#learn();\n',
    ],
    test('sdk/session-thread', 'what was renewed while the loop was blocked counts'),
  ),
  mutant(
    412,
    'nobody renews when the thread has died',
    ['sdk/session-client.ts', "          this.#renewHere('at once');\n", ''],
    test('sdk/session-thread', 'when the thread dies the loop goes on renewing'),
  ),
  mutant(
    413,
    'suspend policy asked about the whole time to live',
    [
      'sdk/session-client.ts',
      'return onSuspend({ unrenewedMs, remainingMs });',
      'return onSuspend({ unrenewedMs, remainingMs: this.ttlMs });',
    ],
    test('sdk/session', 'a policy decides what a suspension means'),
  ),
  mutant(
    414,
    'waiters of a lost session wait on',
    [
      'recipes/common/machine-runner.ts',
      "      this.dispatch({ kind: 'session-lost' }),\n",
      '      undefined,\n',
    ],
    test('recipes/session', 'a lost session fails every waiter at once'),
  ),
  mutant(
    415,
    'part that outlives its session opens one of another kind',
    [
      'recipes/common/session-keeper.ts',
      'client.session({ ...terms, signal })',
      'client.session({ signal })',
    ],
    test('recipes/session', 'a part that outlives its session opens another of the same kind'),
  ),
  mutant(
    416,
    'waits are no contention',
    ['recipes/line/line-driver.ts', '    this.#handlers.waits?.();\n', ''],
    test('recipes/metrics', 'by waits, once each however long'),
  ),
  mutant(
    417,
    'milliseconds shown as seconds',
    ['recipes/open-telemetry.ts', 'waits.record(ms / 1_000,', 'waits.record(ms,'],
    test('recipes/metrics', 'gets seconds and counts'),
  ),
  mutant(
    418,
    'deadline counts from the answer',
    ['sdk/renewal.ts', 'this.#renewed(sentAt,', 'this.#renewed(instantOf(clock),'],
    test('sdk/session', 'the deadline moves to the sending of the renewal'),
  ),
  mutant(
    644,
    'place of somebody who waits taken back as a share',
    ['recipes/locks/rw-lock.ts', '!blockerOf(before, ahead, former.createRevision)', 'true'],
    test('recipes/resume', 'a waiter is not taken back as a holder'),
  ),
  mutant(
    645,
    'permits taken back that do not fit',
    [
      'recipes/locks/semaphore.ts',
      'return waiters.length === 0 ? content : undefined;',
      'return content;',
    ],
    test('recipes/resume', 'permits keep their weight, and what has no room is no hold'),
  ),
  mutant(
    646,
    'former holder of a place goes on beside the one that came back',
    ['recipes/line/takeover.ts', '{ ...next.terms, resumed: stamp }', '{ ...next.terms }'],
    test('recipes/resume', 'the former holder, should it still run, loses it'),
  ),
  mutant(
    647,
    'former leader proclaims in the term of the one that came back',
    ['recipes/election/leadership.ts', '!this.#office.isTakenOver?.(found)', 'true'],
    test('recipes/resume', 'a proclamation of the former leader changes nothing'),
  ),
  mutant(
    648,
    'former holder changes the mode of the one that came back',
    ['recipes/locks/rw-handle.ts', ' || this.#isTakenOver(found)', ''],
    test('recipes/resume', 'the former holder cannot change the mode any more'),
  ),
  mutant(
    649,
    'leader that came back stands beside its former self',
    ['recipes/election/priority-writes.ts', '      op.delete(before),\n', ''],
    test('recipes/resume', 'a lost answer does no harm'),
  ),
  mutant(
    650,
    'session of a process that is not well keeps its lease',
    ['sdk/session-client.ts', 'else void this.#revoke(lost);', 'else this.#end(lost);'],
    test('recipes/session-health', 'is lost after so many failures in a row'),
  ),
  mutant(
    651,
    'one failed check ends a session',
    [
      'recipes/common/session-health.ts',
      'this.#listen(this.#health, (',
      'this.#listen(undefined, (',
    ],
    test('recipes/session-health', 'goes on from what was found before a pause'),
  ),
  mutant(
    652,
    'session that replaces one that was not well is bound to nothing',
    ['sdk/session-opening.ts', '...(bound === undefined ? {} : { bound }),', ''],
    test('recipes/session-health', 'what outlives sessions goes on in another one'),
  ),
  mutant(
    653,
    'what has ended is counted on',
    ['recipes/common/measured-hold.ts', "kind: 'held', change: -1", "kind: 'held', change: 1"],
    test('recipes/metrics', 'up to its end, whatever that is'),
  ),
];
