/**
 * What a log and a state, opened together, have to do with each other.
 *
 * The log replays what the state lacks, so it must reach back to what the state has; and the state
 * may not know of entries that the log does not have: such a log has lost acknowledged ones. The one
 * exception is a state that was installed just before the stop: its log did not get to restart.
 */
import type { LogPosition, Recovered } from '../ports.ts';
import { type HardState, NO_NODE } from '../raft/message.ts';
import { DataDirectoryError } from './errors.ts';

const WAY_OUT =
  'Restore the whole directory from one copy, or in a cluster replace this member: conclave member replace.';

/** How the log has to restart; undefined when it is right as it is. */
export type Restart = { readonly position: LogPosition; readonly hardState: HardState } | undefined;

/**
 * @param installed where a state was installed without the log having restarted behind it
 * @throws {DataDirectoryError} `mismatch` when the two do not belong together
 */
export function agreementOf(
  path: string,
  recovered: Recovered,
  applied: LogPosition,
  installed: LogPosition | undefined,
): Restart {
  const term = termAt(recovered, applied.index);
  if (installed?.index === applied.index && installed.term === applied.term) {
    return term === applied.term ? undefined : restartAfter(applied, recovered.hardState);
  }
  const mismatch = (finding: string): DataDirectoryError =>
    new DataDirectoryError('mismatch', path, `In ${path} ${finding}. ${WAY_OUT}`);
  const first = recovered.start.index + 1;
  const last = recovered.start.index + recovered.entries.length;
  if (applied.index + 1 < first) {
    throw mismatch(
      `the state was written up to entry ${applied.index} and the log begins at ${first}: entries in between are missing`,
    );
  }
  if (applied.index > last) {
    throw mismatch(
      `the state was written up to entry ${applied.index} and the log ends at ${last}: the log has lost entries`,
    );
  }
  if (applied.term !== 0 && term !== applied.term) {
    throw mismatch(
      `the state was written up to entry ${applied.index} of term ${applied.term} and in the log that entry is of term ${term}: they are of two histories`,
    );
  }
  return undefined;
}

function termAt({ start, entries }: Recovered, index: number): number | undefined {
  return index === start.index ? start.term : entries[index - start.index - 1]?.term;
}

/** Nothing was promised since: a vote in a later term stands, and the log ends where the state does. */
function restartAfter(position: LogPosition, { term, votedFor, commit }: HardState): Restart {
  const isLater = position.term > term;
  const hardState = {
    term: isLater ? position.term : term,
    votedFor: isLater ? NO_NODE : votedFor,
    commit: Math.max(commit, position.index),
  };
  return { position, hardState };
}
