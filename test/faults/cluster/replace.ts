/** Gives up what a member has and lets it join anew, as its replacement, under a new id. */
import { waitFor } from '../../support/wait.ts';
import type { FaultCluster } from './cluster.ts';
import type { FaultMember } from './member.ts';

/** Membership is refused for a while after members came and went. */
const changeTimeoutMs = 20_000;

export async function replaceMember(cluster: FaultCluster, member: FaultMember): Promise<void> {
  if (member.isRunning) await member.kill();
  const leader = await cluster.leader();
  const change = async <T>(what: string, request: () => Promise<T>): Promise<T> =>
    await waitFor(what, request, { timeoutMs: changeTimeoutMs, intervalMs: 200 });
  const { members } = await leader.client.cluster.memberList({});
  const old = members.find(({ peerURLs }) => peerURLs.includes(member.peerUrl));
  if (old !== undefined)
    await change(`the removal of ${member.name}`, () =>
      leader.client.cluster.memberRemove({ ID: old.ID }),
    );
  await change(`the addition of ${member.name}`, () =>
    leader.client.cluster.memberAdd({ peerURLs: [member.peerUrl] }),
  );
  member.wipe();
  const initialCluster = cluster.initialCluster();
  member.start(cluster.startFlags({ initialCluster, state: 'existing' }));
}
