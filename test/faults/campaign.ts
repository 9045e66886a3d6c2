/** Case after case against one cluster; a new cluster after a case that did not end well. */

import type { Suite } from '../slow/suite.ts';
import { SeededRandom } from '../support/generators/random.ts';
import type { SystemName } from '../support/servers.ts';
import { FaultCluster } from './cluster/cluster.ts';
import { controls } from './controls.ts';
import type { Facilities } from './facilities.ts';
import type { Nemesis } from './nemeses/nemesis.ts';
import type { Network } from './network/network.ts';
import { runCase } from './run-case.ts';
import { facilitySkip } from './skip.ts';
import { Verification } from './verification.ts';
import { Load } from './workload/load.ts';
import { Watcher } from './workload/watchers.ts';

export type CampaignSettings = {
  readonly store: SystemName;
  readonly network: Network;
  readonly facilities: Facilities;
  readonly suite: Suite;
  readonly seed: number;
};

type Stage = {
  readonly cluster: FaultCluster;
  readonly load: Load;
  readonly watchers: readonly Watcher[];
  readonly verification: Verification;
};

export class Campaign {
  readonly #settings: CampaignSettings;
  readonly #random: SeededRandom;
  #stage: Stage | undefined;

  constructor(settings: CampaignSettings) {
    this.#settings = settings;
    this.#random = new SeededRandom(settings.seed);
  }

  async run(nemesis: Nemesis): Promise<void> {
    const { suite, facilities } = this.#settings;
    const passed = await suite.check(nemesis.name, async () => {
      for (const facility of nemesis.needs) {
        const why = facilities[facility];
        if (why !== undefined) throw facilitySkip(facility, why);
      }
      const { cluster, load, verification } = await this.#ready();
      const line = await runCase(nemesis, { cluster, load, random: this.#random }, verification);
      console.log(`       ${nemesis.name}: ${line}`);
    });
    const isMissing = nemesis.needs.some((facility) => facilities[facility] !== undefined);
    if (!passed && !isMissing) await this.#tearDown();
  }

  /** Plants violations in what was recorded, which the checkers must find. */
  async runControls(): Promise<void> {
    const { suite } = this.#settings;
    await suite.check('something was recorded for the controls', () => {
      if (this.#stage === undefined) throw new Error('the last case left no cluster');
    });
    const recorded = this.#stage?.verification.recorded();
    if (recorded === undefined) return;
    for (const control of controls)
      await suite.check(`control: ${control.name}`, () => {
        if (!control.finds(recorded)) throw new Error('the planted violation was not found');
      });
  }

  async #ready(): Promise<Stage> {
    if (this.#stage !== undefined) return this.#stage;
    const { store, network, facilities } = this.#settings;
    const withDisks = facilities.disks === undefined;
    const cluster = await FaultCluster.start({ store, network, withDisks });
    const load = new Load(cluster, this.#random.below(2 ** 32));
    const watchers = cluster.endpoints.flatMap((endpoint, index) => [
      new Watcher({ name: `m${index} all`, endpoint }),
      new Watcher({ name: `m${index} keys`, endpoint, prefix: 'key-1', wants: 'puts' }),
    ]);
    const verification = new Verification(cluster, load, watchers);
    this.#stage = { cluster, load, watchers, verification };
    return this.#stage;
  }

  async #tearDown(): Promise<void> {
    const stage = this.#stage;
    this.#stage = undefined;
    if (stage === undefined) return;
    for (const watcher of stage.watchers) watcher.close();
    await stage.cluster.network.heal();
    const stopped = stage.load.pause().catch(() => undefined);
    await stage.cluster.close();
    await stopped;
  }

  async close(): Promise<void> {
    await this.#tearDown();
  }
}
