/** Tells who leads, whenever that changes. */
import type { ClusterApi, MemberStatus } from '../../../sdk/cluster.ts';

const POLL_MS = 250;
/** A member that was stopped must not hold up the news of the others. */
const TIMEOUT_MS = 1_000;

export class LeaderWatch {
  readonly #cluster: ClusterApi;
  readonly #onChange: (leader: string | undefined, term: bigint) => void;
  #told = '';
  #timer: NodeJS.Timeout | undefined;

  /** `onChange` gets the leader's name; undefined while no member knows of one. */
  constructor(cluster: ClusterApi, onChange: (leader: string | undefined, term: bigint) => void) {
    this.#cluster = cluster;
    this.#onChange = onChange;
  }

  start(): void {
    this.#timer = setTimeout(() => {
      void this.#look().finally(() => {
        if (this.#timer !== undefined) this.start();
      });
    }, POLL_MS);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  async #look(): Promise<void> {
    const cluster = this.#cluster;
    const answers = await Promise.allSettled(
      cluster.endpoints.map((endpoint) => cluster.status({ endpoint, timeout: TIMEOUT_MS })),
    );
    const known = answers
      .flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value] : []))
      .reduce<MemberStatus | undefined>(newer, undefined);
    const leader = known === undefined || known.leader === 0n ? undefined : known.leader;
    const name = leader === undefined ? undefined : await this.#nameOf(leader);
    const now = leader === undefined ? 'none' : `${name} ${known?.raftTerm}`;
    if (now === this.#told || this.#timer === undefined) return;
    this.#told = now;
    this.#onChange(name, known?.raftTerm ?? 0n);
  }

  async #nameOf(id: bigint): Promise<string> {
    const members = await this.#cluster.members({ timeout: TIMEOUT_MS }).catch(() => []);
    return members.find((member) => member.id === id)?.name ?? id.toString(16);
  }
}

/** Members in a past term have not heard yet; among equals one that knows the leader counts. */
function newer(a: MemberStatus | undefined, b: MemberStatus): MemberStatus {
  if (a === undefined || b.raftTerm > a.raftTerm) return b;
  return b.raftTerm === a.raftTerm && a.leader === 0n ? b : a;
}
