/**
 * Who waits for whom in a read-write lock. Pure: the judgements on one view of the line.
 *
 * There is one line, and the mode of a place is in its value, so a place that changes its mode keeps
 * its number. Readers wait for the writers ahead, writers for everybody ahead. An upgradable reader
 * shares with readers but not with another of its kind: two readers that both wait to write would
 * wait for each other for ever.
 *
 * An upgrade takes two writes to the own key. The first, at revision u, says `upgrading`: readers
 * that join later wait. The second says `write` and is made once no reader with a number below u can
 * be holding:
 *
 * - a reader below u with no writer ahead of it holds, or will when it looks: wait for it;
 * - a reader below u behind a writer W does not hold for as long as W is in line, since W waits for
 *   the upgrading place. The second write has W's presence as a condition.
 *
 * A reader below u is not stopped by `upgrading`: else the two would wait for each other.
 */
import type { Place } from '../line/line.ts';
import { decodeLineRecord } from '../line/line-record.ts';

/**
 * - `read`: with other readers.
 * - `upgradable`: with readers, and may become a writer in its place. One at a time.
 * - `write`: alone.
 */
export type RwMode = 'read' | 'upgradable' | 'write';

/** What a key says; `upgrading` holds as an upgradable reader and waits to write. */
export type PlaceMode = RwMode | 'upgrading';

const modes: ReadonlySet<string> = new Set<PlaceMode>(['read', 'upgradable', 'write', 'upgrading']);

/** A key that something else wrote excludes everybody. */
export function modeOf({ value }: { readonly value: Uint8Array }): PlaceMode {
  const mode = decodeLineRecord(value).terms?.mode;
  return mode !== undefined && modes.has(mode) ? (mode as PlaceMode) : 'write';
}

/** The place that somebody of this mode with this number must wait for. */
export function blockerOf(mode: RwMode, ahead: readonly Place[], own: bigint): Place | undefined {
  if (mode === 'write') return ahead.at(-1);
  if (mode === 'upgradable') return ahead.findLast((place) => modeOf(place) !== 'read');
  return ahead.findLast((place) => stopsReader(place, own));
}

function stopsReader(place: Place, reader: bigint): boolean {
  const mode = modeOf(place);
  return mode === 'write' || (mode === 'upgrading' && place.modRevision < reader);
}

export type UpgradeJudgement =
  /** The own key is gone or another's. */
  | { readonly kind: 'lost' }
  /** This reader holds or is about to. */
  | { readonly kind: 'wait'; readonly reader: Place }
  /** May write, on condition that this writer is still waiting. */
  | { readonly kind: 'clear'; readonly gate: Place | undefined };

/** @param line all places in line order, at one revision */
export function judgeUpgrade(
  line: readonly Place[],
  self: { readonly key: string; readonly createRevision: bigint; readonly requested: bigint },
): UpgradeJudgement {
  const own = line.find(({ key }) => key === self.key);
  if (own?.createRevision !== self.createRevision) return { kind: 'lost' };
  const gate = line.find(
    (place) => place.createRevision > self.createRevision && modeOf(place) === 'write',
  );
  const readers = line.filter(
    (place) => modeOf(place) === 'read' && place.createRevision < self.requested,
  );
  const reader = readers.findLast(
    ({ createRevision }) => gate === undefined || createRevision < gate.createRevision,
  );
  if (reader) return { kind: 'wait', reader };
  return { kind: 'clear', gate: readers.length > 0 ? gate : undefined };
}

/** How many places at the front of a whole line hold it: those that nobody ahead blocks. */
export function holdersAmong<P extends Place>(line: readonly P[]): { holders: P[]; waiters: P[] } {
  const holders: P[] = [];
  const waiters: P[] = [];
  line.forEach((place, index) => {
    const mode = modeOf(place);
    // Only who holds as an upgradable reader can be upgrading.
    const blocker =
      mode === 'upgrading'
        ? undefined
        : blockerOf(mode, line.slice(0, index), place.createRevision);
    (blocker === undefined ? holders : waiters).push(place);
  });
  return { holders, waiters };
}
