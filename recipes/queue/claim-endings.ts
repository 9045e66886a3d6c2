/** The ways in which a claim can end, as operations beside the removal of its key. */
import type { KeyValue, Kv } from '../../sdk/kv.ts';
import {
  compare,
  type GetOperation,
  type Operation,
  type Operations,
  op,
  type Txn,
} from '../../sdk/txn.ts';
import type { QueueKeys } from '../names.ts';
import { buried, dropped, finishing, freeSlot, unchanged } from './job-moves.ts';
import { arrival, rankedAt } from './job-places.ts';
import {
  type ClaimState,
  type DeadState,
  type JobState,
  withoutClaim,
  withoutTurn,
} from './job-record.ts';
import { recorded, recordGone } from './light-jobs.ts';
import { orderDone, readOrder } from './stop-order.ts';

/** What to keep of a finished job: its result under a lease that ends it. */
export type KeptResult = { readonly bytes: Uint8Array | string; readonly lease: bigint };

export type Ending = {
  /** Whether the job leaves the line for good, or for the dead letters. */
  readonly finishes: boolean;
  /** Whether it happens although the job was to stop; otherwise the job is dropped. */
  readonly inSpiteOfOrder: boolean;
  /** @param state the job, without what it hands over to a successor */
  readonly operations: (kv: Kv, keys: QueueKeys, id: string, state: ClaimState) => Operation[];
};

/** @param keyLease what the job's dedup key stays taken under, if it is to outlive the job */
export const acknowledged = (
  kept: KeptResult | undefined,
  forParent?: string,
  keyLease?: bigint,
): Ending => ({
  finishes: true,
  inSpiteOfOrder: true,
  operations: (kv, keys, id, state) => [
    ...recordGone(keys, id, state),
    ...(kept ? [op.put(keys.result + id, kept.bytes, { lease: kept.lease })] : []),
    ...finishing(
      kv,
      keys,
      id,
      state,
      { status: 'done', ...(forParent === undefined ? {} : { result: forParent }) },
      true,
      keyLease,
    ),
  ],
});

/** Back into the line. @param change what is different about it now */
export const putBack = (
  token: bigint,
  dueMs: number | undefined,
  change: (state: JobState) => JobState,
): Ending => ({
  finishes: false,
  inSpiteOfOrder: false,
  operations: (kv, keys, id, claimed) => {
    const left = change(withoutClaim(claimed));
    const { state, operations } =
      dueMs === undefined ? { state: left, operations: [] } : recorded(keys, id, left);
    return [...operations, arrival(kv, keys, id, rankedAt(state, token), { dueMs })];
  },
});

export const dead = (why: Pick<DeadState, 'reason' | 'deadMs' | 'error'>): Ending => ({
  finishes: true,
  inSpiteOfOrder: false,
  operations: (kv, keys, id, state) => buried(kv, keys, id, state, why),
});

/** Dropped, payload and all, because it failed. */
export const discarded = (reason: string): Ending => ({
  finishes: true,
  inSpiteOfOrder: false,
  operations: (kv, keys, id, state) => [
    ...recordGone(keys, id, state),
    ...finishing(kv, keys, id, state, { status: 'dead', reason }),
    ...(state.isParent ? [op.delete({ prefix: `${keys.child}${id}/` })] : []),
  ],
});

/** Ordered to stop. */
export const stopped: Ending = {
  finishes: true,
  inSpiteOfOrder: true,
  operations: dropped,
};

/** Who leaves: a claim, named by its create revision. */
export type Leaver = {
  readonly kv: Kv;
  readonly keys: QueueKeys;
  readonly id: string;
  readonly state: ClaimState;
  readonly token: bigint;
};

/** What a transaction that did not end the claim has found. */
export type ClaimAndOrder = readonly [GetOperation, GetOperation];

/**
 * The transaction that ends a claim.
 *
 * @param given the order to stop that is in force, as far as is known
 */
export function leaving(
  ending: Ending,
  { kv, keys, id, state, token }: Leaver,
  given: KeyValue | null,
): Txn<Operations, ClaimAndOrder> {
  return leavingBlindly(ending, { kv, keys, id, state, token }, given).else(
    op.get(keys.claim + id),
    op.get(keys.cancel + id),
  );
}

/** The same without finding out why it has not ended the claim, if it has not. */
export function leavingBlindly(
  ending: Ending,
  { kv, keys, id, state, token }: Leaver,
  given: KeyValue | null,
): Txn<Operations> {
  const claim = keys.claim + id;
  const orderKey = keys.cancel + id;
  const how = given === null || ending.inSpiteOfOrder ? ending : stopped;
  const order = given === null ? undefined : orderDone(kv, keys, id, state, readOrder(given));
  return kv
    .txn()
    .if(
      compare.createRevision(claim, '==', token),
      unchanged({ key: orderKey, revision: given?.modRevision ?? 0n }),
    )
    .then(
      op.delete(claim),
      ...freeSlot(kv, keys, state),
      ...how.operations(kv, keys, id, order?.inheritsTurn ? withoutTurn(state) : state),
      ...(order?.operations ?? []),
    );
}
