/** Where a job is, by its id. */
import type { Client } from '../../sdk/client.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { op } from '../../sdk/txn.ts';
import { fullJitterMs, pause, untilAnswered } from '../common/repeat.ts';
import type { QueueKeys } from '../names.ts';
import { idOfEntry } from './job-places.ts';
import { readOrder, type StopOrder } from './stop-order.ts';

export type Whereabouts =
  /** In ready, at, line or blocked: its entry there. */
  | { readonly place: 'waiting'; readonly entry: KeyValue }
  | { readonly place: 'claimed'; readonly claim: KeyValue; readonly order: KeyValue | null }
  /** Written into the order to stop the job whose place it takes. */
  | { readonly place: 'next'; readonly after: string; readonly order: KeyValue }
  | { readonly place: 'dead'; readonly entry: KeyValue }
  | { readonly place: 'nowhere' };

/**
 * One exchange for a job that is claimed, dead, blocked, or ready with no group and priority; for
 * others the places are searched, all as of one revision. Where that is compacted meanwhile the search
 * starts anew.
 */
export async function locate(
  client: Client,
  keys: QueueKeys,
  id: string,
  signal: AbortSignal | undefined,
): Promise<Whereabouts> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await locateOnce(client, keys, id, signal);
    } catch (error) {
      if (!isConclaveError(error, 'COMPACTED')) throw error;
    }
    await pause(client.clock, fullJitterMs(attempt, client.random), signal);
  }
}

async function locateOnce(
  client: Client,
  keys: QueueKeys,
  id: string,
  signal: AbortSignal | undefined,
): Promise<Whereabouts> {
  const { kv } = client;
  const call = signal === undefined ? {} : { signal };
  const read = kv
    .txn()
    .then(
      op.get(keys.claim + id),
      op.get(keys.cancel + id),
      op.get(keys.ready + id),
      op.get(keys.blocked + id),
      op.get(keys.dead + id),
      op.get(keys.job + id),
      op.list({ prefix: keys.cancel }),
    );
  const { responses, revision } = await untilAnswered(client, () => read.commit(call), signal);
  const [claim, order, ready, blocked, dead, job] = responses as readonly (KeyValue | null)[];
  const orders = responses[6]?.kvs ?? [];
  if (claim) return { place: 'claimed', claim, order: order ?? null };
  const entry = ready ?? blocked;
  if (entry) return { place: 'waiting', entry };
  if (dead) return { place: 'dead', entry: dead };
  // A light job would be ready or claimed.
  if (!job) return { place: 'nowhere' };
  for (const other of orders) {
    const { next }: StopOrder = readOrder(other);
    if (next?.id === id) {
      return { place: 'next', after: other.key.slice(keys.cancel.length), order: other };
    }
  }
  for (const prefix of [keys.ready, keys.at, keys.line]) {
    for await (const { key } of kv.iterate({ prefix }, { ...call, revision, keysOnly: true })) {
      if (idOfEntry(key) !== id) continue;
      const found = await kv.get(key, { ...call, revision });
      if (found) return { place: 'waiting', entry: found };
    }
  }
  return { place: 'nowhere' };
}
