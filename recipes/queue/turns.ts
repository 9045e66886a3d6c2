/**
 * Turns of a group. A group has as many turns as jobs of it may be ready or running at a time (its
 * concurrency, 1 unless limits say more), each a key. Its other jobs wait in the group's line. So
 * whoever looks for work sees at most that many jobs of a group, and a group with a thousand jobs
 * stands in nobody's way; a turn that is passed on is ranked behind everything that is ready by then,
 * so that groups take turns (round robin).
 *
 * Invariant G: while jobs wait in a group's line and a turn is free, `pass/<group>` exists. Every
 * transaction that frees a turn or lengthens the line sees to it, so passing turns on can be left to
 * anybody at any time: whoever finished the job tries at once, and each sweep tries again.
 */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { QueueKeys } from '../names.ts';
import { groupLine, groupTurns, idOfEntry, rankedAt, readyKey, turnKey } from './job-places.ts';
import { encodeState, readJobState } from './job-record.ts';
import { readLimits } from './queue-limits.ts';

/** Turns passed on in one transaction: three operations each, of the 128 that servers allow. */
const turnsAtOnce = 32;

/**
 * Gives free turns of a group to the first in its line. Two exchanges; safe to call at any time, by
 * any number of clients.
 *
 * @returns how many jobs became ready
 */
export async function passTurns(
  client: Client,
  keys: QueueKeys,
  group: string,
  signal?: AbortSignal,
): Promise<number> {
  const { kv } = client;
  const pass = keys.pass + group;
  let passed = 0;
  for (;;) {
    const read = kv
      .txn()
      .then(
        op.get(keys.limits),
        op.get(pass),
        op.list({ prefix: groupTurns(keys, group) }, { keysOnly: true }),
        op.list({ prefix: groupLine(keys, group) }, { limit: turnsAtOnce }),
      );
    const call = signal === undefined ? {} : { signal };
    const seen = await untilAnswered(client, () => read.commit(call), signal);
    const [limits, mark, taken, line] = seen.responses as readonly [
      KeyValue | null,
      KeyValue | null,
      { kvs: readonly KeyValue[] },
      { kvs: readonly KeyValue[]; count: bigint },
    ];
    if (mark === null) return passed;
    const turns = readLimits(limits)?.groupConcurrency ?? 1;
    const takenTurns = new Set(taken.kvs.map(({ key }) => Number(idOfEntry(key))));
    const free = Array.from({ length: turns }, (_, turn) => turn).filter(
      (turn) => !takenTurns.has(turn),
    );
    const grants = line.kvs.flatMap((entry, index) => {
      const turn = free[index];
      return turn === undefined ? [] : [{ entry, turn }];
    });
    // The mark stays while there may be more to give.
    const done = grants.length === free.length || BigInt(grants.length) === line.count;
    const grant = kv
      .txn()
      .if(
        compare.modRevision(pass, '==', mark.modRevision),
        ...grants.flatMap(({ entry, turn }) => [
          compare.modRevision(entry.key, '==', entry.modRevision),
          compare.createRevision(turnKey(keys, group, turn), '==', 0n),
        ]),
      )
      .then(
        ...(done ? [op.delete(pass)] : []),
        ...grants.flatMap(({ entry, turn }) => {
          const id = idOfEntry(entry.key);
          const state = { ...rankedAt(readJobState(entry), mark.modRevision), turn };
          return [
            op.delete(entry.key),
            op.put(turnKey(keys, group, turn), id),
            op.put(readyKey(keys, id, state), encodeState(state)),
          ];
        }),
      );
    const { succeeded } = await untilAnswered(client, () => grant.commit(call), signal);
    if (!succeeded) continue;
    passed += grants.length;
    if (done) return passed;
  }
}
