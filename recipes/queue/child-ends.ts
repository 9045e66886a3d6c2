/**
 * Parents that wait for children. A child carries a link to its parent; a `wait` key beside the
 * blocked parent stands for each child that is not finished. The transaction that finishes a child
 * removes that key and writes down how the child ended; the last one (or one whose failure decides)
 * leaves `freed/<parent>`, so that whoever comes first can let the parent go, at any time later.
 */
import type { Kv } from '../../sdk/kv.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import { queueKeys } from '../names.ts';
import type { ParentLink } from './job-record.ts';

/** How a child ended. */
export type ChildOutcome =
  /** Acknowledged. `result`: what its handler returned, as its worker wrote it, in base64. */
  | { readonly status: 'done'; readonly result?: string }
  | { readonly status: 'dead'; readonly reason: string }
  | { readonly status: 'cancelled' };

/** Why a parent is let go. */
export type FreedRecord = { readonly v: 1; readonly failure?: string };

/**
 * The part of a child's last transaction that concerns its parent.
 *
 * @param isGone whether it can never be done: it is no dead letter that may be replayed
 */
export function childEnds(
  kv: Kv,
  parent: ParentLink,
  id: string,
  outcome: ChildOutcome,
  isGone: boolean,
): Operation[] {
  const failure = outcome.status === 'done' ? undefined : `its child ${id} is ${outcome.status}`;
  if (failure !== undefined && parent.onFailure === 'wait' && !isGone) return [];
  const keys = queueKeys(parent.queue);
  const waiting = `${keys.wait}${parent.id}/`;
  const own = waiting + id;
  const freed = keys.freed + parent.id;
  // Whoever would wait for one that is gone would wait for ever.
  const fails = failure !== undefined && parent.onFailure !== 'continue';
  const record: FreedRecord = { v: 1, ...(fails ? { failure } : {}) };
  const free = op.put(freed, JSON.stringify(record));
  const freeIfLast = op.txn(
    kv
      .txn()
      .if(
        compare.range.createRevision({ from: waiting, to: own }, '==', 0n),
        compare.range.createRevision(
          { from: `${own}\0`, to: `${waiting.slice(0, -1)}0` },
          '==',
          0n,
        ),
      )
      .then(free),
  );
  const isAwaited = compare.createRevision(own, '>', 0n);
  const written = op.put(`${keys.child}${parent.id}/${id}`, JSON.stringify({ v: 1, ...outcome }));
  const ends = kv
    .txn()
    .if(isAwaited)
    .then(op.delete(own), written, fails ? free : freeIfLast);
  return [op.txn(ends)];
}
