/** Letting go of parents whose children are finished; see `child-ends.ts`. */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import { parseRecord } from '../common/json-record.ts';
import { untilAnswered } from '../common/repeat.ts';
import { type QueueKeys, queueKeys } from '../names.ts';
import type { FreedRecord } from './child-ends.ts';
import { type Fence, finishing, moveToReady, unchanged } from './job-moves.ts';
import { encodeState, readJobState, withoutRights } from './job-record.ts';

/**
 * Lets a parent go whose children are finished: into the line, or to the dead letters if a child's
 * failure decides so; and its own parent after it. Safe to call at any time, by any number of clients.
 *
 * @returns whether the parent was let go by this call
 */
export async function releaseParent(
  client: Client,
  keys: QueueKeys,
  id: string,
  signal?: AbortSignal,
): Promise<boolean> {
  const { kv, clock } = client;
  const call = signal === undefined ? {} : { signal };
  const read = kv.txn().then(op.get(keys.freed + id), op.get(keys.blocked + id));
  for (;;) {
    const { responses } = await untilAnswered(client, () => read.commit(call), signal);
    const [freed, blocked] = responses as readonly [KeyValue | null, KeyValue | null];
    if (freed === null) return false;
    const marked = compare.modRevision(freed.key, '==', freed.modRevision);
    if (blocked === null) {
      // Cancelled, or removed by hand: nobody waits.
      const forget = kv.txn().if(marked).then(op.delete(freed.key));
      await untilAnswered(client, () => forget.commit(call), signal);
      return false;
    }
    const from: Fence = { key: blocked.key, revision: blocked.modRevision };
    const state = readJobState(blocked);
    const { failure } = readFreed(freed);
    let move = moveToReady(kv, keys, from, id, state);
    if (failure !== undefined) {
      const reason = { reason: failure, deadMs: clock.wallMs() };
      const dead = encodeState({ ...withoutRights(state), ...reason });
      move = kv
        .txn()
        .if(unchanged(from))
        .then(
          op.delete(from.key),
          op.put(keys.dead + id, dead),
          op.delete({ prefix: `${keys.wait}${id}/` }),
          ...finishing(kv, keys, id, state, { status: 'dead', reason: failure }, false),
        );
    }
    const fenced = move.if(marked).then(op.delete(freed.key));
    const { succeeded } = await untilAnswered(client, () => fenced.commit(call), signal);
    if (!succeeded) continue;
    if (failure !== undefined && state.parent !== undefined) {
      await releaseParent(client, queueKeys(state.parent.queue), state.parent.id, signal);
    }
    return true;
  }
}

/** What is not ours reads as if all went well. */
const readFreed = (kv: KeyValue): Partial<FreedRecord> => parseRecord(kv);
