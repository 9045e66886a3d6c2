/** An operator who changes the members while everything else goes on: adds, promotes, replaces, removes. */
import type { ClusterMember } from '../../../../sdk/cluster.ts';
import { hold } from '../../engine/violation.ts';
import { ignoreRefusal } from './sessions.ts';
import type { ClientContext, Workload } from './workload.ts';

/** Machines that an operator has at hand. */
export interface Machines {
  /** The peer URL of one that was never used; undefined when there is none left. */
  unused(): string | undefined;
  /** Starts the one at this URL as a member of the cluster, unless it runs. */
  start(peerUrl: string, members: readonly Pick<ClusterMember, 'name' | 'peerUrls'>[]): void;
}

const PAUSE_MS = 4_000;
const MOST_VOTERS = 5;

export class MembersWorkload implements Workload {
  readonly #machines: Machines;
  /** Members that were removed never come back. */
  readonly #removed = new Set<bigint>();
  #isTaken = false;

  constructor(machines: Machines) {
    this.#machines = machines;
  }

  async run(client: ClientContext): Promise<void> {
    if (this.#isTaken) return;
    this.#isTaken = true;
    while (!client.isEnding()) {
      await client.pause(PAUSE_MS);
      try {
        await this.#turn(client);
      } catch (error) {
        ignoreRefusal(error);
      }
    }
  }

  check(): void {
    // The members themselves are checked for agreement.
  }

  async #turn({ conclave: { cluster }, choose }: ClientContext): Promise<void> {
    const members = await cluster.members();
    for (const { id, name, peerUrls } of members) {
      hold(!this.#removed.has(id), 8, () => `member ${id} was removed, and is listed`);
      const [url] = peerUrls;
      if (name === '' && url !== undefined) this.#machines.start(url, members);
    }
    const learner = members.find(({ isLearner }) => isLearner);
    const voters = members.filter(({ isLearner }) => !isLearner);
    const voter = voters[choose.below(voters.length)];
    const dice = choose.below(8);
    if (learner !== undefined) {
      if (dice < 3) await cluster.promoteMember(learner.id);
      else if (dice < 6 && voter !== undefined) {
        await cluster.replaceMember(learner.id, voter.id);
        this.#removed.add(voter.id);
      } else if (dice === 7) await this.#remove(cluster, learner.id);
      return;
    }
    if (dice < 4 && voter !== undefined && voters.length > 1) {
      await this.#remove(cluster, voter.id);
      return;
    }
    const url = voters.length < MOST_VOTERS ? this.#machines.unused() : undefined;
    if (url === undefined) return;
    await cluster.addMember([url], { learner: choose.below(3) < 2 });
    this.#machines.start(url, await cluster.members());
  }

  async #remove(cluster: ClientContext['conclave']['cluster'], id: bigint): Promise<void> {
    await cluster.removeMember(id);
    this.#removed.add(id);
  }
}
