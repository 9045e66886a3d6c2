/** Defects of watches. */
import type { Killer, Mutant } from '../mutant.ts';
import { test } from './killers.ts';

const watch = (
  number: number,
  name: string,
  [file, find, replace]: readonly [file: string, find: string, replace: string],
  ...killers: readonly Killer[]
): Mutant => ({ number, name, patches: [{ file: `server/${file}.ts`, find, replace }], killers });

/** Everything that can happen to a hub, at random, against a naive model. */
const model = test('watch/hub', 'every watcher gets exactly its events');

export const watchMutants: readonly Mutant[] = [
  watch(
    53,
    'event lost when a watcher that was behind becomes synced',
    ['watch/hub', 'if (batch.to === this.#revision)', 'if (batch.to >= this.#revision - 1)'],
    model,
  ),
  watch(
    54,
    'what a full stream could not take is delivered twice',
    [
      'watch/hub',
      'else this.#fallBehind(watcher, revision);',
      'else {\n        this.#deliver(watcher, revision, collected, bytes);\n        this.#fallBehind(watcher, revision);\n      }',
    ],
    model,
  ),
  watch(
    55,
    'revision split where a batch of history ends',
    [
      'mvcc/history',
      'if (newest === undefined || newest.revision !== at.revision) {',
      'if (newest === undefined || newest.revision !== at.revision || bytes >= maxBytes) {',
    ],
    test('mvcc/history', 'bytes bound further revisions|revision larger than a piece'),
  ),
  watch(
    56,
    'progress announced ahead of events',
    [
      'watch/stream',
      'return watcher.isSynced && watcher.next <= this.#hub.revision + 1;',
      'return watcher.next <= this.#hub.revision + 1;',
    ],
    model,
  ),
  watch(
    57,
    'watch from a future revision gets older events',
    [
      'watch/hub',
      'if (watcher.next > revision || !wants(watcher, kind)) return;',
      'if (!wants(watcher, kind)) return;',
    ],
    test('watch/hub', 'a future start revision is silent'),
  ),
  watch(
    58,
    'old events again after a snapshot was installed',
    [
      'watch/hub',
      'this.#fallBehind(watcher, Math.max(watcher.next, next));',
      'this.#fallBehind(watcher, watcher.next);',
    ],
    model,
  ),
  watch(
    59,
    'deletions skipped when a compaction passes a watcher',
    [
      'watch/hub',
      'if (watcher.isSynced || watcher.next >= compactRevision) continue;',
      'if (watcher.isSynced || watcher.next >= compactRevision) continue;\n      watcher.next = compactRevision;\n      continue;',
    ],
    test('watch/hub', 'a compaction that passes a slow watcher'),
  ),
  watch(
    60,
    'events that a slow watcher has no room for are dropped',
    ['watch/hub', 'else this.#fallBehind(watcher, revision);', ''],
    model,
    test('watch/hub', 'a slow stream falls behind'),
  ),
  watch(
    401,
    'revision split for a watcher that cannot put it together',
    [
      'rpc/watch-encoding',
      'const fragments = delivery.fragment ? split',
      'const fragments = maxMessageBytes > 0 ? split',
    ],
    test('rpc/watch', 'a large revision is split only'),
  ),
  watch(
    660,
    'read that waits looks first without knowing what the client knew',
    ['rpc/txn-when-false', 'let isCurrent = false;', 'let isCurrent = true;'],
    test('rpc/txn-when-false', 'nothing is told before the barrier'),
  ),
  watch(
    661,
    'reads that wait sleep through a snapshot',
    ['watch/hub', '    this.nextChange.announceAll();\n', ''],
    test('rpc/txn-when-false', 'a state that was replaced'),
  ),
  watch(
    662,
    'reads that wait keep a stream from being read',
    ['rpc/batch', '    if (waits) {', '    if (waits && requestBytes < 0) {'],
    test('rpc/txn-when-false', 'hold up neither other calls'),
  ),
  watch(
    663,
    'read that waits keeps listening for a client that is gone',
    [
      'rpc/txn-when-false',
      "    signal.addEventListener('abort', () => fail(new Fault('canceled')), { once: true });\n",
      '',
    ],
    test('rpc/txn-when-false', 'hold up neither other calls'),
  ),
];
