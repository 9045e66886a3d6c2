/**
 * What the keys of an election say at one revision. Both forms are read here, so that followers need
 * not know which one they follow:
 *
 *     conclave/election/<name>/<session>-<attempt>           a candidate
 *     conclave/election/<name>/leader                        who leads, in the form by priority
 *     conclave/election/<name>/request/<session>-<attempt>   asks the leader to make way
 */
import { type Codec, decodeWith } from '../../sdk/codec.ts';
import { ConclaveError } from '../../sdk/errors.ts';
import type { KeyValue } from '../../sdk/kv.ts';
import type { PrefixView } from '../common/prefix-view.ts';
import { decodeLineRecord, inLineOrder, type LineEntry, lineEntry } from '../line/line-record.ts';
import type { Rival, Roll } from './priority.ts';

export type Layout = 'conclave' | 'etcd';

export type ElectionKeys = {
  readonly prefix: string;
  /** In that of etcd there are candidates only, and their values are what they proclaim. */
  readonly layout: Layout;
  readonly leader: string;
  readonly request: (member: string) => string;
};

/** @param prefix ends in `/` */
export const electionKeys = (prefix: string, layout: Layout = 'conclave'): ElectionKeys => ({
  prefix,
  layout,
  leader: `${prefix}leader`,
  request: (member) => `${prefix}request/${member}`,
});

/** A candidate's key, with what the form by priority says of it. */
export type Contender = {
  readonly kv: KeyValue;
  /** Absent in the form "first come, first served". */
  readonly priority: number | undefined;
  /** It asks leaders of lower priority to make way. */
  readonly preferred: boolean;
};

export type Standings = {
  /** The leader first, then in the order in which they would lead. */
  readonly contenders: readonly Contender[];
  readonly leader: { readonly contender: Contender; readonly term: bigint } | null;
};

/** Reads the keys of an election. */
export function standingsOf(keys: ElectionKeys, entries: Iterable<KeyValue>): Standings {
  const requests = new Set<string>();
  const candidates: KeyValue[] = [];
  let named: KeyValue | undefined;
  for (const kv of entries) {
    if (keys.layout === 'etcd') candidates.push(kv);
    else if (kv.key === keys.leader) named = kv;
    else if (kv.key.startsWith(keys.request(''))) requests.add(kv.key);
    else candidates.push(kv);
  }
  const inLine = inLineOrder(candidates).map(
    (kv): Contender => ({
      kv,
      priority: keys.layout === 'etcd' ? undefined : decodeLineRecord(kv.value).terms?.priority,
      preferred: requests.has(keys.request(kv.key.slice(keys.prefix.length))),
    }),
  );
  const leader = leaderIn(keys, inLine, named);
  // A stable sort: of equal rank are those in line first who came first.
  const behind = inLine.filter((contender) => contender !== leader?.contender).sort(byRank);
  return { leader, contenders: leader ? [leader.contender, ...behind] : behind };
}

function leaderIn(
  { prefix }: ElectionKeys,
  inLine: readonly Contender[],
  named: KeyValue | undefined,
): Standings['leader'] {
  if (named === undefined) {
    const [first] = inLine;
    if (first === undefined || first.priority !== undefined) return null;
    return { contender: first, term: first.kv.createRevision };
  }
  const key = prefix + memberNamed(named);
  const contender = inLine.find(({ kv }) => kv.key === key);
  return contender === undefined ? null : { contender, term: named.modRevision };
}

/** Whether the key belongs to the form "first come, first served", or to something that is none. */
export const isOfLine = (
  { layout, leader, request }: ElectionKeys,
  { key, value }: Pick<KeyValue, 'key' | 'value'>,
): boolean =>
  layout === 'etcd' ||
  (key !== leader &&
    !key.startsWith(request('')) &&
    decodeLineRecord(value).terms?.priority === undefined);

/** The last part of the candidate's key that a leader key names. */
export const memberNamed = ({ value }: Pick<KeyValue, 'value'>): string =>
  Buffer.from(value).toString('utf8');

/** Higher priorities first. Who has none is of the other form, and never leads in this one. */
function byRank(a: Contender, b: Contender): number {
  if (a.priority === undefined || b.priority === undefined) {
    return Number(a.priority === undefined) - Number(b.priority === undefined);
  }
  return b.priority - a.priority;
}

/** An election as one candidate of the form by priority sees it. */
export function rollOf(keys: ElectionKeys, self: string, view: PrefixView, rewound = false): Roll {
  const { entries, revision } = view;
  const { contenders } = standingsOf(keys, entries.values());
  const own = contenders.find(({ kv }) => kv.key === self);
  const above = contenders.filter((other) => own !== undefined && ranksAbove(other, own));
  const named = entries.get(keys.leader);
  const request = above.find(
    ({ preferred, priority = 0 }) => preferred && priority > (own?.priority ?? 0),
  );
  return {
    revision,
    rewound,
    own: own?.kv.createRevision,
    leader: named && { key: keys.prefix + memberNamed(named), term: named.modRevision },
    above: above.length,
    request: request && rivalOf(request),
  };
}

/** Who would lead next, without this member. */
export function nextAfter(
  keys: ElectionKeys,
  self: string,
  { entries }: PrefixView,
): KeyValue | undefined {
  const { contenders } = standingsOf(keys, entries.values());
  return contenders.find(({ kv, priority }) => kv.key !== self && priority !== undefined)?.kv;
}

const ranksAbove = (a: Contender, b: Contender): boolean => {
  const order = byRank(a, b);
  return order === 0 ? a.kv.createRevision < b.kv.createRevision : order < 0;
};

const rivalOf = ({ kv, priority = 0 }: Contender): Rival => ({
  key: kv.key,
  createRevision: kv.createRevision,
  priority,
});

/**
 * The error of a candidate whose form of the election others do not share.
 *
 * @param prefers the form of the candidate itself
 */
export function formMismatch(name: string, prefers: 'priority' | 'fifo'): ConclaveError {
  const [ours, theirs] = prefers === 'priority' ? ['with', 'without'] : ['without', 'with'];
  return new ConclaveError(
    'MISMATCH',
    `The election '${name}' has candidates ${theirs} a priority, and this one stands ${ours} one`,
    { remedy: "Give the option 'priority' in all clients of an election, or in none." },
  );
}

export type Candidate<T> = LineEntry & {
  readonly value: T;
  /** Absent in the form "first come, first served". */
  readonly priority?: number;
  /** Whether it asks leaders of lower priority to make way. */
  readonly preferred: boolean;
};

/** A leader as followers see it. */
export type Leader<T> = Candidate<T> & { readonly term: bigint };

/** A contender as it is shown, with its value decoded. */
export const candidateOf = <T>(
  { layout }: ElectionKeys,
  { kv, priority, preferred }: Contender,
  codec: Codec<T>,
): Candidate<T> => {
  const ofEtcd = layout === 'etcd';
  const value = ofEtcd ? kv.value : decodeLineRecord(kv.value).value;
  return {
    ...lineEntry(ofEtcd ? { ...kv, value: nothing } : kv),
    value: decodeWith(codec, value ?? nothing, kv.key),
    ...(priority === undefined ? {} : { priority }),
    preferred,
  };
};

const nothing = new Uint8Array();
