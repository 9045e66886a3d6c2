/** Three members as users run them: real processes, each with its own place, data and disk. */
import { join } from 'node:path';
import type { StatusResponse } from '../../../server/wire/etcdserverpb/rpc.ts';
import { LoopDisk } from '../../slow/crash/loop-disk.ts';
import { temporaryDirectory } from '../../support/process.ts';
import type { SystemName } from '../../support/servers.ts';
import { waitFor } from '../../support/wait.ts';
import { note, noteDisk } from '../ledger.ts';
import type { Network } from '../network/network.ts';
import { FaultMember, type StartFlags } from './member.ts';

const formTimeoutMs = 40_000;

export type ClusterSettings = {
  readonly store: SystemName;
  readonly network: Network;
  /** A disk of its own for each member, which can be filled and cut off. */
  readonly withDisks: boolean;
  readonly size?: number;
};

export class FaultCluster {
  readonly store: SystemName;
  readonly network: Network;
  readonly members: FaultMember[] = [];
  readonly disks: (LoopDisk | undefined)[] = [];
  readonly #token = `faults-${process.pid}-${Date.now()}`;
  readonly #folder: string;
  readonly #withDisks: boolean;

  private constructor({ store, network, withDisks }: ClusterSettings) {
    this.store = store;
    this.network = network;
    this.#withDisks = withDisks;
    this.#folder = temporaryDirectory(`faults-${store}`);
    note('directory', this.#folder);
  }

  static async start(settings: ClusterSettings): Promise<FaultCluster> {
    const cluster = new FaultCluster(settings);
    try {
      for (let index = 0; index < (settings.size ?? 3); index++) await cluster.place(index);
      const initialCluster = cluster.initialCluster();
      for (const member of cluster.members)
        member.start(cluster.startFlags({ initialCluster, state: 'new' }));
      await cluster.healthy(formTimeoutMs);
      return cluster;
    } catch (error) {
      await cluster.close();
      throw error;
    }
  }

  /** A member with its place and disk, not started. */
  async place(index: number): Promise<FaultMember> {
    const site = await this.network.site(index);
    const disk = this.#withDisks ? await LoopDisk.create() : undefined;
    if (disk !== undefined) noteDisk(disk);
    const member = new FaultMember({
      ...{ store: this.store, network: this.network, index, site },
      dataDirectory: join(disk?.mountPoint ?? join(this.#folder, `m${index}`), 'data'),
      logPath: join(this.#folder, `m${index}.log`),
    });
    this.members[index] = member;
    this.disks[index] = disk;
    return member;
  }

  initialCluster(): string {
    return this.members.map(({ name, peerUrl }) => `${name}=${peerUrl}`).join(',');
  }

  startFlags(flags: Omit<StartFlags, 'token'>): StartFlags {
    return { ...flags, token: this.#token };
  }

  /** Starts a member again on what it has. */
  restart(member: FaultMember): void {
    member.start(this.startFlags({ initialCluster: this.initialCluster(), state: 'new' }));
  }

  get endpoints(): string[] {
    return this.members.map(({ site }) => site.client);
  }

  /** The member that most recently became leader. */
  async leader(timeoutMs = 10_000): Promise<FaultMember> {
    return await waitFor('a leader', async () => await this.#findLeader(), {
      timeoutMs,
      intervalMs: 20,
    });
  }

  async followers(): Promise<FaultMember[]> {
    const leader = await this.leader();
    return this.members.filter((member) => member !== leader);
  }

  async #findLeader(): Promise<FaultMember | undefined> {
    const statuses = await Promise.all(
      this.members
        .filter((member) => member.isRunning && !member.isStopped)
        .map(async (member) => {
          const status = await member.status().catch(() => undefined);
          return status === undefined ? [] : [{ member, status }];
        }),
    );
    return statuses
      .flat()
      .filter(({ status }) => status.leader !== 0n && status.leader === status.header?.memberId)
      .sort((a, b) => Number(b.status.raftTerm - a.status.raftTerm))[0]?.member;
  }

  /** Every member runs, serves linearizable reads and follows one leader. */
  async healthy(timeoutMs = 30_000): Promise<void> {
    try {
      await this.#becomeHealthy(timeoutMs);
    } catch (error) {
      throw new Error(`the cluster does not heal: ${await this.#describe()}`, { cause: error });
    }
  }

  /** What each member says of itself. */
  async #describe(): Promise<string> {
    const lines = this.members.map(async (member) => {
      if (!member.isRunning) return `${member.name} is not running`;
      const status = await member.status().catch((error: unknown) => error);
      if (status instanceof Error) return `${member.name} does not answer: ${status.message}`;
      const { header, leader, raftTerm, raftIndex, raftAppliedIndex, errors } =
        status as StatusResponse;
      return `${member.name} (${header?.memberId.toString(16)}) follows ${leader.toString(16)} in term ${raftTerm}, log ${raftIndex}, applied ${raftAppliedIndex} ${errors.join()}`;
    });
    return (await Promise.all(lines)).join('; ');
  }

  async #becomeHealthy(timeoutMs: number): Promise<void> {
    await Promise.all(this.members.map((member) => member.ready(timeoutMs)));
    await waitFor(
      'one leader for all',
      async () => {
        const statuses = await Promise.all(this.members.map((member) => member.status()));
        const leaders = new Set(statuses.map(({ leader }) => leader));
        return leaders.size === 1 && !leaders.has(0n) ? true : undefined;
      },
      { timeoutMs, intervalMs: 50 },
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.members.map((member) => member.close()));
    for (const disk of this.disks) await disk?.unmount().catch(() => undefined);
  }
}
