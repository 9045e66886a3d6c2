/**
 * Removing what is below the compacted revision from the disk, a bounded step at a time.
 *
 * Compaction to C is a fact as soon as it is applied: reads below C are refused from then on. What
 * is left to do is physical, differs in progress from member to member, and no result depends on it.
 *
 * A step walks history from the last compaction to C. What a record replaced is superseded at or
 * below C, so it goes; a deletion below C goes itself, with the key's tombstone if it is still the
 * newest. Records of revision C itself stay, tombstones included (a watch from C sees them), until
 * the next compaction, which starts at C. So the cost is in proportion to what was written since the
 * last compaction, not to the number of keys, and doing a step twice changes nothing.
 */
import type { Write } from '../ports.ts';
import { BinaryReader, unsignedSize, writeUnsigned } from './binary.ts';
import type { ForwardReader } from './draft.ts';
import { historyBounds, historyKey, positionOfHistory, tombstoneKey } from './keys.ts';
import { decodeVersion } from './records.ts';
import { readTombstone } from './store.ts';
import type { Bytes, Position, Revision } from './types.ts';

/** How far physical removal has come. Local to a member; -1 stands for "never". */
export type CompactionProgress = {
  /** Everything below this compacted revision has been removed. */
  readonly finished: Revision;
  /** The compaction that `next` belongs to; equal to `finished` when there is nothing to do. */
  readonly target: Revision;
  /** The first record not looked at. */
  readonly next: Position;
};

export const NEVER_COMPACTED: CompactionProgress = {
  finished: -1,
  target: -1,
  next: { revision: 0, sub: 0 },
};

export type CompactionStep = {
  readonly writes: Write[];
  readonly progress: CompactionProgress;
  readonly recordsRead: number;
  readonly bytesRead: number;
};

/**
 * The next step towards `compactRevision`. Looks at `maxRecords` records. The writes, to which the
 * caller adds the progress, must be applied before anything else is.
 */
export function compactionStep(
  reader: ForwardReader,
  compactRevision: Revision,
  progress: CompactionProgress,
  maxRecords: number,
): CompactionStep {
  const from = start(compactRevision, progress);
  const { start: first, end } = historyBounds(from, compactRevision);
  const slice = reader.scan(first, end, { limit: maxRecords });
  const writes: Write[] = [];
  let bytesRead = 0;
  let next = from;
  for (const [stored, data] of slice) {
    bytesRead += data.length;
    const at = positionOfHistory(stored);
    next = { revision: at.revision, sub: at.sub + 1 };
    const { deleted, key, replaces } = decodeVersion(data);
    if (replaces !== undefined && replaces.revision < compactRevision) {
      writes.push({ kind: 'remove', key: historyKey(replaces.revision, replaces.sub) });
    }
    if (!deleted || at.revision === compactRevision) continue;
    writes.push({ kind: 'remove', key: stored });
    const tombstone = readTombstone(reader, key);
    if (tombstone?.revision === at.revision && tombstone.sub === at.sub) {
      writes.push({ kind: 'remove', key: tombstoneKey(key) });
    }
  }
  const done = slice.length < maxRecords;
  return {
    writes,
    recordsRead: slice.length,
    bytesRead,
    progress: done
      ? {
          finished: compactRevision,
          target: compactRevision,
          next: { revision: Math.max(0, compactRevision), sub: 0 },
        }
      : { finished: progress.finished, target: compactRevision, next },
  };
}

/**
 * Where to go on. A newer compaction takes over where the one before stopped, except that it looks
 * again at the revision that the one before had to keep.
 */
function start(compactRevision: Revision, { target, next }: CompactionProgress): Position {
  if (target === compactRevision || next.revision < target) return next;
  return { revision: Math.max(0, target), sub: 0 };
}

export function encodeProgress({ finished, target, next }: CompactionProgress): Bytes {
  const values = [finished + 1, target + 1, next.revision, next.sub];
  const size = values.reduce((sum, value) => sum + unsignedSize(value), 0);
  const result = Buffer.allocUnsafe(size);
  let at = 0;
  for (const value of values) at = writeUnsigned(result, at, value);
  return result;
}

export function decodeProgress(data: Bytes): CompactionProgress {
  const reader = new BinaryReader(data);
  return {
    finished: reader.unsigned() - 1,
    target: reader.unsigned() - 1,
    next: { revision: reader.unsigned(), sub: reader.unsigned() },
  };
}
