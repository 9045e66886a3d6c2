/** What the clients of a run do: always watch, and either use the store or the recipes. */
import type { Decisions } from '../../engine/decisions.ts';
import { ElectionWorkload } from './election.ts';
import { type Machines, MembersWorkload } from './members.ts';
import { MutexWorkload } from './mutex.ts';
import { QueueWorkload } from './queue.ts';
import { RegistryWorkload } from './registry.ts';
import { StoreWorkload } from './store.ts';
import { WatchWorkload } from './watch.ts';
import type { Workload } from './workload.ts';

export function chooseWorkloads(
  decisions: Decisions,
  now: () => number,
  machines: Machines | undefined,
): readonly Workload[] {
  const others = machines === undefined ? [] : [new MembersWorkload(machines)];
  return [...others, new WatchWorkload(), ...chooseMain(decisions, now)];
}

function chooseMain(decisions: Decisions, now: () => number): readonly Workload[] {
  switch (decisions.site('knobs', 'workload').below(6)) {
    case 0:
    case 1:
      return [new StoreWorkload(now)];
    case 2:
      return [new MutexWorkload()];
    case 3:
      return [new QueueWorkload()];
    case 4:
      return [new RegistryWorkload(), new ElectionWorkload()];
    default:
      return [new MutexWorkload(), new QueueWorkload(), new ElectionWorkload()];
  }
}
