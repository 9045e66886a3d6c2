/** The fenced moves of a job between its places, as transactions for callers to commit. */
import type { Kv } from '../sdk/kv.ts';
import { compare, type Operation, op } from '../sdk/txn.ts';
import {
  type ClaimState,
  type DeadState,
  encodeState,
  type JobState,
  withoutClaim,
} from './job-record.ts';
import { type QueueKeys, sortableHex } from './names.ts';

/** What proves that an entry is still the one that was read. */
export type Fence = { readonly key: string; readonly revision: bigint };

const unchanged = ({ key, revision }: Fence) => compare.modRevision(key, '==', revision);

export const atKey = (keys: QueueKeys, dueMs: number, id: string): string =>
  `${keys.at}${sortableHex(BigInt(Math.max(0, Math.ceil(dueMs))))}/${id}`;

/** The id and due time that an `at/` key encodes. */
export function parseAtKey(keys: QueueKeys, key: string): { id: string; dueMs: number } {
  const [due = '0', id = ''] = key.slice(keys.at.length).split('/');
  return { id, dueMs: Number.parseInt(due, 16) || 0 };
}

/** The entry that makes a job claimable, now or when it is due. */
export const waitingEntry = (keys: QueueKeys, id: string, state: JobState, dueMs?: number) =>
  dueMs === undefined
    ? op.put(keys.ready + id, encodeState(state))
    : op.put(atKey(keys, dueMs, id), encodeState({ ...state, dueMs }));

/**
 * Frees the dedup key if this job still occupies it: somebody may have removed it by hand, and
 * another job may have taken it since.
 */
export function freeDedup(kv: Kv, keys: QueueKeys, id: string, state: JobState): Operation[] {
  if (state.dedup === undefined) return [];
  const key = keys.dedup + state.dedup;
  return [
    op.txn(
      kv
        .txn()
        .if(compare.value(key, '==', id))
        .then(op.delete(key)),
    ),
  ];
}

/** Due, or given up by its worker: back into the line of those ready. */
export const moveToReady = (kv: Kv, keys: QueueKeys, from: Fence, id: string, state: JobState) =>
  kv
    .txn()
    .if(unchanged(from))
    .then(op.delete(from.key), waitingEntry(keys, id, state));

/** Out of attempts, or beyond help. The payload stays, for inspection and replay. */
export function moveToDead(
  kv: Kv,
  keys: QueueKeys,
  from: Fence,
  id: string,
  state: ClaimState,
  why: { readonly reason: string; readonly deadMs: number },
) {
  const { dedup: _freed, ...rest } = withoutClaim(state);
  const dead: DeadState = { ...rest, ...why };
  return kv
    .txn()
    .if(unchanged(from))
    .then(
      op.delete(from.key),
      op.put(keys.dead + id, encodeState(dead)),
      ...freeDedup(kv, keys, id, state),
    );
}
