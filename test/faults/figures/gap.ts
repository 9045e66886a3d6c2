/**
 * How long a cluster takes no writes when its leader goes, by the way it goes. A write every 10 ms to
 * the members that stay; the gap is the longest time between two acknowledgements around the event.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { SystemName } from '../../support/servers.ts';
import { waitFor } from '../../support/wait.ts';
import { FaultCluster } from '../cluster/cluster.ts';
import type { FaultMember } from '../cluster/member.ts';
import type { Network } from '../network/network.ts';
import { WriteProbe } from './probe.ts';
import { type Summary, summarise } from './statistics.ts';

const steadyMs = 300;
/** So many writes in a row after the event say that the outage is over. */
const writesAfter = 30;
const restTimeoutMs = 20_000;

type Departure = {
  readonly name: string;
  /** What the project promises, in milliseconds. */
  readonly target: { readonly median: number; readonly worst: number };
  /** Makes the leader go. */
  readonly leave: (cluster: FaultCluster, leader: FaultMember) => Promise<void>;
  readonly mend: (cluster: FaultCluster, leader: FaultMember) => Promise<void>;
};

const restart = async (cluster: FaultCluster, leader: FaultMember): Promise<void> => {
  await leader.process.exited;
  cluster.restart(leader);
};

export const departures: readonly Departure[] = [
  {
    name: 'SIGKILL of the leader',
    target: { median: 100, worst: 1_500 },
    leave: async (_, leader) => {
      await leader.kill('SIGKILL');
    },
    mend: restart,
  },
  {
    name: 'partition of the leader',
    target: { median: 1_300, worst: 3_000 },
    async leave({ network, members }, leader) {
      for (const member of members)
        if (member !== leader) {
          await network.cut(leader.index, member.index);
          await network.cut(member.index, leader.index);
        }
    },
    mend: ({ network }) => network.heal(),
  },
  {
    name: 'SIGTERM of the leader',
    target: { median: 50, worst: 50 },
    leave: async (_, leader) => {
      await leader.kill('SIGTERM');
    },
    mend: restart,
  },
  {
    name: 'MoveLeader',
    target: { median: 50, worst: 50 },
    async leave({ members }, leader) {
      const target = members.find((member) => member !== leader) ?? leader;
      const { header } = await target.status();
      await leader.client.maintenance.moveLeader({ targetID: header?.memberId ?? 0n });
    },
    mend: async () => undefined,
  },
];

export type GapFigure = {
  readonly store: SystemName;
  readonly departure: Departure;
  readonly summary: Summary;
  readonly gapsMs: readonly number[];
};

export async function measureGaps(
  store: SystemName,
  network: Network,
  trials: number,
  chosen: readonly Departure[] = departures,
): Promise<GapFigure[]> {
  const cluster = await FaultCluster.start({ store, network, withDisks: false });
  const figures: GapFigure[] = [];
  try {
    for (const departure of chosen) {
      const gapsMs: number[] = [];
      for (let trial = 0; trial < trials; trial++) gapsMs.push(await oneGap(cluster, departure));
      figures.push({ store, departure, gapsMs, summary: summarise(gapsMs) });
    }
  } finally {
    await cluster.network.heal();
    await cluster.close();
  }
  return figures;
}

async function oneGap(cluster: FaultCluster, departure: Departure): Promise<number> {
  await cluster.healthy();
  await caughtUp(cluster);
  const leader = await cluster.leader();
  const others = cluster.members.filter((member) => member !== leader);
  const probe = new WriteProbe(others.map(({ client }) => client));
  try {
    await probe.working(performance.now(), writesAfter);
    await delay(steadyMs);
    const from = performance.now();
    const leaving = departure.leave(cluster, leader);
    await probe.working(from + 1, writesAfter);
    // Writes of before the event may still have been acknowledged: the outage can come later.
    await leaving;
    await probe.working(performance.now(), writesAfter);
    return probe.longestGap(from, performance.now());
  } finally {
    await departure.mend(cluster, leader);
    await probe.stop();
  }
}

/** The next leader must not be chosen among members that still read their logs. */
async function caughtUp(cluster: FaultCluster): Promise<void> {
  await waitFor(
    'every member to have applied everything',
    async () => {
      const statuses = await Promise.all(cluster.members.map((member) => member.status()));
      const applied = new Set(statuses.map(({ raftAppliedIndex }) => raftAppliedIndex));
      return applied.size === 1 ? true : undefined;
    },
    { timeoutMs: restTimeoutMs, intervalMs: 50 },
  );
}
