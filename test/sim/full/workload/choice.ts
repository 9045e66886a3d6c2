/** What the clients of a run do: always watch, and either use the store or the recipes. */
import type { Decisions } from '../../engine/decisions.ts';
import { ElectionWorkload } from './election.ts';
import { MutexWorkload } from './mutex.ts';
import { QueueWorkload } from './queue.ts';
import { RegistryWorkload } from './registry.ts';
import { StoreWorkload } from './store.ts';
import { WatchWorkload } from './watch.ts';
import type { Workload } from './workload.ts';

export function chooseWorkloads(decisions: Decisions, now: () => number): readonly Workload[] {
  const watch = new WatchWorkload();
  switch (decisions.site('knobs', 'workload').below(6)) {
    case 0:
    case 1:
      return [watch, new StoreWorkload(now)];
    case 2:
      return [watch, new MutexWorkload()];
    case 3:
      return [watch, new QueueWorkload()];
    case 4:
      return [watch, new RegistryWorkload(), new ElectionWorkload()];
    default:
      return [watch, new MutexWorkload(), new QueueWorkload(), new ElectionWorkload()];
  }
}
