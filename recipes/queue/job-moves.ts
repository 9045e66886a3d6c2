/** The fenced moves of a job between its places, as transactions for callers to commit. */
import type { Kv } from '../../sdk/kv.ts';
import { compare, type Operation, type Operations, op, type Txn } from '../../sdk/txn.ts';
import type { QueueKeys } from '../names.ts';
import { type ChildOutcome, childEnds } from './child-ends.ts';
import { arrival, groupLine, slotKey, turnKey } from './job-places.ts';
import {
  type ClaimState,
  type DeadState,
  encodeState,
  type JobState,
  withoutClaim,
  withoutRights,
} from './job-record.ts';
import { recorded, recordGone } from './light-jobs.ts';

/** What proves that an entry is still the one that was read. */
export type Fence = { readonly key: string; readonly revision: bigint };

export const unchanged = ({ key, revision }: Fence) => compare.modRevision(key, '==', revision);

/** Deletes a key if it still says this: somebody may have removed it and another taken it since. */
const deleteIf = (kv: Kv, key: string, value: string): Operation =>
  op.txn(
    kv
      .txn()
      .if(compare.value(key, '==', value))
      .then(op.delete(key)),
  );

/** The key of a job that is done stays taken until this lease ends, unless another job has it by now. */
const remember = (kv: Kv, key: string, id: string, lease: bigint): Operation =>
  op.txn(
    kv
      .txn()
      .if(compare.value(key, '==', id))
      .then(op.put(key, id, { lease })),
  );

/** A claim ends: another job may run in its slot. */
export const freeSlot = (
  kv: Kv,
  keys: QueueKeys,
  { slot, nonce }: Pick<ClaimState, 'slot' | 'nonce'>,
): Operation[] => (slot === undefined ? [] : [deleteIf(kv, slotKey(keys, slot), nonce)]);

/**
 * A job frees its turn. If others wait for it, a mark calls for somebody to pass it on (`turns.ts`).
 */
export function freeTurn(
  kv: Kv,
  keys: QueueKeys,
  id: string,
  { group, turn }: Pick<JobState, 'group' | 'turn'>,
): Operation[] {
  if (group === undefined || turn === undefined) return [];
  const callForNext = kv
    .txn()
    .if(compare.range.createRevision({ prefix: groupLine(keys, group) }, '==', 0n))
    .else(op.put(keys.pass + group, id));
  return [deleteIf(kv, turnKey(keys, group, turn), id), op.txn(callForNext)];
}

/**
 * What goes along when a job is finished, for good or as a dead letter: its dedup key and its turn
 * are free, and its parent learns of it.
 *
 * @param isGone whether the job is gone, payload and all, as opposed to a dead letter
 * @param keyLease what its dedup key stays taken under, as opposed to being free
 */
export function finishing(
  kv: Kv,
  keys: QueueKeys,
  id: string,
  state: JobState,
  outcome: ChildOutcome,
  isGone = true,
  keyLease?: bigint,
): Operation[] {
  const { dedup, parent, isParent } = state;
  const key = keys.dedup + dedup;
  const keyEnds = keyLease === undefined ? deleteIf(kv, key, id) : remember(kv, key, id, keyLease);
  return [
    ...(dedup === undefined ? [] : [keyEnds]),
    ...freeTurn(kv, keys, id, state),
    ...(parent === undefined ? [] : childEnds(kv, parent, id, outcome, isGone)),
    // The outcomes of its children stay with a dead letter: it may be replayed.
    ...(isParent && outcome.status !== 'dead'
      ? [op.delete({ prefix: `${keys.child}${id}/` })]
      : []),
  ];
}

/** Removes a job for good, wherever it was. */
export const dropped = (kv: Kv, keys: QueueKeys, id: string, state: JobState): Operation[] => [
  ...recordGone(keys, id, state),
  ...finishing(kv, keys, id, state, { status: 'cancelled' }),
  // Its children go on; nobody waits for them.
  ...(state.isParent ? [op.delete({ prefix: `${keys.wait}${id}/` })] : []),
];

/** Due, or its children are finished: into the line of those ready, or of its group. */
export const moveToReady = (
  kv: Kv,
  keys: QueueKeys,
  from: Fence,
  id: string,
  state: JobState,
): Txn<Operations> =>
  kv
    .txn()
    .if(unchanged(from))
    .then(op.delete(from.key), arrival(kv, keys, id, state));

/** The operations that make a claimed job a dead letter. The payload stays, for inspection and replay. */
export function buried(
  kv: Kv,
  keys: QueueKeys,
  id: string,
  state: ClaimState,
  why: Pick<DeadState, 'reason' | 'deadMs' | 'error'>,
): Operation[] {
  const { state: left, operations } = recorded(keys, id, withoutRights(withoutClaim(state)));
  const dead: DeadState = { ...left, ...why };
  return [
    ...operations,
    op.put(keys.dead + id, encodeState(dead)),
    ...finishing(kv, keys, id, state, { status: 'dead', reason: why.reason }, false),
  ];
}
