/** What the clients of a run do: always watch, and either use the store or the recipes. */
import type { Decisions } from '../../engine/decisions.ts';
import { ElectionWorkload } from './election.ts';
import { MutexWorkload } from './mutex.ts';
import { StoreWorkload } from './store.ts';
import { WatchWorkload } from './watch.ts';
import type { Workload } from './workload.ts';

export function chooseWorkloads(decisions: Decisions, now: () => number): readonly Workload[] {
  const watch = new WatchWorkload();
  switch (decisions.site('knobs', 'workload').below(4)) {
    case 0:
    case 1:
      return [watch, new StoreWorkload(now)];
    case 2:
      return [watch, new MutexWorkload()];
    default:
      return [watch, new ElectionWorkload()];
  }
}
