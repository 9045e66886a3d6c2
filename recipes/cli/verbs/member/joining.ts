/** What a member that was added needs to be told so that it finds the others. */
import type { ClusterMember } from '../../../../sdk/cluster.ts';
import { note } from '../../stderr.ts';

/** The value of --initial-cluster for the new member: all members that have a name, and itself. */
export function initialCluster(
  members: readonly ClusterMember[],
  added: ClusterMember,
  name: string,
): string {
  const named = members.filter((member) => member.id !== added.id && member.name !== '');
  return [...named, { ...added, name }]
    .flatMap((member) => member.peerUrls.map((url) => `${member.name}=${url}`))
    .join(',');
}

export function sayHowToStart(name: string, peerUrls: readonly string[], cluster: string): void {
  const urls = peerUrls.join(',');
  note(
    `start it with an empty data directory:\n  conclave serve --name ${name} --initial-cluster-state existing --initial-cluster ${cluster} --initial-advertise-peer-urls ${urls} --listen-peer-urls ${urls} --listen-client-urls URL --advertise-client-urls URL`,
  );
}
