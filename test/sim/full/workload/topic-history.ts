/** What subscribers of a topic were told, checked against what the store did. */
import type { Commit } from '../../../lin/store.ts';

/** What one subscription delivered, in order. */
export type Told =
  | { readonly kind: 'messages'; readonly revision: bigint; readonly ids: readonly string[] }
  | { readonly kind: 'gap'; readonly from: bigint; readonly to: bigint };

/** One reader that keeps its own cursor. */
export type Reading = { readonly reader: string; readonly start: bigint; readonly told: Told[] };

/** What members of a group did, over all of them, in the order they did it. */
export type Deed = {
  /** `ack` was asked for; `acked`: it was confirmed. */
  readonly kind: 'delivered' | 'ack' | 'acked';
  readonly id: string;
};

type Publication = { readonly revision: bigint; readonly ids: readonly string[] };

export type TopicHistory = {
  readonly publications: readonly Publication[];
  /** Messages that were removed. */
  readonly removed: ReadonlySet<string>;
  /** Each write of a position: its key, and where it is then. */
  readonly positions: readonly { readonly key: string; readonly at: bigint }[];
  /** The key of each message, if it has one. */
  readonly keys: ReadonlyMap<string, string | undefined>;
};

/** What happened under the topic's prefix. */
export function historyOf(commits: readonly Commit[], prefix: string): TopicHistory {
  const publications: Publication[] = [];
  const removed = new Set<string>();
  const positions: { key: string; at: bigint }[] = [];
  const keys = new Map<string, string | undefined>();
  const messages = `${prefix}message/`;
  for (const { revision, changes } of commits) {
    const ids: string[] = [];
    for (const { key, entry } of changes) {
      if (key.startsWith(messages)) {
        const id = key.slice(messages.length);
        if (entry === undefined) removed.add(id);
        else {
          ids.push(id);
          keys.set(id, JSON.parse(entry.value.split('\n')[0] ?? '').key);
        }
      } else if (key.startsWith(`${prefix}position/`) && entry !== undefined) {
        const { at } = JSON.parse(entry.value);
        positions.push({ key, at: at === undefined ? BigInt(revision) : BigInt(at) });
      }
    }
    if (ids.length > 0) publications.push({ revision: BigInt(revision), ids: ids.sort() });
  }
  return { publications, removed, positions, keys };
}

/** Every message once, in order, whole revisions; gaps only for what was removed. */
export function checkReading(
  { publications, removed }: TopicHistory,
  { reader, start, told }: Reading,
): string | undefined {
  let cursor = start;
  const between = (from: bigint, to: bigint) =>
    publications.filter(({ revision }) => revision > from && revision <= to);
  for (const event of told) {
    const upTo = event.kind === 'gap' ? event.to : event.revision;
    if (upTo <= cursor) return `${reader} is told of ${upTo} after ${cursor}`;
    const missed = between(cursor, event.kind === 'gap' ? event.from - 1n : event.revision - 1n);
    if (missed[0] !== undefined) return `${reader} is not told of ${missed[0].revision}`;
    if (event.kind === 'gap') {
      const lost = between(event.from - 1n, event.to).flatMap(({ ids }) => ids);
      if (!lost.some((id) => removed.has(id))) {
        return `${reader} is told of a gap from ${event.from} to ${event.to}, where nothing is gone`;
      }
    } else {
      const [published] = between(event.revision - 1n, event.revision);
      if (published?.ids.join() !== event.ids.join()) {
        return `${reader} is told of ${event.ids} at ${event.revision}, where ${published?.ids} are`;
      }
    }
    cursor = upTo;
  }
  return undefined;
}

/** A position only moves on, and everything behind it was delivered, or told to be missing. */
export function checkPosition(
  { publications, positions }: TopicHistory,
  key: string,
  told: readonly Told[],
): string | undefined {
  const moves = positions.filter((position) => position.key === key).map(({ at }) => at);
  const [first] = moves;
  const last = moves.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const back = moves.find((at, index) => at < (moves[index - 1] ?? at));
  if (back !== undefined) return `${key} goes back to ${back}`;
  for (const { revision } of publications) {
    if (revision <= first || revision > last) continue;
    const isTold = told.some((event) =>
      event.kind === 'gap'
        ? event.from <= revision && revision <= event.to
        : event.revision === revision,
    );
    if (!isTold) return `${key} is at ${last}, and ${revision} was never delivered`;
  }
  return undefined;
}

/**
 * A message is acknowledged once; one of a key is delivered when those before it are acknowledged; and
 * what was handed over to the group was acknowledged, or is still there.
 *
 * @param pending ids that the group still has
 */
export function checkGroup(
  { publications, positions, keys, removed }: TopicHistory,
  position: string,
  deeds: readonly Deed[],
  pending: ReadonlySet<string>,
): string | undefined {
  const moves = positions.filter(({ key }) => key === position).map(({ at }) => at);
  const [first] = moves;
  const last = moves.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const handedOver = publications
    .filter(({ revision }) => revision > first && revision <= last)
    .flatMap(({ ids }) => ids);
  const asked = new Set<string>();
  const acked = new Set<string>();
  const delivered = new Set<string>();
  for (const { kind, id } of deeds) {
    if (kind === 'acked' && acked.has(id)) return `${id} is acknowledged twice`;
    if (kind === 'acked') acked.add(id);
    if (kind === 'ack') asked.add(id);
    if (kind !== 'delivered') continue;
    delivered.add(id);
    const messageKey = keys.get(id);
    if (messageKey === undefined) continue;
    for (const before of handedOver.slice(0, Math.max(0, handedOver.indexOf(id)))) {
      // What retention removed before it was handed over is told by a gap.
      if (keys.get(before) !== messageKey || asked.has(before) || removed.has(before)) continue;
      return `${id} of key ${messageKey} is delivered before ${before} is acknowledged`;
    }
  }
  const lost = handedOver.find((id) => !asked.has(id) && !pending.has(id) && !removed.has(id));
  return lost === undefined ? undefined : `${lost} was handed over to the group, and is nowhere`;
}
