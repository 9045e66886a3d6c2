/**
 * Changes to keys. Each adds to a draft the writes and the one event of the change; the draft's
 * revision is the change's, and its place among the draft's events is its sub-revision.
 *
 * Invariants: a key with a lease has exactly one attachment, to that lease; a key is in `c` or in
 * `d` or in neither, and what is there names its newest version in `h`; a version points at the one
 * before it.
 */
import { EMPTY } from './binary.ts';
import type { Draft, ForwardReader } from './draft.ts';
import { attachmentKey, currentKey, historyKey, tombstoneKey } from './keys.ts';
import {
  type Current,
  decodeCurrent,
  decodeVersion,
  encodeCurrent,
  encodeVersion,
  type Version,
} from './records.ts';
import {
  type Bytes,
  type KeyValue,
  type LeaseId,
  NO_LEASE,
  type Position,
  type Revision,
} from './types.ts';

/** The newest version of a live key. */
export const readCurrent = (reader: ForwardReader, key: Bytes): Current | undefined =>
  readStored(reader, currentKey(key));

/** The same for a key in the table of live keys. */
export const readStored = (reader: ForwardReader, stored: Bytes): Current | undefined =>
  decoded(reader.get(stored));

/** What is left of a deleted key; undefined when there is no trace of it. */
export function readTombstone(reader: ForwardReader, key: Bytes): Current | undefined {
  return decoded(reader.get(tombstoneKey(key)));
}

function decoded(data: Bytes | undefined): Current | undefined {
  return data === undefined ? undefined : decodeCurrent(data);
}

/** The version stored at a position; undefined when compaction removed it. */
export function readVersion(reader: ForwardReader, at: Position): Version | undefined {
  const data = reader.get(historyKey(at.revision, at.sub));
  return data === undefined ? undefined : decodeVersion(data);
}

/** The key and value that `current` describes. */
export function readKeyValue(
  reader: ForwardReader,
  current: Current | undefined,
): KeyValue | undefined {
  if (current === undefined) return undefined;
  const version = readVersion(reader, current);
  return version === undefined ? undefined : toKeyValue(version, current.revision);
}

export function toKeyValue(version: Version, modRevision: Revision): KeyValue {
  return {
    key: version.key,
    value: version.value,
    createRevision: version.createRevision,
    modRevision,
    version: version.version,
    lease: version.lease,
  };
}

/**
 * Stores a new version of a key that was `before`. A put always decides the lease anew.
 *
 * `stored`: the key in the table of live keys.
 */
export function putKey(
  draft: Draft,
  { key, stored }: { readonly key: Bytes; readonly stored: Bytes },
  value: Bytes,
  lease: LeaseId,
  before: Current | undefined,
): void {
  const revision = draft.nextRevision;
  const sub = draft.events.length;
  const createRevision = before?.createRevision ?? revision;
  const version = (before?.version ?? 0) + 1;
  const tombstone = before === undefined ? readTombstone(draft, key) : undefined;
  if (tombstone !== undefined) draft.remove(tombstoneKey(key));

  const data = encodeVersion({
    deleted: false,
    key,
    value,
    createRevision,
    version,
    lease,
    replaces: before ?? tombstone,
  });
  draft.put(historyKey(revision, sub), data);
  draft.put(
    stored,
    encodeCurrent({ deleted: false, revision, sub, createRevision, version, lease }),
  );
  const leaseBefore = before?.lease ?? NO_LEASE;
  if (leaseBefore !== lease) {
    if (leaseBefore !== NO_LEASE) draft.remove(attachmentKey(leaseBefore, key));
    if (lease !== NO_LEASE) draft.put(attachmentKey(lease, key), EMPTY);
  }

  // Events live long in the watch ring: they view the stored record, which holds nothing else,
  // rather than the request, which may be a small part of a large network buffer.
  const keyStart = data.length - value.length - key.length;
  const kv: KeyValue = {
    key: data.subarray(keyStart, keyStart + key.length),
    value: data.subarray(keyStart + key.length),
    createRevision,
    modRevision: revision,
    version,
    lease,
    ...(before === undefined ? undefined : { replaces: before }),
  };
  draft.events.push({ kind: 'put', kv });
}

/** Deletes a live key whose state is `before`. */
export function deleteKey(draft: Draft, key: Bytes, before: Current): void {
  const revision = draft.nextRevision;
  const sub = draft.events.length;
  const data = encodeVersion({
    deleted: true,
    key,
    value: EMPTY,
    createRevision: 0,
    version: 0,
    lease: NO_LEASE,
    replaces: before,
  });
  draft.put(historyKey(revision, sub), data);
  draft.remove(currentKey(key));
  draft.put(
    tombstoneKey(key),
    encodeCurrent({
      deleted: true,
      revision,
      sub,
      createRevision: before.createRevision,
      version: 0,
      lease: NO_LEASE,
    }),
  );
  if (before.lease !== NO_LEASE) draft.remove(attachmentKey(before.lease, key));
  draft.events.push({
    kind: 'delete',
    kv: deletion(data.subarray(data.length - key.length), revision, before),
  });
}

/** What a delete event says of its key. */
export function deletion(
  key: Bytes,
  modRevision: Revision,
  replaces: Position | undefined,
): KeyValue {
  const kv = { key, value: EMPTY, createRevision: 0, modRevision, version: 0, lease: NO_LEASE };
  return replaces === undefined ? kv : { ...kv, replaces };
}
