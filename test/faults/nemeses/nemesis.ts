/** One way of breaking a cluster, and of mending it. */
import type { SeededRandom } from '../../support/generators/random.ts';
import type { FaultCluster } from '../cluster/cluster.ts';
import type { Facility } from '../facilities.ts';
import type { Load } from '../workload/load.ts';

export type World = {
  readonly cluster: FaultCluster;
  readonly load: Load;
  readonly random: SeededRandom;
};

export type Fault = {
  /**
   * Called at the end of the fault, before it is healed: what shows that it really happened, in a few
   * words. Throws NotFired when nothing does.
   */
  evidence(): Promise<string>;
  heal(): Promise<void>;
};

export type Nemesis = {
  readonly name: string;
  readonly needs: readonly Facility[];
  readonly holdMs: number;
  /** A majority stays whole and connected: writes must go on while the fault lasts. */
  readonly keepsMajority: boolean;
  inject(world: World): Promise<Fault>;
};

/** The fault did not happen: the run shows nothing. */
export class NotFired extends Error {
  override name = 'NotFired';
}

/** Starts every member that is down. */
export async function restartAll({ cluster }: World): Promise<void> {
  for (const member of cluster.members) if (!member.isRunning) cluster.restart(member);
}
