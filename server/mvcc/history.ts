/** Reading what happened: the events of past revisions, and what each replaced. */
import { limits } from '../limits.ts';
import type { ForwardReader } from './draft.ts';
import { endOfHistory, historyKey, positionOfHistory, successor } from './keys.ts';
import { versionAt } from './range.ts';
import { decodeVersion } from './records.ts';
import { deletion, toKeyValue } from './store.ts';
import type { Bytes, Event, KeyValue, Position, Revision } from './types.ts';

export type RevisionEvents = { readonly revision: Revision; readonly events: readonly Event[] };

/** A first piece small enough that a few large values do not matter. */
const FIRST_SLICE_RECORDS = 16;

/**
 * The events of whole revisions from `from` on, in order: at most `maxRevisions`, and no further
 * revision once `maxBytes` are reached, but at least one. Empty when there is nothing newer.
 *
 * The caller checks that `from` is not below the compacted revision: compaction removes parts of
 * older revisions, and nothing of the compacted revision itself or later ones.
 */
export function readHistory(
  reader: ForwardReader,
  from: Revision,
  { maxRevisions, maxBytes }: { readonly maxRevisions: number; readonly maxBytes: number },
): readonly RevisionEvents[] {
  const result: { revision: Revision; events: Event[] }[] = [];
  let newest: { revision: Revision; events: Event[] } | undefined;
  let bytes = 0;
  let records = 0;
  let limit = FIRST_SLICE_RECORDS;
  let start = historyKey(from, 0);
  for (;;) {
    const slice = reader.scan(start, endOfHistory, { limit });
    for (const [stored, data] of slice) {
      const at = positionOfHistory(stored);
      if (newest === undefined || newest.revision !== at.revision) {
        if (newest !== undefined && (result.length >= maxRevisions || bytes >= maxBytes)) {
          return result;
        }
        newest = { revision: at.revision, events: [] };
        result.push(newest);
      }
      newest.events.push(toEvent(at, data));
      bytes += data.length;
    }
    const last = slice[slice.length - 1];
    if (last === undefined || slice.length < limit) return result;
    start = successor(last[0]);
    records += slice.length;
    const expected = Math.ceil(Math.max(0, maxBytes - bytes) / Math.max(1, bytes / records));
    limit = Math.min(Math.max(expected, FIRST_SLICE_RECORDS), limits.readSliceKeys);
  }
}

function toEvent(at: Position, data: Bytes): Event {
  const version = decodeVersion(data);
  const { key, replaces } = version;
  if (version.deleted) return { kind: 'delete', kv: deletion(key, at.revision, replaces) };
  const kv = toKeyValue(version, at.revision);
  return { kind: 'put', kv: replaces === undefined ? kv : { ...kv, replaces } };
}

/**
 * The key as it was before the revision of an event, whose `kv` is given; undefined for a creation
 * and, as in etcd, once the revision before is compacted, whatever of it is still stored.
 */
export function readPrevious(
  reader: ForwardReader,
  { modRevision, version, replaces }: KeyValue,
  compactRevision: Revision,
): KeyValue | undefined {
  // A transaction may delete a key and create it again: that is a creation too.
  const isCreation = version === 1;
  if (replaces === undefined || isCreation || modRevision - 1 < compactRevision) return undefined;
  const found = versionAt(reader, replaces, modRevision - 1);
  return found && toKeyValue(found.version, found.at.revision);
}
