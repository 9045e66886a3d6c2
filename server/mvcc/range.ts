/**
 * Reading keys, now or at an older revision.
 *
 * A read is pinned to one revision: writes made while it pauses do not show, because whatever is
 * newer is skipped by following a key's versions back. Compaction passing the revision ends it.
 */
import { assert } from '../assert.ts';
import type { FaultCode } from '../faults.ts';
import { limits } from '../limits.ts';
import { EMPTY } from './binary.ts';
import type { Creations, Selection } from './creation-orders.ts';
import type { ForwardReader } from './draft.ts';
import { type Bounds, currentBounds, historyKey, userKeyOfCurrent } from './keys.ts';
import { type Current, decodeCurrent, decodeVersion, type Version } from './records.ts';
import { readCurrent, readTombstone } from './store.ts';
import { traces } from './traces.ts';
import type {
  Bytes,
  FaultResult,
  KeyValue,
  LeaseId,
  PairSink,
  Position,
  RangeRequest,
  RangeResult,
  Revision,
} from './types.ts';

/** What is readable. A long read looks again after each pause. */
export interface Horizon {
  readonly revision: Revision;
  /** The oldest readable revision; -1 before the first compaction. */
  readonly compactRevision: Revision;
}

/** The store names a version that it does not hold: it was damaged. Nothing is made up in its place. */
export class MissingVersionError extends Error {
  override name = 'MissingVersionError';
  readonly key: Bytes;

  constructor(key: Bytes, revision: Revision) {
    super(`the version of revision ${revision} is missing`);
    this.key = key;
  }
}

/** A read and the revision that it sees. */
type Pinned = { readonly at: Revision; readonly horizon: Horizon };

/** A key found, its value not fetched yet unless finding it did. */
type Found = {
  readonly key: Bytes;
  readonly at: Position;
  readonly createRevision: Revision;
  readonly version: number;
  readonly lease: LeaseId;
  value: Bytes | undefined;
};

/**
 * `passed`: so many pairs went to the sink already, and those found follow them. `count`: of the span,
 * whatever the limit and the filters leave out.
 */
type Collected = { readonly found: Found[]; readonly passed: number; readonly count: number };

/** So many are looked at for less than it takes to begin counting. */
const FEW_KEYS = 32;

/** Whether a revision that was asked for can be read; 0 or less is the newest. */
export function revisionFault(revision: Revision, horizon: Horizon): FaultCode | undefined {
  if (revision > horizon.revision) return 'future-revision';
  const at = revision <= 0 ? horizon.revision : revision;
  return at < horizon.compactRevision ? 'compacted' : undefined;
}

/** Runs a read to its end without pausing. */
export function runToEnd<Result>(read: Generator<void, Result>): Result {
  for (;;) {
    const step = read.next();
    if (step.done) return step.value;
  }
}

/**
 * Pauses after every `limits.readSliceKeys` keys read and every `limits.countSliceKeys` that are only
 * counted, so that the caller can let other work run. With a sink
 * the pairs go there, those in key order as they are read; what it has got counts only if the read ends
 * without a fault.
 */
export function* readRange(
  reader: ForwardReader,
  request: RangeRequest,
  horizon: Horizon,
  creations: Creations | undefined,
  sink?: PairSink,
): Generator<void, RangeResult | FaultResult> {
  const { revision } = horizon;
  const fault = revisionFault(request.revision, horizon);
  if (fault !== undefined) return { kind: 'fault', code: fault, revision };
  const at = request.revision <= 0 ? revision : request.revision;

  const selection = at === revision ? creations?.select() : undefined;
  if (selection !== undefined) return selected(reader, request, selection, revision, sink);

  const pinned: Pinned = { at, horizon };
  const read =
    request.rangeEnd.length === 0
      ? readOne(reader, request, pinned)
      : yield* readSpan(reader, request, pinned, isAsFound(request) ? sink : undefined);
  if (read === undefined) return { kind: 'fault', code: 'compacted', revision };
  const { found, passed, count } = read;

  if (at === revision) creations?.scanned(count);
  const needsAllValues = request.sortTarget === 'value';
  if (needsAllValues && !(yield* fetchValues(reader, found, pinned))) {
    return { kind: 'fault', code: 'compacted', revision };
  }
  sort(found, request);
  const more = request.limit > 0 && passed + found.length > request.limit;
  if (more) found.length = request.limit - passed;
  if (!request.keysOnly && !(yield* fetchValues(reader, found, pinned))) {
    return { kind: 'fault', code: 'compacted', revision };
  }
  const kvs = found.map((entry) => toKeyValue(entry, request.keysOnly));
  return { kind: 'range', kvs: handOver(kvs, sink), more, count, revision };
}

/** What is left for the result. */
function handOver(kvs: readonly KeyValue[], sink: PairSink | undefined): readonly KeyValue[] {
  if (sink === undefined) return kvs;
  for (const kv of kvs) sink.add(kv);
  return [];
}

/** What is there of one key. */
function readOne(reader: ForwardReader, request: RangeRequest, { at, horizon }: Pinned): Collected {
  const current =
    readCurrent(reader, request.key) ??
    (at < horizon.revision ? readTombstone(reader, request.key) : undefined);
  const single = current && find(reader, request.key, current, at);
  if (single === undefined) return { found: [], passed: 0, count: 0 };
  const isShown = !request.countOnly && passesFilters(single, request);
  return { found: isShown ? [single] : [], passed: 0, count: 1 };
}

/**
 * Collects what is wanted of a span and counts the rest; undefined when compaction passed the revision.
 * With a sink only what is beyond the limit is left of each slice.
 */
function* readSpan(
  reader: ForwardReader,
  request: RangeRequest,
  pinned: Pinned,
  sink: PairSink | undefined,
): Generator<void, Collected | undefined> {
  const { at, horizon } = pinned;
  const bounds = currentBounds(request);
  const wanted = request.countOnly ? 0 : pushedDownLimit(request);
  const found: Found[] = [];
  let passed = 0;
  if (wanted === 0) {
    const count = yield* countSpan(reader, bounds, pinned);
    return count === undefined ? undefined : { found, passed, count };
  }
  const isNewest = () => at === horizon.revision;
  // What is behind the first slice is counted with it: later the revision may be an older one, of which
  // every key has to be looked at.
  const isCountedAhead = wanted !== Number.POSITIVE_INFINITY && !request.uncounted;
  let isCounted = false;
  let count = 0;
  for (const { pairs, next } of traces(reader, bounds, isNewest, Math.max(wanted, FEW_KEYS))) {
    for (const [stored, data] of pairs) {
      const current = decodeCurrent(data);
      if (passed + found.length >= wanted) {
        if (request.uncounted || isCounted) break;
        if (existed(reader, current, at)) count += 1;
        continue;
      }
      const entry = find(reader, userKeyOfCurrent(stored), current, at);
      if (entry === undefined) continue;
      if (!isCounted) count += 1;
      if (passesFilters(entry, request)) found.push(entry);
    }
    if (next !== undefined && isCountedAhead && !isCounted) {
      const rest = yield* countSpan(reader, { start: next, end: bounds.end }, pinned);
      if (rest === undefined) return undefined;
      count += rest;
      isCounted = true;
    }
    if (sink !== undefined) {
      const room = request.limit > 0 ? request.limit - passed : found.length;
      const passable = found.splice(0, room);
      passed += passable.length;
      if (!(yield* passOn(reader, request, passable, pinned, sink))) return undefined;
    }
    if (next === undefined || passed + found.length >= wanted) break;
    if (!(yield* pause(pinned))) return undefined;
  }
  return { found, passed, count };
}

/** Whether the order in which keys are found is that of the answer. */
const isAsFound = ({ sortTarget, sortOrder }: RangeRequest): boolean =>
  sortTarget === 'key' && sortOrder !== 'descend';

/** Returns false when compaction passed the read's revision in between. */
function* passOn(
  reader: ForwardReader,
  { keysOnly }: RangeRequest,
  found: readonly Found[],
  pinned: Pinned,
  sink: PairSink,
): Generator<void, boolean> {
  if (!keysOnly && found.length > FEW_KEYS && !(yield* pause(pinned))) return false;
  if (!keysOnly && !(yield* fetchValues(reader, found, pinned))) return false;
  for (const entry of found) sink.add(toKeyValue(entry, keysOnly));
  return true;
}

/**
 * How many keys were there. The newest revision is counted without reading; undefined when compaction
 * passed an older one.
 */
function* countSpan(
  reader: ForwardReader,
  { start, end }: Bounds,
  pinned: Pinned,
): Generator<void, number | undefined> {
  const { at, horizon } = pinned;
  let count = 0;
  let from = start;
  while (at === horizon.revision) {
    const counted = reader.count(from, end, limits.countSliceKeys);
    count += counted.count;
    if (counted.next === undefined) return count;
    from = counted.next;
    if (!(yield* pause(pinned))) return undefined;
  }
  for (const { pairs, next } of traces(reader, { start: from, end })) {
    for (const [, data] of pairs) {
      if (existed(reader, decodeCurrent(data), at)) count += 1;
    }
    if (next !== undefined && !(yield* pause(pinned))) return undefined;
  }
  return count;
}

/** Lets other work run. Returns whether the revision is readable still. */
function* pause({ at, horizon }: Pinned): Generator<void, boolean> {
  yield;
  return at >= horizon.compactRevision;
}

/** The answer of a listing whose keys are known. */
function selected(
  reader: ForwardReader,
  request: RangeRequest,
  { keys, count }: Selection,
  revision: Revision,
  sink: PairSink | undefined,
): RangeResult {
  const { limit, countOnly, keysOnly } = request;
  const kvs: KeyValue[] = [];
  for (const key of countOnly ? [] : keys.slice(0, limit)) {
    const current = readCurrent(reader, key);
    const found = current && find(reader, key, current, revision);
    assert(found !== undefined, 'an order of creation names the keys that are there');
    if (!keysOnly) found.value = readValue(reader, found);
    kvs.push(toKeyValue(found, keysOnly));
  }
  const more = !countOnly && keys.length > limit;
  return { kind: 'range', kvs: handOver(kvs, sink), more, count, revision };
}

/**
 * How many keys are collected in key order before the rest is only counted. One more than the limit
 * tells whether there are more. Sorting and filtering need all keys, except, as in etcd, a sort
 * target without a sort order: that sorts what the limit left.
 */
function pushedDownLimit(request: RangeRequest): number {
  const inKeyOrder =
    request.sortOrder === 'none' ||
    (request.sortTarget === 'key' && request.sortOrder === 'ascend');
  const filtered =
    request.minModRevision !== 0 ||
    request.maxModRevision !== 0 ||
    request.minCreateRevision !== 0 ||
    request.maxCreateRevision !== 0;
  return inKeyOrder && !filtered && request.limit > 0
    ? request.limit + 1
    : Number.POSITIVE_INFINITY;
}

/** The version of a key at a revision; undefined when it did not exist then. */
function find(
  reader: ForwardReader,
  key: Bytes,
  current: Current,
  at: Revision,
): Found | undefined {
  if (current.revision <= at) {
    if (current.deleted) return undefined;
    const { createRevision, version, lease } = current;
    return { key, at: current, createRevision, version, lease, value: undefined };
  }
  const old = versionAt(reader, current, at);
  if (old === undefined) return undefined;
  const { createRevision, version, lease, value } = old.version;
  return { key, at: old.at, createRevision, version, lease, value };
}

/** Follows a key's versions back to the one at a revision; undefined when the key did not exist. */
export function versionAt(
  reader: ForwardReader,
  newest: Position,
  at: Revision,
): { readonly at: Position; readonly version: Version } | undefined {
  for (let position: Position | undefined = newest; position !== undefined; ) {
    const data = reader.get(historyKey(position.revision, position.sub));
    if (data === undefined) return undefined; // A tombstone below the compacted revision, removed.
    const version: Version = decodeVersion(data);
    if (position.revision <= at) return version.deleted ? undefined : { at: position, version };
    position = version.replaces;
  }
  return undefined;
}

/** `find` for counting: most keys changed since then are decided without reading history. */
function existed(reader: ForwardReader, current: Current, at: Revision): boolean {
  if (current.revision <= at) return !current.deleted;
  return current.createRevision <= at || versionAt(reader, current, at) !== undefined;
}

function passesFilters(entry: Found, request: RangeRequest): boolean {
  const mod = entry.at.revision;
  const create = entry.createRevision;
  return (
    (request.maxModRevision === 0 || mod <= request.maxModRevision) &&
    (request.minModRevision === 0 || mod >= request.minModRevision) &&
    (request.maxCreateRevision === 0 || create <= request.maxCreateRevision) &&
    (request.minCreateRevision === 0 || create >= request.minCreateRevision)
  );
}

/** Returns false when compaction passed the read's revision in between. */
function* fetchValues(
  reader: ForwardReader,
  found: readonly Found[],
  pinned: Pinned,
): Generator<void, boolean> {
  let fetched = 0;
  for (const entry of found) {
    if (entry.value !== undefined) continue;
    if (fetched === limits.readSliceKeys) {
      fetched = 0;
      if (!(yield* pause(pinned))) return false;
    }
    entry.value = readValue(reader, entry);
    fetched += 1;
  }
  return true;
}

function readValue(reader: ForwardReader, { key, at }: Found): Bytes {
  const data = reader.get(historyKey(at.revision, at.sub));
  if (data === undefined) throw new MissingVersionError(key, at.revision);
  return decodeVersion(data).value;
}

/** Equal entries stay in key order. */
function sort(found: Found[], { sortTarget, sortOrder }: RangeRequest): void {
  const direction = sortOrder === 'descend' ? -1 : 1;
  switch (sortTarget) {
    case 'key':
      if (sortOrder === 'descend') found.reverse();
      return;
    case 'version':
      found.sort((a, b) => direction * (a.version - b.version));
      return;
    case 'create':
      found.sort((a, b) => direction * (a.createRevision - b.createRevision));
      return;
    case 'mod':
      found.sort((a, b) => direction * (a.at.revision - b.at.revision));
      return;
    case 'value':
      found.sort((a, b) => direction * Buffer.compare(a.value ?? EMPTY, b.value ?? EMPTY));
      return;
  }
}

function toKeyValue(entry: Found, keysOnly: boolean): KeyValue {
  return {
    key: entry.key,
    value: keysOnly ? EMPTY : (entry.value ?? EMPTY),
    createRevision: entry.createRevision,
    modRevision: entry.at.revision,
    version: entry.version,
    lease: entry.lease,
  };
}
