/** What a member of a line writes, what it looks at, and what it waits for. */
import type { Client } from '../../sdk/client.ts';
import type { KeyValue, ListFields, ListResult } from '../../sdk/kv.ts';
import type { Session } from '../../sdk/session.ts';
import { compare, type Operation, op } from '../../sdk/txn.ts';
import { goneKey } from '../names.ts';
import type { Place } from './line.ts';
import type { Wake } from './wake.ts';

export type LineTiming = {
  /**
   * How often a member reads its place again, whatever the watches say: a store that compacted away
   * a delete must not make it wait for ever. @default 15000
   */
  readonly recheckMs: number;
  /** A hold shorter than this does not pay for a watch on its own key. @default 250 */
  readonly ownWatchAfterMs: number;
};

export const lineTiming: LineTiming = { recheckMs: 15_000, ownWatchAfterMs: 250 };

/** A line as one read at one revision shows it to a member. */
export type LineView = {
  /** The member's own create revision: its number in the line. */
  readonly own: bigint;
  readonly revision: bigint;
  /** Oldest first; only the nearest places when the member reads no further. */
  readonly ahead: readonly Place[];
  /** There may be more places ahead, all older. */
  readonly isPartial?: boolean;
  /** The key `Membership.beside` as of that revision. */
  readonly beside: KeyValue | null;
};

/** Which of the places ahead the member must wait for; `undefined` admits it. */
export type LinePolicy = (view: LineView) => Place | undefined;

export type Membership = {
  /** Ends in `/`. */
  readonly prefix: string;
  /** Unique among the attempts of the session. */
  readonly attempt: string;
  readonly value: string | Uint8Array;
  /** @default one holder, first come, first served */
  readonly policy?: LinePolicy;
  /**
   * How far a look reads: the nearest place ahead, all of them, or so many of the nearest, judging by
   * what was seen before, if anything was. @default 'nearest'
   */
  readonly reach?: 'nearest' | 'all' | ((seen: LineView | undefined) => number);
  /** Where the places that may be ahead are, if not beside the own key. Ends in `/`. */
  readonly aheadPrefix?: string;
  /** A key that is read with the line, and created with this value by whoever comes first. */
  readonly beside?: { readonly key: string; readonly initial?: string | undefined };
  /** The error, if any, that a look refuses the membership with; asked until it is admitted. */
  readonly check?: (look: Pick<LineView, 'ahead' | 'beside'>, isFirst: boolean) => unknown;
  /** When to look again: when the place waited for is gone, gone or written to, or a rule of its own. @default 'gone' */
  readonly wake?: 'gone' | 'changed' | Wake;
  /**
   * Hears of others' writes to the own key, from watches and from looks. True says that it was taken over: the
   * place is lost here, and the key stays.
   */
  readonly onOwnWrite?: (kv: KeyValue) => boolean;
  /** Removes the own key along with others. @default a transaction of its own */
  readonly remove?: (own: bigint | 'unknown') => Promise<boolean>;
  /** A copy of the enqueue may still be on its way when the place is adopted. @default false */
  readonly lingering?: boolean;
  readonly timing?: Partial<LineTiming>;
};

export const memberName = (session: Session, { attempt }: Membership): string =>
  `${session.id}-${attempt}`;

/** How many of the nearest places a look reads; undefined for all. */
const reachOf = ({ reach }: Membership, seen: LineView | undefined): number | undefined =>
  typeof reach === 'function' ? reach(seen) : reach === 'all' ? undefined : 1;

/** What a look lists; without `own` the newest places, of which the member's is the very newest. */
export function aheadFields(membership: Membership, own?: bigint, seen?: LineView): ListFields {
  const filter = own === undefined ? {} : { maxCreateRevision: own - 1n };
  const reach = reachOf(membership, seen);
  if (reach === undefined) return { order: 'create', ...filter };
  return {
    order: 'create',
    descending: true,
    limit: own === undefined ? reach + 1 : reach,
    ...filter,
  };
}

/** The places of a listing made with `aheadFields`, oldest first, without the own one. */
export function aheadOf(membership: Membership, key: string, listed: ListResult): Place[] {
  const places = listed.kvs.filter((kv) => kv.key !== key).map(place);
  return membership.reach === 'all' ? places : places.reverse();
}

/** The operations that read the line, and what their answers show. */
export function lookOperations(membership: Membership, own?: bigint, seen?: LineView): Operation[] {
  const { prefix, aheadPrefix = prefix, beside } = membership;
  const list = op.list({ prefix: aheadPrefix }, aheadFields(membership, own, seen));
  return beside === undefined ? [list] : [list, op.get(beside.key)];
}

/** @param seen what `lookOperations` was given */
export function readLook(
  membership: Membership,
  key: string,
  [listed, beside]: readonly unknown[],
  seen?: LineView,
): Pick<LineView, 'ahead' | 'beside' | 'isPartial'> {
  const ahead = aheadOf(membership, key, listed as ListResult);
  const reach = reachOf(membership, seen);
  return {
    ahead,
    isPartial: reach !== undefined && ahead.length >= reach,
    beside: (beside as KeyValue | null | undefined) ?? null,
  };
}

/** The operations that create the own key, and the key beside the line if it is the first. */
export function enterOperations(
  client: Client,
  membership: Membership,
  key: string,
  lease: bigint,
): Operation[] {
  const { value, beside } = membership;
  const put = op.put(key, value, { lease });
  if (beside?.initial === undefined) return [put];
  const absent = client.kv.txn().if(compare.createRevision(beside.key, '==', 0n));
  return [put, op.txn(absent.then(op.put(beside.key, beside.initial)))];
}

/**
 * Holds while the key does not exist and its attempt was not given up with an unknown outcome; so a
 * repeated or late enqueue has no second effect.
 */
export const firstAttempt = (key: string, member: string) => [
  compare.createRevision(key, '==', 0n),
  compare.createRevision(goneKey(member), '==', 0n),
];

const place = (kv: KeyValue): Place => ({
  key: kv.key,
  createRevision: kv.createRevision,
  modRevision: kv.modRevision,
  value: kv.value,
});
