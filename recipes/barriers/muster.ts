/**
 * Doing something under the condition that all of many keys stand.
 *
 * Nothing can count in a condition, and the expiry of a lease changes no key that could be compared. So
 * each key is compared by its create revision: in the transaction itself, as far as a transaction
 * goes. For more keys there are two: the first compares all of them at one revision, in parts, each
 * of which leaves a seal if its keys stand; the second acts if all seals are of that one revision.
 * Between the two a key may expire with its lease, but none may go by its owner's will without
 * making the second fail: whoever removes one removes the seals, or changes what else is compared.
 */
import type { Session } from '../../sdk/session.ts';
import { type Compare, compare, type Operation, op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';

/** As many keys fit into the conditions of one transaction of 128 operations, with room for others. */
export const directMusterMax = 120;

/** Keys in a part; as many operations remain for each nested transaction when there are 63 parts. */
const partSize = 64;

export const largestMuster = 63 * partSize;

export type Mustered = { readonly key: string; readonly createRevision: bigint };

export type Muster = {
  readonly keys: readonly Mustered[];
  /** What else has to hold; false after `writes`, so that the whole may be repeated. */
  readonly conditions: readonly Compare[];
  readonly writes: readonly Operation[];
  /** What to read when a key is missing, or a condition does not hold. */
  readonly reads: readonly Operation[];
  /** Where to put seals. Ends in `/`; unique to the caller. */
  readonly sealPrefix: string;
};

export type MusterResult = {
  readonly succeeded: boolean;
  readonly revision: bigint;
  /** Those of `reads`, if it did not succeed. */
  readonly responses: readonly unknown[];
};

const stands = ({ key, createRevision }: Mustered): Compare =>
  compare.createRevision(key, '==', createRevision);

/** @throws what the store answers; ConclaveError ABORTED by the signal */
export async function muster(
  session: Session,
  plan: Muster,
  signal: AbortSignal,
): Promise<MusterResult> {
  const { client } = session;
  const { keys, conditions, writes, reads } = plan;
  if (keys.length > directMusterMax) return musterInParts(session, plan, signal);
  const txn = client.kv
    .txn()
    .if(...conditions, ...keys.map(stands))
    .then<readonly Operation[]>(...writes)
    .else<readonly Operation[]>(...reads);
  return untilAnswered(client, () => txn.commit({ signal }), signal);
}

async function musterInParts(
  session: Session,
  { keys, conditions, writes, reads, sealPrefix }: Muster,
  signal: AbortSignal,
): Promise<MusterResult> {
  const { client, lease } = session;
  const seals: string[] = [];
  const parts: Operation[] = [];
  for (let at = 0; at < keys.length; at += partSize) {
    const seal = `${sealPrefix}${seals.length}`;
    seals.push(seal);
    const part = client.kv
      .txn()
      .if(...keys.slice(at, at + partSize).map(stands))
      .then(op.put(seal, '', { lease }));
    parts.push(op.txn(part));
  }
  const sealing = client.kv
    .txn()
    .if(...conditions)
    .then<readonly Operation[]>(...parts)
    .else<readonly Operation[]>(...reads);
  const sealed = await untilAnswered(client, () => sealing.commit({ signal }), signal);
  if (!sealed.succeeded) return sealed;
  // A seal that is missing, or of another revision, fails its comparison.
  const acting = client.kv
    .txn()
    .if(...conditions, ...seals.map((seal) => compare.modRevision(seal, '==', sealed.revision)))
    .then<readonly Operation[]>(...writes, op.delete({ prefix: sealPrefix }))
    .else<readonly Operation[]>(...reads, op.delete({ prefix: sealPrefix }));
  return untilAnswered(client, () => acting.commit({ signal }), signal);
}
