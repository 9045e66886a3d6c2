/** What clients do in a full run, and what is checked of it at the end. */
import type { Conclave } from '../../../../recipes/connect.ts';
import { applyChanges, type Entry } from '../../../lin/store.ts';
import type { Site } from '../../engine/decisions.ts';
import type { CommitLog } from '../commit-log.ts';
import type { FullKnobs } from '../knobs.ts';
import type { Life } from '../process.ts';

export type ClientContext = {
  readonly name: string;
  readonly conclave: Conclave;
  readonly life: Life;
  readonly knobs: FullKnobs;
  /** The choices of this client. */
  readonly choose: Site;
  /** Microseconds of the simulation: the clock of histories. */
  readonly now: () => number;
  /** Set when clients are to come to an end. */
  readonly isEnding: () => boolean;
  /** Aborts then. */
  readonly ending: AbortSignal;
  /** A little time of the client's own clock. */
  readonly pause: (meanMs: number) => Promise<void>;
};

export interface Workload {
  /** Runs until `isEnding`; rejects only with what nobody expects. */
  run(client: ClientContext): Promise<void>;
  /** Everything is over and every member agrees. Throws a `Violation`. */
  check(log: CommitLog, end: number): void;
}

/** What the store holds in the end. */
export function finalEntries(log: CommitLog): ReadonlyMap<string, Entry> {
  const entries = new Map<string, Entry>();
  for (const { changes } of log.commits) applyChanges(entries, changes);
  return entries;
}
