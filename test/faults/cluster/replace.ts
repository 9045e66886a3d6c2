/** Gives up what a member has and lets it join anew, as its replacement, under a new id. */
import { waitFor } from '../../support/wait.ts';
import type { FaultCluster } from './cluster.ts';
import type { FaultMember } from './member.ts';

/** Membership is refused for a while after members came and went. */
const changeTimeoutMs = 20_000;

export async function replaceMember(cluster: FaultCluster, member: FaultMember): Promise<void> {
  if (member.isRunning) await member.kill();
  const leader = await cluster.leader();
  const { members } = await leader.client.cluster.memberList({});
  const old = members.find(({ peerURLs }) => peerURLs.includes(member.peerUrl));
  if (old !== undefined)
    await patiently(`the removal of ${member.name}`, () =>
      leader.client.cluster.memberRemove({ ID: old.ID }),
    );
  await joinAnew(cluster, member);
}

/** Lets a member join that is none, with an empty disk. */
export async function joinAnew(cluster: FaultCluster, member: FaultMember): Promise<void> {
  const leader = await cluster.leader();
  await patiently(`the addition of ${member.name}`, () =>
    leader.client.cluster.memberAdd({ peerURLs: [member.peerUrl] }),
  );
  member.wipe();
  const initialCluster = cluster.initialCluster();
  member.start(cluster.startFlags({ initialCluster, state: 'existing' }));
}

async function patiently<T>(what: string, request: () => Promise<T>): Promise<T> {
  return await waitFor(what, request, { timeoutMs: changeTimeoutMs, intervalMs: 200 });
}
