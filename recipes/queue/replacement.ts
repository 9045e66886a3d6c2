/** How a pushed job takes the place of an unfinished one with the same key. */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import { type Compare, compare, type Operation, op } from '../../sdk/txn.ts';
import type { QueueKeys } from '../names.ts';
import { dropped, unchanged } from './job-moves.ts';
import { arrival } from './job-places.ts';
import { type JobState, readJobState, withoutTurn } from './job-record.ts';
import { locate } from './job-whereabouts.ts';
import { encodeOrder, readOrder, type StopOrder, type Successor, succeeds } from './stop-order.ts';

export type Replacement = {
  /** The job that is replaced. */
  readonly replaced: string;
  readonly conditions: readonly Compare[];
  /** Instead of the new job's entry in the line. */
  readonly operations: readonly Operation[];
};

type NewOne = {
  readonly id: string;
  readonly state: JobState;
  readonly job: { readonly dueMs?: number | undefined };
};

/**
 * A waiting job is dropped, and the new one lines up; a running one is ordered to stop, and the new
 * one becomes ready when it has. undefined when the key became free meanwhile.
 */
export async function replacementOf(
  client: Client,
  keys: QueueKeys,
  occupant: KeyValue,
  { id, state, job }: NewOne,
  signal: AbortSignal,
): Promise<Replacement | undefined> {
  const { kv } = client;
  const old = Buffer.from(occupant.value).toString('utf8');
  const next: Successor = { id, state, ...(job.dueMs === undefined ? {} : { dueMs: job.dueMs }) };
  const asFound = unchanged({ key: occupant.key, revision: occupant.modRevision });
  const order: StopOrder = { v: 1, why: 'replaced', reason: `replaced by job ${id}`, next };
  const found = await locate(client, keys, old, signal);
  switch (found.place) {
    case 'waiting': {
      const { entry } = found;
      const { dedup: _kept, ...leaving } = readJobState(entry);
      const { inheritsTurn, operations } = succeeds(kv, keys, leaving, next);
      return {
        replaced: old,
        conditions: [asFound, unchanged({ key: entry.key, revision: entry.modRevision })],
        operations: [
          op.delete(entry.key),
          ...dropped(kv, keys, old, inheritsTurn ? withoutTurn(leaving) : leaving),
          ...operations,
        ],
      };
    }
    case 'claimed': {
      const { claim, order: before } = found;
      const key = keys.cancel + old;
      return {
        replaced: old,
        conditions: [
          asFound,
          compare.createRevision(claim.key, '==', claim.createRevision),
          unchanged({ key, revision: before?.modRevision ?? 0n }),
        ],
        operations: [op.put(key, encodeOrder(order))],
      };
    }
    case 'next': {
      const before = readOrder(found.order);
      const { key, modRevision } = found.order;
      return {
        replaced: old,
        conditions: [asFound, unchanged({ key, revision: modRevision })],
        operations: [
          op.put(key, encodeOrder({ ...before, reason: order.reason, next })),
          op.delete(keys.job + old),
        ],
      };
    }
    case 'dead':
    case 'nowhere':
      // The key was left behind by somebody who removed the job by hand, or is free by now.
      return {
        replaced: old,
        conditions: [asFound],
        operations: [arrival(kv, keys, id, state, { dueMs: job.dueMs })],
      };
  }
}
