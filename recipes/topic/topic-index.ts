/**
 * The keys of all messages at one revision, without their values: what replays read first, and what
 * retention decides on. Pages are read at the revision of the first, so nothing is missing.
 */
import type { Client } from '../../sdk/client.ts';
import { isConclaveError } from '../../sdk/errors.ts';
import type { KeyValue, ListResult } from '../../sdk/kv.ts';
import { op } from '../../sdk/txn.ts';
import { untilAnswered } from '../common/repeat.ts';
import { type MessageKey, parseMessageKey, readFloor, type TopicKeys } from './topic-keys.ts';

const pageSize = 1_000;

export type IndexEntry = MessageKey & { readonly revision: bigint };

export type TopicIndex = {
  /** The store's revision that the index shows. */
  readonly revision: bigint;
  readonly floor: bigint;
  /** The floor's own mod revision; 0n while there is none. */
  readonly floorRevision: bigint;
  /** By revision, then by key. */
  readonly entries: readonly IndexEntry[];
};

/** One exchange for each 1,000 messages. @throws ConclaveError */
export async function readIndex(
  client: Client,
  keys: TopicKeys,
  signal: AbortSignal | undefined,
): Promise<TopicIndex> {
  for (;;) {
    try {
      return await readPages(client, keys, signal);
    } catch (error) {
      // Compaction passed the revision that the pages are read at.
      if (!isConclaveError(error, 'COMPACTED')) throw error;
    }
  }
}

async function readPages(
  client: Client,
  keys: TopicKeys,
  signal: AbortSignal | undefined,
): Promise<TopicIndex> {
  const { kv } = client;
  const call = signal === undefined ? {} : { signal };
  const end = `${keys.message.slice(0, -1)}0`;
  const first = kv
    .txn()
    .then(
      op.list({ prefix: keys.message }, { keysOnly: true, limit: pageSize, uncounted: true }),
      op.get(keys.floor),
    );
  const { responses, revision } = await untilAnswered(client, () => first.commit(call), signal);
  const [listed, floor] = responses as readonly [ListResult, KeyValue | null];
  const kvs: KeyValue[] = [...listed.kvs];
  for (let { more } = listed; more; ) {
    const range = { from: `${kvs.at(-1)?.key}\0`, to: end };
    const page = await untilAnswered(
      client,
      () => kv.list(range, { ...call, keysOnly: true, limit: pageSize, uncounted: true, revision }),
      signal,
    );
    kvs.push(...page.kvs);
    more = page.more;
  }
  const entries = kvs.flatMap((entry) => {
    const parsed = parseMessageKey(keys, entry.key);
    return parsed === undefined ? [] : [{ ...parsed, revision: entry.createRevision }];
  });
  return {
    revision,
    floor: readFloor(floor),
    floorRevision: floor?.modRevision ?? 0n,
    entries: entries.sort(inOrder),
  };
}

function inOrder(a: IndexEntry, b: IndexEntry): number {
  if (a.revision !== b.revision) return a.revision < b.revision ? -1 : 1;
  return a.key < b.key ? -1 : 1;
}

/** Neighbours of one revision together. */
export function byRevision<E extends { readonly revision: bigint }>(entries: readonly E[]): E[][] {
  const groups: E[][] = [];
  for (const entry of entries) {
    const last = groups.at(-1);
    if (last?.[0]?.revision === entry.revision) last.push(entry);
    else groups.push([entry]);
  }
  return groups;
}
