/** A member as every verb of the group prints it. */
import type { ClusterMember } from '../../../../sdk/cluster.ts';
import { hexId } from '../../../../sdk/hex-id.ts';
import type { JsonObject } from '../../output/json.ts';
import type { View } from '../../output/output.ts';
import { type Column, field } from '../../output/table.ts';

const urls = (title: string, name: string): Column => ({
  title,
  of: (row) => (row[name] as readonly string[]).join(','),
});

export const memberView: View = {
  columns: [
    field('ID', 'id'),
    field('NAME', 'name'),
    urls('PEER URLS', 'peerUrls'),
    urls('CLIENT URLS', 'clientUrls'),
    field('LEARNER', 'isLearner'),
  ],
};

export const memberJson = (member: ClusterMember): JsonObject => ({
  id: hexId(member.id),
  name: member.name,
  peerUrls: member.peerUrls,
  clientUrls: member.clientUrls,
  isLearner: member.isLearner,
});
