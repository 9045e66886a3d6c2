/**
 * The first entry of a cluster's log: who its members are. Every member that founds the cluster
 * writes the same one, as if a leader of term 1 had sent it; those who join get it with the log.
 */
import { encodeMembership, type Founder } from './membership.ts';
import type { Log, Recovered } from './ports.ts';

/** Nothing was ever written, or promised. */
export const isBlank = ({ hardState, start, entries }: Recovered): boolean =>
  hardState.term === 0 && start.index === 0 && entries.length === 0;

/** Durable when it resolves, with what a restart would find. */
export async function writeFoundation(log: Log, founders: readonly Founder[]): Promise<Recovered> {
  // The same bytes on all members, whatever the order in which they were named.
  const members = [...founders].sort((a, b) => (a.id < b.id ? -1 : 1));
  const entries = [
    {
      index: 1,
      term: 1,
      kind: 'configuration',
      data: encodeMembership({ kind: 'bootstrap', members }),
    },
  ] as const;
  const hardState = { term: 1, votedFor: 0n, commit: 1 };
  await log.append({ hardState, entries });
  return { hardState, start: { index: 0, term: 0 }, entries };
}
