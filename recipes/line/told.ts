/**
 * Waiting for a turn with the help of the store: it answers, once, when the place ahead or the own one
 * is gone, or was written to where that matters, with what a look shows then. Where it offers no such answer (etcd), watches and a look do the
 * same in more exchanges: see `wake.ts`.
 */
import type { Client } from '../../sdk/client.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import { type Compare, compare, type Operation } from '../../sdk/txn.ts';
import type { Place } from './line.ts';
import type { LineView, Membership } from './line-membership.ts';

/** What a look was answered. */
export type Told = {
  readonly responses: readonly unknown[];
  readonly revision: bigint;
  /** What was known when it was asked for. */
  readonly seen: LineView | undefined;
};

/** Clients whose store has been found to offer no such answer. */
const without = new WeakSet<Client>();

/**
 * What holds as long as there is nothing to look at.
 *
 * @param own the own place; its mod revision is that of the last write that this member knows of
 * @returns undefined when the store cannot be asked to tell when it does not hold any more
 */
export function conditionsOf(
  client: Client,
  { wake = 'gone', onOwnWrite }: Membership,
  ahead: Place,
  own: {
    readonly key: string;
    readonly createRevision: bigint;
    readonly modRevision?: bigint | undefined;
  },
): Compare[] | undefined {
  if (typeof wake !== 'string' || own.modRevision === undefined || without.has(client)) {
    return undefined;
  }
  return [
    wake === 'gone'
      ? compare.createRevision(ahead.key, '==', ahead.createRevision)
      : compare.modRevision(ahead.key, '==', ahead.modRevision),
    onOwnWrite === undefined
      ? compare.createRevision(own.key, '==', own.createRevision)
      : compare.modRevision(own.key, '==', own.modRevision),
  ];
}

/** Resolves with the answer when the conditions hold no more; undefined when the store refuses to wait. */
export async function untilTold(
  client: Client,
  conditions: readonly Compare[],
  look: readonly Operation[],
  signal: AbortSignal,
): Promise<Omit<Told, 'seen'> | undefined> {
  try {
    return await client.kv
      .txn()
      .if(...conditions)
      .else(...look)
      .whenFalse({ signal });
  } catch (error) {
    if (isConclaveError(error, 'UNIMPLEMENTED')) without.add(client);
    return undefined;
  }
}
