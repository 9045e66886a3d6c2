/** Cancelling a job by its id, wherever it is. */
import type { Client } from '../../sdk/client.ts';
import type { CallOptions } from '../../sdk/options.ts';
import { compare, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import type { QueueKeys } from '../names.ts';
import { dropped, unchanged } from './job-moves.ts';
import { readJobState } from './job-record.ts';
import { locate } from './job-whereabouts.ts';
import { passOn } from './pass-on.ts';
import { encodeOrder, readOrder, type StopOrder } from './stop-order.ts';

/**
 * - `removed`: it was not running, and is gone.
 * - `stopping`: it runs; its signal aborts, and it is dropped when its handler has ended.
 * - `not-found`: it is finished, a dead letter, or never was.
 */
export type Cancelled = 'removed' | 'stopping' | 'not-found';

export async function cancelJob(
  client: Client,
  keys: QueueKeys,
  id: string,
  reason: string,
  options: CallOptions,
): Promise<Cancelled> {
  const { kv } = client;
  const { signal } = options;
  for (let sent = false; ; sent = true) {
    const found = await locate(client, keys, id, signal);
    switch (found.place) {
      case 'waiting': {
        const { entry } = found;
        const state = readJobState(entry);
        const txn = kv
          .txn()
          .if(unchanged({ key: entry.key, revision: entry.modRevision }))
          .then(op.delete(entry.key), ...dropped(kv, keys, id, state));
        const result = await untilAnswered(client, () => txn.commit(options), signal);
        if (!result.succeeded) continue;
        await passOn(client, { keys, state }, result.responses, signal);
        return 'removed';
      }
      case 'claimed': {
        const { claim, order: given } = found;
        const before = given === null ? undefined : readOrder(given);
        if (before?.why === 'cancelled') return 'stopping';
        const order: StopOrder = { ...before, v: 1, why: 'cancelled', reason };
        const key = keys.cancel + id;
        const txn = kv
          .txn()
          .if(
            compare.createRevision(claim.key, '==', claim.createRevision),
            unchanged({ key, revision: given?.modRevision ?? 0n }),
          )
          .then(op.put(key, encodeOrder(order)));
        const { succeeded } = await untilAnswered(client, () => txn.commit(options), signal);
        if (succeeded) return 'stopping';
        continue;
      }
      case 'next': {
        const { next, ...order } = readOrder(found.order);
        const { key, modRevision } = found.order;
        const txn = kv
          .txn()
          .if(unchanged({ key, revision: modRevision }))
          .then(
            op.put(key, encodeOrder(order)),
            ...(next === undefined ? [] : dropped(kv, keys, id, next.state)),
          );
        const { succeeded } = await untilAnswered(client, () => txn.commit(options), signal);
        if (succeeded) return 'removed';
        continue;
      }
      case 'dead':
      case 'nowhere':
        // Gone at the second look: perhaps by an earlier attempt whose answer was lost.
        return sent && found.place === 'nowhere' ? 'removed' : 'not-found';
    }
  }
}
