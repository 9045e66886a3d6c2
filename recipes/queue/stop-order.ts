/**
 * An order to stop a job that is running: `cancel/<id>`, which exists only beside the job's claim.
 * Whatever ends that claim looks whether there is an order; if so, the job is dropped rather than put
 * back, and the job that replaces it, if any, becomes ready in the same transaction.
 */
import type { KeyValue, Kv } from '../../sdk/kv.ts';
import { type Operation, op } from '../../sdk/txn.ts';
import { parseRecord } from '../common/json-record.ts';
import type { QueueKeys } from '../names.ts';
import { arrival, turnKey } from './job-places.ts';
import type { JobState } from './job-record.ts';

export type StopOrder = {
  readonly v: 1;
  readonly why: 'cancelled' | 'replaced';
  /** For people, and for the handler. */
  readonly reason: string;
  /** The job that takes its place. */
  readonly next?: Successor;
};

export type Successor = {
  readonly id: string;
  readonly state: JobState;
  readonly dueMs?: number;
};

export const encodeOrder = (order: StopOrder): string => JSON.stringify(order);

/** What was written by hand is an order all the same. */
export const readOrder = (kv: KeyValue): StopOrder => ({
  why: 'cancelled',
  reason: '',
  ...parseRecord(kv),
  v: 1,
});

export type Succession = {
  /** The turn of its group goes to the successor: it is not for the leaving job to free. */
  readonly inheritsTurn: boolean;
  readonly operations: readonly Operation[];
};

/**
 * One job takes another's place. Within a group it takes over the turn, too, so that the group keeps
 * its order, unless it is to run later only.
 */
export function succeeds(
  kv: Kv,
  keys: QueueKeys,
  { group, turn, rank }: JobState,
  { id, state, dueMs }: Successor,
): Succession {
  const inheritsTurn =
    group !== undefined && turn !== undefined && group === state.group && dueMs === undefined;
  if (!inheritsTurn) {
    return { inheritsTurn, operations: [arrival(kv, keys, id, state, { dueMs })] };
  }
  const heir = { ...state, turn, ...(rank === undefined ? {} : { rank }) };
  return {
    inheritsTurn,
    operations: [op.put(turnKey(keys, group, turn), id), arrival(kv, keys, id, heir)],
  };
}

/** The order has been carried out: it goes, and its successor comes. */
export function orderDone(
  kv: Kv,
  keys: QueueKeys,
  id: string,
  leaving: JobState,
  { next }: StopOrder,
): Succession {
  const gone = op.delete(keys.cancel + id);
  if (next === undefined) return { inheritsTurn: false, operations: [gone] };
  const { inheritsTurn, operations } = succeeds(kv, keys, leaving, next);
  return { inheritsTurn, operations: [gone, ...operations] };
}
