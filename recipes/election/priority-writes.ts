/** The transactions of a candidate by priority. Each may be repeated and may arrive late. */
import type { Kv } from '../../sdk/kv.ts';
import { compare, op } from '../../sdk/txn.ts';
import { firstAttempt } from '../line/line-membership.ts';
import { goneKey } from '../names.ts';
import type { ElectionKeys } from './candidates.ts';

/** A candidacy: unlike a session it is never there twice, so its name alone fences what it owns. */
export type Candidacy = {
  readonly keys: ElectionKeys;
  /** `<session>-<attempt>`: what a leader key says. */
  readonly member: string;
  readonly key: string;
  readonly lease: bigint;
  /** Whether it asks leaders of lower priority to make way. */
  readonly preferred: boolean;
};

/** A candidate that is to lead next. */
export type Heir = {
  readonly key: string;
  readonly createRevision: bigint;
  readonly lease: bigint;
};

/** Creates the candidate's key; and the leader key if nobody else is there. Shows the election. */
export function enter(
  kv: Kv,
  { keys, member, key, lease, preferred }: Candidacy,
  value: string | Uint8Array,
) {
  const prefix = { prefix: keys.prefix };
  const leads = op.txn(
    kv
      .txn()
      .if(compare.range.createRevision(prefix, '==', 0n))
      .then(op.put(keys.leader, member, { lease })),
  );
  const request = preferred ? [op.put(keys.request(member), '', { lease })] : [];
  return kv
    .txn()
    .if(...firstAttempt(key, member))
    .then(op.put(key, value, { lease }), leads, ...request, op.list(prefix))
    .else(op.get(key));
}

/** The term of a former process of the session, and the candidate that had it. */
export type FormerTerm = {
  readonly term: bigint;
  readonly member: string;
  readonly createRevision: bigint;
};

/**
 * Goes on in place of a former process of the same session: another candidate leads, with a higher term,
 * and there is no moment without a leader. Shows the election.
 */
export function succeed(
  kv: Kv,
  { keys, member, key, lease, preferred }: Candidacy,
  value: string | Uint8Array,
  former: FormerTerm,
) {
  const before = keys.prefix + former.member;
  const request = preferred ? [op.put(keys.request(member), '', { lease })] : [];
  return kv
    .txn()
    .if(
      ...firstAttempt(key, member),
      compare.modRevision(keys.leader, '==', former.term),
      compare.value(keys.leader, '==', former.member),
      compare.createRevision(before, '==', former.createRevision),
      compare.lease(before, '==', lease),
    )
    .then(
      op.put(key, value, { lease }),
      op.put(keys.leader, member, { lease }),
      op.delete(before),
      op.delete(keys.request(former.member)),
      ...request,
      op.list({ prefix: keys.prefix }),
    )
    .else(op.get(key));
}

/** Fills a vacancy. */
export const take = (kv: Kv, { keys, member, key, lease }: Candidacy, own: bigint) =>
  kv
    .txn()
    .if(compare.createRevision(keys.leader, '==', 0n), compare.createRevision(key, '==', own))
    .then(op.put(keys.leader, member, { lease }))
    .else(op.get(keys.leader), op.get(key));

/** Makes another candidate the leader, for as long as it stands and this term lasts. */
export function pass(kv: Kv, { keys, member, key, preferred }: Candidacy, term: bigint, to: Heir) {
  const successor = to.key.slice(keys.prefix.length);
  return kv
    .txn()
    .if(
      compare.modRevision(keys.leader, '==', term),
      compare.createRevision(to.key, '==', to.createRevision),
      compare.lease(to.key, '==', to.lease),
    )
    .then(
      op.put(keys.leader, successor, { lease: to.lease }),
      op.delete(key),
      ...(preferred ? [op.delete(keys.request(member))] : []),
    )
    .else(op.list({ prefix: keys.prefix }));
}

/** Removes all that is the candidate's, also if it was made the leader meanwhile. */
export function remove(
  kv: Kv,
  { keys, member, key, lease, preferred }: Candidacy,
  own: bigint | 'unknown',
) {
  const abdicate = op.txn(
    kv
      .txn()
      .if(compare.value(keys.leader, '==', member))
      .then(op.delete(keys.leader)),
  );
  const request = preferred ? [op.delete(keys.request(member))] : [];
  if (own === 'unknown') {
    // The enqueue may still be under way to the store; from here on it fails its comparison.
    const mark = op.put(goneKey(member), '', { lease });
    return kv.txn().then(mark, op.delete(key), abdicate, ...request);
  }
  const withdraw = op.txn(
    kv
      .txn()
      .if(compare.createRevision(key, '==', own))
      .then(op.delete(key)),
  );
  return kv.txn().then(withdraw, abdicate, ...request);
}
