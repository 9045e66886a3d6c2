/**
 * How long a new member takes to catch up with a large store while writes go on, and what that does
 * to the writes. The member joins as a learner and is a voter at the end.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { SystemName } from '../../support/servers.ts';
import { waitFor } from '../../support/wait.ts';
import { FaultCluster } from '../cluster/cluster.ts';
import type { FaultMember } from '../cluster/member.ts';
import type { Network } from '../network/network.ts';
import { type Summary, summarise } from './statistics.ts';

const valueBytes = 64 * 1024;
const fillConcurrency = 16;
const putsPerSecond = 1_000;
const putBytes = 256;
const putKeys = 10_000;
const maxUnderWay = 512;
/** What the filling left behind is not measured. */
const settleMs = 10_000;
const steadyMs = 10_000;
const catchUpTimeoutMs = 900_000;
const callTimeoutMs = 10_000;

export type CatchUpFigure = {
  readonly store: SystemName;
  readonly mebibytes: number;
  /** From the start of the new process until it is a voter. */
  readonly seconds: number;
  /** Acknowledged while the member caught up. */
  readonly putsPerSecond: number;
  /** Of puts, in milliseconds. */
  readonly before: Summary;
  readonly during: Summary;
  readonly failed: number;
};

export async function measureCatchUp(
  store: SystemName,
  network: Network,
  mebibytes: number,
): Promise<CatchUpFigure> {
  const cluster = await FaultCluster.start({ store, network, withDisks: false });
  try {
    await fill(cluster, mebibytes);
    const puts = new SteadyPuts(cluster);
    await delay(settleMs);
    puts.take();
    await delay(steadyMs);
    const before = summarise(puts.take());
    const startedAt = performance.now();
    const joined = await join(cluster);
    await promoted(cluster, joined);
    const seconds = (performance.now() - startedAt) / 1_000;
    const latencies = puts.take();
    await puts.stop();
    return {
      ...{ store, mebibytes, seconds, before, during: summarise(latencies) },
      putsPerSecond: latencies.length / seconds,
      failed: puts.failed,
    };
  } finally {
    await cluster.close();
  }
}

async function fill(cluster: FaultCluster, mebibytes: number): Promise<void> {
  const count = Math.ceil((mebibytes * 1024 * 1024) / valueBytes);
  let next = 0;
  const leader = await cluster.leader();
  const writer = async (): Promise<void> => {
    for (let place = next++; place < count; place = next++) {
      const value = Buffer.alloc(valueBytes, `${place}.`);
      await waitFor(
        `fill ${place}`,
        () => leader.client.kv.put({ key: Buffer.from(`fill-${place}`), value }),
        { timeoutMs: 60_000, intervalMs: 100 },
      );
    }
  };
  await Promise.all(Array.from({ length: fillConcurrency }, writer));
}

async function join(cluster: FaultCluster): Promise<FaultMember> {
  const leader = await cluster.leader();
  const member = await cluster.place(cluster.members.length);
  await leader.client.cluster.memberAdd({ peerURLs: [member.peerUrl], isLearner: true });
  const initialCluster = cluster.initialCluster();
  member.start(cluster.startFlags({ initialCluster, state: 'existing' }));
  return member;
}

/** A learner is refused as a voter until it is nearly level with the leader. */
async function promoted(cluster: FaultCluster, member: FaultMember): Promise<void> {
  const leader = await cluster.leader();
  await waitFor(
    `${member.name} to be promoted`,
    async () => {
      const { members } = await leader.client.cluster.memberList({});
      const listed = members.find(({ peerURLs }) => peerURLs.includes(member.peerUrl));
      if (listed?.isLearner === false) return true;
      if (!member.isRunning) throw new Error(member.process.logTail(5));
      await leader.client.cluster.memberPromote({ ID: listed?.ID ?? 0n });
      return true;
    },
    { timeoutMs: catchUpTimeoutMs, intervalMs: 100 },
  );
}

/** Puts at a steady rate, whatever became of those before. */
class SteadyPuts {
  readonly #timer: NodeJS.Timeout;
  readonly #underWay = new Set<Promise<void>>();
  #latencies: number[] = [];
  #sent = 0;
  failed = 0;

  constructor(cluster: FaultCluster) {
    const clients = cluster.members.map(({ client }) => client);
    const begin = performance.now();
    this.#timer = setInterval(() => {
      const due = ((performance.now() - begin) / 1_000) * putsPerSecond;
      for (; this.#sent < due && this.#underWay.size < maxUnderWay; this.#sent++) {
        const client = clients[this.#sent % clients.length];
        if (client === undefined) throw new Error('the cluster has no members');
        const call = this.#put(client, this.#sent).finally(() => this.#underWay.delete(call));
        this.#underWay.add(call);
      }
    }, 5);
  }

  async #put(client: FaultMember['client'], place: number): Promise<void> {
    const sent = performance.now();
    try {
      const key = Buffer.from(`steady-${place % putKeys}`);
      const signal = AbortSignal.timeout(callTimeoutMs);
      await client.kv.put({ key, value: Buffer.alloc(putBytes, 'x') }, { signal });
      this.#latencies.push(performance.now() - sent);
    } catch {
      this.failed += 1;
    }
  }

  /** The latencies since the last call. */
  take(): number[] {
    const taken = this.#latencies;
    this.#latencies = [];
    return taken;
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#underWay);
  }
}
